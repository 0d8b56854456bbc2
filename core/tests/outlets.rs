//! What sinks may rely on, and what a sink cannot do to others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ebpf_process_core::engine::*;
use ebpf_process_core::testkit::{ManualClock, MemorySink, RememberedValue, drained};
use ebpf_process_core::*;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any machine is busy.
const MINUTE: Duration = Duration::from_secs(60);

/// Counts its own ticks in ten counters of the host.
#[derive(Default)]
struct Counting {
    columns: Vec<ColumnId>,
    ticks: u64,
}

impl Probe for Counting {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        for n in self.columns.len()..10 {
            let calls = Column::counter("test.calls", Unit::CALLS, "Calls").labels([("n", n.to_string())]);
            self.columns.push(recorder.column(recorder.host_kind(), calls)?);
        }
        self.ticks += 1;
        for column in &self.columns {
            recorder.counter(recorder.host(), *column, self.ticks);
        }
        Ok(())
    }
}

/// Waits for a word before each write; who never hears one goes on when nobody can say it any more.
struct Gated {
    taken: Option<Sender<()>>,
    gate: Receiver<()>,
    then: MemorySink,
}

impl Sink for Gated {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        if let Some(taken) = &self.taken {
            taken.send(()).map_err(SinkError::closed)?;
        }
        let _ = self.gate.recv();
        self.then.write(view)
    }
}

fn agent() -> (Agent, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), Duration::from_secs(100)));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.push_probe("counting", Box::<Counting>::default());
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
        let stuck_book =
            add(&mut agent, "stuck", 4, when_full, Gated { taken: None, gate, then: MemorySink::default() });
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
    add(&mut agent, "slow", 2, WhenFull::DropOldest, Gated { taken: None, gate, then: memory.clone() });
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

/// A type of sink that nothing is asked of.
struct Nowhere;

impl SinkPlugin for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    fn summary(&self) -> &'static str {
        "goes nowhere"
    }

    fn check(&self, _: &Options) -> Result<Claims, OptionsError> {
        Ok(Claims::default())
    }

    fn build(&self, _: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        Ok(Box::new(MemorySink::default()))
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
    let refused = agent.start_sink(SinkPart {
        spec: OutletSpec::new("absent"),
        plugin: Arc::new(Nowhere),
        options: Options::none(),
        setting: Setting { instance: None, interval: SECOND, scope: Scope::Host },
        make: Box::new(|_, _| Err(BuildError::refused("no such file", "make it").passing(true))),
    });
    assert_eq!(refused.expect_err("it is not there").to_string(), "no such file; make it");
    let expected = [
        (State::Working, None),
        (State::Failing, Some("full".to_owned())),
        (State::Working, None),
        (State::Closed, Some("the receiver is gone: broken pipe".to_owned())),
    ];
    for expected in &expected {
        agent.tick(clock.advance(SECOND));
        drained(&moody);
        // The end of a sink is known a moment after its samples are settled.
        let start = Instant::now();
        let condition = || {
            let Condition { state, reason, .. } = moody.condition();
            (state, reason)
        };
        while condition() != *expected {
            assert!(start.elapsed() < Duration::from_secs(60), "{:?} is not {expected:?}", condition());
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

#[test]
fn a_queue_is_bounded_in_bytes_and_has_room_for_one_batch() {
    // A batch of ten counters takes some hundred bytes.
    for (queue_bytes, waiting) in [(1, 1), (usize::MAX, 4)] {
        for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
            let (mut agent, clock) = agent();
            let (word, gate) = bounded(64);
            let memory = MemorySink::default();
            let (taken, views) = bounded(64);
            let ledger = Arc::new(Ledger::default());
            let spec = OutletSpec { queue: 4, queue_bytes, when_full, ..OutletSpec::new("slow") };
            let sink = Gated { taken: Some(taken), gate, then: memory.clone() };
            agent.push_sink(Box::new(sink), spec, Arc::clone(&ledger)).expect("a sink");
            agent.tick(clock.advance(SECOND));
            views.recv_timeout(MINUTE).expect("the first batch is in its hands");
            for _ in 1..10 {
                agent.tick(clock.advance(SECOND));
            }
            let tally = ledger.tally();
            assert_eq!((tally.offered, tally.queued), (100, 10 + 10 * waiting), "{queue_bytes} {when_full:?}");
            assert_eq!(tally.dropped, [("queue full", 100 - tally.queued)]);
            drop(word);
            let closed = agent.close(MINUTE);
            assert!(closed[0].in_time && closed[0].tally.balances(), "{closed:?}");
            let mut seen: Vec<u64> = memory.samples().iter().map(|sample| sample.seq).collect();
            seen.dedup();
            let kept = if when_full == WhenFull::DropOldest { 10 - waiting..10 } else { 1..1 + waiting };
            assert_eq!(seen, [0].into_iter().chain(kept).collect::<Vec<_>>(), "{queue_bytes} {when_full:?}");
        }
    }
}
