//! The `statsd` crate, written by others, makes the same datagrams of the same numbers.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::net::UdpSocket;
use std::time::Duration;

use ebpf_process_core::testkit::Bench;
use ebpf_process_core::{Column, Selection, Unit};
use ebpf_process_sink_statsd::{Encoder, Fate, Syntax};
use statsd::Client;

const OPERATIONS: [(&str, u32); 5] = [("read", 1), ("write", 1_000_000), ("delete", 42), ("open", 7), ("close", 99)];
const LEVELS: [(&str, f64); 3] = [("up", 1.0), ("load", 0.25), ("size", 123_456_789.5)];

/// Our datagrams.
fn ours(limit: usize) -> Vec<Vec<u8>> {
    let mut bench = Bench::new();
    let calls = |name| Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", name)]);
    let level = |name| Column::gauge("demo.level", Unit::ONE, "Level").labels([("name", name)]);
    let counters = OPERATIONS.map(|(name, total)| (bench.host(calls(name)), total));
    let gauges = LEVELS.map(|(name, value)| (bench.host(level(name)), value));
    let mut datagrams = Vec::new();
    let record = |recorder: &mut ebpf_process_core::Recorder| {
        for (cell, total) in counters {
            cell.counter(recorder, u64::from(total));
        }
        for (cell, value) in gauges {
            cell.gauge(recorder, value);
        }
    };
    let mut encoder = Encoder::new(Syntax::Plain, "ebpf_process", limit);
    bench.tick(&Selection::default(), record, |view| {
        encoder.encode(view, &mut |datagram| {
            datagrams.push(datagram.to_vec());
            Fate::Sent
        })
    });
    datagrams
}

/// Theirs, as many as ours.
fn theirs(limit: usize, count: usize) -> Vec<Vec<u8>> {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
    receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    let client = Client::new(receiver.local_addr().expect("an address"), "ebpf_process").expect("a client");
    let mut pipeline = client.pipeline();
    pipeline.set_max_udp_size(limit);
    for (name, total) in OPERATIONS {
        pipeline.count(&format!("vfs.{name}.calls"), f64::from(total));
    }
    for (name, value) in LEVELS {
        pipeline.gauge(&format!("demo.{name}.level"), value);
    }
    pipeline.send(&client);
    let receive = |_| {
        let mut buffer = vec![0; 65_536];
        let length = receiver.recv(&mut buffer).expect("a datagram");
        buffer.truncate(length);
        buffer
    };
    (0..count).map(receive).collect()
}

#[test]
fn lines_and_datagrams_are_those_of_another_client() {
    for limit in [64, 70, 100, 512, 1432] {
        let ours = ours(limit);
        assert_eq!(ours, theirs(limit, ours.len()), "{limit}");
    }
}
