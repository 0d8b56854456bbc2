//! The loop that joins probes and sinks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::batch::{Batch, Tick};
use crate::clock::{Clock, Moment};
use crate::entity::EntityKind;
use crate::error::{BuildError, chain};
use crate::last_batch::LastBatch;
use crate::ledger::{Ledger, Tally};
use crate::options::Options;
use crate::outlet::{Outlet, OutletSpec};
use crate::probe::{Probe, ProbeContext, ProbePlugin};
use crate::recorder::Recorder;
use crate::sink::{Sink, SinkContext, SinkPlugin, Stop};
use crate::vitals::Vitals;
use crate::vitals_probe::VITALS;

/// Sinks an agent may have; each costs a thread and a queue.
const SINK_LIMIT: usize = 64;

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
    probes: Vec<Running>,
    outlets: Vec<Outlet>,
    pool: Vec<Arc<Batch>>,
    vitals: Arc<Vitals>,
    stop: Stop,
    last: Option<Tick>,
    /// What the wall clock said at the last tick; after it was set back, the batch's own time is ahead of that.
    wall: Duration,
    last_batch: Arc<LastBatch>,
    ends: (Sender<String>, Receiver<String>),
}

struct Running {
    name: Arc<str>,
    probe: Box<dyn Probe>,
    /// Its last collection took longer than an interval: the next tick leaves it out.
    slow: bool,
    health: Health,
    /// Whether it tells what was left out, so that it never is itself.
    tells: bool,
}

/// What came of a probe's last collection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Well,
    Failing,
    /// It is never asked again.
    Panicked,
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
            probes: Vec::new(),
            outlets: Vec::new(),
            pool: Vec::new(),
            vitals: Arc::default(),
            stop: Stop::default(),
            last: None,
            wall: Duration::ZERO,
            last_batch: Arc::default(),
            ends: bounded(SINK_LIMIT),
        }
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

    /// Builds a probe and adds it.
    pub fn add_probe(&mut self, plugin: &dyn ProbePlugin, options: &Options) -> Result<(), BuildError> {
        let context =
            ProbeContext { recorder: &mut self.recorder, interval: self.interval, vitals: Arc::clone(&self.vitals) };
        let probe = plugin.build(options, context)?;
        self.push_probe(plugin.name(), probe);
        Ok(())
    }

    /// Adds a probe that makes its own series at its first collection.
    pub fn push_probe(&mut self, name: &str, probe: Box<dyn Probe>) {
        self.vitals.add_probe(name);
        let tells = name == VITALS.name();
        let running = Running { name: name.into(), probe, slow: false, health: Health::Well, tells };
        self.probes.push(running);
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
        if !plugin.takes_every_kind() {
            spec.selection.unasked = vec![EntityKind::PROCESS.to_owned()];
        }
        let ledger = Arc::clone(&context.ledger);
        let sink = plugin.build(options, context)?;
        self.push_sink(sink, spec, ledger)
    }

    /// Starts the thread of a sink that is already built.
    pub fn push_sink(&mut self, sink: Box<dyn Sink>, spec: OutletSpec, ledger: Arc<Ledger>) -> Result<(), BuildError> {
        if self.outlets.len() >= SINK_LIMIT {
            return Err(BuildError::refused(format!("more than {SINK_LIMIT} sinks"), "leave some out"));
        }
        let name = spec.name.clone();
        let book = Arc::clone(&ledger);
        let outlet = Outlet::start(spec, sink, ledger, self.interval, self.ends.0.clone()).map_err(|error| {
            BuildError::refused(format!("cannot start a thread for sink {name}: {error}"), "raise the limit on threads")
        })?;
        self.vitals.add_sink(&name, &book);
        self.outlets.push(outlet);
        Ok(())
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
                recv(self.ends.1) -> name => {
                    let essential = name.ok().filter(|name| {
                        self.outlets.iter().any(|outlet| outlet.spec().essential && outlet.spec().name == *name)
                    });
                    if let Some(name) = essential {
                        return Ended::EssentialSink(name);
                    }
                    if self.outlets.iter().all(Outlet::is_over) {
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
        let lost = self.outlets.iter_mut().map(Outlet::take_lost_finals).sum();
        self.recorder.count_lost_finals(lost);
        self.leave_out(leave_out);
        self.recorder.set_last(!leave_out);
        for index in 0..self.probes.len() {
            self.collect(index);
        }
        let index = self.recycled();
        let Some(batch) = Arc::get_mut(&mut self.pool[index]) else { return };
        self.recorder.seal(tick, elapsed, batch);
        self.vitals.set_kinds(self.recorder.tables());
        for outlet in &mut self.outlets {
            outlet.offer(&self.pool[index]);
        }
        self.last_batch.set(&self.pool[index]);
        self.last = Some(tick);
        self.wall = moment.wall;
    }

    /// Decides which probes are left out of this batch, before any is asked: one of them tells.
    fn leave_out(&mut self, slow_ones: bool) {
        for (index, running) in self.probes.iter_mut().enumerate() {
            running.slow &= slow_ones && !running.tells;
            if running.slow || running.health == Health::Panicked {
                self.vitals.update_probe(index, |probe| probe.skips += 1);
                self.recorder.leave_out(&running.name);
            }
        }
    }

    fn collect(&mut self, index: usize) {
        let Self { probes, recorder, vitals, clock, interval, .. } = self;
        let running = &mut probes[index];
        if std::mem::take(&mut running.slow) || running.health == Health::Panicked {
            return;
        }
        let started = clock.now().boottime;
        let outcome = catch_unwind(AssertUnwindSafe(|| running.probe.collect(recorder)));
        let duration = clock.now().boottime.saturating_sub(started);
        running.slow = duration > *interval;
        vitals.update_probe(index, |probe| {
            probe.duration = duration;
            probe.errors += u64::from(!matches!(outcome, Ok(Ok(()))));
        });
        match outcome {
            Err(_) => {
                running.health = Health::Panicked;
                error!(probe = %running.name, "the probe panicked: it is not asked again, and its numbers are missing");
            }
            Ok(Err(error)) if running.health == Health::Well => {
                running.health = Health::Failing;
                warn!(probe = %running.name, "{}; further failures are counted, not logged", chain(&error));
            }
            Ok(Ok(())) if running.health == Health::Failing => {
                running.health = Health::Well;
                info!(probe = %running.name, "the probe works again");
            }
            Ok(_) => {}
        }
        if running.health != Health::Well {
            recorder.leave_out(&running.name);
        }
    }

    /// Hangs up on all sinks and waits for them until the grace period is over, then drops the
    /// probes, which detaches them.
    pub fn close(mut self, grace: Duration) -> Vec<Closed> {
        let deadline: Instant = self.stop.begin(grace);
        let closing: Vec<_> = self.outlets.drain(..).map(Outlet::hang_up).collect();
        // Detaching waits for the kernel: the probes' waits overlap, and the sinks finish meanwhile.
        detach_all(self.probes.drain(..), thread::Builder::new);
        let closed = closing.into_iter().map(|mut outlet| {
            let in_time = outlet.wait(deadline);
            Closed { tally: outlet.ledger.tally(), name: outlet.name, in_time }
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

/// Drops the probes, each on a thread of its own or, where none can be had, on this one.
fn detach_all(probes: impl Iterator<Item = Running>, thread: impl Fn() -> thread::Builder) {
    let probes: Vec<_> = probes.map(|Running { name, probe, .. }| (name, Mutex::new(Some(probe)))).collect();
    thread::scope(|scope| {
        for (name, probe) in &probes {
            let detaching = thread().name(name.to_string()).spawn_scoped(scope, || detach(name, probe));
            if detaching.is_err() {
                detach(name, probe);
            }
        }
    });
}

/// Drops a probe, which detaches it. A panic is its own.
fn detach(name: &str, probe: &Mutex<Option<Box<dyn Probe>>>) {
    let probe = probe.lock().take();
    if catch_unwind(AssertUnwindSafe(move || drop(probe))).is_err() {
        error!(probe = %name, "the probe panicked while it was dropped");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::ProbeError;

    #[test]
    fn a_probe_that_panics_when_dropped_costs_itself_alone_where_no_thread_can_be_had() {
        struct Panics(Arc<AtomicUsize>);
        impl Probe for Panics {
            fn collect(&mut self, _: &mut Recorder) -> Result<(), ProbeError> {
                Ok(())
            }
        }
        impl Drop for Panics {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
                panic!("a bug in somebody's probe");
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let running = |name: &str| Running {
            name: name.into(),
            probe: Box::new(Panics(Arc::clone(&dropped))),
            slow: false,
            health: Health::Well,
            tells: false,
        };
        // No address space has room for such a stack.
        detach_all(["a", "b"].map(running).into_iter(), || thread::Builder::new().stack_size(1 << 60));
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
        detach_all(["a", "b"].map(running).into_iter(), thread::Builder::new);
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
    }
}
