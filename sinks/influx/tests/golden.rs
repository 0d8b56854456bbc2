//! What the encoder writes for given views, byte for byte.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ebpf-process-sink-influx` writes the file anew; look at the
//! difference before you keep it.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::path::Path;

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Descriptor, Selection, Unit};
use ebpf_process_sink_influx::Encoder;

#[test]
fn samples_become_lines() {
    let mut bench = Bench::new();
    let calls = Descriptor::counter("vfs.calls", Unit::CALLS, "Calls").labels(["operation"]).share();
    let exits = Descriptor::counter("task.exits", Unit::TASKS, "Exits").share();
    let info = Descriptor::gauge("hook.info", Unit::ONE, "Hooks").labels(["function", "counter"]).share();
    let time = Descriptor::gauge("agent.probe_time", Unit::SECONDS, "Time").labels(["probe"]).share();
    let latency = Descriptor::histogram("disk.queue.latency", Unit::new("ns"), "Latency").labels(["disk"]).share();
    let read = bench.series(&calls, &["read"]);
    let odd = bench.series(&calls, &["a b,c=d\\\"é"]);
    let exits = bench.series(&exits, &[]);
    let info = bench.series(&info, &["vfs_read", "vfs.calls"]);
    let slow = bench.series(&time, &["file"]);
    let fast = bench.series(&time, &["process"]);
    let sda = bench.series(&latency, &["sda"]);
    let selection = Selection { tags: [("rack".to_owned(), "7".to_owned())].into(), ..Selection::default() };
    let mut encoder = Encoder::new("node 1");
    let mut output = Vec::new();
    for view in 0..2 {
        let lines = bench.tick(
            &selection,
            |recorder| {
                recorder.counter(read, 1000 * view);
                recorder.counter(odd, u64::MAX);
                recorder.counter(exits, i64::MAX as u64);
                recorder.gauge(info, 1.0);
                recorder.gauge(slow, 1e16);
                recorder.gauge(fast, -2.5e-7);
                let mut slots = no_slots();
                slots[0] = view;
                slots[10] = 3;
                slots[63] = view;
                recorder.histogram(sda, &slots, 4000);
            },
            |view| {
                let lines = encoder.encode(view);
                output.extend_from_slice(lines.bytes);
                (lines.samples, lines.rejected)
            },
        );
        assert_eq!(lines, (7, 0));
    }
    compare("lines", &String::from_utf8(output).expect("text"));
}

fn compare(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("a golden file");
    }
    let expected = std::fs::read_to_string(&path).expect("a golden file; UPDATE_GOLDEN=1 makes it");
    assert_eq!(actual, expected, "{name}");
}
