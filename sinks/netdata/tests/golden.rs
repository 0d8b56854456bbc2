//! What the encoder writes for given views, byte for byte.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ebpf-process-sink-netdata` writes the files anew; look at the
//! difference before you keep it.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Descriptor, Scope, Selection, SeriesId, Unit, View};
use ebpf_process_sink_netdata::Encoder;

/// The agent's own series with their totals in two views.
type Totals = (&'static str, Option<(&'static str, &'static str)>, [u64; 2]);

const ENTRY: [Totals; 9] = [
    ("file.calls", Some(("operation", "open")), [3, 10]),
    ("file.calls", Some(("operation", "close")), [2, 8]),
    ("vfs.calls", Some(("operation", "read")), [1000, 2000]),
    ("vfs.calls", Some(("operation", "write")), [500, 700]),
    ("vfs.calls", Some(("operation", "delete")), [0, 1]),
    ("task.started", Some(("kind", "process")), [5, 9]),
    ("task.started", Some(("kind", "thread")), [1, 2]),
    ("task.exits", None, [4, 12]),
    ("task.releases", None, [4, 11]),
];

const RETURN: [Totals; 9] = [
    ("file.errors", Some(("operation", "open")), [1, 2]),
    ("file.errors", Some(("operation", "close")), [0, 0]),
    ("vfs.errors", Some(("operation", "read")), [1, 1]),
    ("vfs.errors", Some(("operation", "write")), [2, 4]),
    ("vfs.errors", Some(("operation", "delete")), [3, 9]),
    ("vfs.bytes", Some(("operation", "read")), [4096, 8192]),
    ("vfs.bytes", Some(("operation", "write")), [1, u64::MAX]),
    ("task.start_errors", Some(("kind", "process")), [0, 1]),
    ("task.start_errors", Some(("kind", "thread")), [0, 0]),
];

fn series(bench: &mut Bench, totals: &[Totals]) -> Vec<SeriesId> {
    let make = |(name, label, _): &Totals| {
        let descriptor = Descriptor::counter(*name, Unit::CALLS, "Calls").labels(label.map(|(key, _)| key));
        let values: Vec<_> = label.iter().map(|(_, value)| *value).collect();
        bench.series(&descriptor.share(), &values)
    };
    totals.iter().map(make).collect()
}

/// The lines for two views and for the end.
fn lines(totals: &[Totals], selection: &Selection) -> String {
    let mut bench = Bench::new();
    let ids = series(&mut bench, totals);
    let mut encoder = Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut output = Vec::new();
    for view in 0..2 {
        bench.tick(
            selection,
            |recorder| ids.iter().zip(totals).for_each(|(id, (.., totals))| recorder.counter(*id, totals[view])),
            |view| output.extend_from_slice(encoder.encode(view)),
        );
    }
    output.extend_from_slice(encoder.retire_all());
    String::from_utf8(output).expect("text")
}

#[test]
fn calls_become_the_charts_of_2020() {
    compare("entry", &lines(&ENTRY, &Selection::default()));
}

#[test]
fn errors_and_bytes_become_the_charts_of_2020() {
    let tags = BTreeMap::from([("rack".to_owned(), "it's \"7\"".to_owned())]);
    compare("return", &lines(&RETURN, &Selection { tags, ..Selection::default() }));
}

const INTERRUPTED: [Totals; 7] = [
    ("file.interrupted", Some(("operation", "open")), [1, 2]),
    ("file.interrupted", Some(("operation", "close")), [0, 0]),
    ("vfs.interrupted", Some(("operation", "read")), [100, 200]),
    ("vfs.interrupted", Some(("operation", "write")), [0, 1]),
    ("vfs.interrupted", Some(("operation", "delete")), [0, 0]),
    ("task.start_interrupted", Some(("kind", "process")), [3, 3]),
    ("task.start_interrupted", Some(("kind", "thread")), [0, 0]),
];

#[test]
fn interrupted_calls_add_nothing_to_what_netdata_is_told() {
    let with: Vec<Totals> = RETURN.into_iter().chain(INTERRUPTED).collect();
    assert_eq!(lines(&with, &Selection::default()), lines(&RETURN, &Selection::default()));
}

#[test]
fn interrupted_calls_that_are_asked_for_have_a_chart_by_rule() {
    let rename = BTreeMap::from([("vfs.interrupted".to_owned(), "vfs.signalled".to_owned())]);
    let lines = lines(&INTERRUPTED, &Selection { rename, ..Selection::default() });
    assert!(lines.contains("CHART ebpf.vfs_signalled"), "{lines}");
    assert!(!lines.contains("interrupted'") && !lines.contains("ebpf.file_interrupted"), "{lines}");
}

#[test]
fn a_metric_that_no_table_knows_gets_a_chart_by_rule() {
    let mut bench = Bench::new();
    let missed = Descriptor::counter("hook.missed", Unit::CALLS, "Events that a hook missed").labels(["counter"]);
    let missed = missed.share();
    let time = Descriptor::gauge("agent.probe_time", Unit::SECONDS, "Time of a collection").labels(["probe"]);
    let info = Descriptor::gauge("hook.info", Unit::ONE, "What is attached where").labels(["counter"]);
    let ticks = Descriptor::counter("agent.ticks", Unit::TICKS, "Rounds of collection");
    let open = bench.series(&missed, &["file.calls/open"]);
    let close = bench.series(&missed, &["file.calls/close"]);
    let time = bench.series(&Arc::new(time), &["process"]);
    let info = bench.series(&Arc::new(info), &["file.calls"]);
    let ticks = bench.series(&Arc::new(ticks), &[]);
    let mut encoder = Encoder::new(Duration::from_millis(1500), Scope::Filtered);
    let mut output = Vec::new();
    for view in 0..8_u64 {
        bench.tick(
            &Selection::default(),
            |recorder| {
                recorder.gauge(time, -0.0125);
                recorder.gauge(info, 1.0);
                match view {
                    0 => recorder.counter(open, view),
                    1 => {
                        recorder.counter(open, view);
                        recorder.end(open);
                    }
                    _ => {}
                }
                if (1..4).contains(&view) {
                    recorder.counter(close, 7);
                    recorder.counter(ticks, view);
                }
                if view == 3 {
                    recorder.end(close);
                }
            },
            |view| {
                output.extend_from_slice(format!("---- view {}\n", view.tick().seq).as_bytes());
                output.extend_from_slice(encoder.encode(view));
            },
        );
    }
    output.extend_from_slice(b"---- the end\n");
    output.extend_from_slice(encoder.retire_all());
    compare("by_rule", &String::from_utf8(output).expect("text"));
}

#[test]
fn a_histogram_is_a_heatmap_that_grows_with_its_values() {
    let mut bench = Bench::new();
    let latency = Descriptor::histogram("disk.latency", Unit::new("ns"), "Time of a request").labels(["disk"]).share();
    let sda = bench.series(&latency, &["sda"]);
    let mut encoder = Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut output = Vec::new();
    for slot in [3, 40] {
        let mut slots = no_slots();
        slots[slot] = 5;
        let look = |view: &View<'_>| output.extend_from_slice(encoder.encode(view));
        bench.tick(&Selection::default(), |recorder| recorder.histogram(sda, &slots, 100), look);
    }
    compare("heatmap", &String::from_utf8(output).expect("text"));
}

fn compare(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("a golden file");
    }
    let expected = std::fs::read_to_string(&path).expect("a golden file; UPDATE_GOLDEN=1 makes it");
    assert_eq!(actual, expected, "{name}");
}
