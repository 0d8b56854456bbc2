//! What a sample costs: to encode, in each dialect, and to send, beside the `statsd` crate.
//!
//! `cargo bench -p ebpf-process-sink-statsd --bench encode`. Only encoding and sending are on the clock, not making
//! the batch. A batch has 10,000 counters, every one of which has grown. The ratios stand at the end: both sides of one
//! are measured in the same run.

#![expect(clippy::expect_used, reason = "a bench's own mistake should stop it")]
#![expect(clippy::print_stdout, reason = "what it finds is for a person at a terminal")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ebpf_process_core::testkit::{Bench, context};
use ebpf_process_core::{Descriptor, Options, Selection, SeriesId, SinkPlugin as _, Unit, View};
use ebpf_process_sink_statsd::{Encoder, Fate, PLUGIN, Syntax};

const SAMPLES: u64 = 10_000;
const PACKET: usize = 1432;
/// More than a processor's caches hold: between two ticks a second apart others use them.
const CACHE: usize = 64 << 20;

/// A source of batches, each counter larger by `step` in each.
struct Source {
    bench: Bench,
    ids: Vec<SeriesId>,
    total: u64,
}

impl Source {
    fn new() -> Self {
        let mut bench = Bench::new();
        let descriptor = Descriptor::counter("vfs.calls", Unit::CALLS, "Calls").labels(["operation"]);
        let descriptor: Arc<_> = descriptor.series_limit(20_000).share();
        let id = |n: u64| bench.series(&descriptor, &[&format!("read-{n}")]);
        let ids = (0..SAMPLES).map(id).collect();
        Self { bench, ids, total: 0 }
    }

    /// The time that `take` takes for the next batch, after `before` is done.
    fn time(&mut self, before: impl FnOnce(), take: impl FnOnce(&View<'_>)) -> Duration {
        let Self { bench, ids, total } = self;
        *total += 12_345;
        let record = |recorder: &mut ebpf_process_core::Recorder| {
            for (n, id) in (0..).zip(&*ids) {
                recorder.counter(*id, *total + n);
            }
        };
        bench.tick(&Selection::default(), record, |view| {
            before();
            let start = Instant::now();
            take(view);
            start.elapsed()
        })
    }
}

/// The best time of one batch that was seen.
struct Best(Cell<Duration>);

impl Best {
    const fn new() -> Self {
        Self(Cell::new(Duration::MAX))
    }

    /// As many batches as criterion wants.
    fn run(&self, times: u64, mut batch: impl FnMut() -> Duration) -> Duration {
        let mut sum = Duration::ZERO;
        for _ in 0..times {
            let time = batch();
            self.0.set(self.0.get().min(time));
            sum += time;
        }
        sum
    }

    /// Nanoseconds per sample.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a bench")]
    fn per_sample(&self) -> f64 {
        self.0.get().as_nanos() as f64 / SAMPLES as f64
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(SAMPLES));
    let send = &mut |packet: &[u8]| {
        black_box(packet);
        Fate::Sent
    };
    let mut others = vec![0_u8; CACHE];
    for syntax in [Syntax::Plain, Syntax::Graphite, Syntax::Dogstatsd, Syntax::Telegraf] {
        let new = || Encoder::new(syntax, "ebpf_process", PACKET);
        let (mut source, mut encoder) = (Source::new(), new());
        let [warm, cold, first] = [const { Best::new() }; 3];
        let mut again = |before: &mut dyn FnMut()| {
            source.time(before, |view| {
                black_box(encoder.encode(view, send));
            })
        };
        again(&mut || ());
        group.bench_function(format!("{syntax:?} warm"), |bencher| {
            bencher.iter_custom(|times| warm.run(times, || again(&mut || ())));
        });
        let mut displace = || others.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        group.bench_function(format!("{syntax:?} cold"), |bencher| {
            bencher.iter_custom(|times| cold.run(times, || again(&mut displace)));
        });
        let mut anew = || {
            let mut encoder = new();
            source.time(
                || (),
                |view| {
                    black_box(encoder.encode(view, send));
                },
            )
        };
        group.bench_function(format!("{syntax:?} first view"), |bencher| {
            bencher.iter_custom(|times| first.run(times, &mut anew));
        });
        let [warm, cold, first] = [&warm, &cold, &first].map(Best::per_sample);
        println!("{syntax:?}: {warm:.1} ns per sample warm, {cold:.1} cold, {first:.1} in the first view, at best");
    }
    group.finish();
}

/// Both to a socket that nobody reads: the kernel throws away what does not fit there, for both alike.
fn send(criterion: &mut Criterion) {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = receiver.local_addr().expect("an address");
    let mut group = criterion.benchmark_group("send over loopback");
    group.throughput(Throughput::Elements(SAMPLES));
    let client = statsd::Client::new(address, "ebpf_process").expect("a client");
    let names: Vec<String> = (0..SAMPLES).map(|n| format!("vfs.read-{n}.calls")).collect();
    let mut ratios = Vec::new();
    // The first row is what each does unless it is told otherwise.
    for (our_size, their_size) in [(PACKET, 512), (512, 512), (PACKET, PACKET), (8932, 8932)] {
        let ours = Best::new();
        let mut source = Source::new();
        let table = BTreeMap::from([("address", format!("udp://{address}").into()), ("max_packet", our_size.into())]);
        let options: BTreeMap<_, serde_json::Value> = table;
        let mut sink = PLUGIN.build(&Options::from_value(options), context("lan")).expect("a sink");
        let mut batch = || source.time(|| (), |view| sink.write(view).expect("a batch"));
        batch();
        let name = format!("this sink, {our_size} bytes beside {their_size}");
        group.bench_function(name, |bencher| bencher.iter_custom(|times| ours.run(times, &mut batch)));

        let theirs = Best::new();
        let mut batch = || {
            let start = Instant::now();
            let mut pipeline = client.pipeline();
            pipeline.set_max_udp_size(their_size);
            for name in &names {
                pipeline.count(name, 12_345.0);
            }
            pipeline.send(&client);
            start.elapsed()
        };
        let name = format!("statsd's Pipeline, {their_size} bytes beside {our_size}");
        group.bench_function(name, |bencher| bencher.iter_custom(|times| theirs.run(times, &mut batch)));
        ratios.push((our_size, their_size, ours.per_sample(), theirs.per_sample()));
    }
    group.finish();
    for (our_size, their_size, ours, theirs) in ratios {
        println!(
            "this sink ({our_size} bytes) {ours:.1} ns, statsd's Pipeline ({their_size} bytes) {theirs:.1} ns per sample \
             at best: {:.1} times",
            theirs / ours
        );
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encode(&mut criterion);
    send(&mut criterion);
    criterion.final_summary();
}
