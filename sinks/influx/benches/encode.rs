//! What a sample costs as a line, and a line of three tags and four fields beside the builder of `influxdb-line-protocol`.
//!
//! `cargo bench -p ebpf-process-sink-influx --bench encode`. Only encoding is on the clock: of 10,000 counters, every one
//! of which has grown, and of 10,000 histograms, which are the lines that have four fields. The ratios stand at the end.

#![expect(clippy::print_stdout, reason = "what it finds is for a person at a terminal")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Descriptor, Recorder, Selection, SeriesId, Unit, View};
use ebpf_process_sink_influx::Encoder;
use influxdb_line_protocol::LineProtocolBuilder;

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
    let mut encoder = Encoder::new("node1");
    let first = best(&mut group, "first view", || {
        let mut encoder = Encoder::new("node1");
        source.time(
            || (),
            |view| {
                black_box(encoder.encode(view));
            },
        )
    });
    source.time(
        || (),
        |view| {
            black_box(encoder.encode(view));
        },
    );
    let warm = best(&mut group, "warm", || {
        source.time(
            || (),
            |view| {
                black_box(encoder.encode(view));
            },
        )
    });
    let mut others = vec![0_u8; CACHE];
    let cold = best(&mut group, "cold", || {
        let displace = || others.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        source.time(displace, |view| {
            black_box(encoder.encode(view));
        })
    });
    group.finish();
    println!("Influx: {warm:.1} ns per sample warm, {cold:.1} cold, {first:.1} in the first view, at best");
}

/// The same lines from the encoder, from the builder into a buffer that it has grown already, and copied.
fn lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lines of 3 tags and 4 fields");
    group.throughput(Throughput::Elements(SAMPLES.into()));
    let mut bench = Bench::new();
    let latency = Descriptor::histogram("vfs.latency", Unit::SECONDS, "Latency").labels(["operation", "process"]);
    let latency = latency.series_limit(SAMPLES as usize).share();
    let names: Vec<String> = (0..SAMPLES).map(|n| format!("program-{n}")).collect();
    let ids: Vec<SeriesId> = names.iter().map(|name| bench.series(&latency, &["read", name])).collect();
    let mut slots = no_slots();
    (slots[9], slots[10]) = (123_456, 7_890);
    let record = |recorder: &mut Recorder| ids.iter().for_each(|id| recorder.histogram(*id, &slots, 98_765_432));
    let build = |buffer: Vec<u8>| {
        let mut lines = LineProtocolBuilder::new_with(buffer);
        for name in &names {
            let line = lines.measurement("vfs").tag("host", "node1").tag("operation", "read").tag("process", name);
            let line = line.field("latency_count", 131_346_i64).field("latency_sum", 98_765_432_i64);
            let line = line.field("latency_le_1023", 123_456_i64).field("latency_le_2047", 7_890_i64);
            lines = line.timestamp(1_600_000_000_000_000_000).close_line();
        }
        lines.build()
    };
    bench.tick(&Selection::default(), record, |view| {
        let mut encoder = Encoder::new("node1");
        let mut buffer = build(Vec::new());
        assert_eq!(encoder.encode(view).bytes, buffer, "both write the same");
        let ours = best(&mut group, "encoder", || {
            timed(|| {
                black_box(encoder.encode(view));
            })
        });
        let theirs = best(&mut group, "builder", || {
            timed(|| {
                buffer.clear();
                buffer = black_box(build(std::mem::take(&mut buffer)));
            })
        });
        let mut others = vec![0_u8; CACHE];
        let mut displace = || others.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        let ours_cold = best(&mut group, "encoder, cold", || {
            displace();
            timed(|| {
                black_box(encoder.encode(view));
            })
        });
        let theirs_cold = best(&mut group, "builder, cold", || {
            displace();
            timed(|| {
                buffer.clear();
                buffer = black_box(build(std::mem::take(&mut buffer)));
            })
        });
        for (state, ours, theirs) in [("warm", ours, theirs), ("cold", ours_cold, theirs_cold)] {
            println!(
                "3 tags and 4 fields, {state}: {ours:.1} ns, the builder {theirs:.1} ns per line at best: {:.1} times",
                theirs / ours
            );
        }
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encode(&mut criterion);
    lines(&mut criterion);
    criterion.final_summary();
}
