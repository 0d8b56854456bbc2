//! Builds an agent from a plan and runs it, in the order that the kernel and the threads demand:
//! probes first, for they may fork and may take rights; then these go; then the sinks, the signals, the ticks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use ebpf_process_config::Plan;
use ebpf_process_core::engine::{Agent, Clock, Ended, OutletSpec, SystemClock, Ticker};
use ebpf_process_core::{
    Assistant, BuildErrorKind, Ledger, Opener, ProbePlugin, Selection, Sink, SinkContext, State, VITALS, duration,
};
use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::confinement::user::User;
use crate::confinement::{self, Confinement};
use crate::destinations::Gate;
use crate::exit::Refusal;
use crate::reload::{Reloader, Replan};
use crate::reloads::Reloads;
use crate::signals::Caught;
use crate::surroundings::{Surroundings, probe_part};
use crate::{notify, privileges, reloads, status};

/// How long others may have what all sinks need: whoever was before may still be ending.
const OTHERS_END: Duration = Duration::from_secs(10);

/// Between two looks whether they have ended.
const PAUSE: Duration = Duration::from_millis(50);

/// An agent whose probes are attached.
pub(crate) struct Engine {
    /// The agent itself.
    pub(crate) agent: Agent,
    /// Where its time comes from.
    pub(crate) clock: Arc<dyn Clock>,
    interval: Duration,
    /// What sinks are told of the agent.
    surroundings: Surroundings,
    /// Does for it what it has no rights for any more.
    broker: Option<Broker>,
    /// Where the status is told: made before the rights went.
    socket: Option<status::Socket>,
    /// What was given up, for the status.
    confinement: Option<Confinement>,
}

/// How a run ended that had begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was asked to.
    Asked,
    /// The sink without which it has no purpose is over.
    EssentialSink,
    /// No sink is left.
    NoSinkLeft,
    /// The ticks have ended, and nobody asked for it.
    NoTicks,
    /// The process that opens things for the agent has ended.
    NoBroker,
}

impl Engine {
    /// Attaches the probes of a plan. One that cannot be is left out with a warning; none at all is
    /// a refusal.
    pub(crate) fn attach(
        plan: &Plan,
        interval: Duration,
        elevated: bool,
        broker: Option<Broker>,
    ) -> Result<Self, Refusal> {
        if elevated {
            privileges::take_up();
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut agent = Agent::new(Arc::clone(&clock), interval);
        if let Some(broker) = &broker {
            // It attaches whatever comes later, and so what comes first.
            agent.set_assistant(Arc::clone(broker.client()) as Arc<dyn Assistant>);
            agent.set_opener(Arc::clone(broker.client()) as Arc<dyn Opener>);
        }
        let mut failures = Vec::new();
        for probe in &plan.probes {
            match agent.start_probe(probe_part(probe)) {
                Ok(()) => {}
                Err(error) if error.kind() == BuildErrorKind::Options => return Err(error.into()),
                Err(error) => failures.push((probe.name.as_str(), error.to_string(), error.is_passing())),
            }
        }
        // The agent's own numbers alone are no reason to run, unless they are all that is asked for.
        let asked = plan.probes.iter().filter(|probe| probe.name != VITALS.name()).count();
        let failed = failures.iter().filter(|(name, ..)| *name != VITALS.name()).count();
        if asked > 0 && asked == failed {
            let passing = failures.iter().any(|(.., passing)| *passing);
            let mut reasons: Vec<String> = failures.into_iter().map(|(_, reason, _)| reason).collect();
            reasons.dedup();
            return Err(Refusal::Unable { reason: reasons.join("; "), passing });
        }
        for (probe, reason, passing) in failures {
            let (state, then) = if passing { ("absent", "; it is tried again") } else { ("closed", "") };
            warn!(probe, "the probe is {state}: {reason}{then}");
            agent.vitals().add_uncounted(format!("probe {probe}"), reason);
        }
        let user = User::planned(plan, elevated)?;
        let socket = plan.status.as_deref().and_then(|path| status_at(path, plan, user.as_ref()));
        let confinement = confinement::confine(plan, user.as_ref(), elevated, broker.is_some())?;
        let mut surroundings = Surroundings::of(plan, interval);
        if let Some(broker) = &broker {
            surroundings.opens_by(Arc::clone(broker.client()) as Arc<dyn Opener>);
        }
        Ok(Self { agent, clock, interval, surroundings, broker, socket, confinement })
    }

    /// Builds the sinks of a plan. One that is refused in passing is absent and tried again; one that is refused for good
    /// is left out with a warning; where that is so of all, it is a refusal. So it is where others have what each of them
    /// needs, and keep it for a while; `asked` says whether to give up.
    pub(crate) fn connect(
        &mut self,
        plan: &Plan,
        gate: &Arc<dyn Gate>,
        asked: impl FnMut() -> bool,
    ) -> Result<(), Refusal> {
        let (mut failures, mut taken) = (Vec::new(), Vec::new());
        for sink in &plan.sinks {
            let name = sink.spec.name.as_str();
            match self.agent.start_sink(self.surroundings.part(sink, gate, self.agent.vitals())) {
                Ok(()) => {}
                Err(error) if error.kind() == BuildErrorKind::Taken => taken.push(format!("sinks.{name}: {error}")),
                Err(error) if error.is_passing() => {}
                Err(error) if error.kind() == BuildErrorKind::Options => return Err(error.into()),
                Err(error) => failures.push((name, error)),
            }
        }
        if !taken.is_empty() && taken.len() == plan.sinks.len() && !self.comes_free(asked) {
            return Err(Refusal::Unable { reason: taken.join("; "), passing: true });
        }
        if failures.len() == plan.sinks.len()
            && let Some((name, error)) = failures.pop()
        {
            return Err(Refusal::lasting(format!("sinks.{name}: {error}")));
        }
        for (sink, error) in failures {
            warn!(sink, "the sink is left out: {error}");
        }
        Ok(())
    }

    /// Whether a sink has what it needs within [`OTHERS_END`], or is asked to end before.
    fn comes_free(&self, mut asked: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < OTHERS_END {
            let sinks = self.agent.vitals().sinks();
            if asked() || sinks.iter().any(|sink| sink.ledger.condition().state != State::Absent) {
                return true;
            }
            // Nobody ever sends: a pause.
            let _ = crossbeam_channel::never::<()>().recv_timeout(PAUSE);
        }
        false
    }

    /// Reads all probes together: whatever is shown counts from here. Returns when that was, since boot.
    pub(crate) fn set_baseline(&mut self) -> Duration {
        // The first collection takes longer than others: it makes the series.
        self.agent.tick_whole(self.clock.now());
        let now = self.clock.now();
        self.agent.tick_whole(now);
        self.agent.set_baseline();
        now.boottime
    }

    /// Adds a sink that is no plugin's and takes this much; the run ends when it does.
    pub(crate) fn show_on(&mut self, name: &str, selection: Selection, sink: Box<dyn Sink>) -> Result<(), Refusal> {
        let spec = OutletSpec { essential: true, selection, ..OutletSpec::new(name) };
        Ok(self.agent.push_sink(sink, spec, Arc::new(Ledger::default()))?)
    }

    /// What a sink of this agent knows about it.
    pub(crate) fn context(&self, spec: &OutletSpec) -> SinkContext {
        self.surroundings.context(spec, Arc::default(), self.agent.stop_signal())
    }

    /// Runs until a signal asks for the end or a sink's end is the agent's, then stops in order.
    /// An error means that no batch went out.
    pub(crate) fn run(
        mut self,
        caught: Caught,
        plan: &Plan,
        replan: Replan,
        gate: Arc<dyn Gate>,
    ) -> Result<End, Refusal> {
        let (asking, requests) = reloads::channel();
        let listening = caught.listen(asking.clone())?;
        let broker_is_gone = self.watch_broker(listening.teller())?;
        let described = status::Described::of(plan);
        let open = self.confinement.as_ref().and_then(Confinement::open).cloned();
        let status = self.socket.take().and_then(|socket| self.tell_status(socket, &described, asking));
        let no_thread = |error| Refusal::lasting(format!("cannot start a thread: {error}; raise the limit on threads"));
        let ticks = Ticker::start(Arc::clone(&self.clock), self.interval, Arc::clone(self.agent.vitals()));
        let (ticker, moments) = ticks.map_err(no_thread)?;
        let ticker = Arc::new(ticker);
        let reloader = Reloader {
            replan,
            current: plan.clone(),
            surroundings: self.surroundings.clone(),
            gate,
            remote: self.agent.remote(),
            vitals: Arc::clone(self.agent.vitals()),
            ticker: Arc::downgrade(&ticker),
            described: Arc::clone(&described),
            broker: self.broker.as_ref().map(|broker| Arc::clone(broker.client())),
            open,
        };
        reloader.start(requests).map_err(no_thread)?;
        info!("counting, one batch every {}", duration::show(self.interval));
        let watch = notify::watch(notify::Watched {
            interval: Box::new({
                let described = Arc::clone(&described);
                move || described.interval()
            }),
            refused: Box::new({
                let described = Arc::clone(&described);
                move || described.last_reload()?.error
            }),
            vitals: Arc::clone(self.agent.vitals()),
            last_batch: Arc::clone(self.agent.last_batch()),
        });
        let ended = self.agent.run(&moments, listening.stop());
        drop((ticker, watch));
        notify::stopping();
        drop(status);
        let end = match ended {
            Ended::Stopped if listening.asked() => End::Asked,
            Ended::Stopped if broker_is_gone.load(Ordering::Acquire) => End::NoBroker,
            Ended::Stopped => End::NoTicks,
            Ended::EssentialSink(_) => End::EssentialSink,
            Ended::NoSinkLeft => End::NoSinkLeft,
        };
        let grace = described.grace();
        self.stop(grace);
        Ok(end)
    }

    /// Sees to it that the agent stops when its broker is gone: without it, it would lose sinks one after another. The
    /// flag says whether that is so.
    fn watch_broker(&self, stop: Sender<()>) -> Result<Arc<AtomicBool>, Refusal> {
        let gone = Arc::new(AtomicBool::new(false));
        let Some(broker) = &self.broker else { return Ok(gone) };
        let flag = Arc::clone(&gone);
        let tell = move || {
            flag.store(true, Ordering::Release);
            // A message that is there already does the same.
            let _ = stop.try_send(());
        };
        let started = broker.when_gone(tell);
        started
            .map_err(|error| Refusal::lasting(format!("cannot start a thread: {error}; raise the limit on threads")))?;
        Ok(gone)
    }

    /// Starts to answer questions for the status. Where that cannot be, the agent runs without.
    fn tell_status(
        &mut self,
        socket: status::Socket,
        described: &Arc<status::Described>,
        asking: Reloads,
    ) -> Option<status::Server> {
        let source = status::Source {
            clock: Arc::clone(&self.clock),
            started: self.clock.now().boottime,
            vitals: Arc::clone(self.agent.vitals()),
            last_batch: Arc::clone(self.agent.last_batch()),
            described: Arc::clone(described),
            confinement: self.confinement.take(),
        };
        let server = status::Server::start(socket, source, asking);
        server.inspect_err(|error| warn!("no status: {error}")).ok()
    }

    /// Lets the sinks finish, detaches the probes, and says what became of each sink's samples.
    /// Returns whether everything was written that could be.
    pub(crate) fn stop(self, grace: Duration) -> bool {
        let mut complete = true;
        for closed in self.agent.close(grace) {
            let tally = &closed.tally;
            // What a protocol cannot say is rejected: that is known, and no failure.
            complete &= tally.written + tally.superseded + tally.rejected_total() == tally.offered;
            info!(
                sink = %closed.name,
                "{} samples: {} written, {} unconfirmed, {} superseded, {} failed, {} dropped, {} rejected, {} spooled",
                tally.offered, tally.written, tally.unconfirmed, tally.superseded, tally.failed, tally.dropped_total(),
                tally.rejected_total(), tally.spooled,
            );
            if tally.mis_settled > 0 {
                error!(sink = %closed.name, "{} samples too many are in these numbers: a fault in this sink", tally.mis_settled);
            }
        }
        complete
    }
}

/// Makes the socket of the status. Where that cannot be, the agent runs without.
fn status_at(path: &Path, plan: &Plan, user: Option<&User>) -> Option<status::Socket> {
    let said = |error: &std::io::Error| {
        let problem = format!("no status at {}: {error}; status.socket names another", path.display());
        // Who has not asked for it need not miss it, and may look at a table beside an agent that has it.
        if plan.status_is_default { info!("{problem}") } else { warn!("{problem}") }
    };
    status::Socket::bind(path, user).inspect_err(said).ok()
}

/// This host's name.
pub(crate) fn host() -> String {
    ebpf_process_core::HostName::system().now()
}

#[cfg(test)]
mod tests {
    use ebpf_process_config::Sources;
    use ebpf_process_core::{
        BuildError, Claims, Declared, Options, OptionsError, Probe, ProbeContext, Registry, SinkError, SinkPlugin, View,
    };

    use super::*;
    use crate::exit::Exit;

    /// A probe that cannot be built.
    struct Broken(&'static str, fn() -> BuildError);

    impl ProbePlugin for Broken {
        fn name(&self) -> &'static str {
            self.0
        }

        fn summary(&self) -> &'static str {
            "cannot be built"
        }

        fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
            Ok(Vec::new())
        }

        fn build(&self, _: &Options, _: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
            Err((self.1)())
        }
    }

    fn refused(passing: bool) -> BuildError {
        BuildError::refused("no BPF", "run as root").passing(passing)
    }

    const LASTING: Broken = Broken("lasting", || refused(false));
    const PASSING: Broken = Broken("passing", || refused(true));
    const WRONG: Broken = Broken("wrong", || BuildError::options(Options::none().refuse("key", "is wrong")));
    const PANICKING: Broken = Broken("panicking", || panic!("on purpose"));

    fn attach(registry: &Registry) -> Result<Engine, Refusal> {
        // A test's thread is not to be confined.
        let sources = Sources::built_in().set(["capabilities=keep".to_owned(), "status.socket=\"\"".to_owned()]);
        let loaded = sources.load(registry).expect("the default");
        let plan = Plan::new(&loaded, registry).expect("a plan");
        Engine::attach(&plan, plan.interval, false, None)
    }

    #[test]
    fn a_probe_that_cannot_be_built_is_left_out_unless_nothing_else_counts() {
        let alone = Registry::default().probe(VITALS);
        assert!(attach(&alone).is_ok(), "the agent's own numbers were all that was asked for");
        let registry = alone.probe(LASTING);
        let refusal = attach(&registry).err().expect("nothing is counted");
        assert!(matches!(&refusal, Refusal::Unable { passing: false, .. }), "{refusal}");
        assert_eq!(refusal.to_string(), "no BPF; run as root");
        let refusal = attach(&registry.probe(PASSING)).err().expect("nothing is counted");
        assert!(matches!(&refusal, Refusal::Unable { passing: true, .. }), "{refusal}");
        assert_eq!(refusal.to_string(), "no BPF; run as root", "said once");
        let refusal = attach(&Registry::default().probe(WRONG)).err().expect("wrong options");
        assert_eq!(refusal.exit(), Exit::Usage);
    }

    /// A sink that takes everything, or one that cannot be built.
    struct SinkType(&'static str, fn() -> Result<Box<dyn Sink>, BuildError>);

    impl SinkPlugin for SinkType {
        fn name(&self) -> &'static str {
            self.0
        }

        fn summary(&self) -> &'static str {
            "is built or not"
        }

        fn check(&self, _: &Options) -> Result<Claims, OptionsError> {
            Ok(Claims::default())
        }

        fn build(&self, _: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
            (self.1)()
        }
    }

    struct Taker;

    impl Sink for Taker {
        fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
            Ok(())
        }
    }

    const TAKING: SinkType = SinkType("taking", || Ok(Box::new(Taker)));
    const HELD: SinkType = SinkType("held", || Err(BuildError::taken("the port is in use", "take another one")));
    const ABSENT: SinkType = SinkType("absent", || Err(refused(true)));
    const IMPOSSIBLE: SinkType = SinkType("impossible", || Err(refused(false)));

    #[test]
    fn a_sink_that_can_never_be_built_is_left_out_unless_it_is_the_only_one() {
        let registry = Registry::default().probe(VITALS).sink(TAKING).sink(HELD).sink(ABSENT).sink(IMPOSSIBLE);
        let connect = |sinks: &[&str]| {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("sinks.toml");
            let sinks: Vec<_> = sinks.iter().map(|name| format!("[sinks.{name}]\ntype = \"{name}\"\n")).collect();
            let own = "capabilities = \"keep\"\nstatus.socket = \"\"\n".to_owned();
            std::fs::write(&path, own + &sinks.concat()).expect("a file");
            let loaded = Sources::command_line(Some(&path)).load(&registry).expect("a configuration");
            let plan = Plan::new(&loaded, &registry).expect("a plan");
            let gate: Arc<dyn Gate> = Arc::new(crate::destinations::Claims::default());
            Engine::attach(&plan, plan.interval, false, None)?.connect(&plan, &gate, || false)
        };
        assert!(connect(&["taking", "impossible"]).is_ok());
        assert!(connect(&["absent"]).is_ok(), "it may come");
        assert!(connect(&["absent", "held"]).is_ok(), "one of them may come");
        let refusal = connect(&["held"]).expect_err("somebody else keeps it");
        assert!(matches!(&refusal, Refusal::Unable { passing: true, .. }), "{refusal}");
        assert_eq!(refusal.to_string(), "sinks.held: the port is in use; take another one");
        let refusal = connect(&["impossible"]).expect_err("no sink");
        assert!(matches!(&refusal, Refusal::Unable { passing: false, .. }), "{refusal}");
        assert_eq!(refusal.to_string(), "sinks.impossible: no BPF; run as root");
    }

    #[test]
    fn a_panic_becomes_an_exit_code() {
        let registry = Registry::default().probe(PANICKING);
        let arguments: Vec<_> = ["ebpf-process", "once", "--interval", "100ms"].map(Into::into).to_vec();
        assert_eq!(crate::App::default().registry(registry).dispatch(&arguments), Exit::Failed);
    }
}
