//! What is in a batch: golden lines, and that any view is told as it is.

use ebpf_process_core::testkit::golden::compare;
use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Column, EntityKind, Selection, Unit, Value as Cell, View};
use ebpf_process_delivery::Frame;
use ebpf_process_sink_exec::{Encoded, Encoder, Encoding, Format, Integers, head};
use proptest::prelude::*;
use serde_json::{Value, json};

const LIMIT: usize = 8 << 20;

fn encoder(format: Format, integers: Integers) -> Encoder {
    Encoder::new(Encoding { format, integers }, LIMIT)
}

fn whole(frame: &Frame, number: u64) -> String {
    // A mark of the encoding stands before it.
    let line = [&head(7, number, false)[..], &frame.bytes()[1..]].concat();
    String::from_utf8(line).expect("UTF-8")
}

fn read(frame: &Frame) -> Value {
    let line = whole(frame, 1);
    assert_eq!(line.matches('\n').count(), 1);
    serde_json::from_str(line.strip_suffix('\n').expect("a line")).expect("JSON")
}

/// A view with a bit of everything, seen twice: a row has ended the second time.
fn everything(look: &mut dyn FnMut(&View<'_>)) {
    let mut bench = Bench::new();
    let kind = EntityKind::new("process").keys(["pid", "comm"]);
    let host = bench.host(Column::counter("vfs.calls", Unit::CALLS, "calls").labels([("operation", "read")]));
    let calls = Column::counter("vfs.calls", Unit::CALLS, "Calls \"of\" it").labels([("operation", "read")]);
    let sh = bench.cell(&kind, &["7", "sh"], calls.clone());
    let level = bench.cell(&kind, &["7", "sh"], Column::gauge("load", Unit::ONE, "how busy"));
    let sizes = Column::histogram("io.size", Unit::BYTES, "sizes").slots(0..=3);
    let sizes = bench.cell(&kind, &["8", "a\"b\\\u{1f600}"], sizes);
    let times = Column::histogram("io.time", Unit::SECONDS, "times").slots(1..=2).scale(1e-3);
    let times = bench.cell(&kind, &["8", "a\"b\\\u{1f600}"], times);
    let busy = bench.cell(&kind, &["8", "a\"b\\\u{1f600}"], Column::counter("cpu", Unit::SECONDS, "time").scale(1e-9));
    let selection = Selection { tags: [("site".to_owned(), "a".to_owned())].into(), ..Selection::default() };
    let mut slots = no_slots();
    (slots[0], slots[1], slots[3]) = (2, 1, u64::MAX - 3);
    bench.tick(
        &selection,
        |recorder| {
            host.counter(recorder, u64::MAX);
            sh.counter(recorder, 5);
            level.gauge(recorder, 0.5);
            sizes.histogram(recorder, &slots, u64::MAX);
            times.histogram(recorder, &slots[..3], 1500);
            busy.counter(recorder, 1_500_000_000);
        },
        &mut *look,
    );
    bench.tick(
        &selection,
        |recorder| {
            host.counter(recorder, u64::MAX);
            sh.counter(recorder, 6);
            level.gauge(recorder, 1.0);
            sh.end(recorder);
        },
        &mut *look,
    );
}

#[test]
fn golden_lines() {
    let mut found = String::new();
    for (format, integers) in [
        (Format::Rows, Integers::Numbers),
        (Format::Rows, Integers::Text),
        (Format::Samples, Integers::Numbers),
        (Format::Samples, Integers::Text),
    ] {
        let mut encoder = encoder(format, integers);
        let mut number = 0;
        everything(&mut |view| {
            let Encoded { frames, rejected, .. } = encoder.encode(view);
            assert_eq!((frames.iter().map(Frame::samples).sum::<u64>(), &rejected[..]), (view.len() as u64, &[][..]));
            for frame in &frames {
                number += 1;
                found.push_str(&whole(frame, number));
            }
        });
    }
    compare("lines.json", &found);
}

/// A value: name, labels, number.
type Told = (String, Vec<(String, String)>, String);

/// All values of a view, by name and labels, as text.
fn values(view: View<'_>) -> Vec<Told> {
    let text = |cell: Cell<'_>| match cell {
        Cell::Histogram(histogram) => format!("{} {}", histogram.count(), histogram.sum()),
        cell => cell.to_string(),
    };
    let mut all: Vec<_> = view
        .samples()
        .map(|sample| {
            let mut labels: Vec<_> = sample.labels().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            labels.sort();
            (sample.name().to_owned(), labels, text(sample.value()))
        })
        .collect();
    all.sort();
    all
}

fn text(value: &Value) -> String {
    match value {
        Value::Object(histogram) => format!("{} {}", text(&histogram["count"]), text(&histogram["sum"])),
        Value::String(digits) => digits.clone(),
        Value::Number(number) => {
            number.as_u64().map_or_else(|| number.as_f64().expect("a number").to_string(), |it| it.to_string())
        }
        other => panic!("{other}"),
    }
}

fn strings(object: &Value) -> Vec<(String, String)> {
    let object = object.as_object().expect("an object");
    object.iter().map(|(key, value)| (key.clone(), value.as_str().expect("text").to_owned())).collect()
}

/// The same out of batches.
fn told(frames: &[Frame]) -> Vec<Told> {
    let mut all = Vec::new();
    for frame in frames {
        let batch = read(frame);
        let before = all.len();
        for kind in batch["kinds"].as_array().into_iter().flatten() {
            let columns = kind["columns"].as_array().expect("columns");
            for row in kind["rows"].as_array().expect("rows") {
                let cells = row["values"].as_array().expect("values");
                assert_eq!(cells.len(), columns.len());
                for (column, cell) in columns.iter().zip(cells).filter(|(_, cell)| !cell.is_null()) {
                    let keys = kind["keys"].as_array().expect("keys").iter();
                    let own = keys.zip(row["labels"].as_array().expect("labels"));
                    let own = own.map(|(key, value)| {
                        (key.as_str().expect("text").to_owned(), value.as_str().expect("text").to_owned())
                    });
                    let mut labels: Vec<_> = own.chain(strings(&column["labels"])).collect();
                    labels.sort();
                    all.push((column["name"].as_str().expect("text").to_owned(), labels, text(cell)));
                }
            }
        }
        for sample in batch["samples"].as_array().into_iter().flatten() {
            let mut labels = strings(&sample["labels"]);
            labels.sort();
            all.push((sample["name"].as_str().expect("text").to_owned(), labels, text(&sample["value"])));
        }
        assert_eq!((all.len() - before) as u64, frame.samples(), "a frame knows how many values it has");
    }
    all.sort();
    all
}

proptest! {
    #[test]
    fn every_value_is_told_once_as_it_is(
        rows in prop::collection::vec(("\\PC{0,12}|[\"\\\\\u{0}-\u{1f}\u{7f}\u{2028}]{0,6}", any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<i32>>()), 0..40),
        small in any::<bool>(),
        samples in any::<bool>(),
        as_text in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        let kind = EntityKind::new("process").keys(["number", "comm"]);
        let calls = |operation| Column::counter("vfs.calls", Unit::CALLS, "calls").labels([("operation", operation)]);
        let cells: Vec<_> = rows.iter().enumerate().map(|(index, (comm, ..))| {
            let labels = [&*index.to_string(), comm];
            [calls("read"), calls("write"), Column::gauge("load", Unit::ONE, "load")].map(|column| bench.cell(&kind, &labels, column))
        }).collect();
        let encoding = Encoding {
            format: if samples { Format::Samples } else { Format::Rows },
            integers: if as_text { Integers::Text } else { Integers::Numbers },
        };
        let limit = if small { 1500 } else { LIMIT };
        let mut encoder = Encoder::new(encoding, limit);
        for _ in 0..2 {
            let record = |recorder: &mut ebpf_process_core::Recorder| {
                for ([read, write, load], (_, reads, writes, level)) in cells.iter().zip(&rows) {
                    if let Some(total) = reads {
                        read.counter(recorder, *total);
                    }
                    if let Some(total) = writes {
                        write.counter(recorder, *total);
                    }
                    if let Some(level) = level {
                        load.gauge(recorder, f64::from(*level) / 8.0);
                    }
                }
            };
            bench.tick(&Selection::default(), record, |view| {
                let Encoded { frames, rejected, .. } = encoder.encode(view);
                assert!(rejected.is_empty());
                for frame in &frames {
                    assert!(head(u128::MAX, u64::MAX, false).len() + frame.bytes().len() <= limit);
                    assert!(frame.samples() > 0);
                }
                assert_eq!(told(&frames), values(*view));
            });
        }
    }
}

#[test]
fn a_row_that_is_larger_than_a_batch_is_left_out_and_counted() {
    let mut bench = Bench::new();
    let kind = EntityKind::new("disk").keys(["disk"]);
    let column = |number: usize| Column::histogram(format!("h{number}"), Unit::BYTES, "h");
    let small = bench.cell(&kind, &["small"], column(0));
    let large: Vec<_> = (0..8).map(|number| bench.cell(&kind, &["large"], column(number))).collect();
    let last = bench.cell(&kind, &["small too"], column(0));
    let slots = [u64::MAX / 100; 64];
    for format in [Format::Rows, Format::Samples] {
        let encoding = Encoding { format, integers: Integers::Numbers };
        let mut encoder = Encoder::new(encoding, 12_000);
        let record = |recorder: &mut ebpf_process_core::Recorder| {
            for cell in [&small, &last].into_iter().chain(&large) {
                cell.histogram(recorder, &slots, 1);
            }
        };
        bench.tick(&Selection::default(), record, |view| {
            let Encoded { frames, rejected, .. } = encoder.encode(view);
            let cells: u64 = frames.iter().map(Frame::samples).sum();
            let too_large: u64 = rejected.iter().map(|(samples, _)| samples).sum();
            assert_eq!((cells + too_large, too_large), (10, 8), "{format:?}");
            for frame in &frames {
                assert!(read(frame).is_object());
            }
        });
    }
}

#[test]
fn a_batch_says_which_probes_numbers_are_missing() {
    let mut bench = Bench::new();
    let calls = bench.host(Column::counter("a.b", Unit::CALLS, "calls"));
    let mut encoder = encoder(Format::Rows, Integers::Numbers);
    for expected in [Value::Null, json!(["file", "sync"]), Value::Null] {
        for probe in expected.as_array().into_iter().flatten() {
            bench.leave_out(probe.as_str().expect("a name"));
        }
        bench.tick(
            &Selection::default(),
            |recorder| calls.counter(recorder, 1),
            |view| assert_eq!(read(&encoder.encode(view).frames[0])["left_out"], expected),
        );
    }
}

#[test]
fn integers_are_exact() {
    let mut bench = Bench::new();
    let cell = bench.host(Column::counter("a.b", Unit::CALLS, "calls"));
    for (integers, expected) in [(Integers::Numbers, json!(u64::MAX)), (Integers::Text, json!("18446744073709551615"))]
    {
        let mut encoder = encoder(Format::Rows, integers);
        bench.tick(
            &Selection::default(),
            |recorder| cell.counter(recorder, u64::MAX),
            |view| assert_eq!(read(&encoder.encode(view).frames[0])["kinds"][0]["rows"][0]["values"][0], expected),
        );
    }
}
