//! What a further sink costs: a batch of 10,000 counters for one and for three sinks that only look at it.
//!
//! `cargo bench -p ebpf-process-core --bench fan_out`. On the clock is a tick of the collecting thread, and apart from
//! that the time until the last sink is through. The difference per sample stands at the end.

#![expect(clippy::expect_used, reason = "a bench's own mistake should stop it")]
#![expect(clippy::print_stdout, reason = "what it finds is for a person at a terminal")]

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use ebpf_process_core::engine::{Agent, Clock as _, OutletSpec, SystemClock};
use ebpf_process_core::{
    Column, ColumnId, EntityKind, Ledger, Probe, ProbeError, Recorder, RowId, Sink, SinkError, Unit, Value, View,
};

const SAMPLES: u32 = 10_000;
const METRICS: u32 = 10;
/// More than a processor's caches hold: between two ticks a second apart others use them.
const CACHE: usize = 64 << 20;

/// Counters that grow.
#[derive(Default)]
struct Counters {
    rows: Vec<RowId>,
    columns: Vec<ColumnId>,
    total: u64,
}

impl Probe for Counters {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        if self.rows.is_empty() {
            let kind = EntityKind::new("program").keys(["name"]);
            let kind = recorder.kind(kind)?;
            for metric in 0..METRICS {
                let calls = Column::counter(format!("bench.calls_{metric}"), Unit::CALLS, "Calls");
                self.columns.push(recorder.column(kind, calls)?);
            }
            for n in 0..SAMPLES / METRICS {
                let row = recorder.row(kind, n.into(), &[&format!("program-{n}")])?;
                self.rows.push(row);
            }
        }
        self.total += 12_345;
        for row in &self.rows {
            for column in &self.columns {
                recorder.counter(*row, *column, self.total);
            }
        }
        Ok(())
    }
}

/// Looks at every sample.
struct Trivial;

impl Sink for Trivial {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let mut sum = 0_u64;
        for sample in view.samples() {
            if let Value::Counter(total) = sample.value() {
                sum = sum.wrapping_add(total);
            }
        }
        black_box(sum);
        Ok(())
    }
}

/// An agent with so many trivial sinks.
struct Scene {
    agent: Agent,
    books: Vec<Arc<Ledger>>,
}

impl Scene {
    fn new(sinks: usize) -> Self {
        let mut agent = Agent::new(Arc::new(SystemClock), Duration::from_secs(1));
        agent.push_probe("counters", Box::<Counters>::default());
        let books: Vec<Arc<Ledger>> = (0..sinks).map(|_| Arc::default()).collect();
        for (n, book) in books.iter().enumerate() {
            let spec = OutletSpec::new(format!("sink-{n}"));
            agent.push_sink(Box::new(Trivial), spec, Arc::clone(book)).expect("a sink");
        }
        let mut scene = Self { agent, books };
        scene.tick();
        scene
    }

    /// The time of a tick of the collecting thread, and until the last sink is through.
    fn tick(&mut self) -> (Duration, Duration) {
        let start = Instant::now();
        self.agent.tick(SystemClock.now());
        let collected = start.elapsed();
        while self.books.iter().any(|book| book.read(|tally| tally.queued > 0)) {
            thread::yield_now();
        }
        (collected, start.elapsed())
    }
}

/// The best times that were seen, in nanoseconds per sample: of the collecting thread, and until the last sink is
/// through.
fn best(group: &mut BenchmarkGroup<'_, WallTime>, sinks: usize, others: &mut [u8]) -> (f64, f64) {
    let mut scene = Scene::new(sinks);
    let (mut collecting, mut through) = (Duration::MAX, Duration::MAX);
    let state = if others.is_empty() { "warm" } else { "cold" };
    let mut run = || {
        for byte in &mut *others {
            *byte = byte.wrapping_add(1);
        }
        let (collected, all) = scene.tick();
        collecting = collecting.min(collected);
        through = through.min(all);
        all
    };
    let name = format!("{sinks} sinks, {state}");
    group.bench_function(name, |bencher| bencher.iter_custom(|times| (0..times).map(|_| run()).sum()));
    let per_sample = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(SAMPLES);
    (per_sample(collecting), per_sample(through))
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("a batch handed out");
    group.throughput(Throughput::Elements(SAMPLES.into()));
    let mut others = vec![0_u8; CACHE];
    let mut report = Vec::new();
    for (state, others) in [("warm", &mut [][..]), ("cold", &mut others[..])] {
        let (one, three) = (best(&mut group, 1, others), best(&mut group, 3, others));
        report.push(format!(
            "{state}, per sample at best: the collecting thread {:.1} ns with one sink, {:.1} with three: {:+.1}; \
             until the last sink is through {:.1} and {:.1}: {:+.1}",
            one.0,
            three.0,
            three.0 - one.0,
            one.1,
            three.1,
            three.1 - one.1
        ));
    }
    group.finish();
    println!("{}", report.join("\n"));
    criterion.final_summary();
}
