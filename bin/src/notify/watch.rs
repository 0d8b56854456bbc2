//! A thread that looks after the collecting one, and tells the service manager.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ebpf_process_core::engine::LastBatch;
use ebpf_process_core::{Condition, ProbePlugin as _, VITALS, Vitals};
use tracing::{error, info};

use super::fares::Fares;
use super::manager::Manager;

/// Between two looks for the first good batch: whoever waits for the service waits so much longer.
const BEFORE_READY: Duration = Duration::from_millis(50);

/// Between two lines for people, at least and at most.
const BETWEEN_LINES: Duration = Duration::from_secs(1);
const LONGEST_BETWEEN_LINES: Duration = Duration::from_secs(10);

/// What is added to two intervals before a batch counts as hanging: a busy machine may be late.
const SLACK: Duration = Duration::from_secs(1);

/// The line for people while nothing is counted: no more, and not yet.
const HANGS: &str = "hanging: no batch is collected any more, see the log";
const NOT_YET: &str = "starting: no probe has worked yet, see the log";

/// What is known of the agent that is looked after.
pub(crate) struct Watched {
    /// The time between two batches; a reload can change it.
    pub(crate) interval: Box<dyn Fn() -> Duration + Send>,
    /// Why the last reload was refused, if it was.
    pub(crate) refused: Box<dyn Fn() -> Option<String> + Send>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) last_batch: Arc<LastBatch>,
}

/// The thread; it ends when this is dropped.
pub(crate) struct Watch {
    hang_up: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts the thread.
    pub(crate) fn start(manager: &'static Manager, watched: Watched) -> io::Result<Self> {
        let (hang_up, ended) = bounded(0);
        let watch = move || watch(manager, &watched, &ended);
        let thread = thread::Builder::new().name("notify".to_owned()).spawn(watch)?;
        Ok(Self { hang_up: Some(hang_up), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hang_up = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has been logged.
            let _ = thread.join();
        }
    }
}

fn watch(manager: &Manager, watched: &Watched, ended: &Receiver<()>) {
    let started = Instant::now();
    let mut progress = Progress::new((watched.interval)(), watched.vitals.ticks(), started);
    let mut ready = false;
    let mut said_at = None;
    loop {
        let now = Instant::now();
        let interval = (watched.interval)();
        let between_lines = interval.clamp(BETWEEN_LINES, LONGEST_BETWEEN_LINES);
        let period = manager.watchdog().map_or(between_lines, |watchdog| between_lines.min(watchdog / 2));
        progress.paces(interval);
        progress.look(watched.vitals.ticks(), now);
        if !ready && watched.has_good_batch() {
            manager.started();
            ready = true;
        }
        if ready && !progress.is_stuck() && manager.watchdog().is_some() {
            manager.alive();
        }
        let first = ready && said_at.is_none();
        if first || now.saturating_duration_since(said_at.unwrap_or(started)) >= BETWEEN_LINES {
            let line = match (progress.is_stuck(), ready) {
                (true, _) => HANGS.to_owned(),
                (false, true) => watched.fares().line(),
                (false, false) => NOT_YET.to_owned(),
            };
            if manager.say(&line) {
                said_at = Some(now);
            }
        }
        match ended.recv_timeout(if ready { period } else { period.min(BEFORE_READY) }) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Whether the collecting thread gets on.
struct Progress {
    bound: Duration,
    ticks: u64,
    since: Instant,
    now: Instant,
}

impl Progress {
    fn new(interval: Duration, ticks: u64, now: Instant) -> Self {
        let mut progress = Self { bound: Duration::ZERO, ticks, since: now, now };
        progress.paces(interval);
        progress
    }

    /// Takes over the time between two batches.
    const fn paces(&mut self, interval: Duration) {
        // The clock that ticks follow may be set back by up to an interval.
        self.bound = interval.saturating_mul(2).saturating_add(SLACK);
    }

    /// Notes how far it is; the log says when it stops getting on and when it gets on again.
    fn look(&mut self, ticks: u64, now: Instant) {
        let was_stuck = self.is_stuck();
        self.now = now;
        if ticks != self.ticks {
            (self.ticks, self.since) = (ticks, now);
        }
        match (was_stuck, self.is_stuck()) {
            (false, true) => error!(
                "no batch was begun for {:.1?}: a probe hangs, or the machine; a service manager with a watchdog ends \
                 this process unless it passes",
                self.bound
            ),
            (true, false) => info!("batches are collected again"),
            _ => {}
        }
    }

    fn is_stuck(&self) -> bool {
        self.now.saturating_duration_since(self.since) > self.bound
    }
}

impl Watched {
    /// Whether there was a batch to which a probe has given what it collected: one of the kernel's or of somebody else's,
    /// or the agent's own numbers where they are all that is asked for.
    fn has_good_batch(&self) -> bool {
        // In this order: what a probe fails at meanwhile is too much and not too little.
        let Some(last) = self.last_batch.look(|view| view.tick().seq) else { return false };
        let probes = self.vitals.probes();
        let own_alone = probes.iter().all(|probe| probe.name == VITALS.name());
        let mut asked = probes.iter().filter(|probe| own_alone || probe.name != VITALS.name());
        probes.is_empty() || asked.any(|probe| probe.errors + probe.skips < last + 1)
    }

    fn fares(&self) -> Fares {
        let counters = self.last_batch.look(|view| {
            view.metrics().filter(|metric| metric.name() == "hook.info").map(|metric| metric.samples().count()).sum()
        });
        let sinks = self.vitals.sinks().into_iter().map(|sink| {
            let Condition { state, reason, .. } = sink.ledger.condition();
            (sink.name, state, reason)
        });
        Fares {
            counters: counters.unwrap_or_default(),
            uncounted: self.vitals.uncounted().len(),
            sinks: sinks.collect(),
            refused: (self.refused)(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::engine::{Agent, Clock, Moment};
    use ebpf_process_core::{Probe, ProbeError, Recorder};

    use super::*;

    #[test]
    fn a_thread_that_starts_no_batch_for_two_intervals_is_stuck_until_it_does() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut progress = Progress::new(Duration::from_secs(10), 3, start);
        for (seconds, ticks, stuck) in [
            (0, 3, false),
            (21, 3, false),
            (22, 3, true),
            (23, 4, false),
            (44, 4, false),
            (45, 4, true),
            (46, 5, false),
        ] {
            progress.look(ticks, at(seconds));
            assert_eq!(progress.is_stuck(), stuck, "{ticks} ticks at {seconds} s");
        }
        assert!(Progress::new(Duration::MAX, 0, start).bound == Duration::MAX, "whatever the interval is");
    }

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Moment {
            Moment { wall: Duration::from_secs(1), boottime: Duration::from_secs(1) }
        }
    }

    /// A probe that fails so many times.
    struct Fails(u64);

    impl Probe for Fails {
        fn collect(&mut self, _: &mut Recorder) -> Result<(), ProbeError> {
            if self.0 == 0 {
                return Ok(());
            }
            self.0 -= 1;
            Err(ProbeError::new("on purpose"))
        }
    }

    #[test]
    fn a_batch_is_good_when_one_probe_beside_the_agents_own_has_worked() {
        let after = |probes: &[(&str, u64)], ticks: u64| {
            let clock: Arc<dyn Clock> = Arc::new(Still);
            let mut agent = Agent::new(Arc::clone(&clock), Duration::from_secs(1));
            for (name, failures) in probes {
                agent.push_probe(name, Box::new(Fails(*failures)));
            }
            (0..ticks).for_each(|_| agent.tick(clock.now()));
            let (vitals, last_batch) = (Arc::clone(agent.vitals()), Arc::clone(agent.last_batch()));
            Watched { interval: Box::new(|| Duration::from_secs(1)), refused: Box::new(|| None), vitals, last_batch }
                .has_good_batch()
        };
        assert!(!after(&[("file", 0)], 0), "there is none yet");
        assert!(after(&[("file", 0)], 1));
        assert!(!after(&[("file", 2), (VITALS.name(), 0)], 2), "the agent's own numbers are no work");
        assert!(after(&[("file", 2), (VITALS.name(), 0)], 3));
        assert!(after(&[("file", 9), ("process", 0)], 1), "one is enough");
        assert!(after(&[(VITALS.name(), 0)], 1), "nothing else is asked for");
        assert!(after(&[], 1));
    }
}
