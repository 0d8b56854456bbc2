//! What the configuration means: checked, and ready to build.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::engine::OutletSpec;
use ebpf_process_core::{Claims, Options, OptionsError, Registry, Scope, SinkPlugin, duration, nearest_of, size};
use figment::value::Value;

use crate::error::ConfigError;
use crate::load::Loaded;
use crate::name::{NAME_RULE, is_name};
use crate::probes::{PlannedProbe, plan_probes};
use crate::raw::{RawRoot, RawSink, Rights};

/// Below this a tick would cost more than it shows.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// Above this no receiver takes the numbers for current.
const LONGEST_INTERVAL: Duration = Duration::from_hours(1);
/// Longer than any service manager waits.
const LONGEST_GRACE: Duration = Duration::from_mins(10);
/// Batches that one sink may have waiting; with the size of a batch it bounds the memory.
const LONGEST_QUEUE: usize = 1024;
/// Bytes of them: less holds no batch at all, more no machine has for it.
const QUEUE_BYTES: RangeInclusive<u64> = 64 << 10..=16 << 30;
/// Rows that a sink may want at most of a kind: a kind has no more.
const MOST_ROWS: usize = 1 << 20;
/// Sinks that one agent may have.
const MOST_SINKS: usize = 64;
/// Bytes of a socket's path: the kernel takes no more.
const LONGEST_SOCKET: usize = 107;
/// The key of an agent's name, and the tag with it.
const INSTANCE: &str = "instance";

/// Which probes and sinks to build, and how to join them.
#[derive(Clone)]
pub struct Plan {
    /// The time between two batches.
    pub interval: Duration,
    /// How long a stop waits for sinks.
    pub grace: Duration,
    /// This agent's name among several on one host.
    pub instance: Option<String>,
    /// Whether rights that nothing needs any more are given up after attaching.
    pub capabilities: Rights,
    /// Whom root's agent becomes after attaching, a name or a number; none where that is for the agent to choose. Whether
    /// there is such a user is looked at when the agent starts.
    pub user: Option<String>,
    /// The socket where the agent tells its status; none if it does not.
    pub status: Option<PathBuf>,
    /// Whether nobody has said where: then it belongs to the agent that runs as a service.
    pub status_is_default: bool,
    /// The enabled probes, in the registry's order.
    pub probes: Vec<PlannedProbe>,
    /// The sinks, by name.
    pub sinks: Vec<PlannedSink>,
    /// What the numbers describe: filtered if and only if `only` is set.
    pub scope: Scope,
}

/// A sink to build.
#[derive(Clone)]
pub struct PlannedSink {
    /// Its name, its selection and its queue.
    pub spec: OutletSpec,
    /// Its type.
    pub plugin: Arc<dyn SinkPlugin>,
    /// Its own table.
    pub options: Options,
    /// What it asks for that no other sink may have.
    pub claims: Claims,
}

impl PlannedSink {
    /// Whether the sink's times go with this interval of the agent's.
    fn keeps_pace(&self, base: Duration) -> Result<(), OptionsError> {
        let OutletSpec { name, interval, jitter, .. } = &self.spec;
        let show = duration::show;
        let refuse = |key: &str, problem: String| Err(OptionsError::new(format!("sinks.{name}.{key}"), problem));
        let interval = interval.unwrap_or(base);
        let multiple = interval.as_nanos() % base.as_nanos().max(1) == 0;
        if !multiple || !(base..=LONGEST_INTERVAL).contains(&interval) {
            let (own, base, longest) = (show(interval), show(base), show(LONGEST_INTERVAL));
            let problem = format!("{own} is no whole multiple, up to {longest}, of the agent's interval of {base}");
            return refuse("interval", problem);
        }
        if *jitter > interval {
            let (jitter, interval) = (show(*jitter), show(interval));
            return refuse("jitter", format!("{jitter} is longer than this sink's interval of {interval}"));
        }
        Ok(())
    }
}

impl Plan {
    /// Checks what was loaded against the plugins there are. The first thing that is wrong is the
    /// error. Nothing is opened or attached.
    pub fn new(loaded: &Loaded, registry: &Registry) -> Result<Self, ConfigError> {
        let root: RawRoot = loaded
            .part(Options::at(""), &[], |_| true)
            .extract()
            .map_err(|error| loaded.located(further_down(error, registry)))?;
        bounded(loaded, "interval", root.interval, SHORTEST_INTERVAL, LONGEST_INTERVAL)?;
        bounded(loaded, "grace", root.grace, Duration::ZERO, LONGEST_GRACE)?;
        let (probes, scope) = plan_probes(loaded, registry, &root.probes)?;
        let instance = plan_instance(loaded, root.instance)?;
        let mut sinks = plan_sinks(loaded, registry, root.sinks.keys())?;
        let mut tags = root.tags.clone();
        if let Some(name) = &instance {
            tags.entry(INSTANCE.to_owned()).or_insert_with(|| name.clone());
        }
        for sink in &mut sinks {
            // What a sink's own table says is stronger.
            for (key, value) in &tags {
                sink.spec.selection.tags.entry(key.clone()).or_insert_with(|| value.clone());
            }
            sink.keeps_pace(root.interval).map_err(|error| loaded.located(error))?;
        }
        let status = plan_status(loaded, &root.status.socket, instance.as_deref())?;
        let status_is_default = loaded.is_default("status.socket");
        let RawRoot { interval, grace, capabilities, user, .. } = root;
        Ok(Self { interval, grace, instance, capabilities, user, status, status_is_default, probes, sinks, scope })
    }

    /// The same plan at another interval; refused where a sink's own does not go with it.
    pub fn at_interval(self, interval: Duration) -> Result<Self, ConfigError> {
        self.sinks.iter().try_for_each(|sink| sink.keeps_pace(interval))?;
        Ok(Self { interval, ..self })
    }
}

/// An unknown key of the root may stand further down: names it as a whole.
fn further_down(mut error: OptionsError, registry: &Registry) -> OptionsError {
    const SINKS: [&str; 14] = [
        "type",
        "queue",
        "queue_bytes",
        "when_full",
        "jitter",
        "kinds",
        "where",
        "top",
        "top_by",
        "include",
        "exclude",
        "rename",
        "prefix",
        "options",
    ];
    let probes = registry.probes().filter(|probe| !probe.is_named()).flat_map(|probe| {
        let common = probe.common_keys().iter().map(|key| (*key, format!("probes.{key}")));
        common.chain([(probe.name(), format!("probes.{}", probe.name()))])
    });
    let sinks = SINKS.into_iter().map(|key| (key, format!("sinks.NAME.{key}")));
    let mut known = probes.chain(sinks).chain([("socket", "status.socket".to_owned())]);
    if let Some((_, whole)) = known.find(|(key, _)| *key == error.key) {
        error.nearest = Some(whole);
    }
    error
}

fn bounded(
    loaded: &Loaded,
    key: &str,
    value: Duration,
    shortest: Duration,
    longest: Duration,
) -> Result<(), ConfigError> {
    if (shortest..=longest).contains(&value) {
        return Ok(());
    }
    let show = duration::show;
    let problem = format!("{} is not between {} and {}", show(value), show(shortest), show(longest));
    Err(loaded.refuse(key.to_owned(), problem).into())
}

fn plan_instance(loaded: &Loaded, name: Option<String>) -> Result<Option<String>, ConfigError> {
    match name {
        None => Ok(None),
        Some(name) if is_name(&name) => Ok(Some(name)),
        Some(_) => {
            let problem = format!("an instance's name has {NAME_RULE}");
            Err(loaded.refuse(INSTANCE.to_owned(), problem).into())
        }
    }
}

/// Where an agent with this configuration tells its status, as [`Plan::status`], also where something else in it is wrong.
pub fn status_socket(loaded: &Loaded) -> Result<Option<PathBuf>, ConfigError> {
    let text = |key: &str| loaded.figment.find_value(key).ok().and_then(Value::into_string);
    plan_status(loaded, &text("status.socket").unwrap_or_default(), text(INSTANCE).as_deref())
}

/// A named instance has a socket of its own: `status-NAME.sock`.
fn plan_status(loaded: &Loaded, socket: &str, instance: Option<&str>) -> Result<Option<PathBuf>, ConfigError> {
    if socket.is_empty() {
        return Ok(None);
    }
    let socket = &match instance {
        Some(name) => match socket.rsplit_once('.').filter(|(_, extension)| !extension.contains('/')) {
            Some((stem, extension)) => format!("{stem}-{name}.{extension}"),
            None => format!("{socket}-{name}"),
        },
        None => socket.to_owned(),
    };
    if !socket.starts_with('/') || socket.len() > LONGEST_SOCKET || socket.contains('\0') {
        let problem = format!("expected a path that begins with \"/\", up to {LONGEST_SOCKET} bytes long, or \"\"");
        return Err(loaded.refuse("status.socket".to_owned(), problem).into());
    }
    Ok(Some(socket.into()))
}

fn plan_sinks<'a>(
    loaded: &Loaded,
    registry: &Registry,
    names: impl Iterator<Item = &'a String>,
) -> Result<Vec<PlannedSink>, ConfigError> {
    let mut sinks: Vec<PlannedSink> = Vec::new();
    for name in names {
        let sink = plan_sink(loaded, registry, name)?;
        let owner = sinks.iter().find(|other| other.claims.stdout && sink.claims.stdout);
        if let Some(owner) = owner {
            let problem = format!(
                "standard output belongs to sinks.{} already, and one sink at most may write to it; \
                 give one of them an address or a file",
                owner.spec.name
            );
            return Err(loaded.refuse(format!("sinks.{name}"), problem).into());
        }
        if sinks.len() == MOST_SINKS {
            let problem = format!("more than {MOST_SINKS} sinks; leave some out");
            return Err(loaded.refuse(format!("sinks.{name}"), problem).into());
        }
        sinks.push(sink);
    }
    Ok(sinks)
}

fn plan_sink(loaded: &Loaded, registry: &Registry, name: &str) -> Result<PlannedSink, ConfigError> {
    let path = format!("sinks.{name}");
    if !is_name(name) {
        let path = format!("sinks.\"{}\"", name.escape_debug());
        return Err(loaded.refuse(path, format!("a sink's name has {NAME_RULE}")).into());
    }
    let table = loaded.part(Options::at(&*path), &["sinks", name], |_| true);
    let raw: RawSink = table.extract().map_err(|error| loaded.located(error))?;
    let Some(plugin) = registry.find_sink(&raw.kind) else {
        let known: Vec<&str> = registry.sinks().map(|sink| sink.name()).collect();
        let problem = format!(
            "unknown sink type \"{}\"; this build has {}",
            raw.kind.escape_debug(),
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
        let mut error = loaded.refuse(format!("{path}.type"), problem);
        error.nearest = nearest_of(&raw.kind, known);
        return Err(error.into());
    };
    if !(1..=LONGEST_QUEUE).contains(&raw.queue) {
        let problem = format!("{} is not between 1 and {LONGEST_QUEUE} batches", raw.queue);
        return Err(loaded.refuse(format!("{path}.queue"), problem).into());
    }
    if !QUEUE_BYTES.contains(&raw.queue_bytes) {
        let [given, least, most] = [raw.queue_bytes, *QUEUE_BYTES.start(), *QUEUE_BYTES.end()].map(size::show);
        let problem = format!("{given} is not between {least} and {most}");
        return Err(loaded.refuse(format!("{path}.queue_bytes"), problem).into());
    }
    if raw.kinds.as_ref().is_some_and(Vec::is_empty) {
        let problem = "a sink without any kind of rows gets nothing; name some, or leave the key out";
        return Err(loaded.refuse(format!("{path}.kinds"), problem).into());
    }
    for (kind, rows) in &raw.top {
        let refuse = |problem: String| loaded.refuse(format!("{path}.top.{kind}"), problem);
        if !(1..=MOST_ROWS).contains(rows) {
            return Err(refuse(format!("{rows} is not between 1 and {MOST_ROWS} rows")).into());
        }
        if let Some(kinds) = raw.kinds.as_ref().filter(|kinds| !kinds.contains(kind)) {
            let problem =
                format!("this sink gets no such rows: its kinds are {}; name the kind there", kinds.join(", "));
            let mut error = refuse(problem);
            error.nearest = nearest_of(kind, kinds.iter().map(String::as_str));
            return Err(error.into());
        }
    }
    let options = loaded.part(Options::at(format!("{path}.options")), &["sinks", name, "options"], |_| true);
    let claims = plugin.check(&options).map_err(|error| loaded.located(error))?;
    Ok(PlannedSink { spec: raw.into_spec(name), plugin: Arc::clone(plugin), options, claims })
}
