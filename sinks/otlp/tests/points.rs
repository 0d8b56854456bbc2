//! Whatever there is in a view, each value of it is one data point, and says what it is.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod reader;

use std::collections::BTreeMap;
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, Cell};
use ebpf_process_core::{
    Column, EntityKind, Labels, RowView, Scaled, Selection, Unit, Value as Sample, View, slot_bound,
};
use ebpf_process_sink_otlp::Encoder;
use proptest::prelude::*;

use reader::{Attribute, Form, Point, Value};

/// A data point by what tells it apart: name, attributes, time. Then its start and its value.
type Told = BTreeMap<(String, Vec<(String, Attribute)>, u64), (u64, Value)>;

/// What is in a view: no two samples of it may be told apart by nothing.
fn expected(view: View<'_>) -> Told {
    let mut told = Told::new();
    for sample in view.samples() {
        let attributes = attributes(sample.labels());
        let row = sample.row();
        let time = nanoseconds(row.tick().wall);
        let start = nanoseconds(row.started());
        let (start, value) = match sample.value() {
            Sample::Counter(total) => match i64::try_from(total) {
                Ok(total) => (start, Value::Integer(total)),
                Err(_) => (start, Value::Double(Scaled { total, scale: 1.0 }.in_unit())),
            },
            Sample::Scaled(scaled) => (start, Value::Double(scaled.in_unit())),
            Sample::Gauge(level) => (0, Value::Double(level)),
            Sample::Histogram(values) => {
                let (first, last) = sample.column().column().slot_range();
                let mut slots = vec![0; usize::from(last - first) + 1];
                for bucket in values.buckets() {
                    slots[bucket.slot - usize::from(first)] = bucket.count;
                }
                let scale = values.scale();
                let in_unit = |total| Scaled { total, scale }.in_unit();
                let bounds = (first..last).map(|slot| in_unit(slot_bound(usize::from(slot)))).collect();
                (start, Value::Histogram { count: values.count(), sum: in_unit(values.sum()), slots, bounds })
            }
        };
        let former = told.insert((sample.name().to_owned(), attributes, time), (start, value));
        assert_eq!(former, None);
    }
    told
}

fn attributes(labels: Labels<'_>) -> Vec<(String, Attribute)> {
    let named = labels.map(|(key, value)| match (key, value.parse::<i64>()) {
        // Two texts stay two.
        ("pid", Ok(number)) if number.to_string() == value => ("process.pid".to_owned(), Attribute::Number(number)),
        ("pid", _) => ("process.pid".to_owned(), Attribute::Text(value.to_owned())),
        ("comm", _) => ("process.executable.name".to_owned(), Attribute::Text(value.to_owned())),
        _ => (key.to_owned(), Attribute::Text(value.to_owned())),
    });
    let mut named: Vec<_> = named.collect();
    named.sort();
    named
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("not that late")
}

fn told(points: Vec<Point>) -> Told {
    let mut told = Told::new();
    for mut point in points {
        match point.form {
            Form::Gauge => {}
            Form::Sum { temporality, is_monotonic } => assert_eq!((temporality, is_monotonic), (2, true)),
            Form::Histogram { temporality } => assert_eq!(temporality, 2),
        }
        assert_eq!(point.scope.0, "ebpf-process");
        point.attributes.sort();
        let former = told.insert((point.name, point.attributes, point.time), (point.start, point.value));
        assert_eq!(former, None, "a point is there twice");
    }
    told
}

/// Encodes a view, and compares: nothing is missing, nothing is made up, and every piece says how much is in it.
fn check(encoder: &mut Encoder, view: View<'_>) -> usize {
    let (mut whole, mut samples, mut pieces) = (Vec::new(), 0, 0);
    let rejected = encoder.encode(&view, |piece, count| {
        assert_eq!(reader::read(piece).expect("a request").len(), count as usize);
        whole.extend_from_slice(piece);
        samples += count as usize;
        pieces += 1;
    });
    assert_eq!((samples, rejected), (view.len(), 0));
    // Several pieces are a request as well.
    assert_eq!(told(reader::read(&whole).expect("a request")), expected(view));
    pieces
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,3}", any::<String>(), Just("other".to_owned()), "[0-9]{1,6}"]
}

proptest! {
    #[test]
    fn each_value_is_one_point(
        names in prop::collection::btree_map(any_text(), any_text(), 1..20),
        totals in prop::collection::vec(prop_oneof![any::<u64>(), 0..10_u64, Just(i64::MAX as u64), Just(1 << 63)], 20),
        levels in prop::collection::vec(any::<f64>().prop_filter("finite", |level| level.is_finite()), 20),
        hits in prop::collection::vec((0..64_usize, 0..1000_u64), 0..5),
        ends in prop::collection::vec(any::<bool>(), 20),
        enough in 1..5000_usize,
    ) {
        let mut bench = Bench::new();
        let process = EntityKind::new("process").keys(["pid", "comm"]).limit(100);
        let calls = |operation: &str| Column::counter("a.calls", Unit::CALLS, "Calls").labels([("operation", operation)]);
        let columns = [
            calls("read"),
            calls("write"),
            Column::counter("a.time", Unit::SECONDS, "Time").scale(1e-9),
            Column::gauge("a.level", Unit::ONE, "Level"),
            Column::histogram("a.size", Unit::BYTES, "Size").slots(3..=20),
            Column::histogram("a.latency", Unit::SECONDS, "Latency").scale(1e-6),
        ];
        // Two names that are one once they are clean would be twins.
        let mut rows: Vec<Vec<Cell>> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (pid, comm) in &names {
            let clean = [pid, comm].map(|name| ebpf_process_core::clean_label(name).to_string());
            if seen.insert(clean) {
                rows.push(columns.iter().map(|column| bench.cell(&process, &[pid, comm], column.clone())).collect());
            }
        }
        let host = bench.host(calls("read"));
        let tags = [("rack".to_owned(), "7".to_owned())].into();
        let selection = Selection { tags, ..Selection::default() };
        let mut encoder = Encoder::new("node1", None).with_enough(enough);
        for round in 0..3 {
            bench.tick(
                &selection,
                |recorder| {
                    host.counter(recorder, round);
                    for (index, row) in rows.iter().enumerate() {
                        // Gone, or without a word.
                        if round > 0 && ends[index] {
                            if round == 1 {
                                row[0].end(recorder);
                            }
                            continue;
                        }
                        row[0].counter(recorder, totals[index]);
                        if index % 2 == 0 {
                            row[1].counter(recorder, totals[index] / 2);
                            row[2].counter(recorder, totals[index]);
                            row[3].gauge(recorder, levels[index]);
                        }
                        let mut slots = [0; 64];
                        for (slot, count) in &hits {
                            slots[*slot] += count;
                        }
                        row[4].histogram(recorder, &slots, totals[index]);
                        row[5].histogram(recorder, &slots, totals[index]);
                    }
                },
                |view| {
                    assert!(!view.is_empty(), "the host has a number in each");
                    check(&mut encoder, *view)
                },
            );
        }
    }
}

/// Columns that are called alike; rows that would be, but for core.
#[test]
fn whose_point_would_be_anothers_is_rejected_and_counted() {
    let mut bench = Bench::new();
    let calls = |name: &'static str| Column::counter(name, Unit::CALLS, "Calls");
    let thing = EntityKind::new("thing").keys(["comm"]);
    let [first, second] = ["a\u{1}", "a\u{2}"].map(|comm| bench.cell(&thing, &[comm], calls("a.calls")));
    let renamed = bench.cell(&thing, &["b"], calls("b.calls"));
    let rename = [("b.calls", "a.calls")].map(|(from, to)| (format!("thing.{from}"), format!("thing.{to}")));
    let selection = Selection { rename: rename.into(), ..Selection::default() };
    let mut encoder = Encoder::new("node1", None);
    for _ in 0..2 {
        bench.tick(
            &selection,
            |recorder| {
                first.counter(recorder, 1);
                second.counter(recorder, 2);
                renamed.counter(recorder, 3);
            },
            |view| {
                let mut points = Vec::new();
                let rejected = encoder.encode(view, |piece, _| points.extend(reader::read(piece).expect("a request")));
                assert_eq!((rejected, points.len(), told(points).len()), (1, 2, 2));
            },
        );
    }
}

/// Where the clock was set back behind its beginning.
#[test]
fn no_row_begins_after_its_values() {
    let mut bench = Bench::new();
    let thing = EntityKind::new("thing").keys(["name"]);
    let calls = bench.cell(&thing, &["x"], Column::counter("a.calls", Unit::CALLS, "Calls"));
    bench.set_wall(Duration::from_secs(1_000));
    let mut encoder = Encoder::new("node1", None);
    let record = |recorder: &mut ebpf_process_core::Recorder| calls.counter(recorder, 1);
    bench.tick(&Selection::default(), record, |view| {
        let started = |row: RowView<'_>| row.started();
        assert!(view.kinds().flat_map(|kind| kind.rows()).map(started).all(|start| start.as_secs() > 1_000));
        encoder.encode(view, |piece, _| {
            let points = reader::read(piece).expect("a request");
            assert_eq!((points[0].start, points[0].time), (1_000_000_000_000, 1_000_000_000_000));
        });
    });
}

/// The resource as well as who sends.
#[test]
fn a_host_that_is_renamed_has_another_name_in_the_next_request() {
    let mut bench = Bench::new();
    let calls = bench.host(Column::counter("a.calls", Unit::CALLS, "Calls"));
    let mut encoder = Encoder::new("node1", Some("second"));
    for host in ["node1", "node1", "node2"] {
        encoder.set_host(host);
        let mut points = Vec::new();
        bench.tick(
            &Selection::default(),
            |recorder| calls.counter(recorder, 1),
            |view| encoder.encode(view, |piece, _| points.extend(reader::read(piece).expect("a request"))),
        );
        let [point] = &points[..] else { panic!("one sample: {points:?}") };
        let named = |key: &str| {
            let named = point.resource.iter().filter(|(known, _)| known == key);
            named.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(named("host.name"), [Attribute::Text(host.to_owned())]);
        assert_eq!(named("service.instance.id"), [Attribute::Text(format!("{host}/second"))]);
    }
}
