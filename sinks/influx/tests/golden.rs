//! What the encoder writes for given views, byte for byte.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ebpf-process-sink-influx` writes the files anew; look at the
//! difference before you keep it.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use ebpf_process_core::testkit::{Bench, golden, no_slots};
use ebpf_process_core::{Column, EntityKind, Selection, Unit};
use ebpf_process_sink_influx::{Encoder, Form};

#[test]
fn samples_become_lines() {
    let lines = told(Encoder::new("node 1"));
    golden::compare("lines.txt", &lines);
}

#[test]
fn samples_become_a_line_each_behind_a_namespace() {
    let lines = told(Encoder::new("node 1").with_form(Form::PerValue).with_namespace("my"));
    golden::compare("per_value.txt", &lines);
}

/// The lines of two views.
fn told(mut encoder: Encoder) -> String {
    let mut bench = Bench::new();
    let of = |name: &'static str, operation: &str| {
        Column::counter(name, Unit::CALLS, "Calls").labels([("operation", operation)])
    };
    let [read, odd, bytes] = [("vfs.calls", "read"), ("vfs.calls", "a b,c=d\\\"é"), ("vfs.bytes", "read")]
        .map(|(name, operation)| bench.host(of(name, operation)));
    let exits = bench.host(Column::counter("task.exits", Unit::TASKS, "Exits"));
    let hook = EntityKind::new("hook").keys(["function", "counter"]).names_as_they_are();
    let info = bench.cell(&hook, &["vfs_read", "vfs.calls"], Column::gauge("hook.info", Unit::ONE, "Hooks"));
    let probe = EntityKind::new("probe").keys(["probe"]).names_as_they_are();
    let time = || Column::gauge("agent.probe_time", Unit::SECONDS, "Time");
    let [slow, fast] = ["file", "process"].map(|name| bench.cell(&probe, &[name], time()));
    let disk = EntityKind::new("disk").keys(["disk"]);
    let sda = bench.cell(&disk, &["sda"], Column::histogram("queue.latency", Unit::new("ns"), "Latency"));
    let busy = Column::counter("queue.busy", Unit::SECONDS, "Busy").scale(1e-9);
    let busy = bench.cell(&disk, &["sda"], busy);
    let process = EntityKind::new("process").keys(["pid", "comm"]);
    let [sh, cat] = [("7", "sh"), ("8", "cat")].map(|(pid, comm)| {
        let [calls, bytes] =
            ["vfs.calls", "vfs.bytes"].map(|name| bench.cell(&process, &[pid, comm], of(name, "read")));
        (calls, bytes)
    });
    let selection = Selection { tags: [("rack".to_owned(), "7".to_owned())].into(), ..Selection::default() };
    let mut output = Vec::new();
    for view in 0..2 {
        let samples = bench.tick(
            &selection,
            |recorder| {
                read.counter(recorder, 1000 * view);
                odd.counter(recorder, i64::MAX as u64);
                bytes.counter(recorder, 5);
                exits.counter(recorder, i64::MAX as u64);
                info.gauge(recorder, 1.0);
                slow.gauge(recorder, 1e16);
                fast.gauge(recorder, -2.5e-7);
                let mut slots = no_slots();
                slots[0] = view;
                slots[10] = 3;
                slots[63] = view;
                sda.histogram(recorder, &slots, 4000);
                busy.counter(recorder, 1_500_000_000);
                sh.0.counter(recorder, 3 + view);
                sh.1.counter(recorder, 30 + view);
                // Some have nothing to say, some end.
                if view == 0 {
                    cat.1.counter(recorder, 9);
                } else {
                    cat.0.end(recorder);
                }
            },
            |view| {
                let lines = encoder.encode(view);
                output.extend_from_slice(lines.bytes);
                assert_eq!(lines.rejected, 0);
                lines.samples
            },
        );
        assert_eq!(samples, 12);
    }
    String::from_utf8(output).expect("text")
}
