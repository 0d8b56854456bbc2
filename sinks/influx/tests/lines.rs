//! Whatever is measured under whatever names, each line is read back as the sample that it was.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Descriptor, Metric, Sample, Selection, Unit, Value, View};
use ebpf_process_sink_influx::{Encoder, Integers, Lines};
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use proptest::prelude::*;

/// A line's measurement, tags and fields.
type Line = (String, BTreeMap<String, String>, BTreeMap<String, String>);

/// What the parser says of a line.
fn parsed(line: &ParsedLine<'_>, wall: i64) -> Result<Line, TestCaseError> {
    prop_assert_eq!(line.timestamp, Some(wall));
    let tags = line.series.tag_set.iter().flatten();
    let tags = tags.map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let fields = line.field_set.iter().map(|(key, value)| (key.to_string(), number(value))).collect();
    Ok((line.series.measurement.to_string(), tags, fields))
}

/// A value with its type; floats by their bits.
fn number(value: &FieldValue<'_>) -> String {
    match value {
        FieldValue::I64(number) => format!("{number}i"),
        FieldValue::U64(number) => format!("{number}u"),
        FieldValue::F64(number) => format!("f{:x}", number.to_bits()),
        other => format!("unexpected {other}"),
    }
}

/// What the line of a sample should say.
fn expected(metric: &Metric<'_>, sample: &Sample<'_>, integers: Integers) -> Line {
    let clean = |text: &str| {
        let cleaned = text.replace(|c: char| c == '\\' || c.is_control(), "_");
        if cleaned.is_empty() { "_".to_owned() } else { cleaned }
    };
    let key = |text: &str| if text == "time" { "time_".to_owned() } else { clean(text) };
    let (measurement, rest) = metric.name().split_once('.').unwrap_or((metric.name(), "value"));
    let mut measurement = clean(measurement);
    if let Some(rest) = measurement.strip_prefix('#') {
        measurement = format!("_{rest}");
    }
    let field = key(rest).replace('.', "_");
    let mut tags = BTreeMap::new();
    for (name, value) in sample.labels().chain(metric.tags()).chain([("host", "node")]) {
        tags.entry(key(name)).or_insert_with(|| clean(value));
    }
    #[expect(clippy::cast_precision_loss, reason = "that is what the option says")]
    let integer = |total: u64| match integers {
        Integers::Signed => format!("{}i", i64::try_from(total).unwrap_or(i64::MAX)),
        Integers::Unsigned => format!("{total}u"),
        Integers::Float => format!("f{:x}", (total as f64).to_bits()),
    };
    let fields = match sample.value() {
        Value::Counter(total) => [(field, integer(total))].into(),
        Value::Gauge(level) => [(field, format!("f{:x}", level.to_bits()))].into(),
        Value::Histogram(histogram) => {
            let slots = (0_u32..).zip(histogram.slots).filter(|(_, count)| **count > 0);
            let upper = |slot: u32| 2_u128.pow(slot + 1) - 1;
            slots
                .map(|(slot, count)| (format!("{field}_le_{}", upper(slot)), integer(*count)))
                .chain([(format!("{field}_count"), integer(histogram.count()))])
                .chain([(format!("{field}_sum"), integer(histogram.sum))])
                .collect()
        }
    };
    (measurement, tags, fields)
}

/// Compares the lines of a view with its samples, in order. Of samples under one key the first
/// has a line.
fn check(view: &View<'_>, lines: Lines<'_>, integers: Integers) -> Result<(), TestCaseError> {
    let wall = i64::try_from(view.tick().wall.as_nanos()).expect("a time");
    let text = std::str::from_utf8(lines.bytes).expect("text");
    prop_assert!(text.is_empty() || text.ends_with('\n'));
    prop_assert!(lines.iter().eq(text.split_inclusive('\n').map(str::as_bytes)));
    let mut read = Vec::new();
    for (line, text) in parse_lines(text).zip(text.lines()) {
        let line = line.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        read.push(parsed(&line, wall)?);
    }
    prop_assert_eq!(read.len(), text.lines().count(), "a line is no line for the parser");
    prop_assert_eq!(read.len() as u64, lines.samples);
    prop_assert_eq!(lines.samples + lines.rejected, view.len() as u64);
    let mut keys = BTreeSet::new();
    let mut left = read.into_iter();
    for metric in view.metrics() {
        for sample in metric.samples() {
            let (measurement, tags, fields) = expected(&metric, &sample, integers);
            let name = fields.keys().find(|name| !name.contains("_le_") && !name.ends_with("_sum"));
            if lines.rejected == 0 || keys.insert((measurement.clone(), tags.clone(), name.cloned())) {
                prop_assert_eq!(left.next(), Some((measurement, tags, fields)));
            }
        }
    }
    prop_assert_eq!(left.next(), None);
    Ok(())
}

fn text() -> impl Strategy<Value = String> {
    let hostile = "[ a=,'\"\\\\\n\r\t\0#.:|{}é\u{2028}]{0,8}";
    let reserved = prop::sample::select(vec!["time", "host", "#", "\\", "a\\", "a,b", "a b=c"]);
    prop_oneof![2 => hostile, 1 => any::<String>(), 1 => reserved.prop_map(str::to_owned), 1 => ".{300}"]
}

fn value() -> impl Strategy<Value = (u64, f64)> {
    let totals = prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), Just(i64::MAX as u64), Just(i64::MAX as u64 + 1)];
    let floats = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
    (totals, prop_oneof![floats, Just(1e16), Just(-1e300), Just(0.1 + 0.2)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_line_is_read_back(
        series in prop::collection::vec((0..3_usize, [text(), text()], value()), 1..8),
        tags in prop::collection::btree_map(text(), text(), 0..3),
        prefix in prop_oneof![2 => Just(String::new()), 1 => text()],
        views in 1..4_usize,
        integers in prop::sample::select(vec![Integers::Signed, Integers::Unsigned, Integers::Float]),
    ) {
        let keys = ["time", "b"];
        let metrics = [
            Descriptor::counter("vfs.calls", Unit::CALLS, "").labels(keys).share(),
            Descriptor::gauge("agent.probe_time", Unit::SECONDS, "").labels(keys).share(),
            Descriptor::histogram("latency", Unit::SECONDS, "").labels(keys).share(),
        ];
        let selection = Selection { tags, prefix, ..Selection::default() };
        let mut bench = Bench::new();
        let mut encoder = Encoder::new("node").with_integers(integers);
        for _ in 0..views {
            bench.tick(
                &selection,
                |recorder| {
                    for (metric, labels, (total, level)) in &series {
                        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
                        let id = recorder.series(&metrics[*metric], &labels).expect("a series");
                        let mut slots = no_slots();
                        slots[usize::try_from(total % 64).expect("a slot")] = total / 2;
                        match metric {
                            0 => recorder.counter(id, *total),
                            1 => recorder.gauge(id, *level),
                            _ => recorder.histogram(id, &slots, *total),
                        }
                    }
                },
                |view| check(view, encoder.encode(view), integers),
            )?;
        }
    }
}

#[test]
fn a_series_that_comes_back_has_its_line_again() {
    let calls = Descriptor::counter("vfs.calls", Unit::CALLS, "").labels(["a"]).share();
    let mut bench = Bench::new();
    let mut encoder = Encoder::new("node");
    let mut lines = |bench: &mut Bench, live: bool, end: bool| {
        bench.tick(
            &Selection::default(),
            |recorder| {
                if live {
                    let id = recorder.series(&calls, &["x"]).expect("a series");
                    recorder.counter(id, 1);
                    if end {
                        recorder.end(id);
                    }
                }
            },
            |view| encoder.encode(view).samples,
        )
    };
    assert_eq!(lines(&mut bench, true, true), 1);
    // It is repeated twice, then it is gone.
    assert_eq!([(); 3].map(|()| lines(&mut bench, false, false)), [1, 1, 0]);
    assert_eq!(lines(&mut bench, true, false), 1);
}

#[test]
fn a_series_that_would_overwrite_another_is_rejected() {
    let calls = Descriptor::counter("vfs.calls", Unit::CALLS, "").labels(["a"]).share();
    let others: Arc<Descriptor> = Descriptor::gauge("nfs.calls", Unit::CALLS, "").labels(["a"]).share();
    let rename = [("nfs.calls".to_owned(), "vfs.calls".to_owned())].into();
    let selection = Selection { rename, ..Selection::default() };
    let mut bench = Bench::new();
    let first = bench.series(&calls, &["x\\"]);
    let second = bench.series(&calls, &["x_"]);
    let third = bench.series(&others, &["x_"]);
    let mut encoder = Encoder::new("node");
    for _ in 0..2 {
        let record = |recorder: &mut ebpf_process_core::Recorder| {
            recorder.counter(first, 1);
            recorder.counter(second, 2);
            recorder.gauge(third, 3.0);
        };
        bench.tick(&selection, record, |view| {
            let lines = encoder.encode(view);
            assert_eq!((lines.samples, lines.rejected), (1, 2));
            assert!(lines.bytes.starts_with(b"vfs,a=x_,host=node calls=1i "));
        });
    }
}
