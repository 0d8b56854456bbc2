//! What a sample costs as JSON: with its total, what was added, and the rate.
//!
//! `cargo bench -p ebpf-process-sink-json --bench encode`. Only encoding is on the clock, of 1,000 rows with 10
//! counters each, every one of which has grown; then of as many that stand still, with the line's way into a file.

#![expect(clippy::print_stdout, reason = "what it finds is for a person at a terminal")]
#![expect(clippy::expect_used, reason = "a bench that cannot set itself up should stop")]

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use ebpf_process_core::testkit::{Bench, Cell, context};
use ebpf_process_core::{Column, EntityKind, Options, Recorder, Selection, SinkPlugin as _, Unit, View};
use ebpf_process_sink_json::{Encoder, PLUGIN};

const SAMPLES: u32 = 10_000;
const METRICS: u32 = 10;
/// More than a processor's caches hold: between two ticks a second apart others use them.
const CACHE: usize = 64 << 20;

/// A source of batches, each counter larger in each.
struct Source {
    bench: Bench,
    cells: Vec<Cell>,
    total: u64,
    /// How much each grows.
    step: u64,
}

impl Source {
    /// Rows that grow.
    fn rows() -> Self {
        let mut bench = Bench::new();
        let kind = EntityKind::new("bench").keys(["name"]);
        let mut cells = Vec::new();
        for metric in 0..METRICS {
            let column = Column::counter(format!("demo.calls_{metric}"), Unit::CALLS, "Calls");
            let cell = |n| bench.cell(&kind, &[&format!("program-{n}")], column.clone());
            cells.extend((0..SAMPLES / METRICS).map(cell));
        }
        Self { bench, cells, total: 1_000_000_007, step: 12_345 }
    }

    /// The host's totals, which stand still.
    fn still() -> Self {
        let mut bench = Bench::new();
        let column = |n| {
            let calls = Column::counter(format!("bench.calls_{}", n % METRICS), Unit::CALLS, "Calls");
            calls.labels([("name", format!("program-{n}"))])
        };
        let cells = (0..SAMPLES).map(|n| bench.host(column(n))).collect();
        Self { bench, cells, total: 1_000_000_007, step: 0 }
    }

    /// The time that `take` takes for the next batch, after `before` is done.
    fn time(&mut self, before: impl FnOnce(), take: impl FnOnce(&View<'_>)) -> Duration {
        self.total += self.step;
        let Self { bench, cells, total, .. } = self;
        let record = |recorder: &mut Recorder| {
            for (n, cell) in (0..).zip(&*cells) {
                cell.counter(recorder, *total + n * 7919);
            }
        };
        bench.tick(&Selection::default(), record, |view| {
            before();
            timed(|| take(view))
        })
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Has criterion run it, and returns the best time that was seen, in nanoseconds per sample.
fn best(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut run: impl FnMut() -> Duration) -> f64 {
    let mut best = Duration::MAX;
    let mut run = || {
        let time = run();
        best = best.min(time);
        time
    };
    group.bench_function(name, |bencher| bencher.iter_custom(|times| (0..times).map(|_| run()).sum()));
    best.as_secs_f64() * 1e9 / f64::from(SAMPLES)
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(SAMPLES.into()));
    let mut source = Source::rows();
    let mut encoder = Encoder::default();
    let first = best(&mut group, "first view", || {
        let mut encoder = Encoder::default();
        source.time(|| (), |view| drop(black_box(encoder.encode(view))))
    });
    source.time(|| (), |view| drop(black_box(encoder.encode(view))));
    let warm = best(&mut group, "warm", || source.time(|| (), |view| drop(black_box(encoder.encode(view)))));
    let mut others = vec![0_u8; CACHE];
    let cold = best(&mut group, "cold", || {
        let displace = || others.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        source.time(displace, |view| drop(black_box(encoder.encode(view))))
    });
    let mut source = Source::still();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lines");
    let options = Options::from_value(BTreeMap::from([("path", path.display().to_string())]));
    let mut sink = PLUGIN.build(&options, context("lines")).expect("a sink");
    let all_in = best(&mut group, "still, into a file", || {
        let empty = || File::options().write(true).open(&path).and_then(|file| file.set_len(0)).expect("the file");
        source.time(empty, |view| sink.write(view).expect("a line"))
    });
    group.finish();
    println!(
        "JSON: {warm:.1} ns per sample warm, {cold:.1} cold, {first:.1} in the first view, {all_in:.1} still and into a file, at best"
    );
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encode(&mut criterion);
    criterion.final_summary();
}
