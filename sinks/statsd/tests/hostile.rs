//! No byte from outside makes a line, a tag or a value of its own, in any dialect.

mod receiver;

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Column, EntityKind, Recorder, Selection, Unit, Value};
use ebpf_process_sink_statsd::{Encoder, Fate, Settled, Syntax};
use proptest::prelude::*;
use receiver::{ALL, Receiver};
use statsdproxy::types::Metric;

/// Text from outside, by where it gets in.
#[derive(Clone, Debug, Default)]
struct Outside {
    labels: [String; 2],
    tag: (String, String),
    prefix: String,
    namespace: String,
}

impl Outside {
    /// The same text everywhere.
    fn everywhere(text: &str) -> Self {
        let text = || text.to_owned();
        Self { labels: [text(), text()], tag: (text(), text()), prefix: text(), namespace: text() }
    }
}

/// What became of what was sent.
#[derive(Debug)]
struct Sent {
    settled: Settled,
    receiver: Receiver,
    packets: Vec<Vec<u8>>,
    /// The gauge as it was in the view: what is no number at all does not get there.
    level: f64,
}

/// Sends a counter, a gauge and a histogram with one slot, all named and labelled from outside; what
/// arrives is checked by the receiver.
fn send(
    syntax: Syntax,
    outside: &Outside,
    level: f64,
    total: u64,
    limit: usize,
    columns: usize,
) -> Result<Sent, String> {
    let keys = ["comm", "cgroup"];
    let values = outside.labels.each_ref().map(String::as_str);
    // All labels are the row's, one is the column's, or both are.
    let kind = EntityKind::new("thing").keys(keys[..2 - columns].iter().copied()).names_as_they_are();
    let labels: Vec<_> = keys.into_iter().zip(values).skip(2 - columns).collect();
    let counter = Column::counter("demo.calls", Unit::CALLS, "");
    let gauge = Column::gauge("demo.level", Unit::CALLS, "");
    let histogram = Column::histogram("demo.time", Unit::CALLS, "");
    let selection =
        Selection { prefix: outside.prefix.clone(), tags: [outside.tag.clone()].into(), ..Selection::default() };
    let mut bench = Bench::new();
    let cells = [counter, gauge, histogram]
        .map(|column| bench.cell(&kind, &values[..2 - columns], column.labels(labels.iter().copied())));
    let mut encoder = Encoder::new(syntax, &outside.namespace, limit);
    let mut receiver = Receiver::new(syntax, limit);
    let (mut packets, mut problem, mut in_view) = (Vec::new(), None, 0.0);
    let record = |recorder: &mut Recorder| {
        cells[0].counter(recorder, total);
        cells[1].gauge(recorder, level);
        let mut slots = no_slots();
        slots[10] = 3;
        cells[2].histogram(recorder, &slots, 0);
    };
    let settled = bench.tick(&selection, record, |view| {
        let samples = view.metrics().flat_map(|metric| metric.samples());
        in_view = samples.filter_map(|s| if let Value::Gauge(level) = s.value() { Some(level) } else { None }).sum();
        let settled = encoder.encode(view, &mut |packet| {
            problem = problem.take().or(receiver.read(packet).err());
            packets.push(packet.to_vec());
            Fate::Sent
        });
        let accounted = settled.written + settled.failed + settled.too_long + settled.twins;
        (accounted == view.len() as u64).then_some(settled)
    });
    let settled = settled.ok_or("the samples do not add up")?;
    problem.map_or(Ok(Sent { settled, receiver, packets, level: in_view }), Err)
}

/// One point each: the right sum, the right level, the right slot, and as many tags as were given.
fn check(syntax: Syntax, outside: &Outside, level: f64, total: u64) -> Result<(), String> {
    (0..=2).try_for_each(|columns| check_one(syntax, outside, level, total, columns))
}

/// With so many of the labels a column's.
fn check_one(syntax: Syntax, outside: &Outside, level: f64, total: u64, columns: usize) -> Result<(), String> {
    let sent = send(syntax, outside, level, total, 65_507, columns)?;
    let Sent { receiver, level, .. } = &sent;
    let fail = |what: &str| Err(format!("{what}: {syntax:?} {outside:?} {receiver:?}"));
    if sent.settled != (Settled { written: sent.settled.written, ..Settled::default() }) {
        return fail("not all was sent");
    }
    let is_slot = |name: &str| name.contains("le_2047") || name.contains("le=2047");
    let slots: u128 = receiver.counters.iter().filter(|(name, _)| is_slot(name)).map(|(_, sum)| sum).sum();
    let calls: u128 = receiver.counters.iter().filter(|(name, _)| !is_slot(name)).map(|(_, sum)| sum).sum();
    if (calls, slots, receiver.counters.len()) != (u128::from(total), 3, 1 + usize::from(total > 0)) {
        return fail("not one point each");
    }
    let received = receiver.gauges.values().copied().collect::<Vec<_>>();
    if received.len() != 1 || (received[0] - level).abs() > level.abs() * 1e-15 + 0.6e-9 {
        return fail("not the level");
    }
    if syntax == Syntax::Dogstatsd {
        sent.packets.iter().try_for_each(|packet| by_another_parser(packet))?;
    }
    // Two labels; the sink's tag is left out where its key, cleaned, is one of theirs.
    let tags = receiver.gauges.keys().map(|name| name.matches('=').count()).sum::<usize>();
    if syntax != Syntax::Plain && !(2..=3).contains(&tags) {
        return fail("not the tags");
    }
    Ok(())
}

/// What the DogStatsD parser of another project makes of the lines.
fn by_another_parser(packet: &[u8]) -> Result<(), String> {
    for line in packet.split(|byte| *byte == b'\n') {
        let metric = Metric::new(line.to_vec());
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let (name, kind) = (text(metric.name()), text(metric.ty()));
        let number: Result<f64, _> = text(metric.value()).parse();
        let keys: Vec<String> = metric.tags_iter().map(|tag| text(Some(tag.name()))).collect();
        let valued = metric.tags_iter().all(|tag| tag.value().is_some_and(|value| !value.is_empty()));
        let known = keys.starts_with(&["comm".to_owned(), "cgroup".to_owned()]);
        if name.is_empty() || number.is_err() || !matches!(&*kind, "c" | "g") || !valued || !known {
            return Err(format!("read as {name} {kind} {number:?} {keys:?}: {}", String::from_utf8_lossy(line)));
        }
    }
    Ok(())
}

#[test]
fn every_byte_is_a_name_like_any_other() {
    for byte in 0..=255_u8 {
        for text in [vec![byte], vec![b'a', byte], vec![byte, byte, b'=', byte], vec![b'a', byte, b'b', byte]] {
            let outside = Outside::everywhere(&String::from_utf8_lossy(&text));
            for syntax in ALL {
                check(syntax, &outside, -1.5, 7).expect("one point each");
            }
        }
    }
}

#[test]
fn every_character_of_latin_1_is_a_name_like_any_other() {
    for c in '\u{80}'..='\u{ff}' {
        for syntax in ALL {
            check(syntax, &Outside::everywhere(&format!("{c}a{c}")), 1.0, 1).expect("one point each");
        }
    }
}

#[test]
fn nasty_strings_forge_nothing() {
    let nasty = [
        "\"quoted\"",
        "x:1|c\nforged:99|c",
        "x\r\nforged:99|c\r\n",
        "|#forged:tag",
        ",forged=tag",
        ";forged=tag",
        "a=b=c",
        "|c|@0.001",
        "1|g",
        "_e{5,4}:title|text",
        "_sc|name|0",
        "le",
        "name",
        "metric_type",
        "trailing\\",
        "zinit",
        "__proto__",
        "\u{feff}bom",
        "\u{2028}line\u{2029}",
        "\u{202e}right to left",
        "-5",
        "",
        " ",
        ".",
        "...",
    ];
    let long = "x".repeat(4096);
    let lossy = String::from_utf8_lossy(b"\xff\xfe\xc3(\xf0\x28\x8c\x28").into_owned();
    for text in nasty.into_iter().chain([&*long, &*lossy]) {
        for syntax in ALL {
            check(syntax, &Outside::everywhere(text), -0.25, u64::MAX).expect("one point each");
        }
    }
}

#[test]
fn a_key_that_a_receiver_would_overwrite_is_another_key() {
    let keys = |syntax, key: &str| {
        let outside = Outside { tag: (key.to_owned(), "v".to_owned()), ..Outside::everywhere("x") };
        let sent = send(syntax, &outside, 1.0, 1, 1432, 1).expect("lines");
        sent.receiver.gauges.keys().next().expect("a gauge").clone()
    };
    assert_eq!(keys(Syntax::Graphite, "name"), "x.xdemo.level{cgroup=x,comm=x,name_=v}");
    assert_eq!(keys(Syntax::Telegraf, "metric_type"), "x.xdemo.level{cgroup=x,comm=x,metric_type_=v}");
    assert_eq!(keys(Syntax::Dogstatsd, "le"), "x.xdemo.level{cgroup=x,comm=x,le_=v}");
    // A label stays itself when the sink's tag has the same key after cleaning.
    let outside = Outside { tag: ("comm\t".to_owned(), "v".to_owned()), ..Outside::everywhere("x") };
    let sent = send(Syntax::Dogstatsd, &outside, 1.0, 1, 1432, 0).expect("lines");
    assert_eq!(sent.receiver.gauges.keys().next().expect("a gauge"), "x.xdemo.level{cgroup=x,comm=x,comm_=v}");
}

fn outside() -> impl Strategy<Value = Outside> {
    let text = || prop_oneof![any::<String>(), "[a-z:|,;=#@\\\\\n\"é.]{0,12}"];
    ([text(), text()], (text(), text()), text(), text()).prop_map(|(labels, tag, prefix, namespace)| Outside {
        labels,
        tag,
        prefix,
        namespace,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_name_and_number_is_a_point(
        syntax in prop::sample::select(&ALL),
        outside in outside(),
        level in prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL,
        total in any::<u64>(),
    ) {
        prop_assert_eq!(check(syntax, &outside, level, total), Ok(()));
    }

    /// The receiver refuses a packet beyond its limit, and half a line.
    #[test]
    fn any_packet_is_within_its_limit_and_what_does_not_fit_is_counted(
        syntax in prop::sample::select(&ALL),
        outside in outside(),
        level in prop::num::f64::ANY,
        total in any::<u64>(),
        limit in 64..600_usize,
        columns in 0..=2_usize,
    ) {
        let sent = send(syntax, &outside, level, total, limit, columns);
        let Sent { settled, receiver, .. } = sent.map_err(TestCaseError::fail)?;
        // A counter that has not grown is written without a line.
        let arrived = (receiver.counters.len() + receiver.gauges.len()) as u64 + u64::from(total == 0);
        prop_assert_eq!(arrived, settled.written);
    }
}
