//! What sinks may rely on, and what a sink cannot do to others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ebpf_process_core::testkit::{ManualClock, MemorySink, RememberedValue, drained};
use ebpf_process_core::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any machine is busy.
const MINUTE: Duration = Duration::from_mins(1);

/// Counts its own ticks in `series` counters.
struct Counting {
    series: Vec<SeriesId>,
    ticks: u64,
}

impl Probe for Counting {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        if self.series.is_empty() {
            let descriptor = Descriptor::counter("test.calls", Unit::CALLS, "Calls").labels(["n"]).share();
            for n in 0..10 {
                self.series.push(recorder.series(&descriptor, &[&n.to_string()]).map_err(ProbeError::new)?);
            }
        }
        self.ticks += 1;
        for id in &self.series {
            recorder.counter(*id, self.ticks);
        }
        Ok(())
    }
}

/// Waits for a word before each write.
struct Gated {
    gate: Receiver<()>,
    then: MemorySink,
}

impl Sink for Gated {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.gate.recv().map_err(SinkError::closed)?;
        self.then.write(view)
    }
}

fn agent() -> (Agent, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), Duration::from_secs(100)));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.push_probe("counting", Box::new(Counting { series: Vec::new(), ticks: 0 }));
    (agent, clock)
}

#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
fn add(agent: &mut Agent, name: &str, queue: usize, when_full: WhenFull, sink: impl Sink + 'static) -> Arc<Ledger> {
    let ledger = Arc::new(Ledger::default());
    let spec = OutletSpec { queue, when_full, ..OutletSpec::new(name) };
    agent.push_sink(Box::new(sink), spec, Arc::clone(&ledger)).expect("a sink");
    ledger
}

#[test]
fn a_stuck_sink_delays_nobody_and_its_loss_is_counted() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let (mut agent, clock) = agent();
        let healthy = MemorySink::default();
        let healthy_book = add(&mut agent, "healthy", 4, WhenFull::DropOldest, healthy.clone());
        let (_never, gate): (Sender<()>, _) = bounded(0);
        let stuck_book = add(&mut agent, "stuck", 4, when_full, Gated { gate, then: MemorySink::default() });
        for _ in 0..500 {
            agent.tick(clock.advance(SECOND));
            drained(&healthy_book);
            assert!(stuck_book.tally().balances());
        }
        let stuck = stuck_book.tally();
        // One batch in hand, four in the queue.
        assert_eq!((stuck.offered, stuck.queued, stuck.dropped_total()), (5000, 50, 4950), "{when_full:?}");
        assert_eq!(healthy_book.tally().written, 5000);
        let closed = agent.close(Duration::from_millis(50));
        assert!(closed[0].in_time && !closed[1].in_time);
        for book in &closed {
            assert!(book.tally.balances() && book.tally.queued == 0, "{book:?}");
        }
        assert_eq!(healthy.samples().len(), 5000);
    }
}

#[test]
fn a_queue_that_drops_the_oldest_keeps_the_newest_in_order() {
    let (mut agent, clock) = agent();
    let (word, gate) = bounded(16);
    let memory = MemorySink::default();
    add(&mut agent, "slow", 2, WhenFull::DropOldest, Gated { gate, then: memory.clone() });
    for _ in 0..10 {
        agent.tick(clock.advance(SECOND));
    }
    for _ in 0..10 {
        word.send(()).expect("the sink listens");
    }
    assert!(agent.close(MINUTE).iter().all(|book| book.in_time));
    let mut seen: Vec<u64> = memory.samples().iter().map(|sample| sample.seq).collect();
    seen.dedup();
    assert_eq!(seen[seen.len() - 2..], [8, 9]);
    assert!(seen.is_sorted());
}

#[test]
fn a_sink_that_panics_is_closed_and_the_others_go_on() {
    struct Panics;
    impl Sink for Panics {
        fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
            panic!("a bug in somebody's sink");
        }
    }
    let (mut agent, clock) = agent();
    let panics = add(&mut agent, "panics", 4, WhenFull::DropOldest, Panics);
    let healthy = add(&mut agent, "healthy", 4, WhenFull::DropOldest, MemorySink::default());
    for _ in 0..3 {
        agent.tick(clock.advance(SECOND));
        drained(&healthy);
    }
    let closed = agent.close(MINUTE);
    assert_eq!(healthy.tally().written, 30);
    assert_eq!(panics.tally().failed, 10);
    assert_eq!(panics.tally().dropped_total(), 20);
    assert!(closed.iter().all(|book| book.tally.balances()));
}

#[test]
fn the_run_ends_when_an_essential_sink_does_or_none_is_left() {
    struct Closes;
    impl Sink for Closes {
        fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
            Err(SinkError::closed("broken pipe"))
        }
    }
    for essential in [true, false] {
        let (mut agent, _) = agent();
        let spec = OutletSpec { essential, ..OutletSpec::new("pipe") };
        agent.push_sink(Box::new(Closes), spec, Arc::default()).expect("a sink");
        let (_moments, ticks) = bounded(0);
        let (_running, stop) = bounded(0);
        let expected = if essential { Ended::EssentialSink("pipe".into()) } else { Ended::NoSinkLeft };
        assert_eq!(agent.run(&ticks, &stop), expected);
    }
}

#[test]
fn a_sinks_state_and_its_reason_are_known_and_are_samples() {
    struct Moody(Vec<Result<(), SinkError>>);
    impl Sink for Moody {
        fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
            self.0.pop().unwrap_or(Ok(()))
        }
    }
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), Duration::from_secs(100)));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.add_probe(&VITALS, &Options::none()).expect("a probe");
    let memory = MemorySink::default();
    add(&mut agent, "memory", 8, WhenFull::DropOldest, memory.clone());
    let outcomes = vec![Err(SinkError::closed("broken pipe")), Ok(()), Err(SinkError::failed("full")), Ok(())];
    let moody = add(&mut agent, "moody", 8, WhenFull::DropOldest, Moody(outcomes));
    agent.vitals().add_absent_sink(AbsentSink { name: "absent".to_owned(), reason: "no such file".to_owned() });
    let expected = [
        (SinkState::Working, None),
        (SinkState::Failing, Some("full".to_owned())),
        (SinkState::Working, None),
        (SinkState::Closed, Some("the receiver is gone: broken pipe".to_owned())),
    ];
    for expected in &expected {
        agent.tick(clock.advance(SECOND));
        drained(&moody);
        // The end of a sink is known a moment after its samples are settled.
        let start = Instant::now();
        while moody.condition() != *expected {
            assert!(start.elapsed() < Duration::from_secs(60), "{:?} is not {expected:?}", moody.condition());
            std::thread::yield_now();
        }
    }
    agent.tick(clock.advance(SECOND));
    agent.close(MINUTE);
    let samples = memory.samples();
    let states = |name: &str| -> Vec<RememberedValue> {
        let of = samples.iter().filter(|sample| sample.name == "agent.sink_state");
        of.filter(|sample| sample.labels[0].1 == name).map(|sample| sample.value.clone()).collect()
    };
    // Each is what was so before the batch.
    assert_eq!(states("moody"), [1.0, 1.0, 2.0, 1.0, 3.0].map(RememberedValue::Gauge));
    assert_eq!(states("absent"), [0.0; 5].map(RememberedValue::Gauge));
}

#[test]
fn a_stop_collects_a_last_batch_and_every_sink_has_it() {
    let (mut agent, _) = agent();
    let memory = MemorySink::default();
    add(&mut agent, "memory", 8, WhenFull::DropOldest, memory.clone());
    let (_moments, ticks) = bounded(0);
    let (running, stop) = bounded::<()>(0);
    drop(running);
    assert_eq!(agent.run(&ticks, &stop), Ended::Stopped);
    agent.close(MINUTE);
    let samples = memory.samples();
    assert_eq!(samples.last().map(|sample| (sample.seq, sample.value.clone())), Some((1, RememberedValue::Counter(2))));
}

#[test]
fn a_sink_is_flushed_when_something_is_due_though_no_batch_came() {
    /// Wants three more flushes after its first view, each a little later.
    struct Again {
        due: Option<Instant>,
        left: u32,
        flushed: Sender<()>,
    }
    impl Sink for Again {
        fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
            self.left = 3;
            self.due = Some(Instant::now());
            Ok(())
        }
        fn flush(&mut self) -> Result<(), SinkError> {
            if self.due.is_some_and(|due| due <= Instant::now()) && self.left > 0 {
                self.left -= 1;
                self.due = (self.left > 0).then(|| Instant::now() + Duration::from_millis(1));
                self.flushed.send(()).map_err(SinkError::closed)?;
            }
            Ok(())
        }
        fn due(&self) -> Option<Instant> {
            self.due
        }
    }
    let (mut agent, clock) = agent();
    let (flushed, calls) = bounded(8);
    add(&mut agent, "again", 4, WhenFull::DropOldest, Again { due: None, left: 0, flushed });
    agent.tick(clock.advance(SECOND));
    for _ in 0..3 {
        calls.recv_timeout(MINUTE).expect("a flush");
    }
    assert!(agent.close(MINUTE).iter().all(|book| book.in_time && book.tally.balances()));
    assert!(calls.try_recv().is_err());
}

/// One tick of the property test.
#[derive(Clone, Debug)]
struct Step {
    /// What each living series gains; a series beyond the list is ended, a new one begun.
    gains: Vec<u8>,
    /// Whether the sink takes what is queued before the next tick.
    taken: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step =
        (prop::collection::vec(any::<u8>(), 0..6), any::<bool>()).prop_map(|(gains, taken)| Step { gains, taken });
    prop::collection::vec(step, 1..60)
}

/// Series that come and go as the steps say; remembers the true totals by life of a series.
struct Churn {
    descriptor: Arc<Descriptor>,
    steps: std::vec::IntoIter<Step>,
    alive: Vec<(SeriesId, usize, u64)>,
    lives: usize,
    truth: Arc<parking_lot::Mutex<Vec<u64>>>,
}

impl Probe for Churn {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let gains = self.steps.next().map(|step| step.gains).unwrap_or_default();
        while self.alive.len() > gains.len() {
            let (id, life, total) = self.alive.remove(0);
            recorder.counter(id, total + 1);
            self.truth.lock()[life] += 1;
            recorder.end(id);
        }
        while self.alive.len() < gains.len() {
            let id = recorder.series(&self.descriptor, &[&self.lives.to_string()]).map_err(ProbeError::new)?;
            self.alive.push((id, self.lives, 0));
            self.truth.lock().push(0);
            self.lives += 1;
        }
        for ((id, life, total), gain) in self.alive.iter_mut().zip(gains) {
            *total += u64::from(gain);
            self.truth.lock()[*life] = *total;
            recorder.counter(*id, *total);
        }
        Ok(())
    }
}

/// Adds up deltas by label, as a push protocol does.
struct Deltas {
    word: Receiver<()>,
    done: Sender<()>,
    last: SeriesCache<u64>,
    sums: Arc<parking_lot::Mutex<std::collections::BTreeMap<String, u64>>>,
}

impl Sink for Deltas {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let word = self.word.recv();
        self.last.update(view, drop);
        for metric in view.metrics() {
            for sample in metric.samples() {
                let (Value::Counter(total), Some((_, label))) = (sample.value(), sample.labels().next()) else {
                    continue;
                };
                let last = self.last.entry(sample.id(), || 0);
                *self.sums.lock().entry(label.to_owned()).or_default() += total - *last;
                *last = total;
            }
        }
        if word.is_ok() {
            // Nobody may be waiting any more.
            let _ = self.done.send(());
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn deltas_add_up_to_the_totals_whatever_is_dropped(steps in steps(), queue in 1usize..4, every in 1u32..5) {
        let clock = Arc::new(ManualClock::new(SECOND, SECOND));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
        let truth = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let sums = Arc::new(parking_lot::Mutex::new(std::collections::BTreeMap::new()));
        agent.push_probe("churn", Box::new(Churn {
            descriptor: Descriptor::counter("churn.calls", Unit::CALLS, "Calls").labels(["life"]).share(),
            steps: steps.clone().into_iter(),
            alive: Vec::new(),
            lives: 0,
            truth: Arc::clone(&truth),
        }));
        let (word, words) = bounded(1000);
        let (done, dones) = bounded(1000);
        let sink = Deltas { word: words, done, last: SeriesCache::default(), sums: Arc::clone(&sums) };
        let book = Arc::new(Ledger::default());
        let spec = OutletSpec { queue, interval: Some(every * SECOND), ..OutletSpec::new("deltas") };
        agent.push_sink(Box::new(sink), spec, Arc::clone(&book)).expect("a sink");
        for step in &steps {
            let offered = book.tally().offered;
            agent.tick(clock.advance(SECOND));
            prop_assert!(book.tally().balances());
            // At an interval of its own the sink may have nothing new to take.
            if step.taken && book.tally().offered > offered {
                word.send(()).expect("the sink listens");
                dones.recv().expect("the sink answers");
            }
        }
        drop(word);
        let closed = agent.close(MINUTE);
        prop_assert!(closed[0].in_time && closed[0].tally.balances());
        let truth: std::collections::BTreeMap<String, u64> =
            truth.lock().iter().enumerate().map(|(life, total)| (life.to_string(), *total)).collect();
        // A life that the sink never saw a sample of must have been worth nothing it could lose.
        let sums = sums.lock();
        for (life, total) in &truth {
            prop_assert_eq!(sums.get(life).copied().unwrap_or(0), *total, "life {}", life);
        }
    }
}
