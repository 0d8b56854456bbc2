//! A sink's own interval and its jitter.

use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::engine::*;
use ebpf_process_core::testkit::{ManualClock, MemorySink, RememberedValue, drained};
use ebpf_process_core::*;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any machine is busy.
const MINUTE: Duration = Duration::from_secs(60);

/// Counts its own ticks; at the third it also counts a thing that ends at once.
#[derive(Default)]
struct Counting {
    column: Option<ColumnId>,
    ticks: u64,
}

impl Probe for Counting {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let ticks = Column::counter("test.ticks", Unit::TICKS, "Ticks");
        let column = match self.column {
            Some(column) => column,
            None => *self.column.insert(recorder.column(recorder.host_kind(), ticks)?),
        };
        self.ticks += 1;
        recorder.counter(recorder.host(), column, self.ticks);
        if self.ticks == 3 {
            let kind = recorder.kind(EntityKind::new("short").keys(["name"]))?;
            let calls = Column::counter("test.calls", Unit::CALLS, "Over at once");
            let column = recorder.column(kind, calls)?;
            let row = recorder.row(kind, 0, &["a"])?;
            recorder.counter(row, column, 42);
            recorder.end(row);
        }
        Ok(())
    }
}

/// An agent whose wall clock shows three seconds past a multiple of everything here.
fn agent() -> (Agent, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_003), Duration::from_secs(100)));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.push_probe("counting", Box::<Counting>::default());
    (agent, clock)
}

#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
fn add(agent: &mut Agent, spec: OutletSpec) -> (MemorySink, Arc<Ledger>) {
    let (sink, ledger) = (MemorySink::default(), Arc::new(Ledger::default()));
    agent.push_sink(Box::new(sink.clone()), spec, Arc::clone(&ledger)).expect("a sink");
    (sink, ledger)
}

#[test]
fn a_sink_gets_its_multiples_of_the_wall_clock_and_the_last_totals() {
    let (mut agent, clock) = agent();
    let (slow, slow_book) =
        add(&mut agent, OutletSpec { interval: Some(5 * SECOND), queue: 64, ..OutletSpec::new("slow") });
    let (every, every_book) = add(&mut agent, OutletSpec { queue: 64, ..OutletSpec::new("every") });
    for _ in 0..20 {
        agent.tick(clock.advance(SECOND));
        drained(&slow_book);
        drained(&every_book);
    }
    agent.close(MINUTE);
    let totals = |sink: &MemorySink| -> Vec<u64> {
        let samples = sink.samples().into_iter().filter(|sample| sample.name == "test.ticks");
        samples.map(|sample| if let RememberedValue::Counter(total) = sample.value { total } else { 0 }).collect()
    };
    // The clock shows 4, 5, 6, ...: the first one, 5, 10, 15, 20 and the last.
    assert_eq!(totals(&slow), [1, 2, 7, 12, 17, 20]);
    assert_eq!(totals(&every), (1..=20).collect::<Vec<_>>());
    // What was not offered is in no book.
    let tally = slow_book.tally();
    assert_eq!((tally.offered, tally.written), (slow.samples().len() as u64, slow.samples().len() as u64));
    // The thing that ended between two of its batches is in the next.
    assert!(slow.samples().iter().any(|sample| sample.value == RememberedValue::Counter(42)));
}

#[test]
fn an_ended_row_is_in_the_next_batch_of_each_sink_and_in_no_other() {
    /// Batch and tick of the values, for each final row.
    #[derive(Clone, Default)]
    struct Finals(Arc<parking_lot::Mutex<Vec<(u64, u64)>>>);
    impl Sink for Finals {
        fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
            let rows = view.kinds().flat_map(|kind| kind.rows());
            self.0.lock().extend(rows.filter(RowView::is_final).map(|row| (view.tick().seq, row.tick().seq)));
            Ok(())
        }
    }
    let (mut agent, clock) = agent();
    let mut add = |interval: Option<Duration>| {
        let (finals, book) = (Finals::default(), Arc::new(Ledger::default()));
        let spec = OutletSpec { interval, queue: 1, ..OutletSpec::new("finals") };
        agent.push_sink(Box::new(finals.clone()), spec, Arc::clone(&book)).expect("a sink");
        (finals, book)
    };
    let (slow, slow_book) = add(Some(20 * SECOND));
    let (every, every_book) = add(None);
    for _ in 0..30 {
        agent.tick(clock.advance(SECOND));
        drained(&slow_book);
        drained(&every_book);
    }
    agent.close(MINUTE);
    // The clock shows 20 in the batch of number 16.
    assert_eq!(*slow.0.lock(), [(16, 2)]);
    assert_eq!(*every.0.lock(), [(2, 2)]);
}

#[test]
fn the_time_that_a_view_tells_is_the_sinks_own() {
    struct Elapsed(crossbeam_channel::Sender<Duration>);
    impl Sink for Elapsed {
        fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
            self.0.send(view.elapsed()).map_err(SinkError::closed)
        }
    }
    let (mut agent, clock) = agent();
    let (sender, times) = crossbeam_channel::bounded(64);
    let spec = OutletSpec { interval: Some(5 * SECOND), queue: 64, ..OutletSpec::new("slow") };
    agent.push_sink(Box::new(Elapsed(sender)), spec, Arc::default()).expect("a sink");
    for _ in 0..13 {
        agent.tick(clock.advance(SECOND));
    }
    agent.close(MINUTE);
    assert_eq!(times.iter().collect::<Vec<_>>(), [0, 1, 5, 5, 1].map(|seconds| seconds * SECOND));
}

#[test]
fn a_stop_ends_the_jitter() {
    let (mut agent, clock) = agent();
    let hour = Duration::from_secs(60 * 60);
    let spec = OutletSpec { interval: Some(hour), jitter: hour, ..OutletSpec::new("late") };
    let (late, _) = add(&mut agent, spec);
    let (_, prompt_book) = add(&mut agent, OutletSpec::new("prompt"));
    for _ in 0..3 {
        agent.tick(clock.advance(SECOND));
        drained(&prompt_book);
    }
    let closed = agent.close(Duration::from_secs(60));
    assert!(closed.iter().all(|book| book.in_time && book.tally.written == book.tally.offered), "{closed:?}");
    let seqs: Vec<u64> = late.samples().iter().map(|sample| sample.seq).collect();
    assert_eq!((seqs.first(), seqs.last()), (Some(&0), Some(&2)), "the first batch and the newest");
}
