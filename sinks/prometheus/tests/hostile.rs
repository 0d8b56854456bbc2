//! Whatever names and values there are: a page is a page, says every sample once, and nothing else.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod reader;

use std::collections::{BTreeMap, BTreeSet};

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Column, EntityKind, Options, Recorder, Selection, SinkPlugin as _, Unit};
use ebpf_process_sink_prometheus::{Counts, Encoder, Format, PLUGIN};
use proptest::prelude::*;
use reader::{Families, Sample, read};

const NASTY: [&str; 16] = [
    "",
    "a",
    "A b",
    "a_b",
    "le",
    "__name__",
    "\"",
    "\\",
    "a\\",
    "a\nb",
    "# TYPE x counter",
    "x 1\n",
    "{}",
    "},x=\"y",
    "é\u{202e}",
    "0",
];

fn text() -> impl Strategy<Value = String> {
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        3 => prop::sample::select(&NASTY[..]).prop_map(str::to_owned),
        1 => bytes.prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        1 => Just("x".repeat(4096)),
    ]
}

/// A column, and rows with a value in it.
#[derive(Clone, Debug)]
struct Thing {
    kind: u8,
    entity: usize,
    name: String,
    help: String,
    unit: String,
    labels: Vec<(String, String)>,
    rows: Vec<(u64, Vec<String>, u64, bool)>,
}

impl Thing {
    fn column(&self) -> Column {
        let make = match self.kind {
            0 => Column::counter,
            1 => Column::gauge,
            _ => Column::histogram,
        };
        let column = make(self.name.clone(), Unit::new(self.unit.clone()), self.help.clone());
        column.labels(self.labels.iter().map(|(key, value)| (key.clone(), value)))
    }

    /// Values that the recorder refuses are of another kind than the metric.
    fn record(&self, entities: &[EntityKind], recorder: &mut Recorder) {
        let entity = &entities[self.entity % entities.len()];
        let known = recorder.existing_kind(entity.name());
        let Some(kind) = known.or_else(|| recorder.kind(entity.clone()).ok()) else { return };
        let Ok(column) = recorder.column(kind, self.column()) else { return };
        for (identity, values, total, ends) in &self.rows {
            let values: Vec<&str> = values.iter().take(entity.label_keys().len()).map(String::as_str).collect();
            let Ok(row) = recorder.row(kind, *identity, &values) else { continue };
            recorder.counter(row, column, *total);
            recorder.gauge(row, column, f64::from_bits(*total));
            let mut slots = no_slots();
            slots[usize::try_from(total % 64).expect("a slot")] = *total;
            recorder.histogram(row, column, &slots, *total);
            if *ends {
                recorder.end(row);
            }
        }
    }
}

fn thing() -> impl Strategy<Value = Thing> {
    let row = (0_u64..6, prop::collection::vec(text(), 3), any::<u64>(), prop::bool::weighted(0.2));
    let unit = prop::sample::select(&["calls", "bytes", "seconds", "ns", "ms", "_ total"][..]).prop_map(str::to_owned);
    let names = prop_oneof![
        text(),
        prop::sample::select(&["a", "a.b", "a_b", "a.total", "a.bytes", "a.sum", "a.bucket"][..])
            .prop_map(str::to_owned)
    ];
    let labels = prop::collection::vec((text(), text()), 0..3);
    let rows = prop::collection::vec(row, 1..4);
    (0_u8..3, 0_usize..3, names, text(), unit, labels, rows).prop_map(
        |(kind, entity, name, help, unit, labels, rows)| Thing { kind, entity, name, help, unit, labels, rows },
    )
}

/// Kinds with keys as bad as can be; the last one has none, as the host.
fn entities() -> impl Strategy<Value = Vec<EntityKind>> {
    let keys = prop_oneof![text(), Just("le".to_owned()), Just("exported_le".to_owned())];
    let kind = (prop::collection::vec(keys, 0..3), any::<bool>(), 1_usize..4);
    prop::collection::vec(kind, 1..3).prop_map(|kinds| {
        let kinds = (0..).zip(kinds).map(|(n, (keys, as_they_are, limit))| {
            let kind = EntityKind::new(format!("k{n}")).keys(keys).limit(limit);
            if as_they_are { kind.names_as_they_are() } else { kind }
        });
        kinds.chain([EntityKind::host()]).collect()
    })
}

/// The samples of a family: a histogram is one of ours, whatever lines it takes.
fn samples(family: &str, lines: &[Sample]) -> usize {
    let count = format!("{family}_count");
    let is_histogram = lines.iter().any(|(_, labels, _)| labels.contains_key("le"));
    lines.iter().filter(|(name, ..)| !is_histogram || *name == count).count()
}

/// What is wrong with the buckets of a family, if it has any.
fn look_at_buckets(lines: &[Sample]) -> Result<(), String> {
    let mut histograms: BTreeMap<_, Vec<(f64, u64)>> = BTreeMap::new();
    for (_, labels, count) in lines.iter().filter(|(_, labels, _)| labels.contains_key("le")) {
        let mut labels = labels.clone();
        let bound = labels.remove("le").expect("a bound");
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a number") };
        histograms.entry(labels).or_default().push((bound, count.parse().expect("an integer")));
    }
    for buckets in histograms.values() {
        let in_order = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let [.., (bound, _)] = &**buckets else { return Err("no bucket".to_owned()) };
        // One slot is hit, the last of which has no bound but infinity.
        if !in_order || bound.is_finite() || buckets.len() > 2 {
            return Err(format!("{buckets:?}"));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_names_and_values_give_one_sample_each_or_a_counted_rejection(
        entities in entities(),
        ticks in prop::collection::vec(prop::collection::vec(thing(), 1..5), 1..4),
        tags in prop::collection::btree_map(text(), text(), 0..3),
        prefix in text(),
        namespace in prop::sample::select(&["", "ebpf_process"][..]),
    ) {
        let mut bench = Bench::new();
        let selection = Selection { tags, prefix, ..Selection::default() };
        let mut pages = [Format::Text, Format::OpenMetrics].map(|format| (format, Encoder::new(namespace), Vec::new()));
        for things in ticks {
            let (offered, counts) = bench.tick(
                &selection,
                |recorder| things.iter().for_each(|thing| thing.record(&entities, recorder)),
                |view| {
                    let pages = pages.each_mut();
                    let counts = pages.map(|(format, encoder, page)| encoder.encode(view, *format, page));
                    (view.len() as u64, counts)
                },
            );
            prop_assert_eq!(counts[0], counts[1]);
            prop_assert_eq!(counts[0].written + counts[0].superseded + counts[0].rejected, offered);
            let [text, openmetrics] = pages.each_ref().map(|(.., page)| std::str::from_utf8(page).expect("text"));
            let families = if text.is_empty() { Families::new() } else { read(text).map_err(TestCaseError::fail)? };
            let mut written = 0;
            for (family, lines) in &families {
                prop_assert!(!lines.is_empty(), "{} is empty", family);
                look_at_buckets(lines).map_err(TestCaseError::fail)?;
                written += samples(family, lines);
            }
            prop_assert_eq!(written as u64, counts[0].written);
            // The other format has the same lines of samples, and start times.
            let lines = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
            let (lines, others) = (lines(text), lines(openmetrics));
            let known: BTreeSet<_> = lines.iter().collect();
            let (same, more): (Vec<_>, Vec<_>) = others.iter().partition(|line| known.contains(line));
            prop_assert_eq!(lines.iter().collect::<Vec<_>>(), same);
            prop_assert!(more.iter().all(|line| line.contains("_created")), "{:?}", more);
            prop_assert!(openmetrics.ends_with("# EOF\n"));
        }
    }
}

/// A page of a tick in text, and what became of its samples.
fn tick(bench: &mut Bench, encoder: &mut Encoder, record: impl FnOnce(&mut Recorder)) -> (Counts, String) {
    let mut page = Vec::new();
    let counts = bench.tick(&Selection::default(), record, |view| encoder.encode(view, Format::Text, &mut page));
    (counts, String::from_utf8(page).expect("text"))
}

#[test]
fn twins_are_rejected_and_a_row_that_is_gone_makes_room() {
    let (mut bench, mut encoder) = (Bench::new(), Encoder::new(""));
    let calls = || Column::counter("a.b", Unit::CALLS, "Calls");
    // Prometheus has one name for both keys.
    let kind = EntityKind::new("thing").keys(["le", "exported_le"]).names_as_they_are();
    let rows = [["x", "y"], ["x", "z"]].map(|labels| bench.cell(&kind, &labels, calls()));
    // Of a metric whose name is taken, and of a column whose labels are.
    let other = bench.host(Column::gauge("a_b", Unit::ONE, "Taken"));
    let columns = [[("le", "1")], [("exported_le", "1")]];
    let columns = columns.map(|labels| bench.host(Column::gauge("level", Unit::ONE, "Level").labels(labels)));
    let record = |recorder: &mut Recorder, first: u64| {
        rows[0].counter(recorder, first);
        rows[1].counter(recorder, 2);
        other.gauge(recorder, 3.0);
        for cell in columns {
            cell.gauge(recorder, 4.0);
        }
    };
    let (counts, text) = tick(&mut bench, &mut encoder, |recorder| record(recorder, 1));
    // The host's metrics are the first that there are.
    assert_eq!(counts, Counts { written: 2, superseded: 0, rejected: 3 });
    assert!(text.ends_with("level{exported_le=\"1\"} 4.0\n") && !text.contains("a_b_total"), "{text}");

    let mut encoder = Encoder::new("n");
    let (mut bench, kind) = (Bench::new(), kind);
    let rows = [["x", "y"], ["x", "z"]].map(|labels| bench.cell(&kind, &labels, calls()));
    let record = |recorder: &mut Recorder| rows.iter().for_each(|cell| cell.counter(recorder, 1));
    let (counts, _) = tick(&mut bench, &mut encoder, record);
    assert_eq!(counts, Counts { written: 1, superseded: 0, rejected: 1 });
    let (counts, text) = tick(&mut bench, &mut encoder, |recorder| {
        record(recorder);
        rows[0].end(recorder);
    });
    assert_eq!(counts, Counts { written: 1, superseded: 0, rejected: 1 }, "a twin remains one");
    assert!(text.ends_with("n_a_b_total{exported_le=\"x\"} 1\n"), "{text}");
    let again = bench.cell(&kind, &["x", "a"], calls());
    let (counts, text) = tick(&mut bench, &mut encoder, |recorder| again.counter(recorder, 7));
    assert_eq!(counts, Counts { written: 1, superseded: 0, rejected: 0 });
    assert!(text.ends_with("n_a_b_total{exported_le=\"x\"} 7\n"), "{text}");
}

#[test]
fn a_wrong_option_names_its_key() {
    for (key, value) in [
        ("listen", "9435"),
        ("listen", "localhost:9435"),
        ("listen", ""),
        ("path", "metrics"),
        ("path", "/a b"),
        ("path", "/a?b"),
        ("namespace", "9lives"),
        ("namespace", "a.b"),
        ("port", "9435"),
    ] {
        let error = PLUGIN.check(&Options::from_value(BTreeMap::from([(key, value)]))).expect_err(key);
        assert_eq!(error.key, format!("options.{key}"), "{error}");
    }
    let claims = |listen| PLUGIN.check(&Options::from_value(BTreeMap::from([("listen", listen)]))).expect("right");
    assert!(claims("stdout").stdout && !claims("[::1]:0").stdout);
    assert!(!PLUGIN.confined(&Options::none()), "it listens");
}

/// Rows with start times, some of them ended, past the ends of several pieces.
#[test]
fn a_page_in_pieces_is_the_same_page() {
    for format in [Format::Text, Format::OpenMetrics] {
        let (mut bench, kind) = (Bench::new(), EntityKind::new("thing").keys(["n"]).limit(4000));
        let columns = [
            Column::counter("calls", Unit::CALLS, "Calls").labels([("operation", "read")]),
            Column::counter("calls", Unit::CALLS, "Calls").labels([("operation", "write")]),
            Column::histogram("sizes", Unit::BYTES, "Sizes"),
        ];
        let cell = |place: u32| bench.cell(&kind, &[&(place / 3).to_string()], columns[place as usize % 3].clone());
        let cells: Vec<_> = (0..6000).map(cell).collect();
        let (mut whole, mut in_pieces) = (Encoder::new("n"), Encoder::new("n"));
        for round in 0..2 {
            let record = |recorder: &mut Recorder| {
                for (place, cell) in (0..).zip(&cells) {
                    cell.counter(recorder, place);
                    cell.histogram(recorder, &[1, place], place);
                    if round == 1 && place % 7 == 0 {
                        cell.end(recorder);
                    }
                }
            };
            bench.tick(&Selection::default(), record, |view| {
                let (mut page, mut pieces, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
                let counts = whole.encode(view, format, &mut page);
                let others = in_pieces.encode_pieces(view, format, |piece| {
                    pieces.extend_from_slice(piece);
                    lengths.push(piece.len());
                });
                assert_eq!((counts, page == pieces, page.is_empty()), (others, true, false));
                assert!(lengths.len() > 5 && lengths.iter().all(|length| *length < 70_000), "{lengths:?}");
            });
        }
    }
}
