//! What the encoder sends for given views, byte for byte.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ebpf-process-sink-statsd` writes the file anew; look at the
//! difference before you keep it.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use ebpf_process_core::testkit::{Bench, golden, no_slots};
use ebpf_process_core::{Column, Selection, Unit};
use ebpf_process_sink_statsd::{Encoder, Fate, Settled, Syntax};
use std::fmt::Write as _;

#[test]
fn samples_become_packets() {
    for (name, syntax) in [
        ("plain.txt", Syntax::Plain),
        ("graphite.txt", Syntax::Graphite),
        ("dogstatsd.txt", Syntax::Dogstatsd),
        ("telegraf.txt", Syntax::Telegraf),
    ] {
        golden::compare(name, three_views(syntax));
    }
}

/// Everything there is to say, in packets.
fn three_views(syntax: Syntax) -> String {
    let mut bench = Bench::new();
    let vfs = |operation| Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", operation)]);
    let bytes = Column::counter("vfs.bytes", Unit::BYTES, "Bytes").labels([("operation", "read")]);
    let started = Column::counter("task.started", Unit::TASKS, "Started").labels([("kind", "process")]);
    let exits = Column::counter("task.exits", Unit::TASKS, "Exits");
    let hook = [("counter", "vfs.calls"), ("function", "vfs_read")];
    let info = Column::gauge("hook.info", Unit::ONE, "Hooks").labels(hook);
    let level = Column::gauge("demo.level", Unit::SECONDS, "Level");
    let latency = Column::histogram("disk.latency", Unit::new("ns"), "Latency").labels([("disk", "sda")]);
    let [read, odd] = ["read", "a.b:c|d@e#f\u{e9}"].map(|operation| bench.host(vfs(operation)));
    let [bytes, process, exits, info, level, sda] =
        [bytes, started, exits, info, level, latency].map(|column| bench.host(column));
    let selection = Selection { tags: [("rack".to_owned(), "r 7".to_owned())].into(), ..Selection::default() };
    let mut encoder = Encoder::new(syntax, "ebpf_process", 120);
    let mut output = String::new();
    for view in 0..3_u64 {
        let record = |recorder: &mut ebpf_process_core::Recorder| {
            read.counter(recorder, 1000 * view);
            odd.counter(recorder, 7);
            bytes.counter(recorder, if view == 0 { 5 } else { u64::MAX });
            process.counter(recorder, [10, 4, 4][usize::try_from(view).expect("a view")]);
            exits.counter(recorder, view);
            info.gauge(recorder, 1.0);
            level.gauge(recorder, [-0.25, 0.1 + 0.2, 1e21][usize::try_from(view).expect("a view")]);
            let mut slots = no_slots();
            slots[0] = 1;
            slots[10] = 3 * view;
            slots[63] = view / 2;
            sda.histogram(recorder, &slots, 4000);
        };
        let settled = bench.tick(&selection, record, |view| {
            let _ = writeln!(output, "==== view {}", view.tick().seq);
            encoder.encode(view, &mut |packet| {
                let _ = writeln!(output, "---- {} bytes\n{}", packet.len(), String::from_utf8_lossy(packet));
                Fate::Sent
            })
        });
        assert_eq!(settled, Settled { written: 8, ..Settled::default() });
    }
    output
}
