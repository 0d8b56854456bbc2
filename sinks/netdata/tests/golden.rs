//! What the encoder writes for given views, byte for byte.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ebpf-process-sink-netdata` writes the files anew; look at the
//! difference before you keep it.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, Cell, golden, no_slots};
use ebpf_process_core::{Column, EntityKind, Scope, Selection, Unit, View};
use ebpf_process_sink_netdata::Encoder;

/// The host's series with their totals in two views.
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

fn cells(bench: &mut Bench, totals: &[Totals]) -> Vec<Cell> {
    let make = |(name, label, _): &Totals| bench.host(Column::counter(*name, Unit::CALLS, "Calls").labels(*label));
    totals.iter().map(make).collect()
}

/// The lines for two views and for the end.
fn lines(totals: &[Totals], selection: &Selection) -> String {
    let mut bench = Bench::new();
    let cells = cells(&mut bench, totals);
    let mut encoder = Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut output = Vec::new();
    for view in 0..2 {
        bench.tick(
            selection,
            |recorder| cells.iter().zip(totals).for_each(|(cell, (.., totals))| cell.counter(recorder, totals[view])),
            |view| output.extend_from_slice(encoder.encode(view)),
        );
    }
    output.extend_from_slice(encoder.retire_all());
    String::from_utf8(output).expect("text")
}

#[test]
fn calls_become_the_charts_of_2020() {
    golden::compare("entry.txt", lines(&ENTRY, &Selection::default()));
}

#[test]
fn errors_and_bytes_become_the_charts_of_2020() {
    let tags = BTreeMap::from([("rack".to_owned(), "it's \"7\"".to_owned())]);
    golden::compare("return.txt", lines(&RETURN, &Selection { tags, ..Selection::default() }));
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

/// A kind of the agent's own.
fn own_kind(name: &'static str, key: &'static str) -> EntityKind {
    EntityKind::new(name).keys([key]).names_as_they_are()
}

#[test]
fn a_metric_that_no_table_knows_gets_a_chart_by_rule() {
    let mut bench = Bench::new();
    let missed = || Column::counter("hook.missed", Unit::CALLS, "Events that a hook missed");
    let time = Column::gauge("agent.probe_time", Unit::SECONDS, "Time of a collection");
    let info = Column::gauge("hook.info", Unit::ONE, "What is attached where");
    let (hook, probe) = (own_kind("hook", "counter"), own_kind("probe", "probe"));
    let open = bench.cell(&hook, &["file.calls/open"], missed());
    let close = bench.cell(&hook, &["file.calls/close"], missed());
    let time = bench.cell(&probe, &["process"], time);
    let info = bench.cell(&hook, &["file.calls"], info);
    let ticks = bench.host(Column::counter("agent.ticks", Unit::TICKS, "Rounds of collection"));
    let mut encoder = Encoder::new(Duration::from_millis(1500), Scope::Filtered);
    let mut output = Vec::new();
    for view in 0..8_u64 {
        bench.tick(
            &Selection::default(),
            |recorder| {
                time.gauge(recorder, -0.0125);
                info.gauge(recorder, 1.0);
                match view {
                    0 => open.counter(recorder, view),
                    1 => {
                        open.counter(recorder, view);
                        open.end(recorder);
                    }
                    _ => {}
                }
                if (1..4).contains(&view) {
                    close.counter(recorder, 7);
                    ticks.counter(recorder, view);
                }
                if view == 3 {
                    close.end(recorder);
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
    golden::compare("by_rule.txt", String::from_utf8(output).expect("text"));
}

#[test]
fn a_histogram_is_a_heatmap_that_grows_with_its_values() {
    let mut bench = Bench::new();
    let latency = Column::histogram("disk.latency", Unit::new("ns"), "Time of a request");
    let sda = bench.host(latency.labels([("disk", "sda")]));
    let mut encoder = Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut output = Vec::new();
    for slot in [3, 40] {
        let mut slots = no_slots();
        slots[slot] = 5;
        let look = |view: &View<'_>| output.extend_from_slice(encoder.encode(view));
        bench.tick(&Selection::default(), |recorder| sda.histogram(recorder, &slots, 100), look);
    }
    golden::compare("heatmap.txt", String::from_utf8(output).expect("text"));
}
