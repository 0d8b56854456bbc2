//! What a sample costs as JSON: with its total, what was added, and the rate.
//!
//! `cargo bench -p ebpf-process-sink-json --bench encode`. Only encoding is on the clock, of 10,000 counters, every one
//! of which has grown.

#![expect(clippy::print_stdout, reason = "what it finds is for a person at a terminal")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use ebpf_process_core::testkit::Bench;
use ebpf_process_core::{Descriptor, Recorder, Selection, SeriesId, Unit, View};
use ebpf_process_sink_json::Encoder;

const SAMPLES: u32 = 10_000;
const METRICS: u32 = 10;
/// More than a processor's caches hold: between two ticks a second apart others use them.
const CACHE: usize = 64 << 20;

/// A source of batches, each counter larger in each.
struct Source {
    bench: Bench,
    ids: Vec<SeriesId>,
    total: u64,
}

impl Source {
    fn new() -> Self {
        let mut bench = Bench::new();
        let mut ids = Vec::new();
        for metric in 0..METRICS {
            let calls = Descriptor::counter(format!("bench.calls_{metric}"), Unit::CALLS, "Calls").labels(["name"]);
            let calls = calls.share();
            ids.extend((0..SAMPLES / METRICS).map(|n| bench.series(&calls, &[&format!("program-{n}")])));
        }
        Self { bench, ids, total: 1_000_000_007 }
    }

    /// The time that `take` takes for the next batch, after `before` is done.
    fn time(&mut self, before: impl FnOnce(), take: impl FnOnce(&View<'_>)) -> Duration {
        self.total += 12_345;
        let Self { bench, ids, total } = self;
        let record = |recorder: &mut Recorder| {
            for (n, id) in (0..).zip(&*ids) {
                recorder.counter(*id, *total + n * 7919);
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
    let mut source = Source::new();
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
    group.finish();
    println!("JSON: {warm:.1} ns per sample warm, {cold:.1} cold, {first:.1} in the first view, at best");
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encode(&mut criterion);
    criterion.final_summary();
}
