//! What a sink's calls say about its samples, and what the ledger makes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ebpf_process_core::engine::*;
use ebpf_process_core::testkit::{ManualClock, MemorySink};
use ebpf_process_core::*;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any machine is busy.
const MINUTE: Duration = Duration::from_secs(60);
const SAMPLES: u64 = 10;

/// Ten counters of the host; the first tick's batch has as many samples as all others.
struct Ten(Vec<ColumnId>);

impl Probe for Ten {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        for n in self.0.len()..10 {
            let calls = Column::counter("test.calls", Unit::CALLS, "Calls").labels([("n", n.to_string())]);
            self.0.push(recorder.column(recorder.host_kind(), calls)?);
        }
        self.0.iter().for_each(|column| recorder.counter(recorder.host(), *column, 1));
        Ok(())
    }
}

struct Scene {
    agent: Agent,
    clock: Arc<ManualClock>,
    book: Arc<Ledger>,
}

impl Scene {
    fn new(sink: impl Sink + 'static, queue: usize) -> Self {
        Self::with(sink, queue, Arc::new(Ledger::default()))
    }

    #[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
    fn with(sink: impl Sink + 'static, queue: usize, book: Arc<Ledger>) -> Self {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), 100 * SECOND));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
        agent.push_probe("ten", Box::new(Ten(Vec::new())));
        let spec = OutletSpec { queue, ..OutletSpec::new("tested") };
        agent.push_sink(Box::new(sink), spec, Arc::clone(&book)).expect("a sink");
        Self { agent, clock, book }
    }

    fn tick(&mut self) {
        self.agent.tick(self.clock.advance(SECOND));
        assert!(self.book.tally().balances(), "{:?}", self.book.tally());
    }

    /// Waits for what the sink's thread does.
    fn until(&self, what: &str, holds: impl Fn(&Tally) -> bool) -> Tally {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let tally = self.book.tally();
            assert!(tally.balances(), "{tally:?}");
            if holds(&tally) {
                return tally;
            }
            assert!(Instant::now() < deadline, "never {what}: {tally:?}");
            std::thread::yield_now();
        }
    }

    fn idle(&self) -> Tally {
        self.until("idle", |tally| tally.queued == 0)
    }
}

/// Buffers views, and pushes them out as it is told.
struct Buffering(Receiver<Result<(), SinkError>>);

impl Sink for Buffering {
    fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.0.try_recv().unwrap_or(Ok(()))
    }
}

#[test]
fn what_a_failed_flush_leaves_behind_is_not_written() {
    let (outcomes, told) = bounded(8);
    let mut scene = Scene::new(Buffering(told), 4);
    scene.tick();
    assert_eq!(scene.idle().written, SAMPLES);
    outcomes.send(Err(SinkError::failed("no room"))).expect("the sink listens");
    scene.tick();
    let tally = scene.idle();
    assert_eq!((tally.written, tally.failed), (SAMPLES, SAMPLES), "the view before was flushed, this one was not");
    outcomes.send(Err(SinkError::closed("gone"))).expect("the sink listens");
    scene.tick();
    let tally = scene.idle();
    assert_eq!((tally.written, tally.failed), (SAMPLES, 2 * SAMPLES));
    scene.tick();
    assert_eq!(scene.idle().dropped, [("sink closed", SAMPLES)]);
}

#[test]
fn a_sink_that_never_catches_up_is_flushed_all_the_same() {
    struct Slow {
        taken: Sender<()>,
        gate: Receiver<()>,
        flushed: Sender<()>,
    }
    impl Sink for Slow {
        fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
            self.taken.send(()).map_err(SinkError::closed)?;
            self.gate.recv().map_err(SinkError::closed)
        }
        fn flush(&mut self) -> Result<(), SinkError> {
            self.flushed.send(()).map_err(SinkError::closed)
        }
    }
    let patience = Duration::from_secs(60);
    let (word, gate) = bounded(0);
    let (taken, views) = bounded(64);
    let (flushed, calls) = bounded(64);
    let mut scene = Scene::new(Slow { taken, gate, flushed }, 2);
    calls.recv_timeout(patience).expect("a flush of nothing");
    // While it has one in hand, its queue is full.
    scene.tick();
    views.recv_timeout(patience).expect("the first view");
    scene.tick();
    scene.tick();
    assert_eq!(scene.book.tally().queued, 3 * SAMPLES);
    word.send(()).expect("the sink listens");
    views.recv_timeout(patience).expect("the second view");
    assert!(calls.is_empty());
    scene.tick();
    word.send(()).expect("the sink listens");
    calls.recv_timeout(patience).expect("a flush after two views, with two in the queue");
    assert_eq!(scene.until("written", |tally| tally.written > 0).written, 2 * SAMPLES);
    drop(word);
    scene.idle();
}

#[test]
fn a_dead_sink_holds_no_batch_and_owes_nothing() {
    struct Dies(Receiver<()>);
    impl Sink for Dies {
        fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
            let _ = self.0.recv();
            Err(SinkError::closed("gone"))
        }
        fn settles(&self) -> Settlement {
            Settlement::BySink
        }
    }
    let (word, gate) = bounded::<()>(0);
    let mut scene = Scene::new(Dies(gate), 4);
    for _ in 0..4 {
        scene.tick();
    }
    assert_eq!(scene.book.tally().queued, 4 * SAMPLES);
    drop(word);
    let tally = scene.idle();
    assert_eq!((tally.failed, tally.dropped), (SAMPLES, vec![("sink closed", 3 * SAMPLES)]), "while the agent runs");
    scene.tick();
    assert_eq!(scene.book.tally().dropped, [("sink closed", 4 * SAMPLES)]);
}

#[test]
fn a_sink_that_settles_twice_is_found_out() {
    struct Twice(Arc<Ledger>);
    impl Sink for Twice {
        fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
            self.0.written(view.len() as u64);
            self.0.written(view.len() as u64);
            Ok(())
        }
        fn settles(&self) -> Settlement {
            Settlement::BySink
        }
    }
    let clock = Arc::new(ManualClock::new(SECOND, SECOND));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.push_probe("ten", Box::new(Ten(Vec::new())));
    let book = Arc::new(Ledger::default());
    agent.push_sink(Box::new(Twice(Arc::clone(&book))), OutletSpec::new("twice"), Arc::clone(&book)).expect("a sink");
    agent.tick(clock.advance(SECOND));
    let tally = &agent.close(MINUTE)[0].tally;
    assert_eq!((tally.offered, tally.written, tally.mis_settled), (SAMPLES, 2 * SAMPLES, SAMPLES));
    assert!(!tally.balances());
}

#[test]
fn what_a_sink_had_settled_before_it_panicked_is_settled_once() {
    struct Panics(Arc<Ledger>);
    impl Sink for Panics {
        fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
            self.0.written(4);
            panic!("a bug in somebody's sink");
        }
        fn settles(&self) -> Settlement {
            Settlement::BySink
        }
    }
    let clock = Arc::new(ManualClock::new(SECOND, SECOND));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.push_probe("ten", Box::new(Ten(Vec::new())));
    let book = Arc::new(Ledger::default());
    agent.push_sink(Box::new(Panics(Arc::clone(&book))), OutletSpec::new("panics"), Arc::clone(&book)).expect("a sink");
    agent.tick(clock.advance(SECOND));
    let tally = &agent.close(MINUTE)[0].tally;
    assert_eq!((tally.written, tally.failed, tally.mis_settled), (4, 0, 0), "{tally:?}");
    assert_eq!(tally.dropped, [("sink closed", SAMPLES - 4)]);
    assert!(tally.balances());
}

#[test]
fn what_a_sink_never_settles_is_said_at_the_end() {
    struct Forgets;
    impl Sink for Forgets {
        fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
            Ok(())
        }
        fn settles(&self) -> Settlement {
            Settlement::BySink
        }
    }
    let mut scene = Scene::new(Forgets, 4);
    scene.tick();
    let closed = scene.agent.close(MINUTE);
    assert_eq!(closed[0].tally.dropped, [("never settled by the sink", SAMPLES)]);
}

#[test]
fn a_broken_pipe_is_a_failure_and_not_the_end() {
    /// A connection of its own, which the receiver hangs up once.
    struct Connection {
        hung_up: bool,
        memory: MemorySink,
    }
    impl Sink for Connection {
        fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
            if std::mem::take(&mut self.hung_up) {
                Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
            }
            self.memory.write(view)
        }
    }
    let memory = MemorySink::default();
    let mut scene = Scene::new(Connection { hung_up: true, memory: memory.clone() }, 4);
    for _ in 0..2 {
        scene.tick();
        scene.idle();
    }
    let tally = scene.book.tally();
    assert_eq!((tally.failed, tally.written), (SAMPLES, SAMPLES));
    assert_eq!(memory.samples().len() as u64, SAMPLES);
}

/// Learns on another thread what became of its samples, and enters it when it is called.
struct Answered {
    ledger: Arc<Ledger>,
    answers: Receiver<u64>,
    flushed: Sender<()>,
}

impl Sink for Answered {
    fn write(&mut self, _: &View<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.answers.try_iter().for_each(|samples| self.ledger.written(samples));
        let _ = self.flushed.send(());
        Ok(())
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

#[test]
fn a_sink_that_is_called_from_another_thread_is_flushed_though_nothing_came_and_nothing_is_due() {
    let (says, answers) = bounded(8);
    let (flushed, told) = bounded(64);
    let context = SinkContext::new("tested", SECOND);
    let waker = context.waker();
    let sink = Answered { ledger: Arc::clone(&context.ledger), answers, flushed };
    let mut scene = Scene::with(sink, 4, context.ledger);
    scene.tick();
    told.recv_timeout(MINUTE).expect("a flush behind the view");
    while told.recv_timeout(Duration::from_millis(1)).is_ok() {}
    assert_eq!(scene.book.tally().queued, SAMPLES);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            says.send(SAMPLES).expect("the sink listens");
            // More calls than are followed are one.
            (0..100).for_each(|_| waker.wake());
        });
    });
    assert_eq!(scene.idle().written, SAMPLES);
}
