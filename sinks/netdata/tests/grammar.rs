//! Whatever is measured under whatever names, the lines are ones that netdata takes.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod parser;

use std::time::Duration;

use ebpf_process_core::testkit::{Bench, Cell, no_slots};
use ebpf_process_core::{
    Column, ColumnId, EntityKind, KindId, MetricKind, Recorder, Scope, Selection, Unit, Value, View, identity_of,
};
use ebpf_process_sink_netdata::Encoder;
use parser::Netdata;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Scaled,
    Gauge,
    Histogram,
}

/// A metric's name, kind and number of labels, and whether its rows are the agent's own.
type Metric = (String, Kind, usize, bool);

#[derive(Clone, Copy, Debug)]
enum Act {
    /// It has a value, and is made anew if it is gone.
    Live,
    /// It has no value this time.
    Silent,
    /// It has its last value.
    End,
}

#[derive(Debug)]
struct Story {
    metrics: Vec<Metric>,
    series: Vec<(usize, [String; 3])>,
    /// Per view: whether the sink sees it, and what each series does.
    views: Vec<(bool, Vec<Act>)>,
    selection: Selection,
    /// Whether the agent stops at the end, or every series does.
    stopped: bool,
}

fn name() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "file.calls",
        "vfs.calls",
        "vfs.errors",
        "vfs.bytes",
        "task.started",
        "task.exits",
        "task.releases",
        "hook.info",
        "io",
        "process.status",
    ]);
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => "[a-c._]{0,4}", 1 => any::<String>()]
}

fn text() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec!["read", "write", "open", "process", "thread", "", "a b", "a_b", "a/b"]);
    let hostile = "[ a='\"\\\\\n\r\t\0#{}é\u{2028}]{0,8}";
    prop_oneof![3 => known.prop_map(str::to_owned), 2 => hostile, 1 => any::<String>(), 1 => ".{300}"]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => Just(Kind::Counter), 1 => Just(Kind::Scaled), 2 => Just(Kind::Gauge), 1 => Just(Kind::Histogram)]
}

fn story() -> impl Strategy<Value = Story> {
    let labels = prop_oneof![2 => Just(0_usize), 4 => Just(1_usize), 1 => Just(3_usize)];
    let metrics = prop::collection::vec((name(), kind(), labels, any::<bool>()), 1..6);
    let series = prop::collection::vec((any::<prop::sample::Index>(), [text(), text(), text()]), 1..10);
    let act = prop_oneof![6 => Just(Act::Live), 2 => Just(Act::Silent), 1 => Just(Act::End)];
    let views = prop::collection::vec((prop::bool::weighted(0.8), prop::collection::vec(act, 10)), 1..12);
    let tags = prop::collection::btree_map(text(), text(), 0..3);
    let rename = prop::collection::btree_map(name(), name(), 0..3);
    let prefix = prop_oneof![4 => Just(String::new()), 1 => text()];
    (metrics, series, views, (tags, rename, prefix), any::<bool>()).prop_map(
        |(metrics, series, views, (tags, rename, prefix), stopped)| {
            let count = metrics.len();
            let series = series.into_iter().map(|(metric, labels)| (metric.index(count), labels)).collect();
            Story {
                metrics,
                series,
                views,
                selection: Selection { tags, rename, prefix, ..Selection::default() },
                stopped,
            }
        },
    )
}

fn column(name: String, kind: Kind) -> Column {
    match kind {
        Kind::Counter => Column::counter(name, Unit::CALLS, "It's \"help\" = \\"),
        Kind::Scaled => Column::counter(name, Unit::SECONDS, "Time").scale(1e-9),
        Kind::Gauge if name.rsplit('.').next() == Some("info") => Column::gauge(name, Unit::ONE, "Information"),
        Kind::Gauge => Column::gauge(name.clone(), Unit::SECONDS, name),
        Kind::Histogram => Column::histogram(name.clone(), Unit::new(name), ""),
    }
}

/// A kind of entity for each metric.
fn declare(bench: &mut Bench, metrics: &[Metric]) -> Vec<(KindId, ColumnId, Kind, usize)> {
    let mut declare = |(index, (name, kind, labels, own)): (usize, &Metric)| {
        let keys = if name.starts_with("task") { ["kind", "b", "c"] } else { ["operation", "b", "c"] };
        let entity = EntityKind::new(format!("kind{index}")).keys(keys.into_iter().take(*labels));
        let id = bench.kind(&if *own { entity.names_as_they_are() } else { entity });
        let first = bench.recorder().column(id, column(name.clone(), *kind));
        // Of two metrics with one name the second gets another.
        let other = |_| bench.recorder().column(id, column(format!("other{index}.{name}"), *kind));
        (id, first.or_else(other).expect("a column"), *kind, *labels)
    };
    metrics.iter().enumerate().map(&mut declare).collect()
}

fn record(recorder: &mut Recorder, cell: Cell, kind: Kind, value: u64) {
    match kind {
        Kind::Counter | Kind::Scaled => cell.counter(recorder, if value % 7 == 6 { u64::MAX } else { value }),
        Kind::Gauge => cell.gauge(recorder, if value % 7 == 6 { -1e300 } else { -0.5 }),
        Kind::Histogram => {
            let mut slots = no_slots();
            slots[usize::try_from(value * 7 % 64).expect("a slot")] = value;
            cell.histogram(recorder, &slots, value);
        }
    }
}

/// How many numbers the view has for netdata, those of the chart of tasks aside.
fn numbers(view: View<'_>) -> usize {
    let samples = view
        .metrics()
        .filter(|metric| !(metric.kind() == MetricKind::Gauge && metric.own_name().rsplit('.').next() == Some("info")));
    samples.flat_map(|metric| metric.samples()).filter(|sample| !matches!(sample.value(), Value::Histogram(_))).count()
}

fn tell(story: &Story) -> Result<(), TestCaseError> {
    let mut bench = Bench::new();
    let metrics = declare(&mut bench, &story.metrics);
    let has_histogram = metrics.iter().any(|(.., kind, _)| matches!(kind, Kind::Histogram));
    let mut encoder = Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut netdata = Netdata::default();
    let play = |recorder: &mut Recorder, acts: &[Act], value: u64| {
        for ((metric, labels), act) in story.series.iter().zip(acts) {
            let (entity, column, kind, count) = metrics[*metric];
            let labels: Vec<_> = labels.iter().take(count).map(String::as_str).collect();
            if let Act::Silent = act {
                continue;
            }
            // A kind without labels has no second row in the tick in which its only one has ended.
            let Ok(row) = recorder.row(entity, identity_of(&labels.join("\0")), &labels) else { continue };
            let cell = Cell { row, column };
            record(recorder, cell, kind, value);
            if let Act::End = act {
                cell.end(recorder);
            }
        }
    };
    for (index, (seen, acts)) in story.views.iter().enumerate() {
        let record = |recorder: &mut Recorder| play(recorder, acts, index as u64);
        let outcome: Result<_, String> = bench.tick(&story.selection, record, |view| {
            if !seen {
                return Ok((0, 0));
            }
            netdata.read(encoder.encode(view))?;
            // What the protocol has no number for is in the book.
            Ok((netdata.sets, numbers(*view) - usize::try_from(encoder.beyond()).expect("few")))
        });
        let (sets, numbers) = outcome.map_err(TestCaseError::fail)?;
        prop_assert!(sets >= numbers, "a number is missing: {sets} of {numbers}");
        prop_assert!(has_histogram || sets <= numbers + 2, "a number too many: {sets} of {numbers}");
    }
    if story.stopped {
        netdata.read(encoder.retire_all()).map_err(TestCaseError::fail)?;
    } else {
        // Without a stop charts go when their series are gone: after the view that has their last values.
        let acts = vec![Act::End; story.series.len()];
        for view in 0..2 {
            let acts = if view == 0 { &acts[..] } else { &[] };
            bench
                .tick(
                    &story.selection,
                    |recorder| play(recorder, acts, view),
                    |view| netdata.read(encoder.encode(view)),
                )
                .map_err(TestCaseError::fail)?;
        }
    }
    prop_assert!(netdata.charts.is_empty(), "charts are left: {:?}", netdata.charts);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn netdata_takes_every_line(story in story()) {
        tell(&story)?;
    }
}

#[test]
fn the_parser_refuses_what_netdata_would_punish_or_misread() {
    let chart = "CHART ebpf.a '' 'title' 'calls/s' 'A' ebpf.a line 1000 1 '' ebpf_process.plugin a\n";
    let dimension = "DIMENSION x 'x' incremental 1 1\n";
    let cases = [
        "# a comment\n",
        "BEGIN ebpf.a\n",
        "DIMENSION x 'x' incremental 1 1\n",
        "CHART ebpf.a '' 'it's' 'calls/s' 'A' ebpf.a line 1000 1 '' ebpf_process.plugin a\n",
        "CHART ebpf.a '' '' 'calls/s' 'A' ebpf.a line 1000 1 '' ebpf_process.plugin a\n",
        &format!("{chart}CLABEL 'a' 'b'\nCLABEL_COMMIT\n{dimension}"),
        &format!("{chart}CLABEL 'a' 'b' 2\n{dimension}"),
        &format!("{chart}CLABEL_COMMIT\n{dimension}"),
        &format!("{chart}{dimension}BEGIN ebpf.a\nSET y = 1\nEND\n"),
        &format!("{chart}{dimension}BEGIN ebpf.a 1000000\nEND\n"),
        &format!("{chart}{dimension}BEGIN ebpf.a\nEND\n{dimension}"),
        &format!("{chart}{dimension}BEGIN ebpf.a\nSET x = 1\n"),
        &format!("{chart}{dimension}BEGIN ebpf.a\nSET x = 1\nSET x = 2\nEND\n"),
        &format!("{chart}{dimension}{dimension}"),
        &format!("{chart}DIMENSION x 'x' incremental 1 4294967296\n"),
    ];
    for lines in cases {
        assert!(Netdata::default().read(lines.as_bytes()).is_err(), "{lines}");
    }
    let right = format!("{chart}{dimension}BEGIN ebpf.a\nSET x = 1\nEND\nBEGIN ebpf.a 1000000\nSET x = 2\nEND\n");
    Netdata::default().read(right.as_bytes()).expect("right lines");
}
