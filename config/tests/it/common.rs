//! Plugins that read options and do nothing else, and a registry of them.

use std::path::{Path, PathBuf};

use ebpf_process_config::{ConfigError, Loaded, Plan, Sources};
use ebpf_process_core::{
    BuildError, Claims, Column, Declared, Options, OptionsError, Probe, ProbeContext, ProbePlugin, Registry, Sink,
    SinkContext, SinkPlugin, Unit, VITALS,
};
use serde::Deserialize;

/// A probe with the common keys and one of its own.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProbeOptions {
    pub(crate) mode: Mode,
    pub(crate) hooks: String,
    pub(crate) object: String,
    pub(crate) only: Option<Only>,
    pub(crate) by: Vec<String>,
    pub(crate) depth: u32,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    #[default]
    Entry,
    Return,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Only {
    Pid(u32),
    Cgroup(String),
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self { mode: Mode::Entry, hooks: "auto".into(), object: "auto".into(), only: None, by: Vec::new(), depth: 1 }
    }
}

struct FakeProbe(&'static str);

impl ProbePlugin for FakeProbe {
    fn name(&self) -> &'static str {
        self.0
    }

    fn summary(&self) -> &'static str {
        "a probe for tests"
    }

    fn common_keys(&self) -> &'static [&'static str] {
        &["mode", "hooks", "object", "only", "by"]
    }

    fn catalog(&self, options: &Options) -> Result<Vec<Declared>, OptionsError> {
        let options: ProbeOptions = options.extract()?;
        let mut columns = vec![Column::counter("demo.calls", Unit::CALLS, "Calls")];
        if options.mode == Mode::Return {
            columns.push(Column::counter("demo.errors", Unit::CALLS, "Failed calls"));
        }
        Ok(columns.into_iter().map(Declared::host).collect())
    }

    fn build(&self, _: &Options, _: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        unreachable!("a plan builds nothing")
    }
}

/// A sink that writes to an address, which may be `stdout`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the address is looked at, the others have to be known keys")]
pub(crate) struct SinkOptions {
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) password: String,
    #[serde(default)]
    pub(crate) packet: u16,
}

struct FakeSink(&'static str);

impl SinkPlugin for FakeSink {
    fn name(&self) -> &'static str {
        self.0
    }

    fn summary(&self) -> &'static str {
        "a sink for tests"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        let typed: SinkOptions = options.extract()?;
        match typed.address.as_str() {
            "nowhere" => Err(options.refuse("address", "this is no address")),
            address => Ok(Claims::stdout(address == "stdout")),
        }
    }

    fn build(&self, _: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        unreachable!("a plan builds nothing")
    }

    fn confined(&self, options: &Options) -> bool {
        options.extract::<SinkOptions>().is_ok_and(|options| options.address.starts_with("udp://"))
    }
}

/// A probe of which there may be many.
struct NamedProbe;

/// Its options: one of them has to be there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedOptions {
    pub(crate) program: String,
}

impl ProbePlugin for NamedProbe {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn summary(&self) -> &'static str {
        "a program counts"
    }

    fn is_named(&self) -> bool {
        true
    }

    fn catalog(&self, options: &Options) -> Result<Vec<Declared>, OptionsError> {
        options.extract::<NamedOptions>().map(|_| Vec::new())
    }

    fn build(&self, _: &Options, _: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        unreachable!("a plan builds nothing")
    }
}

const PROCESS: FakeProbe = FakeProbe("process");
const FILE: FakeProbe = FakeProbe("file");
const STATSD: FakeSink = FakeSink("statsd");
const INFLUX: FakeSink = FakeSink("influx");

/// Two probes with common keys, one of which there may be many, the vitals, two sinks.
pub(crate) fn registry() -> Registry {
    Registry::default().probe(PROCESS).probe(NamedProbe).probe(FILE).probe(VITALS).sink(STATSD).sink(INFLUX)
}

/// A folder with one configuration file in it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

/// Loads and plans.
pub(crate) fn plan(sources: &Sources) -> Result<(Loaded, Plan), ConfigError> {
    let loaded = sources.load(&registry())?;
    let plan = Plan::new(&loaded, &registry())?;
    Ok((loaded, plan))
}

/// The refusal of sources that must be refused.
pub(crate) fn refusal(sources: &Sources) -> ConfigError {
    plan(sources).map(|(_, plan)| plan.sinks.len()).expect_err("a refusal")
}

pub(crate) fn env(pairs: &[(&str, &str)]) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    pairs.iter().map(|(key, value)| (key.into(), value.into())).collect()
}

pub(crate) fn set(settings: &[&str]) -> Vec<String> {
    settings.iter().map(|setting| (*setting).to_owned()).collect()
}
