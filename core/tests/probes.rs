//! What a probe cannot do to others, and what is said of one whose numbers are missing.

#![expect(clippy::trivially_copy_pass_by_ref, reason = "a view comes as a sink gets it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ebpf_process_core::engine::*;
use ebpf_process_core::testkit::{ManualClock, MemorySink, RememberedValue};
use ebpf_process_core::*;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any machine is busy.
const MINUTE: Duration = Duration::from_secs(60);

/// Counts its collections, in a time of the test's choice, and may panic.
struct Counting {
    name: &'static str,
    cell: Option<(RowId, ColumnId)>,
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
        Self { name, cell: None, collections: 0, clock, takes, panics_at: None, _end: End(false) }
    }
}

/// The number of a probe's collections.
fn cell(recorder: &mut Recorder, probe: &str) -> Result<(RowId, ColumnId), Refused> {
    let kind = match recorder.existing_kind("counting") {
        Some(kind) => kind,
        None => recorder.kind(EntityKind::new("counting").keys(["probe"]).names_as_they_are())?,
    };
    let column = recorder.column(kind, Column::counter("test.collections", Unit::CALLS, "Collections"))?;
    Ok((recorder.row(kind, identity_of(probe), &[probe])?, column))
}

impl Probe for Counting {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.collections += 1;
        assert!(self.panics_at != Some(self.collections), "a bug in somebody's probe");
        let (row, column) = match self.cell {
            Some(cell) => cell,
            None => *self.cell.insert(cell(recorder, self.name)?),
        };
        self.clock.advance((self.takes)(self.collections));
        recorder.counter(row, column, self.collections);
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

/// Says at each collection what is told to it; where it is told nothing it has its numbers.
struct Telling {
    cell: Option<(RowId, ColumnId)>,
    says: Vec<fn(&'static str) -> ProbeError>,
    collections: usize,
}

impl Probe for Telling {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.collections += 1;
        if let Some(error) = self.says.get(self.collections - 1) {
            return Err(error("a reason"));
        }
        let (row, column) = match self.cell {
            Some(cell) => cell,
            None => *self.cell.insert(cell(recorder, "telling")?),
        };
        recorder.counter(row, column, self.collections as u64);
        Ok(())
    }
}

#[test]
fn a_probe_that_has_nothing_yet_has_not_failed_and_one_that_is_over_is_not_asked_again() {
    let telling = |says| Box::new(Telling { cell: None, says, collections: 0 });
    let mut scene = Scene::new(|_| Vec::new());
    let skipped = |cause| ProbeError::skipped(cause);
    let closed = |cause| ProbeError::closed(cause);
    scene.agent.push_probe("late", telling(vec![skipped, ProbeError::new, skipped]));
    scene.agent.push_probe("over", telling(vec![skipped, closed]));
    let state = |scene: &Scene, name| {
        let probe = scene.agent.vitals().probes().into_iter().find(|probe| probe.name == name).expect("it is known");
        let condition = probe.condition();
        (condition.state, condition.reason, probe.errors, probe.skips)
    };
    scene.tick();
    let reason = Some("nothing to collect: a reason".to_owned());
    assert_eq!(state(&scene, "late"), (State::Failing, reason, 0, 1));
    scene.tick();
    assert_eq!(state(&scene, "late"), (State::Failing, Some("cannot collect: a reason".to_owned()), 1, 1));
    assert_eq!(state(&scene, "over"), (State::Closed, Some("a reason".to_owned()), 0, 2));
    scene.tick();
    scene.tick();
    assert_eq!(state(&scene, "late"), (State::Working, None, 1, 2));
    assert_eq!(state(&scene, "over"), (State::Closed, Some("a reason".to_owned()), 0, 4));
    let seen = scene.close();
    assert_eq!(seen.values("test.collections", "telling"), [(3, 4)]);
    assert_eq!(seen.left_out, ["late over", "late over", "over late", "over"]);
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

/// Holds each count back until the collection after, unless there is none.
struct HoldingBack {
    cell: Option<(RowId, ColumnId)>,
    collections: u64,
}

impl Probe for HoldingBack {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let (row, column) = match self.cell {
            Some(cell) => cell,
            None => *self.cell.insert(cell(recorder, "holding back")?),
        };
        let held = u64::from(!recorder.is_last());
        self.collections += 1;
        recorder.counter(row, column, self.collections - held);
        Ok(())
    }
}

#[test]
fn what_a_probe_holds_back_is_in_the_last_batch() {
    let mut scene = Scene::new(|_| Vec::new());
    scene.agent.push_probe("holding back", Box::new(HoldingBack { cell: None, collections: 0 }));
    scene.tick();
    scene.agent.tick_whole(scene.clock.advance(SECOND));
    assert_eq!(scene.close().values("test.collections", "holding back"), [(0, 0), (1, 2)]);
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

/// What a view has of a row: each value, and for histograms count, sum and slots.
fn shown(view: &View<'_>) -> Vec<String> {
    let shown = |sample: Sample<'_>| {
        let value = match sample.value() {
            Value::Histogram(histogram) => format!("{:?} of {}", histogram.counts(), histogram.sum()),
            value => value.to_string(),
        };
        let end = if sample.row().is_final() { "!" } else { "" };
        format!("{} {}{end} {value}", sample.name(), sample.labels())
    };
    view.samples().map(shown).collect()
}

/// Keeps what it is shown.
#[derive(Clone, Default)]
struct Shown(Arc<parking_lot::Mutex<Vec<Vec<String>>>>);

impl Sink for Shown {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.0.lock().push(shown(view));
        Ok(())
    }
}

/// Calls a function of the tick's number, from 1 on.
struct Scripted<F>(u64, F);

impl<F: FnMut(&mut Recorder, u64) -> Result<(), Refused> + Send> Probe for Scripted<F> {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.0 += 1;
        (self.1)(recorder, self.0).map_err(ProbeError::new)
    }
}

#[test]
fn from_a_baseline_on_all_totals_are_of_one_window() {
    let script = |recorder: &mut Recorder, tick: u64| {
        let host = (recorder.host_kind(), recorder.host());
        let calls = recorder.column(host.0, Column::counter("test.calls", Unit::CALLS, "Calls"))?;
        let sizes = recorder.column(host.0, Column::histogram("test.sizes", Unit::BYTES, "Sizes"))?;
        let level = recorder.column(host.0, Column::gauge("test.level", Unit::ONE, "Level"))?;
        recorder.counter(host.1, calls, 1000 + 7 * tick);
        recorder.histogram(host.1, sizes, &[0, 0, 0, 7 * tick], 56 * tick);
        recorder.gauge(host.1, level, 1.0);
        Ok(())
    };
    let clock = Arc::new(ManualClock::new(SECOND, SECOND));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.push_probe("scripted", Box::new(Scripted(0, script)));
    for _ in 0..2 {
        agent.tick(clock.advance(SECOND));
        agent.set_baseline();
    }
    let shown = Shown::default();
    agent.push_sink(Box::new(shown.clone()), OutletSpec::new("shown"), Arc::default()).expect("a sink");
    for _ in 0..2 {
        agent.tick(clock.advance(SECOND));
    }
    agent.close(MINUTE);
    let expected = [
        ["test.calls  7", "test.sizes  [7] of 56", "test.level  1"],
        ["test.calls  14", "test.sizes  [14] of 112", "test.level  1"],
    ];
    assert_eq!(*shown.0.lock(), expected);
}

#[test]
fn a_baseline_holds_for_rows_that_are_quiet_renamed_or_end() {
    // The baseline is after the second tick.
    let script = |recorder: &mut Recorder, tick: u64| {
        let kind = match recorder.existing_kind("thing") {
            Some(kind) => kind,
            None => recorder.kind(EntityKind::new("thing").keys(["name"]).limit(4))?,
        };
        let calls = recorder.column(kind, Column::counter("calls", Unit::CALLS, "Calls"))?;
        let sizes = recorder.column(kind, Column::histogram("sizes", Unit::BYTES, "Sizes"))?;
        let mut record = |identity, name: &str, total: u64| {
            let row = recorder.row(kind, identity, &[name])?;
            recorder.counter(row, calls, total);
            recorder.histogram(row, sizes, &[total], total);
            Ok(row)
        };
        match tick {
            1 => {
                record(1, "quiet", 100)?;
                record(2, "renamed", 100)?;
                record(3, "ends", 100)?;
                record(4, "silent", 100)?;
            }
            2 => {
                record(2, "renamed", 110)?;
            }
            3 => {
                record(1, "quiet", 103)?;
                record(2, "anew", 115)?;
                let ends = record(3, "ends", 104)?;
                recorder.end(ends);
                let silent = recorder.row(kind, 4, &["silent"])?;
                recorder.end(silent);
            }
            _ => {
                record(2, "anew", 120)?;
                record(5, "new", 9)?;
                // Nobody's total was before the baseline.
                for identity in 6..9 {
                    let row = recorder.row(kind, identity, &["full"])?;
                    recorder.add(row, calls, 1);
                }
            }
        }
        Ok(())
    };
    let clock = Arc::new(ManualClock::new(SECOND, SECOND));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.push_probe("scripted", Box::new(Scripted(0, script)));
    for _ in 0..2 {
        agent.tick(clock.advance(SECOND));
    }
    agent.set_baseline();
    let shown = Shown::default();
    agent.push_sink(Box::new(shown.clone()), OutletSpec::new("shown"), Arc::default()).expect("a sink");
    for _ in 0..2 {
        agent.tick(clock.advance(SECOND));
    }
    agent.close(MINUTE);
    let mut shown = std::mem::take(&mut *shown.0.lock());
    for samples in &mut shown {
        samples.sort_unstable();
    }
    let counters = |samples: &[String]| -> Vec<String> {
        samples.iter().filter(|sample| sample.contains("calls")).cloned().collect()
    };
    let third =
        ["anew 5", "ends! 4", "quiet 3", "renamed! 0", "silent! 0"].map(|text| format!("thing.calls name={text}"));
    assert_eq!(counters(&shown[0]), third);
    let sizes = ["anew [5] of 5", "ends! [4] of 4", "quiet [3] of 3", "renamed! [] of 0", "silent! [] of 0"];
    assert_eq!(shown[0][5..], sizes.map(|text| format!("thing.sizes name={text}")));
    let fourth = ["anew 10", "full 1", "new 9", "other 2"].map(|text| format!("thing.calls name={text}"));
    assert_eq!(counters(&shown[1]), fourth);
}
