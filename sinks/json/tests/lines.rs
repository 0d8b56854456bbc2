//! What the sink writes: byte for byte, for any names, and so that nothing is lost between two lines.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, context, no_slots};
use ebpf_process_core::{Column, Options, Recorder, Selection, Sink, SinkPlugin as _, Unit, View};
use ebpf_process_sink_json::{Encoder, PLUGIN, printing};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// An output that the test can look into.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn calls(operation: &str) -> Column {
    Column::counter("demo.calls", Unit::CALLS, "Calls").labels([("operation", operation)])
}

/// The line for a view, read again.
#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
fn line(encoder: &mut Encoder, view: View<'_>) -> Value {
    serde_json::from_slice(encoder.encode(&view).expect("a line")).expect("JSON")
}

/// Two ticks of every kind of metric, as a sink sees them.
#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
fn two_ticks(sink: &mut dyn Sink) {
    let mut bench = Bench::new();
    let (read, new) = (bench.host(calls("read")), bench.host(calls("a\"b\u{202e}")));
    let selection = Selection { tags: BTreeMap::from([("site".into(), "lab".into())]), ..Selection::default() };
    bench.tick(&selection, |recorder| read.counter(recorder, 40), |view| sink.write(view)).expect("a write");
    let level = bench.host(Column::gauge("demo.level", Unit::SECONDS, "A level"));
    let time = bench.host(Column::histogram("demo.time", Unit::SECONDS, "Times"));
    let record = |recorder: &mut Recorder| {
        read.counter(recorder, 100);
        new.counter(recorder, 7);
        level.gauge(recorder, 0.5);
        let mut slots = no_slots();
        slots[3] = 2;
        time.histogram(recorder, &slots, 20);
    };
    bench.tick(&selection, record, |view| sink.write(view)).expect("a write");
}

#[test]
fn what_once_prints_is_of_one_window_from_its_baseline() {
    let output = Shared::default();
    // The first tick is 100 s after boot.
    two_ticks(&mut *printing(output.clone(), Duration::from_millis(98_000)));
    let text = String::from_utf8(output.0.lock().clone()).expect("text");
    let first: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["elapsed"], 2.0);
    let sample = &first["samples"][0];
    assert_eq!((&sample["value"], &sample["delta"], &sample["rate"]), (&json!(40), &json!(40), &json!(20.0)));
    assert!(text.ends_with(include_str!("golden/differences.json")), "{text}");
}

#[test]
fn a_file_has_a_line_per_batch_and_the_deltas_add_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lines.json");
    let options = Options::from_value(BTreeMap::from([("path", path.display().to_string())]));
    assert!(!PLUGIN.check(&options).expect("right options").stdout);
    let mut sink = PLUGIN.build(&options, context("lines")).expect("a sink");
    two_ticks(&mut *sink);
    let text = std::fs::read_to_string(path).expect("a file");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        lines[0],
        json!({"timestamp": 1_600_000_000.0, "elapsed": 0.0, "samples": [{
            "name": "demo.calls", "labels": {"operation": "read", "site": "lab"}, "kind": "counter", "unit": "calls",
            "value": 40, "delta": 40, "rate": null,
        }]})
    );
    assert_eq!(lines[1]["samples"][0]["delta"], 60);
    assert!(text.ends_with(include_str!("golden/differences.json")), "the same object as once prints");
}

#[test]
fn what_a_lost_line_had_is_in_the_next_one() {
    let mut bench = Bench::new();
    let (read, write) = (bench.host(calls("read")), bench.host(calls("write")));
    let mut encoder = Encoder::default();
    let mut arrived = (0, 0);
    // Totals of both, and whether the line arrives. The first line is lost, the fourth and fifth are.
    for (seconds, (totals, arrives)) in [
        ((5, 1), false),
        ((7, 1), true),
        ((9, 4), true),
        ((10, 4), false),
        ((20, 5), false),
        ((20, 9), true),
        ((21, 9), true),
    ]
    .into_iter()
    .enumerate()
    {
        let record = |recorder: &mut Recorder| {
            read.counter(recorder, totals.0);
            write.counter(recorder, totals.1);
        };
        let line = bench.tick(&Selection::default(), record, |view| line(&mut encoder, *view));
        let delta = |n: usize| line["samples"][n]["delta"].as_u64().expect("a delta");
        if arrives {
            arrived = (arrived.0 + delta(0), arrived.1 + delta(1));
            assert_eq!(arrived, totals, "all deltas of lines that arrived add up to the totals");
            let elapsed = [0.0, 0.0, 1.0, 0.0, 0.0, 3.0, 1.0][seconds];
            assert_eq!(line["elapsed"].as_f64(), Some(elapsed), "since the last line that arrived");
        } else {
            encoder.lost();
        }
    }
}

#[test]
fn what_is_recorded_in_another_unit_is_said_in_the_metrics() {
    let mut bench = Bench::new();
    let time = bench.host(Column::counter("demo.busy", Unit::SECONDS, "Time").scale(1e-9));
    let spans = bench.host(Column::histogram("demo.span", Unit::SECONDS, "Times").slots(2..=40).scale(1e-9));
    let mut encoder = Encoder::default();
    let mut lines = [1_500_000_000, 4_000_000_000].map(|total| {
        let record = |recorder: &mut Recorder| {
            time.counter(recorder, total);
            spans.histogram(recorder, &[0, 0, 0, 1, 0, 2], 1_000_000_000);
        };
        bench.tick(&Selection::default(), record, |view| line(&mut encoder, *view))
    });
    let busy = &lines[1]["samples"][0];
    assert_eq!((&busy["value"], &busy["delta"], &busy["rate"]), (&json!(4.0), &json!(2.5), &json!(2.5)));
    let value = lines[1]["samples"][1]["value"].take();
    assert_eq!(value, json!({"count": 3, "sum": 1.0, "scale": 1e-9, "slots": [0, 0, 0, 1, 0, 2]}));
}

#[test]
fn a_line_names_the_probes_whose_numbers_it_lacks() {
    let (mut bench, mut encoder) = (Bench::new(), Encoder::default());
    bench.leave_out("process");
    bench.leave_out("a\"b");
    let lines = [(); 2].map(|()| bench.tick(&Selection::default(), |_| (), |view| line(&mut encoder, *view)));
    assert_eq!(lines[0]["left_out"], json!(["process", "a\"b"]));
    assert_eq!(lines[1].get("left_out"), None);
}

#[test]
fn a_clock_that_is_set_changes_the_timestamp_and_no_rate() {
    let mut bench = Bench::new();
    let cell = bench.host(calls("read"));
    let mut encoder = Encoder::default();
    let mut at = |wall: u32, total| {
        bench.set_wall(Duration::from_secs(wall.into()));
        let record = |recorder: &mut Recorder| cell.counter(recorder, total);
        bench.tick(&Selection::default(), record, |view| line(&mut encoder, *view))
    };
    at(1_600_000_000, 0);
    for (wall, total) in [(1_600_003_600, 5), (1_599_996_400, 10), (1_600_007_200, 15)] {
        let line = at(wall, total);
        assert_eq!((line["timestamp"].as_f64(), line["elapsed"].as_f64()), (Some(wall.into()), Some(1.0)));
        assert_eq!((line["samples"][0]["delta"].as_u64(), line["samples"][0]["rate"].as_f64()), (Some(5), Some(5.0)));
    }
}

#[test]
fn a_wrong_option_names_its_key() {
    for (key, value) in [("path", "relative.json"), ("path", ""), ("file", "/x")] {
        let error = PLUGIN.check(&Options::from_value(BTreeMap::from([(key, value)]))).expect_err(key);
        assert_eq!(error.key, format!("options.{key}"), "{error}");
    }
    assert!(PLUGIN.check(&Options::none()).expect("the default").stdout);
    assert!(!PLUGIN.confined(&Options::none()), "it may open files");
    let missing = Options::from_value(BTreeMap::from([("path", "/nonexistent/either/lines.json")]));
    let error = PLUGIN.build(&missing, context("lines")).err().expect("no directory").to_string();
    assert!(error.contains("/nonexistent/either/lines.json") && error.contains("options.path"), "{error}");
}
