//! The loop that joins probes and sinks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use tracing::{info, warn};

use crate::batch::{Batch, Tick};
use crate::clock::{Clock, Moment};
use crate::error::{BuildError, chain};
use crate::last_batch::LastBatch;
use crate::ledger::{Ledger, Tally};
use crate::options::Options;
use crate::outlet::{Outlet, OutletSpec};
use crate::probe::{Probe, ProbeContext, ProbePlugin};
use crate::recorder::Recorder;
use crate::sink::{Sink, SinkContext, SinkPlugin, Stop};
use crate::vitals::Vitals;

/// Sinks an agent may have; each costs a thread and a queue.
const SINK_LIMIT: usize = 64;

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
    name: String,
    probe: Box<dyn Probe>,
    skip: bool,
    failing: bool,
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
        Self {
            clock,
            interval,
            recorder: Recorder::default(),
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
        self.probes.push(Running { name: name.to_owned(), probe, skip: false, failing: false });
    }

    /// Builds a sink and starts its thread.
    pub fn add_sink(
        &mut self,
        plugin: &dyn SinkPlugin,
        options: &Options,
        spec: OutletSpec,
        context: SinkContext,
    ) -> Result<(), BuildError> {
        let ledger = Arc::clone(&context.ledger);
        let sink = plugin.build(options, context)?;
        self.push_sink(sink, spec, ledger)
    }

    /// Starts the thread of a sink that is already built.
    pub fn push_sink(&mut self, sink: Box<dyn Sink>, spec: OutletSpec, ledger: Arc<Ledger>) -> Result<(), BuildError> {
        let refused = |problem: String, way_out: &str| BuildError::Refused {
            problem,
            way_out: way_out.to_owned(),
            passing: false,
        };
        if self.outlets.len() >= SINK_LIMIT {
            return Err(refused(format!("more than {SINK_LIMIT} sinks"), "leave some out"));
        }
        self.vitals.add_sink(&spec.name, &ledger);
        let name = spec.name.clone();
        let outlet = Outlet::start(spec, sink, ledger, self.interval, self.ends.0.clone()).map_err(|error| {
            refused(format!("cannot start a thread for sink {name}: {error}"), "raise the limit on threads")
        })?;
        self.outlets.push(outlet);
        let longest = self.outlets.iter().map(|outlet| outlet.spec().queue).max().unwrap_or(0);
        self.recorder.set_linger(u32::try_from(longest).unwrap_or(u32::MAX).saturating_add(2));
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
        self.tick(self.clock.now());
        Ended::Stopped
    }

    /// Collects one batch and offers it to every sink whose interval it is.
    pub fn tick(&mut self, moment: Moment) {
        let (tick, elapsed) = self.stamp(moment);
        self.vitals.count_tick();
        let delivered = self.outlets.iter().map(Outlet::delivered).min().unwrap_or(u64::MAX);
        self.recorder.begin(delivered);
        let budget = self.interval;
        for (index, running) in self.probes.iter_mut().enumerate() {
            if std::mem::take(&mut running.skip) {
                self.vitals.update_probe(index, |probe| probe.skips += 1);
                continue;
            }
            let started = self.clock.now().boottime;
            let outcome = running.probe.collect(&mut self.recorder);
            let duration = self.clock.now().boottime.saturating_sub(started);
            running.skip = duration > budget;
            self.vitals.update_probe(index, |probe| {
                probe.duration = duration;
                probe.errors += u64::from(outcome.is_err());
            });
            match outcome {
                Err(error) if !running.failing => {
                    running.failing = true;
                    warn!(probe = %running.name, "{}; further failures are counted, not logged", chain(&error));
                }
                Ok(()) if running.failing => {
                    running.failing = false;
                    info!(probe = %running.name, "the probe works again");
                }
                Ok(()) | Err(_) => {}
            }
        }
        let index = self.recycled();
        let Some(batch) = Arc::get_mut(&mut self.pool[index]) else { return };
        self.recorder.seal(tick, elapsed, batch);
        for outlet in &mut self.outlets {
            outlet.offer(&self.pool[index]);
        }
        self.last_batch.set(&self.pool[index]);
        self.last = Some(tick);
        self.wall = moment.wall;
    }

    /// Hangs up on all sinks and waits for them until the grace period is over, then drops the
    /// probes, which detaches them.
    pub fn close(mut self, grace: Duration) -> Vec<Closed> {
        let deadline: Instant = self.stop.begin(grace);
        let books: Vec<_> = self.vitals.ledgers();
        let closing: Vec<_> = self.outlets.drain(..).map(Outlet::hang_up).collect();
        // Detaching waits for the kernel: the probes' waits overlap, and the sinks finish meanwhile.
        std::thread::scope(|scope| {
            for Running { name, probe, .. } in self.probes.drain(..) {
                // Where no thread can be had the probe is dropped here and now.
                let _detaching = std::thread::Builder::new().name(name).spawn_scoped(scope, move || drop(probe));
            }
        });
        let in_time: Vec<bool> = closing.into_iter().map(|outlet| outlet.wait(deadline)).collect();
        let closed = books.into_iter().zip(in_time);
        closed.map(|((name, ledger), in_time)| Closed { name, tally: ledger.tally(), in_time }).collect()
    }

    /// The batch's identity: its number, and times that never go back.
    fn stamp(&self, moment: Moment) -> (Tick, Duration) {
        let Some(last) = self.last else {
            return (Tick { seq: 0, wall: moment.wall, boottime: moment.boottime }, Duration::ZERO);
        };
        if moment.wall < self.wall {
            self.vitals.count_clock_step();
        }
        // A nanosecond keeps timestamps distinct: equal ones overwrite each other in a database.
        let wall = moment.wall.max(last.wall + Duration::from_nanos(1));
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
