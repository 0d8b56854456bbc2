//! What the encoder writes for given views.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ebpf-process-sink-otlp` writes the file anew; look at the difference before you keep
//! it.

mod reader;

use std::fmt::Write as _;

use ebpf_process_core::testkit::{Bench, golden, no_slots};
use ebpf_process_core::{Column, EntityKind, Selection, Unit};
use ebpf_process_sink_otlp::Encoder;

#[test]
fn samples_become_data_points() {
    let mut bench = Bench::new();
    let of = |name: &'static str, operation: &str| {
        Column::counter(name, Unit::CALLS, "Calls").labels([("operation", operation)])
    };
    let [read, write] = ["read", "a \"b\" é"].map(|operation| bench.host(of("vfs.calls", operation)));
    let bytes = bench.host(Column::counter("vfs.bytes", Unit::BYTES, "Bytes").labels([("operation", "read")]));
    let exits = bench.host(Column::counter("task.exits", Unit::TASKS, "Exits"));
    let hook = EntityKind::new("hook").keys(["function", "counter"]).names_as_they_are();
    let info = bench.cell(&hook, &["vfs_read", "vfs.calls"], Column::gauge("hook.info", Unit::ONE, "Hooks"));
    let probe = EntityKind::new("probe").keys(["probe"]).names_as_they_are();
    let time = bench.cell(&probe, &["file"], Column::gauge("agent.probe_time", Unit::SECONDS, "Time"));
    let disk = EntityKind::new("disk").keys(["disk"]);
    let latency = Column::histogram("queue.latency", Unit::SECONDS, "Latency").scale(1e-6).slots(2..=6);
    let latency = bench.cell(&disk, &["sda"], latency);
    let busy = bench.cell(&disk, &["sda"], Column::counter("queue.busy", Unit::SECONDS, "Busy").scale(1e-9));
    let process = EntityKind::new("process").keys(["pid", "comm", "exe", "user", "cgroup", "container", "ns_pid"]);
    let mut row = |pid: &str, comm: &str| {
        let labels = [pid, comm, "/bin/x", "root", "/a.slice", "c0ffee", "1"];
        (
            bench.cell(&process, &labels, of("vfs.calls", "read")),
            bench.cell(&process, &labels, of("vfs.calls", "write")),
        )
    };
    let (sh, cat, other) = (row("7", "sh"), row("8", "cat"), row("other", "other"));
    let cgroup = EntityKind::new("cgroup").keys(["cgroup", "unit", "container", "pod", "namespace", "container_name"]);
    let group = bench.cell(&cgroup, &["/g", "x.service", "c0ffee", "web-1", "shop", "web"], of("vfs.calls", "read"));
    let selection = Selection { tags: [("rack".to_owned(), "7".to_owned())].into(), ..Selection::default() };
    let mut encoder = Encoder::new("node1", Some("second")).with_resource([("a.b".to_owned(), "c".to_owned())].into());
    let mut text = String::new();
    for view in 0..2 {
        bench.tick(
            &selection,
            |recorder| {
                read.counter(recorder, 1000 * view);
                write.counter(recorder, u64::MAX);
                bytes.counter(recorder, i64::MAX as u64);
                exits.counter(recorder, 3);
                info.gauge(recorder, 1.0);
                time.gauge(recorder, -2.5e-7);
                let mut slots = no_slots();
                (slots[0], slots[4], slots[63]) = (view, 3, view);
                latency.histogram(recorder, &slots, 4000);
                busy.counter(recorder, 1_500_000_000);
                sh.0.counter(recorder, 3 + view);
                sh.1.counter(recorder, 30 + view);
                other.0.counter(recorder, 1);
                group.counter(recorder, 9);
                // Some have nothing to say, some end.
                if view == 0 {
                    cat.0.counter(recorder, 9);
                } else {
                    cat.0.end(recorder);
                }
            },
            |view| {
                let rejected = encoder.encode(view, |piece, samples| {
                    let points = reader::read(piece).expect("a request");
                    assert_eq!(points.len(), samples as usize);
                    let (first, scope) = (&points[0].resource, &points[0].scope);
                    let _ = write!(text, "# {} {}", scope.0, scope.1);
                    for (key, value) in first {
                        let _ = write!(text, " {key}={value}");
                    }
                    text.push('\n');
                    for point in &points {
                        assert_eq!((&point.resource, &point.scope), (first, scope));
                        let _ = writeln!(text, "{point}");
                    }
                });
                assert_eq!(rejected, 0);
            },
        );
        text.push('\n');
    }
    golden::compare("points.txt", text.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}
