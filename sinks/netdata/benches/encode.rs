//! What a sample costs: 10,000 of them as lines, beside a plain copy of the same bytes.
//!
//! `cargo bench -p ebpf-process-sink-netdata --bench encode` prints the time of all: 10 µs are 1 ns per sample.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ebpf_process_core::testkit::Bench;
use ebpf_process_core::{Descriptor, Scope, Selection, SeriesId, Unit};
use ebpf_process_sink_netdata::Encoder;

const METRICS: u64 = 10;
const SERIES: u64 = 1000;
/// More than a processor's caches hold: between two ticks a second apart others use them.
const CACHE: usize = 64 << 20;

/// Series of ten metrics, named as programs are.
fn series(bench: &mut Bench) -> Vec<SeriesId> {
    let mut ids = Vec::new();
    for metric in 0..METRICS {
        let calls = Descriptor::counter(format!("bench.calls_{metric}"), Unit::CALLS, "Calls").labels(["name"]).share();
        ids.extend((0..SERIES).map(|number| bench.series(&calls, &[&format!("program-{number}")])));
    }
    ids
}

fn encode(criterion: &mut Criterion) {
    let mut bench = Bench::new();
    let ids = series(&mut bench);
    let new = || Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut group = criterion.benchmark_group("netdata");
    group.throughput(Throughput::Elements(METRICS * SERIES));
    bench.tick(
        &Selection::default(),
        |recorder| {
            for (total, id) in (1_000_000_007_u64..).step_by(7919).zip(&ids) {
                recorder.counter(*id, total);
            }
        },
        |view| {
            let mut encoder = new();
            encoder.encode(view);
            let lines = encoder.encode(view).to_vec();
            let count = String::from_utf8_lossy(&lines).lines().count();
            assert_eq!(count, ids.len() + 20, "a line for each value, and ten blocks");
            group.bench_function("warm: values of declared dimensions", |b| {
                b.iter(|| black_box(encoder.encode(view)).len());
            });
            group.bench_function("cold: the same after somebody else's work", |b| {
                let mut others = vec![0_u8; CACHE];
                let displace = || others.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
                b.iter_batched(displace, |()| black_box(encoder.encode(view)).len(), BatchSize::PerIteration);
            });
            group.bench_function("first: each chart and dimension declared", |b| {
                b.iter_batched_ref(new, |encoder| black_box(encoder.encode(view)).len(), BatchSize::PerIteration);
            });
            let mut copy = Vec::with_capacity(lines.len());
            group.bench_function("memcpy: a copy of the warm lines", |b| {
                b.iter(|| {
                    copy.clear();
                    copy.extend_from_slice(black_box(&lines));
                    black_box(&copy).len()
                });
            });
        },
    );
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
