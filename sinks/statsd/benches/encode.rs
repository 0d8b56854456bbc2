//! What a cell costs for StatsD: to encode, in each dialect, and to send, beside the `statsd` crate.
//!
//! `cargo bench -p ebpf-process-sink-statsd --bench encode`. Only encoding and sending are on the clock. Every counter
//! has grown. Both sides of a ratio are measured in the same run.

#![expect(clippy::expect_used, reason = "a bench's own mistake should stop it")]
#![expect(clippy::print_stdout, reason = "what it finds is for a person at a terminal")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::UdpSocket;

use ebpf_process_core::testkit::{context, cost};
use ebpf_process_core::{Options, SinkPlugin as _};
use ebpf_process_sink_statsd::{Encoder, Fate, PLUGIN, Syntax};

const PACKET: usize = 1432;

fn main() {
    for syntax in [Syntax::Plain, Syntax::Graphite, Syntax::Dogstatsd, Syntax::Telegraf] {
        let new = || Encoder::new(syntax, "ebpf_process", PACKET);
        cost::report(&format!("statsd, {syntax:?}"), new, |encoder, view| {
            let send = &mut |packet: &[u8]| {
                black_box(packet);
                Fate::Sent
            };
            black_box(encoder.encode(view, send));
        });
    }
    // The first is what each does unless it is told otherwise.
    for (our_size, their_size) in [(PACKET, 512), (512, 512), (PACKET, PACKET), (8932, 8932)] {
        send(our_size, their_size);
    }
}

/// Both to a socket that nobody reads: the kernel throws away what does not fit there, for both alike.
fn send(our_size: usize, their_size: usize) {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = receiver.local_addr().expect("an address");
    let table = BTreeMap::from([("address", format!("udp://{address}").into()), ("max_packet", our_size.into())]);
    let options: BTreeMap<_, serde_json::Value> = table;
    let mut sink = PLUGIN.build(&Options::from_value(options), context("lan")).expect("a sink");
    let mut source = cost::Source::host();
    let ours = cost::Times::of(|| source.time(|| (), |view| sink.write(view).expect("a batch"))).best(cost::CELLS);

    let client = statsd::Client::new(address, "ebpf_process").expect("a client");
    let names: Vec<String> = (0..cost::CELLS).map(|n| format!("bench.program-{n}.calls")).collect();
    let theirs = cost::Times::of(|| {
        cost::timed(|| {
            let mut pipeline = client.pipeline();
            pipeline.set_max_udp_size(their_size);
            for name in &names {
                pipeline.count(name, 12_345.0);
            }
            pipeline.send(&client);
        })
    });
    let theirs = theirs.best(cost::CELLS);
    println!(
        "over loopback: this sink ({our_size} bytes) {ours:.1} ns, statsd's Pipeline ({their_size} bytes) {theirs:.1} ns \
         per cell at best: {:.1} times",
        theirs / ours
    );
}
