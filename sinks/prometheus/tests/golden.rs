//! What the encoder writes for given views, byte for byte.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ebpf-process-sink-prometheus` writes the files anew; look at the
//! difference before you keep it.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::path::Path;

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Descriptor, Selection, Unit};
use ebpf_process_sink_prometheus::{Counts, Encoder, Format, Page};

#[test]
fn samples_become_families() {
    let mut bench = Bench::new();
    let calls =
        Descriptor::counter("vfs.calls", Unit::CALLS, "Calls of \"read\" \\ write").labels(["operation"]).share();
    let bytes = Descriptor::counter("vfs.bytes", Unit::BYTES, "Bytes").labels(["operation"]).share();
    let exits = Descriptor::counter("task.exits", Unit::TASKS, "Exits").share();
    let info = Descriptor::gauge("hook.info", Unit::ONE, "Hooks").labels(["function", "counter"]).share();
    let time = Descriptor::gauge("agent.probe_time", Unit::SECONDS, "Time").labels(["probe"]).share();
    let latency = Descriptor::histogram("disk.latency", Unit::new("ns"), "Latency").labels(["disk", "le"]).share();
    let sizes = Descriptor::histogram("io.size", Unit::BYTES, "Sizes").share();
    let read = bench.series(&calls, &["read"]);
    let odd = bench.series(&calls, &["a b,c=d\\\"é}"]);
    let (bytes, exits) = (bench.series(&bytes, &["read"]), bench.series(&exits, &[]));
    let info = bench.series(&info, &["vfs_read", "vfs.read"]);
    let (slow, fast) = (bench.series(&time, &["file"]), bench.series(&time, &["process"]));
    let (sda, sizes) = (bench.series(&latency, &["sda", "x"]), bench.series(&sizes, &[]));
    let selection = Selection { tags: [("rack".to_owned(), "7".to_owned())].into(), ..Selection::default() };
    let mut encoder = Encoder::new("ebpf_process");
    let mut page = Page::default();
    for round in 0..2 {
        let counts = bench.tick(
            &selection,
            |recorder| {
                recorder.counter(read, 1000 * round);
                recorder.counter(odd, u64::MAX);
                recorder.counter(bytes, 51_200);
                recorder.counter(exits, 3);
                recorder.gauge(info, 1.0);
                recorder.gauge(slow, 1e16);
                recorder.gauge(fast, -2.5e-7);
                let mut slots = no_slots();
                slots[0] = round;
                slots[10] = 3;
                slots[63] = round;
                recorder.histogram(sda, &slots, 4000);
                recorder.histogram(sizes, &slots, u64::MAX);
            },
            |view| encoder.encode(view, &mut page),
        );
        assert_eq!(counts, Counts { written: 9, rejected: 0 });
    }
    compare("page.txt", page.bytes(Format::Text));
    compare("page.openmetrics", page.bytes(Format::OpenMetrics));
}

fn compare(name: &str, actual: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("a golden file");
    }
    let expected = std::fs::read_to_string(&path).expect("a golden file; UPDATE_GOLDEN=1 makes it");
    assert_eq!(std::str::from_utf8(actual).expect("text"), expected, "{name}");
}
