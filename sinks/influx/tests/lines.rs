//! Whatever is measured under whatever names, each point is read back as the samples that it was, in either form.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::BTreeMap;

use ebpf_process_core::testkit::{Bench, Cell, no_slots};
use ebpf_process_core::{Column, EntityKind, Recorder, Sample, Selection, Unit, Value, View, identity_of};
use ebpf_process_sink_influx::{Encoder, Form, Integers, Lines};
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use proptest::prelude::*;

/// What a server holds: a value by measurement, tags, time and field.
type Point = (String, BTreeMap<String, String>, i64, String);
type Points = BTreeMap<Point, String>;

/// What the parser says of a line.
fn take(line: &ParsedLine<'_>, points: &mut Points) -> Result<(), TestCaseError> {
    let time = line.timestamp.ok_or_else(|| TestCaseError::fail("no time"))?;
    let tags = line.series.tag_set.iter().flatten();
    let tags: BTreeMap<_, _> = tags.map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let keys = line.series.tag_set.iter().flatten().map(|(key, _)| key.to_string());
    prop_assert!(keys.is_sorted(), "tags are sorted: {line:?}");
    for (field, value) in &line.field_set {
        let point = (line.series.measurement.to_string(), tags.clone(), time, field.to_string());
        prop_assert_eq!(points.insert(point, number(value)), None, "a value overwrites another: {:?}", line);
    }
    Ok(())
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

fn float(number: f64) -> String {
    format!("f{:x}", number.to_bits())
}

/// Whether all whole numbers of a sample fit the server's; the test's histograms are counted in their own unit.
fn fits(sample: &Sample<'_>, integers: Integers) -> bool {
    let fits = |total: u64| integers != Integers::Signed || i64::try_from(total).is_ok();
    match sample.value() {
        Value::Counter(total) => fits(total),
        Value::Scaled(_) | Value::Gauge(_) => true,
        Value::Histogram(histogram) => {
            let buckets = histogram.buckets().map(|bucket| bucket.count);
            buckets.chain([histogram.count(), histogram.sum()]).all(fits)
        }
    }
}

/// What a server should hold of a sample that fits.
fn expected(sample: &Sample<'_>, namespace: &str, integers: Integers) -> Points {
    let clean = |text: &str| {
        let cleaned = text.replace(|c: char| c == '\\' || c.is_control(), "_");
        if cleaned.is_empty() { "_".to_owned() } else { cleaned }
    };
    let key = |text: &str| if text == "time" { "time_".to_owned() } else { clean(text) };
    let (measurement, field) = sample.name().rsplit_once('.').unwrap_or((sample.name(), "value"));
    let mut measurement = format!("{namespace}{}", clean(measurement).replace('.', "_"));
    if let Some(rest) = measurement.strip_prefix('#') {
        measurement = format!("_{rest}");
    }
    let field = key(field).replace('.', "_");
    let mut tags = BTreeMap::new();
    for (name, value) in sample.labels().chain([("host", "node")]) {
        tags.entry(key(name)).or_insert_with(|| clean(value));
    }
    #[expect(clippy::cast_precision_loss, reason = "that is what the option says")]
    let integer = |total: u64| match integers {
        Integers::Signed => format!("{total}i"),
        Integers::Unsigned => format!("{total}u"),
        Integers::Float => float(total as f64),
    };
    let fields = match sample.value() {
        Value::Counter(total) => vec![(field, integer(total))],
        Value::Scaled(scaled) => vec![(field, float(scaled.in_unit()))],
        Value::Gauge(level) => vec![(field, float(level))],
        Value::Histogram(histogram) => {
            let slots = histogram.buckets().filter(|bucket| bucket.count > 0);
            slots
                .map(|bucket| (format!("{field}_le_{}", bucket.bound), integer(bucket.count)))
                .chain([(format!("{field}_count"), integer(histogram.count()))])
                .chain([(format!("{field}_sum"), integer(histogram.sum()))])
                .collect()
        }
    };
    let time = i64::try_from(sample.row().tick().wall.as_nanos()).expect("a time");
    fields.into_iter().map(|(field, value)| ((measurement.clone(), tags.clone(), time, field), value)).collect()
}

/// Reads the lines of a view and compares them with its samples.
fn check(view: View<'_>, lines: Lines<'_>, namespace: &str, integers: Integers) -> Result<Points, TestCaseError> {
    let text = std::str::from_utf8(lines.bytes).expect("text");
    prop_assert!(text.is_empty() || text.ends_with('\n'));
    prop_assert!(lines.iter().map(|(line, _)| line).eq(text.split_inclusive('\n').map(str::as_bytes)));
    prop_assert_eq!(lines.iter().map(|(_, samples)| u64::from(samples)).sum::<u64>(), lines.samples);
    prop_assert_eq!(lines.samples + lines.rejected + lines.too_large, view.len() as u64);
    let (mut read, mut count) = (Points::new(), 0);
    for (line, text) in parse_lines(text).zip(text.lines()) {
        let line = line.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        take(&line, &mut read)?;
        count += 1;
    }
    prop_assert_eq!(count, text.lines().count(), "a line is no line for the parser");
    let (mut wanted, mut clashes) = (Points::new(), false);
    let mut too_large = 0;
    for sample in view.samples() {
        if !fits(&sample, integers) {
            too_large += 1;
            continue;
        }
        for (point, value) in expected(&sample, namespace, integers) {
            if read.contains_key(&point) && lines.rejected > 0 {
                // Whose it is of several, the first one's or another's, says the test below.
                clashes |= wanted.contains_key(&point);
            }
            wanted.insert(point, value);
        }
    }
    if lines.rejected == 0 {
        prop_assert_eq!(&read, &wanted);
        prop_assert_eq!(lines.too_large, too_large);
    } else {
        prop_assert!(lines.too_large <= too_large);
        // What is too large as well is said to be rejected, and was not wanted.
        let both = lines.too_large < too_large;
        prop_assert!(clashes || both || read.len() < wanted.len(), "rejected for nothing");
        prop_assert!(read.keys().all(|point| wanted.contains_key(point)));
    }
    Ok(read)
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

/// The kinds of rows: one whose metrics have its name in front, and one whose have not.
fn kinds() -> [EntityKind; 2] {
    [EntityKind::new("k").keys(["time", "b"]), EntityKind::new("agent").keys(["b", "time"]).names_as_they_are()]
}

fn columns() -> [Column; 6] {
    let calls = |operation| Column::counter("vfs.calls", Unit::CALLS, "").labels([("operation", operation)]);
    [
        calls("read"),
        calls("wri\\te"),
        Column::counter("vfs.bytes", Unit::BYTES, "").labels([("operation", "read")]),
        Column::gauge("agent.probe_time", Unit::SECONDS, ""),
        Column::histogram("latency", Unit::SECONDS, ""),
        Column::counter("vfs.time", Unit::SECONDS, "").labels([("operation", "read")]).scale(1e-9),
    ]
}

fn record(recorder: &mut Recorder, kind: usize, column: usize, labels: &[&str], (total, level): (u64, f64)) {
    let known = &kinds()[kind];
    let existing = recorder.existing_kind(known.name());
    let id = existing.unwrap_or_else(|| recorder.kind(known.clone()).expect("a kind"));
    let cell = Cell {
        row: recorder.row(id, identity_of(&labels.join("\0")), labels).expect("a row"),
        column: recorder.column(id, columns()[column].clone()).expect("a column"),
    };
    let mut slots = no_slots();
    slots[usize::try_from(total % 64).expect("a slot")] = total / 2;
    match column {
        3 => cell.gauge(recorder, level),
        4 => cell.histogram(recorder, &slots, total),
        _ => cell.counter(recorder, total),
    }
    if total == 0 {
        cell.end(recorder);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_point_is_read_back_and_both_forms_store_the_same(
        views in prop::collection::vec(
            prop::collection::vec((0..2_usize, 0..6_usize, [text(), text()], value()), 1..8),
            1..4,
        ),
        tags in prop::collection::btree_map(text(), text(), 0..3),
        prefix in prop_oneof![2 => Just(String::new()), 1 => text()],
        renamed in any::<bool>(),
        namespace in prop::sample::select(vec!["", "ns"]),
        integers in prop::sample::select(vec![Integers::Signed, Integers::Unsigned, Integers::Float]),
    ) {
        let mut selection = Selection { tags, prefix, ..Selection::default() };
        if renamed {
            // Rows of both kinds may then have one line.
            selection.rename = [("k.vfs.calls".to_owned(), "vfs.calls".to_owned())].into();
        }
        let mut bench = Bench::new();
        let encoder = |form| Encoder::new("node").with_integers(integers).with_namespace(namespace).with_form(form);
        let (mut per_row, mut per_value) = (encoder(Form::PerRow), encoder(Form::PerValue));
        let mut short = encoder(Form::PerRow).with_longest(60);
        let before = if namespace.is_empty() { String::new() } else { format!("{namespace}_") };
        for view in &views {
            bench.tick(
                &selection,
                |recorder| {
                    for (kind, column, labels, value) in view {
                        record(recorder, *kind, *column, &[&labels[0], &labels[1]], *value);
                    }
                },
                |view| {
                    let stored = check(*view, per_row.encode(view), &before, integers)?;
                    prop_assert_eq!(&stored, &check(*view, per_value.encode(view), &before, integers)?);
                    let lines = per_value.encode(view);
                    prop_assert!(lines.iter().all(|(_, samples)| samples == 1));
                    prop_assert_eq!(&stored, &check(*view, short.encode(view), &before, integers)?);
                    prop_assert!(short.encode(view).iter().all(|(line, samples)| line.len() <= 60 || samples == 1));
                    Ok(())
                },
            )?;
        }
    }
}

/// The lines of a view.
fn lines(encoder: &mut Encoder, bench: &mut Bench, record: impl FnOnce(&mut Recorder)) -> (String, u64) {
    lines_as(&Selection::default(), encoder, bench, record)
}

fn lines_as(
    selection: &Selection,
    encoder: &mut Encoder,
    bench: &mut Bench,
    record: impl FnOnce(&mut Recorder),
) -> (String, u64) {
    bench.tick(selection, record, |view| {
        let lines = encoder.encode(view);
        (String::from_utf8(lines.bytes.to_vec()).expect("text"), lines.rejected)
    })
}

fn calls() -> Column {
    Column::counter("vfs.calls", Unit::CALLS, "")
}

#[test]
fn a_sample_that_the_servers_integers_cannot_say_is_rejected_and_its_neighbours_are_not() {
    let (mut bench, mut encoder) = (Bench::new(), Encoder::new("node"));
    let columns = ["vfs.largest", "vfs.above", "vfs.calls"].map(|name| Column::counter(name, Unit::CALLS, ""));
    let counters = columns.map(|column| bench.host(column));
    let sizes = bench.host(Column::histogram("vfs.size", Unit::BYTES, ""));
    let times = bench.host(Column::histogram("vfs.wait", Unit::SECONDS, "").scale(0.5));
    let (text, too_large) = bench.tick(
        &Selection::default(),
        |recorder| {
            for (counter, total) in counters.iter().zip([i64::MAX as u64, i64::MAX as u64 + 1, 7]) {
                counter.counter(recorder, total);
            }
            sizes.histogram(recorder, &[1], u64::MAX);
            // Counted in another unit than its own: the sum is no integer.
            times.histogram(recorder, &[1], u64::MAX);
        },
        |view| {
            let lines = encoder.encode(view);
            assert_eq!((lines.samples, lines.rejected), (3, 0));
            (String::from_utf8(lines.bytes.to_vec()).expect("text"), lines.too_large)
        },
    );
    let expected = "vfs,host=node largest=9223372036854775807i,calls=7i,wait_count=1i,wait_sum=9.223372036854776e18,\
                    wait_le_0.5=1i 1600000000000000000\n";
    assert_eq!((text.as_str(), too_large), (expected, 2));
}

#[test]
fn a_line_is_as_long_as_it_may_be_or_has_one_sample() {
    const END: &str = " 1600000000000000000\n";
    let (two, one) = (format!("vfs,host=node a=1i,b=1i{END}"), format!("vfs,host=node c=1i{END}"));
    let alone = ["a", "b", "c"].map(|field| format!("vfs,host=node {field}=1i{END}")).concat();
    for (longest, expected) in [
        (usize::MAX, format!("vfs,host=node a=1i,b=1i,c=1i{END}")),
        (two.len(), format!("{two}{one}")),
        (two.len() - 1, alone.clone()),
        (1, alone),
    ] {
        let (mut bench, mut encoder) = (Bench::new(), Encoder::new("node").with_longest(longest));
        let columns = ["vfs.a", "vfs.b", "vfs.c"].map(|name| Column::counter(name, Unit::CALLS, ""));
        let cells = columns.map(|column| bench.host(column));
        let (text, rejected) = lines(&mut encoder, &mut bench, |recorder| {
            for cell in &cells {
                cell.counter(recorder, 1);
            }
        });
        assert_eq!((text, rejected), (expected, 0), "{longest}");
    }
}

#[test]
fn a_twin_whose_number_is_too_large_is_rejected_once() {
    let kind = EntityKind::new("k").keys(["a"]);
    let (mut bench, mut encoder) = (Bench::new(), Encoder::new("node"));
    let [first, second] = ["x\\", "x_"].map(|name| bench.cell(&kind, &[name], calls()));
    bench.tick(
        &Selection::default(),
        |recorder| {
            first.counter(recorder, 1);
            second.counter(recorder, u64::MAX);
        },
        |view| {
            let lines = encoder.encode(view);
            assert_eq!((lines.samples, lines.rejected, lines.too_large), (1, 1, 0));
        },
    );
}

#[test]
fn a_row_that_comes_back_has_its_line_again() {
    let kind = EntityKind::new("k").keys(["a"]);
    let (mut bench, mut encoder) = (Bench::new(), Encoder::new("node"));
    for time in 0..3 {
        let cell = bench.cell(&kind, &["x"], calls());
        let (text, rejected) = lines(&mut encoder, &mut bench, |recorder| {
            cell.counter(recorder, 1);
            cell.end(recorder);
        });
        let expected =
            format!("k_vfs,a=x,host=node calls=1i {}\n", 1_600_000_000_000_000_000_u64 + time * 1_000_000_000);
        assert_eq!((text, rejected), (expected, 0));
    }
}

#[test]
fn a_row_that_would_overwrite_another_is_rejected_as_long_as_it_lives() {
    let kind = EntityKind::new("k").keys(["a"]);
    let (mut bench, mut encoder) = (Bench::new(), Encoder::new("node"));
    let [first, second] = ["x\\", "x_"].map(|name| bench.cell(&kind, &[name], calls()));
    let other = bench.cell(&kind, &["x_"], Column::counter("vfs.bytes", Unit::BYTES, ""));
    let (text, rejected) = lines(&mut encoder, &mut bench, |recorder| {
        first.counter(recorder, 1);
        second.counter(recorder, 2);
        other.counter(recorder, 2);
    });
    assert_eq!((text.as_str(), rejected), ("k_vfs,a=x_,host=node calls=1i 1600000000000000000\n", 2));
    // Also while the first one has nothing to say, and when it has ended: its line is not continued by another.
    for end in [false, true, false] {
        let (text, rejected) = lines(&mut encoder, &mut bench, |recorder| {
            second.counter(recorder, 3);
            if end {
                first.end(recorder);
            }
        });
        let expected = if end { "k_vfs,a=x_,host=node calls=1i 1600000002000000000\n" } else { "" };
        assert_eq!((text.as_str(), rejected), (expected, 1));
    }
    // Whoever comes after it has ended has its line.
    let third = bench.cell(&kind, &["x\\"], calls());
    let (text, rejected) = lines(&mut encoder, &mut bench, |recorder| third.counter(recorder, 4));
    assert_eq!((text.as_str(), rejected), ("k_vfs,a=x_,host=node calls=4i 1600000004000000000\n", 0));
}

#[test]
fn rows_and_columns_of_one_name_after_a_renaming_do_not_become_one() {
    let (disk, nfs) = (EntityKind::new("disk").keys(["device"]), EntityKind::new("nfs").keys(["device"]));
    let rename = ["disk", "nfs"].map(|kind| (format!("{kind}.io.calls"), "io.calls".to_owned()));
    let selection = Selection { rename: rename.into(), ..Selection::default() };
    let (mut bench, mut encoder) = (Bench::new(), Encoder::new("node"));
    let io = || Column::counter("io.calls", Unit::CALLS, "");
    let cells = [(&disk, "sda"), (&nfs, "sda"), (&nfs, "share")].map(|(kind, name)| bench.cell(kind, &[name], io()));
    let bytes = bench.cell(&nfs, &["sda"], Column::counter("io.bytes", Unit::BYTES, ""));
    let (text, rejected) = lines_as(&selection, &mut encoder, &mut bench, |recorder| {
        for cell in cells {
            cell.counter(recorder, 1);
        }
        bytes.counter(recorder, 2);
    });
    let end = "i 1600000000000000000";
    let expected = format!(
        "io,device=sda,host=node calls=1{end}\nnfs_io,device=sda,host=node bytes=2{end}\n\
         io,device=share,host=node calls=1{end}\n"
    );
    assert_eq!((text, rejected), (expected, 1));

    // Two columns, one of them a histogram, and one field.
    let (mut bench, mut encoder) = (Bench::new(), Encoder::new("node"));
    let first = bench.host(Column::counter("io.size_count", Unit::CALLS, ""));
    let second = bench.host(Column::histogram("io.size", Unit::BYTES, ""));
    let (text, rejected) = lines(&mut encoder, &mut bench, |recorder| {
        first.counter(recorder, 1);
        second.histogram(recorder, &[1, 2], 5);
    });
    assert_eq!((text.as_str(), rejected), ("io,host=node size_count=1i 1600000000000000000\n", 1));
}

#[test]
fn columns_that_come_later_extend_the_lines_that_there_are() {
    let kind = EntityKind::new("k").keys(["a"]);
    let (mut bench, mut encoder) = (Bench::new(), Encoder::new("node"));
    let first = bench.cell(&kind, &["x"], calls());
    lines(&mut encoder, &mut bench, |recorder| first.counter(recorder, 1));
    let second = bench.cell(&kind, &["x"], Column::histogram("vfs.size", Unit::BYTES, "").slots(3..=6).scale(0.5));
    let (text, rejected) = lines(&mut encoder, &mut bench, |recorder| {
        first.counter(recorder, 2);
        second.histogram(recorder, &[0, 0, 0, 0, 7, 1], 9);
    });
    let expected = "k_vfs,a=x,host=node calls=2i,size_count=8i,size_sum=4.5,size_le_15.5=7i,size_le_31.5=1i \
                    1600000001000000000\n";
    assert_eq!((text.as_str(), rejected), (expected, 0));
}

#[test]
fn another_selection_has_other_names_and_tags_at_once() {
    let mut bench = Bench::new();
    let kind = EntityKind::new("thing").keys(["n"]).names_as_they_are();
    let column = Column::counter("calls", Unit::CALLS, "Calls");
    // Their tags are equal once they are cleaned: the second is rejected as long as the first one is selected.
    let cells = ["x", "a\\", "a_"].map(|n| bench.cell(&kind, &[n], column.clone()));
    let mut encoder = Encoder::new("node");
    let mut tick = |selection: &Selection| {
        let record = |recorder: &mut Recorder| cells.iter().for_each(|cell| cell.counter(recorder, 1));
        bench.tick(selection, record, |view| {
            let lines = encoder.encode(view);
            let text = std::str::from_utf8(lines.bytes).expect("text");
            let heads = text.lines().filter_map(|line| line.split_once(' ')).map(|(head, _)| head.to_owned());
            (heads.collect::<Vec<_>>(), lines.rejected)
        })
    };
    let all = Selection::default();
    assert_eq!(tick(&all), (vec!["calls,host=node,n=x".to_owned(), "calls,host=node,n=a_".to_owned()], 1));
    let other = Selection {
        prefix: "my.".to_owned(),
        tags: [("rack".to_owned(), "7".to_owned())].into(),
        matching: [("n".to_owned(), "a_".to_owned())].into(),
        ..Selection::default()
    };
    assert_eq!(tick(&other), (vec!["my,host=node,n=a_,rack=7".to_owned()], 0));
    assert_eq!(tick(&all).1, 1);
}
