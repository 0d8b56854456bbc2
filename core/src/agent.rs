//! The loop that joins probes and sinks.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};
use tracing::warn;

use crate::assistant::Assistant;
use crate::batch::{Batch, Tick};
use crate::clock::{Clock, Moment};
use crate::coming::{Coming, Wanted};
use crate::error::BuildError;
use crate::last_batch::LastBatch;
use crate::ledger::{Ledger, Tally};
use crate::opener::{Direct, Opener};
use crate::options::Options;
use crate::outlet::Beginning;
use crate::outlet_spec::OutletSpec;
use crate::outlets::{Outlets, unasked};
use crate::part::{Parts, ProbePart, SinkPart};
use crate::probe::{Probe, ProbePlugin};
use crate::recorder::Recorder;
use crate::remote::{Command, Remote, channel};
use crate::running::{Gone, Probes, Scene};
use crate::sink::{Sink, SinkContext, SinkPlugin, Stop};
use crate::vitals::Vitals;

/// Between two timestamps, at least: equal ones overwrite each other in a database. Seconds in a floating-point
/// number, as in JSON, tell times of this century apart down to 0.24 microseconds.
const LEAST_STEP: Duration = Duration::from_micros(1);

/// Probes, sinks and the tick that joins them.
///
/// Add all probes first, while the process has one thread; then the sinks; then
/// [`run`](Self::run), and at the end [`close`](Self::close).
pub struct Agent {
    clock: Arc<dyn Clock>,
    interval: Duration,
    recorder: Recorder,
    probes: Probes,
    outlets: Outlets,
    pool: Vec<Arc<Batch>>,
    vitals: Arc<Vitals>,
    stop: Stop,
    last: Option<Tick>,
    /// What the wall clock said at the last tick; after it was set back, the batch's own time is ahead of that.
    wall: Duration,
    last_batch: Arc<LastBatch>,
    remote: (Remote, Receiver<Command>),
    assistant: Option<Arc<dyn Assistant>>,
    opener: Arc<dyn Opener>,
}

/// Why [`Agent::run`] returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop; the last batch has been collected.
    Stopped,
    /// This sink, essential to the run, is over.
    EssentialSink(String),
    /// All sinks are over.
    NoSinkLeft,
}

/// A sink's book at the end of the run.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The sink's name.
    pub name: String,
    /// What became of its samples.
    pub tally: Tally,
    /// Whether it finished within the grace period.
    pub in_time: bool,
}

impl Agent {
    /// An agent without probes and sinks.
    pub fn new(clock: Arc<dyn Clock>, interval: Duration) -> Self {
        let mut recorder = Recorder::default();
        recorder.begin_at(clock.now().wall);
        Self {
            clock,
            interval,
            recorder,
            probes: Probes::default(),
            outlets: Outlets::default(),
            pool: Vec::new(),
            vitals: Arc::default(),
            stop: Stop::default(),
            last: None,
            wall: Duration::ZERO,
            last_batch: Arc::default(),
            remote: channel(),
            assistant: None,
            opener: Arc::new(Direct::default()),
        }
    }

    /// Who loads and attaches for the probes that are added from now on.
    pub fn set_assistant(&mut self, assistant: Arc<dyn Assistant>) {
        self.assistant = Some(assistant);
    }

    /// By whom the probes that are added from now on open things.
    pub fn set_opener(&mut self, opener: Arc<dyn Opener>) {
        self.opener = opener;
    }

    /// The agent's own numbers.
    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// The newest batch, for another thread.
    pub fn last_batch(&self) -> &Arc<LastBatch> {
        &self.last_batch
    }

    /// Tells sinks whether the agent is stopping; for their [`SinkContext`].
    pub fn stop_signal(&self) -> Stop {
        self.stop.clone()
    }

    /// Changes this agent while it runs, from other threads.
    pub fn remote(&self) -> Remote {
        self.remote.0.clone()
    }

    /// Builds a probe and adds it.
    pub fn add_probe(&mut self, plugin: &dyn ProbePlugin, options: &Options) -> Result<(), BuildError> {
        let (probes, mut scene) = self.scene();
        probes.build(plugin.name(), plugin, options, &mut scene)
    }

    /// Builds a probe that can be built again, and adds it also where that is refused: then it is absent, and tried again,
    /// if the refusal is a passing one, and closed otherwise. The error is that refusal, which the caller says; where the
    /// options are wrong there is no probe.
    pub fn start_probe(&mut self, part: ProbePart) -> Result<(), BuildError> {
        let (probes, mut scene) = self.scene();
        probes.start(part, &mut scene)
    }

    /// Adds a probe that makes its own series at its first collection.
    pub fn push_probe(&mut self, name: &str, probe: Box<dyn Probe>) {
        self.probes.push(name, probe, &self.vitals);
    }

    fn scene(&mut self) -> (&mut Probes, Scene<'_>) {
        let Self { probes, recorder, vitals, clock, interval, assistant, opener, .. } = self;
        (probes, Scene { recorder, vitals, clock: &**clock, interval: *interval, assistant, opener })
    }

    /// Builds a sink and starts its thread. Where its selection names no kinds, it gets those that a sink of its type gets
    /// [without asking](SinkPlugin::takes_every_kind).
    pub fn add_sink(
        &mut self,
        plugin: &dyn SinkPlugin,
        options: &Options,
        mut spec: OutletSpec,
        context: SinkContext,
    ) -> Result<(), BuildError> {
        spec.selection.unasked = unasked(plugin);
        let ledger = Arc::clone(&context.ledger);
        let sink = plugin.build(options, context)?;
        self.push_sink(sink, spec, ledger)
    }

    /// Builds a sink that can be built again, and starts its thread. Where that is refused in passing it is absent, and is
    /// tried again on its thread; the error says why. Any other error means that there is no such sink.
    pub fn start_sink(&mut self, part: SinkPart) -> Result<(), BuildError> {
        self.outlets.start(part, self.interval, &self.vitals)
    }

    /// Starts the thread of a sink that is already built.
    pub fn push_sink(&mut self, sink: Box<dyn Sink>, spec: OutletSpec, ledger: Arc<Ledger>) -> Result<(), BuildError> {
        let book = (ledger, self.stop.clone());
        self.outlets.push(spec, Beginning::with(sink), book, self.interval, &self.vitals)
    }

    /// Becomes what these parts say, between two batches, and says in words what was done. Probes and sinks that were
    /// added otherwise than as parts stay. A probe that is refused is absent or closed, as at the start. All of it is done
    /// on this thread; [`Remote::apply`] has another one do what takes time.
    pub fn apply(&mut self, parts: Parts) -> Vec<String> {
        let coming = self.compare(&parts.probes).prepare().collect();
        let (said, gone) = self.change(parts, coming);
        gone.detach();
        said
    }

    /// Which of these probes are not there as they are to be.
    fn compare(&self, probes: &[ProbePart]) -> Wanted {
        Wanted { parts: self.probes.missing(probes), assistant: self.assistant.clone() }
    }

    fn change(&mut self, parts: Parts, coming: Vec<Coming>) -> (Vec<String>, Gone) {
        let Parts { interval, grace, probes, sinks } = parts;
        self.interval = interval;
        let (running, mut scene) = self.scene();
        let (mut said, gone) = running.change_to(probes, coming, &mut scene);
        said.extend(self.outlets.change_to(sinks, (interval, grace), &self.vitals));
        (said, gone)
    }

    fn obey(&mut self, command: Command) {
        // Whoever asked may have gone.
        match command {
            Command::Compare(probes, answer) => drop(answer.send(self.compare(&probes))),
            Command::Apply(parts, coming, answer) => drop(answer.send(self.change(*parts, coming))),
        }
    }

    /// Collects a first batch at once, then one per moment, until it is asked to stop (by a message
    /// or by hanging up), its essential sink is over, or no sink is left. A stop collects once more.
    pub fn run(&mut self, moments: &Receiver<Moment>, stop: &Receiver<()>) -> Ended {
        self.tick(self.clock.now());
        loop {
            select! {
                recv(moments) -> moment => match moment {
                    Ok(moment) => self.tick(moment),
                    Err(_) => return self.last_tick(),
                },
                recv(stop) -> _ => return self.last_tick(),
                recv(self.remote.1) -> command => if let Ok(command) = command {
                    self.obey(command);
                },
                recv(self.outlets.ends()) -> name => {
                    if let Some(name) = name.ok().filter(|name| self.outlets.is_essential(name)) {
                        return Ended::EssentialSink(name);
                    }
                    if self.outlets.are_over() {
                        return Ended::NoSinkLeft;
                    }
                }
            }
        }
    }

    fn last_tick(&mut self) -> Ended {
        self.tick_whole(self.clock.now());
        Ended::Stopped
    }

    /// Collects one batch and offers it to every sink whose interval it is. A probe whose last
    /// collection took longer than an interval is left out, so that the others keep theirs.
    pub fn tick(&mut self, moment: Moment) {
        self.round(moment, true);
    }

    /// As [`tick`](Self::tick), and no probe is left out for being slow, or holds anything back: for a batch that has no
    /// successor to make up for it.
    pub fn tick_whole(&mut self, moment: Moment) {
        self.round(moment, false);
    }

    /// From now on, counters and histograms are totals since the last batch.
    pub fn set_baseline(&mut self) {
        self.recorder.rebase();
    }

    fn round(&mut self, moment: Moment, leave_out: bool) {
        let (tick, elapsed) = self.stamp(moment);
        self.vitals.count_tick();
        self.recorder.count_lost_finals(self.outlets.take_lost_finals());
        self.outlets.settle(&self.vitals);
        self.probes.leave_out(leave_out, &mut self.recorder, &self.vitals);
        self.recorder.set_last(!leave_out);
        let (probes, mut scene) = self.scene();
        probes.collect(&mut scene);
        let index = self.recycled();
        let Some(batch) = Arc::get_mut(&mut self.pool[index]) else { return };
        self.recorder.seal(tick, elapsed, batch);
        self.vitals.set_kinds(self.recorder.tables());
        self.outlets.offer(&self.pool[index]);
        self.last_batch.set(&self.pool[index]);
        self.last = Some(tick);
        self.wall = moment.wall;
    }

    /// Hangs up on all sinks and waits for them until the grace period is over, then drops the
    /// probes, which detaches them.
    pub fn close(mut self, grace: Duration) -> Vec<Closed> {
        self.stop.begin(grace);
        let closing = self.outlets.hang_up(grace);
        // Detaching waits for the kernel: the probes' waits overlap, and the sinks finish meanwhile.
        self.probes.detach();
        let closed: Vec<_> = closing.into_iter().map(|mut outlet| (outlet.wait(), outlet)).collect();
        let closed = closed.into_iter().filter_map(|(in_time, outlet)| {
            // A predecessor's numbers are among those of its name.
            let tally = self.vitals.closed(&outlet.name, &outlet.ledger)?;
            Some(Closed { name: outlet.name, tally, in_time })
        });
        closed.collect()
    }

    /// The batch's identity: its number and its times. A wall clock that was set back by less than an
    /// interval is waited for; one that is further behind is followed.
    fn stamp(&self, moment: Moment) -> (Tick, Duration) {
        let Some(last) = self.last else {
            return (Tick { seq: 0, wall: moment.wall, boottime: moment.boottime }, Duration::ZERO);
        };
        let behind = last.wall.saturating_sub(moment.wall);
        if moment.wall < self.wall {
            self.vitals.count_clock_step();
            let passed = moment.boottime.saturating_sub(last.boottime);
            let back = (self.wall + passed).saturating_sub(moment.wall);
            let then = if behind > self.interval { "timestamps follow it" } else { "timestamps wait for it" };
            warn!("the wall clock was set back by {back:.3?}: {then}");
        }
        let wall = if behind > self.interval { moment.wall } else { moment.wall.max(last.wall + LEAST_STEP) };
        let tick = Tick { seq: last.seq + 1, wall, boottime: moment.boottime };
        (tick, moment.boottime.saturating_sub(last.boottime))
    }

    /// The index of a batch that no sink holds any more. The pool grows to what the queues hold.
    fn recycled(&mut self) -> usize {
        let free = self.pool.iter_mut().position(|batch| Arc::get_mut(batch).is_some());
        free.unwrap_or_else(|| {
            self.pool.push(Arc::new(Batch::empty()));
            self.pool.len() - 1
        })
    }
}
