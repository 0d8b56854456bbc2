//! Whatever names and values there are: a page is a page, says every sample once, and nothing else.

mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Descriptor, Options, Selection, SinkPlugin as _, Unit};
use ebpf_process_sink_prometheus::{Counts, Encoder, Format, PLUGIN, Page};
use proptest::prelude::*;
use reader::{Families, read};

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

#[derive(Clone, Debug)]
struct Thing {
    kind: u8,
    name: String,
    help: String,
    unit: String,
    keys: Vec<String>,
    series: Vec<(Vec<String>, u64)>,
}

impl Thing {
    fn descriptor(&self) -> Arc<Descriptor> {
        let make = match self.kind {
            0 => Descriptor::counter,
            1 => Descriptor::gauge,
            _ => Descriptor::histogram,
        };
        make(self.name.clone(), Unit::new(self.unit.clone()), self.help.clone()).labels(self.keys.clone()).share()
    }
}

fn thing() -> impl Strategy<Value = Thing> {
    let series = prop::collection::vec((prop::collection::vec(text(), 3), any::<u64>()), 1..4);
    let unit = prop::sample::select(&["calls", "bytes", "seconds", "ns", "ms", "_ total"][..]).prop_map(str::to_owned);
    let names = prop_oneof![
        text(),
        prop::sample::select(&["a", "a.b", "a_b", "a.total", "a.bytes", "a.sum", "a.bucket"][..])
            .prop_map(str::to_owned)
    ];
    (0u8..3, names, text(), unit, prop::collection::vec(text(), 0..3), series)
        .prop_map(|(kind, name, help, unit, keys, series)| Thing { kind, name, help, unit, keys, series })
}

proptest! {
    #[test]
    fn any_names_and_values_give_one_sample_each_or_a_counted_rejection(
        things in prop::collection::vec(thing(), 1..6),
        tags in prop::collection::btree_map(text(), text(), 0..3),
        prefix in text(),
        namespace in prop::sample::select(&["", "ebpf_process"][..]),
    ) {
        let mut bench = Bench::new();
        let descriptors: Vec<_> = things.iter().map(Thing::descriptor).collect();
        let selection = Selection { tags, prefix, ..Selection::default() };
        let mut encoder = Encoder::new(namespace);
        let mut page = Page::default();
        let (offered, counts) = bench.tick(
            &selection,
            |recorder| for (thing, descriptor) in things.iter().zip(&descriptors) {
                for (values, total) in &thing.series {
                    let values: Vec<&str> = values.iter().take(thing.keys.len()).map(String::as_str).collect();
                    // Refused where another metric of this name has another number of keys.
                    let Ok(id) = recorder.series(descriptor, &values) else { continue };
                    // Two of these are of another kind than the metric, and refused.
                    recorder.counter(id, *total);
                    recorder.gauge(id, f64::from_bits(*total));
                    let mut slots = no_slots();
                    slots[usize::try_from(total % 64).expect("a slot")] = *total;
                    recorder.histogram(id, &slots, *total);
                }
            },
            |view| (view.len() as u64, encoder.encode(view, &mut page)),
        );
        prop_assert_eq!(counts.written + counts.rejected, offered);
        let text = std::str::from_utf8(page.bytes(Format::Text)).expect("text");
        let families = if text.is_empty() { Families::new() } else { read(text).map_err(TestCaseError::fail)? };
        // A histogram is one sample of ours; each has one count and all its buckets in order.
        let mut samples = 0;
        for (family, lines) in &families {
            prop_assert!(!lines.is_empty(), "{} is empty", family);
            let buckets: Vec<_> = lines.iter().filter(|(_, labels, _)| labels.contains_key("le")).collect();
            samples += if buckets.is_empty() { lines.len() } else { lines.len() / 66 };
            prop_assert_eq!(buckets.len() % 64, 0);
            for buckets in buckets.chunks(64) {
                let number = |text: &str| if text == "+Inf" { f64::INFINITY } else { text.parse().expect("a number") };
                prop_assert!(buckets.is_sorted_by(|a, b| number(&a.1["le"]) < number(&b.1["le"])));
                let counts = buckets.iter().map(|(.., count)| count.parse::<u64>().expect("an integer"));
                prop_assert!(counts.is_sorted());
            }
        }
        prop_assert_eq!(samples as u64, counts.written);
        // The other format has the same lines of samples.
        let openmetrics = std::str::from_utf8(page.bytes(Format::OpenMetrics)).expect("text");
        let lines = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(lines(text), lines(openmetrics));
        prop_assert!(openmetrics.ends_with("# EOF\n") && openmetrics.matches("# EOF").count() >= 1);
    }
}

#[test]
fn twins_are_rejected_and_a_series_that_is_gone_makes_room() {
    let mut bench = Bench::new();
    let calls = Descriptor::counter("a.b", Unit::CALLS, "Calls").labels(["le", "exported_le"]).share();
    let other = Descriptor::gauge("a_b", Unit::ONE, "Taken").share();
    let series = [bench.series(&calls, &["x", "y"]), bench.series(&calls, &["x", "z"]), bench.series(&other, &[])];
    let mut encoder = Encoder::new("");
    let mut page = Page::default();
    let mut tick = |record: &mut dyn FnMut(&mut ebpf_process_core::Recorder)| {
        let counts =
            bench.tick(&Selection::default(), |recorder| record(recorder), |view| encoder.encode(view, &mut page));
        (counts, String::from_utf8(page.bytes(Format::Text).to_vec()).expect("text"))
    };
    let (counts, text) = tick(&mut |recorder| {
        recorder.counter(series[0], 1);
        recorder.counter(series[1], 2);
        recorder.gauge(series[2], 3.0);
        recorder.end(series[0]);
    });
    assert_eq!(counts, Counts { written: 1, rejected: 2 });
    assert!(text.ends_with("a_b_total{exported_le=\"x\"} 1\n"), "{text}");
    // The end is repeated for two more batches.
    for _ in 0..2 {
        let (counts, _) = tick(&mut |_| {});
        assert_eq!(counts, Counts { written: 1, rejected: 0 });
    }
    let mut again = None;
    let (counts, text) = tick(&mut |recorder| {
        let id = *again.get_or_insert_with(|| recorder.series(&calls, &["x", "y"]).expect("a series"));
        recorder.counter(id, 7);
    });
    assert_eq!(counts, Counts { written: 1, rejected: 0 });
    assert!(text.ends_with("a_b_total{exported_le=\"x\"} 7\n"), "{text}");
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
