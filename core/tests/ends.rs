//! Series that come and go, and sinks that are slower than that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ebpf_process_core::testkit::ManualClock;
use ebpf_process_core::*;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any machine is busy.
const MINUTE: Duration = Duration::from_mins(1);

/// Ends so many series at each tick, each worth one event.
struct Ending {
    descriptor: Arc<Descriptor>,
    each_tick: u64,
    ended: u64,
    /// What the recorder has, as of the last tick's start.
    seen: Arc<parking_lot::Mutex<(usize, Refusals)>>,
}

impl Ending {
    fn new(each_tick: u64) -> Self {
        let descriptor = Descriptor::counter("test.short", Unit::CALLS, "Over at once").labels(["life"]);
        Self { descriptor: descriptor.series_limit(1_000_000).share(), each_tick, ended: 0, seen: Arc::default() }
    }
}

impl Probe for Ending {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        *self.seen.lock() = (recorder.live_series(), recorder.refusals());
        for _ in 0..self.each_tick {
            let id = recorder.series(&self.descriptor, &[&self.ended.to_string()]).map_err(ProbeError::new)?;
            recorder.counter(id, 1);
            recorder.end(id);
            self.ended += 1;
        }
        Ok(())
    }
}

/// Adds up what a push protocol would send, a view at a time: when it is told to, if it has to be.
struct Sums {
    gate: Option<Receiver<()>>,
    last: SeriesCache<u64>,
    sum: Arc<parking_lot::Mutex<u64>>,
}

impl Sums {
    fn new(gate: Option<Receiver<()>>) -> (Self, Arc<parking_lot::Mutex<u64>>) {
        let sum = Arc::default();
        (Self { gate, last: SeriesCache::default(), sum: Arc::clone(&sum) }, sum)
    }
}

impl Sink for Sums {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        if let Some(gate) = &self.gate {
            // Whoever has hung up waits for nobody.
            let _ = gate.recv();
        }
        self.last.update(view, drop);
        for metric in view.metrics() {
            for sample in metric.samples() {
                if let Value::Counter(total) = sample.value() {
                    let last = self.last.entry(sample.id(), || 0);
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
    seen: Arc<parking_lot::Mutex<(usize, Refusals)>>,
}

impl Scene {
    fn new(each_tick: u64) -> Self {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_003), 100 * SECOND));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
        let ending = Ending::new(each_tick);
        let seen = Arc::clone(&ending.seen);
        agent.push_probe("ending", Box::new(ending));
        Self { agent, clock, seen }
    }

    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    fn add(&mut self, spec: OutletSpec, gate: Option<Receiver<()>>) -> (Arc<parking_lot::Mutex<u64>>, Arc<Ledger>) {
        let (sink, sum) = Sums::new(gate);
        let ledger = Arc::new(Ledger::default());
        self.agent.push_sink(Box::new(sink), spec, Arc::clone(&ledger)).expect("a sink");
        (sum, ledger)
    }

    fn tick(&mut self) {
        self.agent.tick(self.clock.advance(SECOND));
    }
}

fn drained(ledger: &Ledger) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while ledger.tally().queued > 0 {
        assert!(Instant::now() < deadline, "the sink is stuck: {:?}", ledger.tally());
        std::thread::yield_now();
    }
}

/// What a sink lost because its turn came too late.
fn lost_finals(ledger: &Ledger) -> u64 {
    let tally = ledger.tally();
    let mine = tally.dropped.iter().filter(|(reason, _)| *reason == "final value of an ended series");
    mine.map(|(_, finals)| finals).sum()
}

#[test]
fn a_series_is_gone_when_every_sink_has_had_its_end() {
    let mut scene = Scene::new(1667);
    let (sum, book) = scene.add(OutletSpec { queue: 8, ..OutletSpec::new("prompt") }, None);
    for tick in 1..=20 {
        scene.tick();
        drained(&book);
        // No batch repeats what the sink has had.
        assert_eq!(book.tally().offered, tick * 1667);
    }
    scene.agent.close(MINUTE);
    assert_eq!((*sum.lock(), lost_finals(&book)), (20 * 1667, 0));
}

#[test]
fn an_end_that_waits_in_a_sinks_queue_is_not_given_up() {
    let mut scene = Scene::new(1667);
    let (word, gate): (Sender<()>, _) = bounded(64);
    let (sum, book) = scene.add(OutletSpec { queue: 8, ..OutletSpec::new("slow") }, Some(gate));
    for _ in 0..8 {
        scene.tick();
    }
    assert_eq!(scene.agent.vitals().ticks(), 8);
    drop(word);
    drained(&book);
    scene.tick();
    scene.agent.close(MINUTE);
    assert_eq!((*sum.lock(), lost_finals(&book)), (9 * 1667, 0), "{:?}", book.tally());
}

#[test]
fn finals_that_come_too_late_for_a_sink_are_its_own_loss_and_no_others() {
    let mut scene = Scene::new(1000);
    let all = OutletSpec { queue: 8, ..OutletSpec::new("prompt") };
    let (prompt, prompt_book) = scene.add(all.clone(), None);
    let (slow, slow_book) =
        scene.add(OutletSpec { name: "slow".into(), interval: Some(10 * SECOND), ..all.clone() }, None);
    let selection = Selection { exclude: vec!["test.*".into()], ..Selection::default() };
    let other = OutletSpec { name: "other".into(), interval: Some(10 * SECOND), selection, ..all };
    let (_, other_book) = scene.add(other, None);
    for _ in 0..40 {
        scene.tick();
        for book in [&prompt_book, &slow_book, &other_book] {
            drained(book);
            assert!(book.tally().balances());
        }
    }
    scene.agent.close(MINUTE);
    let (prompt, slow) = (*prompt.lock(), *slow.lock());
    assert_eq!((prompt, lost_finals(&prompt_book)), (40_000, 0));
    assert!(slow < 40_000, "with an interval of ten ticks there is room for four ticks' ends");
    assert_eq!(slow + lost_finals(&slow_book), 40_000, "{:?}", slow_book.tally());
    assert_eq!(lost_finals(&other_book), 0, "it does not take them");
}

#[test]
fn a_stuck_sinks_lost_finals_are_exactly_those_it_never_had() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let mut scene = Scene::new(1000);
        let (prompt, prompt_book) = scene.add(OutletSpec { queue: 8, ..OutletSpec::new("prompt") }, None);
        let (word, gate): (Sender<()>, _) = bounded(64);
        let (stuck, stuck_book) = scene.add(OutletSpec { queue: 2, when_full, ..OutletSpec::new("stuck") }, Some(gate));
        for _ in 0..30 {
            scene.tick();
            drained(&prompt_book);
        }
        drop(word);
        drained(&stuck_book);
        for _ in 0..2 {
            scene.tick();
            drained(&prompt_book);
            drained(&stuck_book);
        }
        scene.agent.close(MINUTE);
        assert_eq!(*prompt.lock(), 32_000);
        assert_eq!(lost_finals(&prompt_book), 0);
        assert_eq!(*stuck.lock() + lost_finals(&stuck_book), 32_000, "{when_full:?}: {:?}", stuck_book.tally());
    }
}

#[test]
fn a_stuck_sink_keeps_no_more_ended_series_than_there_is_room_for() {
    const EACH_TICK: u64 = 500;
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let mut scene = Scene::new(EACH_TICK);
        let (prompt, prompt_book) = scene.add(OutletSpec { queue: 8, ..OutletSpec::new("prompt") }, None);
        let (word, gate): (Sender<()>, _) = bounded(64);
        let spec = OutletSpec { queue: 3, when_full, ..OutletSpec::new("stuck") };
        let (stuck, stuck_book) = scene.add(spec, Some(gate));
        for tick in 1..=60 {
            scene.tick();
            drained(&prompt_book);
            let (live, _) = *scene.seen.lock();
            assert!(live <= 4096, "{when_full:?}: {live} series after {tick} ticks");
            assert!(stuck_book.tally().balances() && prompt_book.tally().balances());
        }
        assert!(lost_finals(&stuck_book) > 0, "{when_full:?}: it is said while the sink is stuck");
        drop(word);
        drained(&stuck_book);
        scene.tick();
        drained(&stuck_book);
        // One more, in which the recorder tells what was lost by now.
        scene.tick();
        let (_, refusals) = *scene.seen.lock();
        assert_eq!(refusals.finals, lost_finals(&stuck_book), "{when_full:?}: counted where a ledger has it");
        let closed = scene.agent.close(MINUTE);
        assert!(closed.iter().all(|book| book.in_time && book.tally.balances() && book.tally.mis_settled == 0));
        assert_eq!((*prompt.lock(), lost_finals(&prompt_book)), (62 * EACH_TICK, 0), "{when_full:?}");
        assert_eq!(*stuck.lock() + lost_finals(&stuck_book), 62 * EACH_TICK, "{when_full:?}: {:?}", stuck_book.tally());
    }
}

#[test]
fn a_sink_that_does_not_take_a_metric_keeps_none_of_its_ends() {
    let mut scene = Scene::new(1667);
    let (prompt, prompt_book) = scene.add(OutletSpec { queue: 8, ..OutletSpec::new("prompt") }, None);
    let (word, gate): (Sender<()>, _) = bounded(64);
    let selection = Selection { exclude: vec!["test.*".into()], ..Selection::default() };
    let (_, other_book) = scene.add(OutletSpec { selection, ..OutletSpec::new("other") }, Some(gate));
    for tick in 1..=10 {
        scene.tick();
        drained(&prompt_book);
        assert_eq!(prompt_book.tally().offered, tick * 1667, "nothing is repeated for a sink that has no use of it");
    }
    assert_eq!(*scene.seen.lock(), (0, Refusals::default()));
    drop(word);
    scene.agent.close(MINUTE);
    assert_eq!((*prompt.lock(), lost_finals(&prompt_book), lost_finals(&other_book)), (16_670, 0, 0));
}
