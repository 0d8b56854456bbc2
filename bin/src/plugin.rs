//! `ebpf_process.plugin`: the name under which netdata starts this program.
//!
//! Netdata reads standard output as its protocol and the exit code as a wish: without data, 0
//! means "try again later" and anything else "never again"; after data, anything else means "try
//! again later". `DISABLE` says "never again" at any time. A plugin that dies of a signal is never
//! started again, so this one does not.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use ebpf_process_config::{Directories, Plan, PlannedSink, Sources, Texts};
use ebpf_process_core::engine::OutletSpec;
use ebpf_process_core::{BuildError, Registry, identity};
use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::app::App;
use crate::broker::Broker;
use crate::confinement::user::User;
use crate::destinations::{Claim, Gate};
use crate::engine::{End, Engine};
use crate::exit::{Exit, Refusal};
use crate::lock::{self, Lock};
use crate::log::{self, Reader, Verbosity, Wish};
use crate::signals::Caught;
use crate::{cli, configuration, privileges, stdout};

/// The sink type that speaks netdata's protocol.
const NETDATA: &str = "netdata";

/// Where an administrator adds to netdata's unit.
const DROP_IN: &str = "/etc/systemd/system/netdata.service.d/ebpf-process.conf";

/// The longest interval that netdata asks for.
const LONGEST: u64 = 3600;

/// What netdata passes.
#[derive(Debug, Parser)]
#[command(name = "ebpf_process.plugin", version = identity().version(), max_term_width = 110)]
#[command(about = identity().adapt("ebpf-process as a plugin of netdata: charts of what the kernel does for processes and files"))]
struct PluginCli {
    /// The update interval
    #[arg(value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
    #[arg(help = "Update interval in whole seconds; the larger of this and NETDATA_UPDATE_EVERY counts")]
    seconds: Option<u64>,
    /// Read this configuration as well, after all others; it may add sinks
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Whether this is the name under which netdata starts plugins.
pub(crate) fn is_name(argument: Option<&OsString>) -> bool {
    let name = argument.and_then(|argument| Path::new(argument).file_name());
    name.is_some_and(|name| Path::new(name).extension() == Some(OsStr::new("plugin")))
}

/// Runs until netdata ends it.
pub(crate) fn main(app: &App, arguments: &[OsString]) -> Exit {
    let registry = &app.registry;
    // Before anything else: from here on no signal is the end by itself.
    let caught = Caught::under_netdata();
    let elevated = privileges::elevated();
    let asked = if elevated { Ok(None) } else { cli::verbosity_of_environment() };
    let wish = Wish::new(|name| variable(name, elevated));
    let verbosity = asked.as_ref().ok().copied().flatten().or(wish.verbosity);
    log::start(verbosity.unwrap_or(Verbosity::Info), Reader::Netdata(wish));
    let cli = match PluginCli::command().try_get_matches_from(arguments).and_then(|m| PluginCli::from_arg_matches(&m)) {
        Ok(cli) => cli,
        Err(answer) if answer.exit_code() == 0 => {
            let _ = answer.print();
            return Exit::Fine;
        }
        Err(answer) => return refuse(&Refusal::Usage(answer.to_string())),
    };
    let prepared = caught.and_then(|caught| {
        asked?;
        Ok((caught, Prepared::new(registry, &cli, elevated)?))
    });
    let (caught, mut prepared) = match prepared {
        Ok(prepared) => prepared,
        Err(refusal) => return refuse(&refusal),
    };
    let end = prepared.attach(elevated).and_then(|engine| {
        let Prepared { plan, order, gate, .. } = prepared;
        let registry = registry.clone();
        engine.run(caught, &plan, Box::new(move |texts| order.plan(&registry, texts)), gate)
    });
    match end {
        Err(refusal) => refuse(&refusal),
        Ok(End::Asked) => Exit::Fine,
        Ok(End::EssentialSink) if stdout::is_closed() => {
            info!("netdata has closed the pipe");
            Exit::Fine
        }
        Ok(end) => {
            error!("ended after data: {end:?}");
            Exit::Failed
        }
    }
}

/// A variable of the environment. Whoever starts a program with more rights than its own chooses its environment: then
/// there is none.
fn variable(name: &str, elevated: bool) -> Option<OsString> {
    if elevated { None } else { std::env::var_os(name) }
}

/// Ends without data, in a way that netdata understands.
fn refuse(refusal: &Refusal) -> Exit {
    error!("{refusal}");
    let (word, exit) = answer(refusal);
    let mut stdout = io::stdout().lock();
    // If nobody reads it, nobody starts this again either.
    let _ = stdout.write_all(word.as_bytes()).and_then(|()| stdout.flush());
    exit
}

/// What netdata is told, and the exit code: whether another attempt makes sense.
const fn answer(refusal: &Refusal) -> (&'static str, Exit) {
    match refusal {
        Refusal::Unable { passing: true, .. } => ("", Exit::Fine),
        Refusal::Unable { passing: false, .. } | Refusal::Usage(_) => ("DISABLE\n", refusal.exit()),
    }
}

/// A plan as it holds under netdata.
struct Prepared {
    plan: Plan,
    order: Order,
    gate: Arc<dyn Gate>,
    broker: Option<Broker>,
}

/// What netdata and its user ask for: the plan follows from it, whenever the files are read.
struct Order {
    sources: Sources,
    seconds: Option<u64>,
    elevated: bool,
}

impl Order {
    fn plan(&self, registry: &Registry, texts: Option<&Texts>) -> Result<Plan, Refusal> {
        let plan = configuration::careful_plan(registry, &self.sources, self.elevated, texts)?;
        let every = variable("NETDATA_UPDATE_EVERY", self.elevated);
        let interval = interval(self.seconds, every.as_deref(), plan.interval)?;
        let mut plan = plan.at_interval(interval)?;
        if plan.status_is_default {
            // It belongs to the agent that runs as a service.
            plan.status = None;
        }
        own_stdout(&mut plan, registry)?;
        Ok(plan)
    }
}

impl Prepared {
    fn new(registry: &Registry, cli: &PluginCli, elevated: bool) -> Result<Self, Refusal> {
        if elevated && cli.config.is_some() {
            return Err(Refusal::Usage(format!(
                "started setuid or with file capabilities this program takes SECONDS and nothing else; put the settings into {}",
                identity().system_file().display()
            )));
        }
        let variable = |name| variable(name, elevated);
        let directories = Directories::new(
            variable("NETDATA_USER_CONFIG_DIR").map(PathBuf::from),
            variable("NETDATA_STOCK_CONFIG_DIR").map(PathBuf::from),
        );
        let sources = Sources::netdata(&directories, cli.config.as_deref());
        let sources = if elevated { sources.trusted_only() } else { sources.environment(std::env::vars_os()) };
        let order = Order { sources, seconds: cli.seconds, elevated };
        let plan = order.plan(registry, None)?;
        let directory = variable("NETDATA_LOCK_DIR").map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
        let gate = Host::at(directory.unwrap_or_else(|| lock::DIRECTORY.into()));
        gate.warn_of(&plan);
        let broker = Broker::of(&plan, registry, &order.sources, elevated, User::planned(&plan, elevated)?.as_ref());
        Ok(Self { plan, order, gate: Arc::new(gate), broker })
    }

    fn attach(&mut self, elevated: bool) -> Result<Engine, Refusal> {
        let attached = Engine::attach(&self.plan, self.plan.interval, elevated, self.broker.take());
        let mut engine = attached.map_err(|refusal| advise(refusal, privileges::withheld()))?;
        engine.connect(&self.plan, &self.gate, || false)?;
        Ok(engine)
    }
}

/// Adds what to do when netdata's unit is the reason: no rights of the file help against that.
fn advise(refusal: Refusal, withheld: bool) -> Refusal {
    match refusal {
        Refusal::Unable { reason, passing } if withheld => Refusal::Unable {
            reason: format!(
                "{reason}; netdata's unit withholds CAP_BPF and CAP_PERFMON from its plugins, even from root's: copy \
                 packaging/netdata.service.d/ebpf-process.conf to {DROP_IN}, then: systemctl daemon-reload && systemctl \
                 restart netdata"
            ),
            passing,
        },
        other => other,
    }
}

/// The larger of what netdata says in both ways, whole seconds; without either the configured one,
/// rounded up.
fn interval(argument: Option<u64>, variable: Option<&OsStr>, configured: Duration) -> Result<Duration, Refusal> {
    let variable = variable.filter(|text| !text.is_empty());
    let variable = match variable.map(|text| text.to_string_lossy().trim().parse::<u64>()) {
        None => None,
        Some(Ok(seconds)) if (1..=LONGEST).contains(&seconds) => Some(seconds),
        Some(_) => {
            let problem = format!("NETDATA_UPDATE_EVERY: expected whole seconds from 1 to {LONGEST}");
            return Err(Refusal::Usage(problem));
        }
    };
    let configured = configured.as_secs() + u64::from(configured.subsec_nanos() > 0);
    Ok(Duration::from_secs(argument.max(variable).unwrap_or(configured)))
}

/// Sees to it that standard output belongs to a netdata sink and that the agent ends with it.
fn own_stdout(plan: &mut Plan, registry: &Registry) -> Result<(), Refusal> {
    let is_netdata = |sink: &PlannedSink| sink.plugin.name() == NETDATA;
    if let Some(other) = plan.sinks.iter().find(|sink| sink.claims.stdout && !is_netdata(sink)) {
        return Err(Refusal::Usage(format!(
            "sinks.{}: under netdata standard output belongs to netdata; give this sink an address or a file",
            other.spec.name
        )));
    }
    if !plan.sinks.iter().any(is_netdata) {
        let Some(plugin) = registry.find_sink(NETDATA) else {
            return Err(Refusal::Usage(
                "this build has no netdata sink: register one, or start it under another name".to_owned(),
            ));
        };
        let options = plugin.stdout_options().unwrap_or_else(ebpf_process_core::Options::none);
        let claims = plugin.check(&options)?;
        let taken = |name: &str| plan.sinks.iter().any(|sink| sink.spec.name == name);
        let name = if taken(NETDATA) { "netdata-stdout" } else { NETDATA };
        plan.sinks.push(PlannedSink { spec: OutletSpec::new(name), plugin: Arc::clone(plugin), options, claims });
    }
    for sink in &mut plan.sinks {
        sink.spec.essential = sink.claims.stdout;
    }
    Ok(())
}

/// This host, of which one agent sends the numbers to others than netdata.
struct Host {
    directory: PathBuf,
    lock: Mutex<Lock>,
}

impl Host {
    fn at(directory: PathBuf) -> Self {
        let lock = Mutex::new(Lock::take(&directory));
        Self { directory, lock }
    }

    fn warn_of(&self, plan: &Plan) {
        if let Lock::Unknown(error) = &*self.lock.lock()
            && plan.sinks.iter().any(|sink| !sink.claims.stdout)
        {
            warn!("cannot tell whether another agent sends the same numbers: no lock ({error})");
        }
    }
}

impl Gate for Host {
    /// Keeps out what an agent that runs already sends.
    fn enter(&self, sink: &PlannedSink) -> Result<Claim, BuildError> {
        let lock = &mut *self.lock.lock();
        if sink.claims.stdout {
            return Ok(Claim::default());
        }
        // As another user than at the start it may not be able to tell: then the other one counts as there.
        if matches!(lock, Lock::Second)
            && let first @ Lock::First(_) = Lock::take(&self.directory)
        {
            *lock = first;
        }
        match lock {
            Lock::First(_) | Lock::Unknown(_) => Ok(Claim::default()),
            Lock::Second => {
                let problem = "another agent runs on this host and would send the same numbers";
                Err(BuildError::taken(problem, "stop that one, or leave this sink out"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netdatas_names_for_plugins_are_recognized() {
        for (name, is) in [
            ("/usr/libexec/netdata/plugins.d/ebpf_process.plugin", true),
            ("ebpf_process.plugin", true),
            ("ebpf-process", false),
            (".plugin", false),
            ("plugin", false),
            ("", false),
        ] {
            assert_eq!(is_name(Some(&name.into())), is, "{name}");
        }
        assert!(!is_name(None));
    }

    #[test]
    fn a_passing_cause_asks_for_another_attempt_and_a_lasting_one_for_none() {
        let passing = Refusal::Unable { reason: "busy".to_owned(), passing: true };
        assert_eq!(answer(&passing), ("", Exit::Fine));
        assert_eq!(answer(&Refusal::lasting("no BPF")), ("DISABLE\n", Exit::Failed));
        assert_eq!(answer(&Refusal::Usage("a typo".to_owned())), ("DISABLE\n", Exit::Usage));
    }

    #[test]
    fn only_what_the_machine_refuses_is_put_down_to_netdatas_unit() {
        let reason = |refusal: Refusal| refusal.to_string();
        let named = reason(advise(Refusal::lasting("no rights"), true));
        assert!(named.starts_with("no rights; netdata's unit withholds") && named.contains(DROP_IN), "{named}");
        assert_eq!(reason(advise(Refusal::lasting("no BPF"), false)), "no BPF");
        assert_eq!(reason(advise(Refusal::Usage("a typo".to_owned()), true)), "a typo");
    }

    #[test]
    fn the_interval_is_the_larger_of_netdatas_two() {
        let configured = Duration::from_millis(1500);
        for (argument, variable, seconds) in [
            (Some(2), None, Some(2)),
            (Some(2), Some("5"), Some(5)),
            (Some(7), Some("5"), Some(7)),
            (None, Some("3"), Some(3)),
            (None, None, Some(2)),
            (None, Some("0"), None),
            (None, Some("often"), None),
            (Some(1), Some("1.5"), None),
            (Some(1), Some(""), Some(1)),
        ] {
            let interval = interval(argument, variable.map(OsStr::new), configured);
            assert_eq!(interval.ok(), seconds.map(Duration::from_secs), "{argument:?} {variable:?}");
        }
    }
}
