//! What a probe cannot do to others, and what is said of one whose numbers are missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ebpf_process_core::testkit::{ManualClock, MemorySink, RememberedValue};
use ebpf_process_core::*;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any machine is busy.
const MINUTE: Duration = Duration::from_mins(1);

/// Counts its collections, in a time of the test's choice, and may panic.
struct Counting {
    name: &'static str,
    id: Option<SeriesId>,
    collections: u64,
    clock: Arc<ManualClock>,
    takes: Arc<dyn Fn(u64) -> Duration + Send + Sync>,
    panics_at: Option<u64>,
    _end: End,
}

/// Panics when it is dropped, if it is told to.
struct End(bool);

impl Counting {
    fn new(name: &'static str, clock: &Arc<ManualClock>) -> Self {
        let clock = Arc::clone(clock);
        let takes = Arc::new(|_| Duration::ZERO);
        Self { name, id: None, collections: 0, clock, takes, panics_at: None, _end: End(false) }
    }
}

impl Probe for Counting {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.collections += 1;
        assert!(self.panics_at != Some(self.collections), "a bug in somebody's probe");
        let descriptor = Descriptor::counter("test.collections", Unit::CALLS, "Collections").labels(["probe"]).share();
        let id = match self.id {
            Some(id) => id,
            None => *self.id.insert(recorder.series(&descriptor, &[self.name]).map_err(ProbeError::new)?),
        };
        self.clock.advance((self.takes)(self.collections));
        recorder.counter(id, self.collections);
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        assert!(!self.0, "a bug in somebody's probe");
    }
}

/// Per batch, the probes that are said to be left out.
#[derive(Clone, Default)]
struct LeftOut(Arc<parking_lot::Mutex<Vec<Vec<String>>>>);

impl Sink for LeftOut {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.0.lock().push(view.left_out().map(str::to_owned).collect());
        Ok(())
    }
}

struct Scene {
    agent: Agent,
    clock: Arc<ManualClock>,
    memory: MemorySink,
    left_out: LeftOut,
}

impl Scene {
    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    fn new(probes: impl FnOnce(&Arc<ManualClock>) -> Vec<Counting>) -> Self {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), 100 * SECOND));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
        agent.add_probe(&VITALS, &Options::none()).expect("the agent's own numbers");
        for probe in probes(&clock) {
            agent.push_probe(probe.name, Box::new(probe));
        }
        let (memory, left_out) = (MemorySink::default(), LeftOut::default());
        let spec = |name| OutletSpec { queue: 64, ..OutletSpec::new(name) };
        agent.push_sink(Box::new(memory.clone()), spec("memory"), Arc::default()).expect("a sink");
        agent.push_sink(Box::new(left_out.clone()), spec("left-out"), Arc::default()).expect("a sink");
        Self { agent, clock, memory, left_out }
    }

    fn tick(&mut self) {
        self.agent.tick(self.clock.advance(SECOND));
    }

    /// Ends the run, and shows what its sinks have seen.
    fn close(self) -> Seen {
        let closed = self.agent.close(MINUTE);
        assert!(closed.iter().all(|book| book.in_time && book.tally.balances()), "{closed:?}");
        let left_out = self.left_out.0.lock().iter().map(|probes| probes.join(" ")).collect();
        Seen { memory: self.memory, left_out }
    }
}

struct Seen {
    memory: MemorySink,
    /// By batch.
    left_out: Vec<String>,
}

impl Seen {
    /// The value of a metric with this label, by batch.
    fn values(&self, metric: &str, label: &str) -> Vec<(u64, u64)> {
        let samples = self.memory.samples().into_iter();
        let mine =
            samples.filter(|sample| sample.name == metric && sample.labels.iter().any(|(_, value)| value == label));
        mine.filter_map(|sample| match sample.value {
            RememberedValue::Counter(total) => Some((sample.seq, total)),
            _ => None,
        })
        .collect()
    }
}

#[test]
fn a_probe_that_panics_costs_itself_alone() {
    let mut scene = Scene::new(|clock| {
        let panics = Counting { panics_at: Some(2), _end: End(true), ..Counting::new("panics", clock) };
        vec![panics, Counting::new("healthy", clock)]
    });
    for _ in 0..4 {
        scene.tick();
    }
    let vitals = Arc::clone(scene.agent.vitals());
    let seen = scene.close();
    assert_eq!(seen.values("test.collections", "healthy"), [(0, 1), (1, 2), (2, 3), (3, 4)]);
    assert_eq!(seen.values("test.collections", "panics"), [(0, 1)], "it is not asked again");
    assert_eq!(seen.left_out, ["", "panics", "panics", "panics"]);
    let probe = vitals.probes().into_iter().find(|probe| probe.name == "panics").expect("it is known");
    assert_eq!((probe.errors, probe.skips), (1, 2));
}

#[test]
fn a_slow_probe_is_left_out_of_one_batch_which_says_so() {
    let slow_at = Arc::new(AtomicU64::new(2));
    let at = Arc::clone(&slow_at);
    let mut scene = Scene::new(move |clock| {
        let takes = move |n| if n == at.load(Ordering::Relaxed) { 2 * SECOND } else { Duration::ZERO };
        vec![Counting { takes: Arc::new(takes), ..Counting::new("slow", clock) }, Counting::new("prompt", clock)]
    });
    for _ in 0..4 {
        scene.tick();
    }
    let seen = scene.close();
    assert_eq!(seen.values("test.collections", "slow"), [(0, 1), (1, 2), (3, 3)]);
    assert_eq!(seen.values("test.collections", "prompt").len(), 4);
    // The batch that lacks it says so, in its own numbers as well.
    assert_eq!(seen.left_out, ["", "", "slow", ""]);
    assert_eq!(seen.values("agent.probe_skips", "slow"), [(0, 0), (1, 0), (2, 1), (3, 1)]);
}

#[test]
fn the_last_batch_leaves_no_probe_out() {
    let mut scene =
        Scene::new(|clock| vec![Counting { takes: Arc::new(|_| 2 * SECOND), ..Counting::new("slow", clock) }]);
    let (_moments, ticks) = crossbeam_channel::bounded(0);
    let (running, stop) = crossbeam_channel::bounded::<()>(0);
    drop(running);
    // The first collection takes longer than the interval, and the next one is the last.
    assert_eq!(scene.agent.run(&ticks, &stop), Ended::Stopped);
    let seen = scene.close();
    assert_eq!(seen.values("test.collections", "slow"), [(0, 1), (1, 2)]);
    assert_eq!(seen.left_out, ["", ""]);
}

#[test]
fn the_agents_own_numbers_are_never_left_out() {
    // Its time runs on whenever somebody looks: every collection takes longer than an interval.
    struct Running(Arc<ManualClock>);
    impl Clock for Running {
        fn now(&self) -> Moment {
            self.0.advance(2 * SECOND)
        }
    }
    let clock = Arc::new(ManualClock::new(SECOND, SECOND));
    let mut agent = Agent::new(Arc::new(Running(Arc::clone(&clock))), SECOND);
    agent.add_probe(&VITALS, &Options::none()).expect("the agent's own numbers");
    let memory = MemorySink::default();
    agent.push_sink(Box::new(memory.clone()), OutletSpec::new("memory"), Arc::default()).expect("a sink");
    for _ in 0..3 {
        agent.tick(clock.advance(SECOND));
    }
    agent.close(MINUTE);
    let ticks = memory.samples().into_iter().filter(|sample| sample.name == "agent.ticks");
    assert_eq!(ticks.map(|sample| sample.seq).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn from_a_baseline_on_all_totals_are_of_one_window() {
    struct Both(Option<(SeriesId, SeriesId)>, u64);
    impl Probe for Both {
        fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
            let calls = Descriptor::counter("test.calls", Unit::CALLS, "Calls").share();
            let sizes = Descriptor::histogram("test.sizes", Unit::BYTES, "Sizes").share();
            let ids = match self.0 {
                Some(ids) => ids,
                None => *self.0.insert((
                    recorder.series(&calls, &[]).map_err(ProbeError::new)?,
                    recorder.series(&sizes, &[]).map_err(ProbeError::new)?,
                )),
            };
            self.1 += 7;
            let mut slots = [0; HISTOGRAM_SLOTS];
            slots[3] = self.1;
            recorder.counter(ids.0, 1000 + self.1);
            recorder.histogram(ids.1, &slots, 8 * self.1);
            if self.1 == 28 {
                recorder.end(ids.0);
            }
            Ok(())
        }
    }
    let clock = Arc::new(ManualClock::new(SECOND, SECOND));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.push_probe("both", Box::new(Both(None, 0)));
    agent.tick(clock.advance(SECOND));
    agent.set_baseline();
    agent.tick(clock.advance(SECOND));
    agent.set_baseline();
    let memory = MemorySink::default();
    agent.push_sink(Box::new(memory.clone()), OutletSpec::new("memory"), Arc::default()).expect("a sink");
    for _ in 0..2 {
        agent.tick(clock.advance(SECOND));
    }
    agent.close(MINUTE);
    let values: Vec<_> = memory.samples().into_iter().map(|sample| sample.value).collect();
    let histogram = |count| {
        let mut slots = vec![0; HISTOGRAM_SLOTS];
        slots[3] = count;
        RememberedValue::Histogram(slots, 8 * count)
    };
    assert_eq!(values, [RememberedValue::Counter(7), histogram(7), RememberedValue::Counter(14), histogram(14)]);
}
