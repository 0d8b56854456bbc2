//! Rows that come and go, and sinks that are slower than that.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use ebpf_process_core::engine::*;
use ebpf_process_core::testkit::{ManualClock, drained};
use ebpf_process_core::*;
use parking_lot::Mutex;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any machine is busy.
const MINUTE: Duration = Duration::from_secs(60);

/// Ends so many rows at each tick, each worth one event. The host's count is the sign by which a batch is waited for.
struct Ending {
    kind: KindId,
    calls: ColumnId,
    ticks: ColumnId,
    each_tick: u64,
    ended: u64,
    /// What the recorder has, as of the last tick's start.
    seen: Arc<Mutex<(usize, Refusals)>>,
}

impl Probe for Ending {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        *self.seen.lock() = (recorder.series(), recorder.refusals());
        for _ in 0..self.each_tick {
            let row = recorder.row(self.kind, self.ended, &[&self.ended.to_string()])?;
            recorder.counter(row, self.calls, 1);
            recorder.end(row);
            self.ended += 1;
        }
        recorder.add(recorder.host(), self.ticks, 1);
        Ok(())
    }
}

struct EndingPlugin(u64, Arc<Mutex<(usize, Refusals)>>);

impl ProbePlugin for EndingPlugin {
    fn name(&self) -> &'static str {
        "ending"
    }
    fn summary(&self) -> &'static str {
        "rows that are over at once"
    }
    fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
        Ok(Vec::new())
    }
    fn build(&self, _: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let recorder = context.recorder;
        let kind = recorder.kind(EntityKind::new("short").keys(["life"]).limit(1_000_000))?;
        let calls = recorder.column(kind, Column::counter("test.calls", Unit::CALLS, "Calls"))?;
        let ticks = recorder.column(recorder.host_kind(), Column::counter("test.ticks", Unit::TICKS, "Ticks"))?;
        Ok(Box::new(Ending { kind, calls, ticks, each_tick: self.0, ended: 0, seen: Arc::clone(&self.1) }))
    }
}

/// Adds up what a push protocol would send of the short rows, a view at a time: when it is told to, if it has to be.
struct Sums {
    gate: Option<Receiver<()>>,
    last: RowCache<u64>,
    sum: Arc<Mutex<u64>>,
}

impl Sums {
    fn new(gate: Option<Receiver<()>>) -> (Self, Arc<Mutex<u64>>) {
        let sum = Arc::default();
        (Self { gate, last: RowCache::default(), sum: Arc::clone(&sum) }, sum)
    }
}

impl Sink for Sums {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        if let Some(gate) = &self.gate {
            // Whoever has hung up waits for nobody.
            let _ = gate.recv();
        }
        self.last.update(view, drop);
        for row in view.kinds().filter(|kind| kind.kind().name() == "short").flat_map(|kind| kind.rows()) {
            for (_, value) in row.cells() {
                if let Value::Counter(total) = value {
                    let last = self.last.entry(&row, || 0);
                    *self.sum.lock() += total - *last;
                    *last = total;
                }
            }
        }
        Ok(())
    }
}

struct Scene {
    agent: Agent,
    clock: Arc<ManualClock>,
    seen: Arc<Mutex<(usize, Refusals)>>,
}

impl Scene {
    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    fn new(each_tick: u64) -> Self {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_003), 100 * SECOND));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
        let seen = Arc::default();
        agent.add_probe(&EndingPlugin(each_tick, Arc::clone(&seen)), &Options::none()).expect("a probe");
        Self { agent, clock, seen }
    }

    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    fn add(&mut self, spec: OutletSpec, gate: Option<Receiver<()>>) -> (Arc<Mutex<u64>>, Arc<Ledger>) {
        let (sink, sum) = Sums::new(gate);
        let ledger = Arc::new(Ledger::default());
        self.agent.push_sink(Box::new(sink), spec, Arc::clone(&ledger)).expect("a sink");
        (sum, ledger)
    }

    fn tick(&mut self) {
        self.agent.tick(self.clock.advance(SECOND));
    }
}

/// What a sink lost because too much waited for it, or nothing came any more.
fn lost_finals(ledger: &Ledger) -> u64 {
    let tally = ledger.tally();
    let mine = tally.dropped.iter().filter(|(reason, _)| *reason == "final value of an ended series");
    mine.map(|(_, finals)| finals).sum()
}

#[test]
fn an_ended_row_is_in_one_view_of_every_sink() {
    let mut scene = Scene::new(1667);
    let (sum, book) = scene.add(OutletSpec::new("prompt"), None);
    for tick in 1..=20 {
        scene.tick();
        drained(&book);
        // No batch repeats what the sink has had.
        assert_eq!((book.tally().offered, *sum.lock()), (tick * 1668, tick * 1667));
    }
    scene.agent.close(MINUTE);
    assert_eq!((*sum.lock(), lost_finals(&book)), (20 * 1667, 0));
}

#[test]
fn an_end_that_waits_for_a_sink_is_not_given_up() {
    let mut scene = Scene::new(1667);
    let (word, gate): (Sender<()>, _) = bounded(64);
    // Far more batches than it has room for, and one at each sixtieth tick.
    let (stuck, stuck_book) = scene.add(OutletSpec { queue: 2, ..OutletSpec::new("stuck") }, Some(gate));
    let (slow, slow_book) = scene.add(OutletSpec { interval: Some(MINUTE), ..OutletSpec::new("slow") }, None);
    for _ in 0..70 {
        scene.tick();
        drained(&slow_book);
    }
    drop(word);
    drained(&stuck_book);
    scene.tick();
    scene.agent.close(MINUTE);
    for (sum, book) in [(stuck, stuck_book), (slow, slow_book)] {
        assert_eq!((*sum.lock(), lost_finals(&book)), (71 * 1667, 0), "{:?}", book.tally());
        assert!(book.tally().balances());
    }
}

#[test]
fn ends_beyond_the_bound_are_the_loss_of_the_sink_that_was_too_slow_for_them() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let mut scene = Scene::new(1000);
        let (word, gate): (Sender<()>, _) = bounded(64);
        let bounded = OutletSpec { finals_bytes: 1 << 20, when_full, ..OutletSpec::new("prompt") };
        let with = |name: &str| OutletSpec { name: name.into(), ..bounded.clone() };
        let (prompt, prompt_book) = scene.add(bounded.clone(), None);
        let (slow, slow_book) = scene.add(OutletSpec { interval: Some(20 * SECOND), ..with("slow") }, None);
        let (stuck, stuck_book) = scene.add(OutletSpec { queue: 2, ..with("stuck") }, Some(gate));
        let selection = Selection { exclude: vec!["short.*".into()], ..Selection::default() };
        let (_, other_book) = scene.add(OutletSpec { interval: Some(20 * SECOND), selection, ..with("other") }, None);
        let books = [&prompt_book, &slow_book, &stuck_book, &other_book];
        for tick in 1..=60 {
            scene.tick();
            for book in [&prompt_book, &slow_book, &other_book] {
                drained(book);
            }
            assert!(books.iter().all(|book| book.tally().balances()), "{when_full:?}, tick {tick}");
        }
        assert!(lost_finals(&stuck_book) > 0, "{when_full:?}: it is said while the sink is stuck");
        drop(word);
        drained(&stuck_book);
        scene.tick();
        drained(&stuck_book);
        // One more, in which the recorder tells what was lost by now.
        scene.tick();
        let (_, refusals) = *scene.seen.lock();
        assert_eq!(refusals.finals, lost_finals(&stuck_book) + lost_finals(&slow_book), "{when_full:?}");
        let closed = scene.agent.close(MINUTE);
        assert!(closed.iter().all(|book| book.in_time && book.tally.balances() && book.tally.mis_settled == 0));
        assert_eq!((*prompt.lock(), lost_finals(&prompt_book)), (62_000, 0), "{when_full:?}");
        for (sum, book) in [(slow, &slow_book), (stuck, &stuck_book)] {
            assert!(*sum.lock() < 62_000, "{when_full:?}: there is no room for twenty ticks' ends");
            assert_eq!(*sum.lock() + lost_finals(book), 62_000, "{when_full:?}: {:?}", book.tally());
        }
        assert_eq!(lost_finals(&other_book), 0, "it does not take them");
    }
}

#[test]
fn the_ends_of_one_batch_always_have_room() {
    let mut scene = Scene::new(5000);
    let (sum, book) = scene.add(OutletSpec { finals_bytes: 1, ..OutletSpec::new("prompt") }, None);
    for _ in 0..10 {
        scene.tick();
        drained(&book);
    }
    scene.agent.close(MINUTE);
    assert_eq!((*sum.lock(), lost_finals(&book)), (50_000, 0));
}

#[test]
fn a_sink_that_does_not_take_a_metric_keeps_none_of_its_ends() {
    let mut scene = Scene::new(1667);
    let (prompt, prompt_book) = scene.add(OutletSpec::new("prompt"), None);
    let (word, gate): (Sender<()>, _) = bounded(64);
    let selection = Selection { exclude: vec!["short.*".into()], ..Selection::default() };
    let spec = OutletSpec { selection, finals_bytes: 1, queue: 2, ..OutletSpec::new("other") };
    let (_, other_book) = scene.add(spec, Some(gate));
    for _ in 0..10 {
        scene.tick();
        drained(&prompt_book);
    }
    // The host's count alone is left.
    assert_eq!(*scene.seen.lock(), (1, Refusals::default()));
    assert_eq!(other_book.tally().offered, 10);
    drop(word);
    scene.agent.close(MINUTE);
    assert_eq!((*prompt.lock(), lost_finals(&prompt_book), lost_finals(&other_book)), (16_670, 0, 0));
}

#[test]
fn what_ends_when_and_after_a_sink_is_over_is_lost_in_its_book_once() {
    struct Over(Settlement, bool);
    impl Sink for Over {
        fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
            assert!(!self.1, "a bug in somebody's sink");
            Err(SinkError::closed("gone"))
        }
        fn settles(&self) -> Settlement {
            self.0
        }
    }
    // What is entered as failed of the view on which it ends: where the outlet settles, ended rows still wait for it. Of one
    // that has settled nobody knows what, nothing.
    let (by_outlet, by_sink) = (Settlement::OnReturn, Settlement::BySink);
    for (settles, panics, failed) in
        [(by_outlet, false, 1), (by_outlet, true, 1), (by_sink, false, 101), (by_sink, true, 0)]
    {
        let mut scene = Scene::new(100);
        let book = Arc::new(Ledger::default());
        let over = Box::new(Over(settles, panics));
        scene.agent.push_sink(over, OutletSpec::new("over"), Arc::clone(&book)).expect("a sink");
        let (sum, prompt_book) = scene.add(OutletSpec::new("prompt"), None);
        for _ in 0..5 {
            scene.tick();
            drained(&prompt_book);
            drained(&book);
        }
        scene.agent.close(MINUTE);
        let tally = book.tally();
        assert_eq!((tally.offered, tally.failed), (5 * 101, failed), "{settles:?} {panics}: {tally:?}");
        assert_eq!(tally.dropped, [("sink closed", 5 * 101 - failed)], "{settles:?} {panics}");
        assert!(tally.balances());
        assert_eq!(*sum.lock(), 500);
    }
}

#[test]
fn what_a_sink_that_does_not_finish_still_holds_is_dropped_in_its_book_once() {
    let mut scene = Scene::new(100);
    let (never, gate): (Sender<()>, _) = bounded(0);
    let (sum, book) = scene.add(OutletSpec::new("stuck"), Some(gate));
    for _ in 0..3 {
        scene.tick();
    }
    let closed = scene.agent.close(Duration::ZERO);
    assert!(!closed[0].in_time);
    let tally = book.tally();
    assert_eq!((tally.offered, tally.written, *sum.lock()), (303, 0, 0), "{tally:?}");
    assert_eq!(tally.dropped, [("agent stopped", 3), ("final value of an ended series", 300)]);
    assert!(tally.balances());
    drop(never);
}
