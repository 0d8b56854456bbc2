//! What a cell costs as line protocol, and a line of three tags and four fields beside the builder of
//! `influxdb-line-protocol`.
//!
//! `cargo bench -p ebpf-process-sink-influx --bench encode`. Only encoding is on the clock.

#![expect(clippy::print_stdout, reason = "what it finds is for a person at a terminal")]

use std::hint::black_box;

use ebpf_process_core::testkit::{Bench, cost};
use ebpf_process_core::{Column, EntityKind, Recorder, Selection, Unit};
use ebpf_process_sink_influx::Encoder;
use influxdb_line_protocol::LineProtocolBuilder;

const LINES: u32 = 2500;
const FIELDS: [&str; 4] = ["bytes", "calls", "errors", "interrupted"];

fn main() {
    cost::report(
        "influx",
        || Encoder::new("node1"),
        |encoder, view| {
            black_box(encoder.encode(view));
        },
    );
    lines();
}

/// The same lines from the encoder, and from the builder into a buffer that it has grown already.
fn lines() {
    let mut bench = Bench::new();
    let kind = EntityKind::new("app").keys(["process"]).limit(LINES as usize);
    let names: Vec<String> = (0..LINES).map(|number| format!("program-{number}")).collect();
    let mut counters = Vec::new();
    for name in &names {
        for field in FIELDS {
            let column = Column::counter(format!("vfs.{field}"), Unit::CALLS, "Calls");
            counters.push(bench.cell(&kind, &[name], column.labels([("operation", "read")])));
        }
    }
    let record = |recorder: &mut Recorder| {
        for (cell, field) in counters.iter().zip((0..FIELDS.len() as u64).cycle()) {
            cell.counter(recorder, 1_000_000_007 + field);
        }
    };
    let build = |buffer: Vec<u8>| {
        let mut lines = LineProtocolBuilder::new_with(buffer);
        for name in &names {
            let line = lines.measurement("app_vfs").tag("host", "node1").tag("operation", "read").tag("process", name);
            let [bytes, calls, errors, interrupted] = FIELDS;
            let line = line.field(bytes, 1_000_000_007_i64).field(calls, 1_000_000_008_i64);
            let line = line.field(errors, 1_000_000_009_i64).field(interrupted, 1_000_000_010_i64);
            lines = line.timestamp(1_600_000_000_000_000_000).close_line();
        }
        lines.build()
    };
    bench.tick(&Selection::default(), record, |view| {
        let mut encoder = Encoder::new("node1");
        let mut buffer = build(Vec::new());
        assert_eq!(
            String::from_utf8_lossy(encoder.encode(view).bytes),
            String::from_utf8_lossy(&buffer),
            "both write the same"
        );
        let mut others = cost::Others::default();
        for (state, is_cold) in [("warm", false), ("cold", true)] {
            let mut before = || {
                if is_cold {
                    others.work();
                }
            };
            let ours = cost::Times::of(|| {
                before();
                cost::timed(|| {
                    black_box(encoder.encode(view));
                })
            });
            let theirs = cost::Times::of(|| {
                before();
                cost::timed(|| {
                    buffer.clear();
                    buffer = black_box(build(std::mem::take(&mut buffer)));
                })
            });
            let (ours, theirs) = (ours.best(LINES), theirs.best(LINES));
            println!(
                "3 tags and 4 fields, {state}: {ours:.1} ns, the builder {theirs:.1} ns per line at best: {:.1} times",
                theirs / ours
            );
        }
    });
}
