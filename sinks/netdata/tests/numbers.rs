//! What the numbers on netdata's charts mean; the plugin of 2020 got several of them wrong.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::time::Duration;

use ebpf_process_core::testkit::{Bench, Cell};
use ebpf_process_core::{Column, EntityKind, Scope, Selection, Unit, View};
use ebpf_process_sink_netdata::Encoder;

/// Views made by hand, and the lines for them.
struct Scene {
    bench: Bench,
    encoder: Encoder,
    series: Vec<Cell>,
}

impl Scene {
    fn new(series: &[(&'static str, &str)], interval: Duration, scope: Scope) -> Self {
        let mut bench = Bench::new();
        let make = |(name, value): &(&'static str, &str)| {
            let key = if name.starts_with("task") { "kind" } else { "operation" };
            let label = (!value.is_empty()).then_some((key, *value));
            bench.host(Column::counter(*name, Unit::CALLS, "Calls").labels(label))
        };
        let series = series.iter().map(make).collect();
        Self { bench, encoder: Encoder::new(interval, scope), series }
    }

    fn host(series: &[(&'static str, &str)]) -> Self {
        Self::new(series, Duration::from_secs(1), Scope::Host)
    }

    fn tick<R>(&mut self, totals: &[u64], look: impl FnOnce(&mut Encoder, &View<'_>) -> R) -> R {
        let Self { bench, encoder, series } = self;
        bench.tick(
            &Selection::default(),
            |recorder| series.iter().zip(totals).for_each(|(cell, total)| cell.counter(recorder, *total)),
            |view| look(encoder, view),
        )
    }

    fn lines(&mut self, totals: &[u64]) -> String {
        self.tick(totals, |encoder, view| String::from_utf8(encoder.encode(view).to_vec()).expect("text"))
    }

    /// A view that a full queue has lost.
    fn lose(&mut self, totals: &[u64]) {
        self.tick(totals, |_, _| ());
    }
}

/// The values of one chart's block.
fn block<'a>(lines: &'a str, chart: &str) -> Option<Vec<&'a str>> {
    let begin = format!("BEGIN {chart}");
    let mut lines = lines.lines().skip_while(|line| !line.starts_with(&begin));
    lines.next()?;
    Some(lines.take_while(|line| *line != "END").collect())
}

#[test]
fn bytes_are_bytes_under_their_own_name_and_move_without_a_deletion() {
    let mut scene = Scene::host(&[("vfs.bytes", "read"), ("vfs.bytes", "write"), ("vfs.calls", "delete")]);
    scene.lines(&[0, 0, 0]);
    let lines = scene.lines(&[4096, 100_000, 0]);
    assert_eq!(block(&lines, "ebpf.io_bytes").expect("a block"), ["SET read = 4096", "SET write = 100000"]);
}

#[test]
fn the_first_event_of_a_counter_is_on_the_chart() {
    let mut scene = Scene::host(&[("file.errors", "open"), ("file.errors", "close")]);
    let first = scene.lines(&[0, 0]);
    assert!(first.contains("DIMENSION open 'open' incremental"), "{first}");
    assert_eq!(block(&first, "ebpf.file_error").expect("a block"), ["SET open = 0", "SET close = 0"]);
    let second = scene.lines(&[1, 0]);
    assert_eq!(block(&second, "ebpf.file_error").expect("a block"), ["SET open = 1", "SET close = 0"]);
}

#[test]
fn a_total_that_falls_is_sent_as_it_is() {
    let mut scene = Scene::host(&[("vfs.calls", "read")]);
    scene.lines(&[100]);
    let lines = scene.lines(&[40]);
    assert_eq!(block(&lines, "ebpf.io").expect("a block"), ["SET read = 40"]);
}

#[test]
fn exits_are_positive() {
    let mut scene = Scene::host(&[("task.exits", ""), ("task.releases", "")]);
    let lines = scene.lines(&[7, 5]);
    assert_eq!(block(&lines, "ebpf.exit").expect("a block"), ["SET process = 7", "SET task = 5"]);
}

#[test]
fn the_chart_says_the_true_interval_in_whole_seconds() {
    for (interval, every) in [(100, 1), (1000, 1), (1001, 2), (5000, 5)] {
        let mut scene = Scene::new(&[("vfs.calls", "read")], Duration::from_millis(interval), Scope::Host);
        let lines = scene.lines(&[1]);
        assert!(lines.contains(&format!(" line 973 {every} ''")), "{lines}");
    }
}

#[test]
fn a_lost_view_makes_the_time_since_the_last_one_longer() {
    let mut scene = Scene::host(&[("vfs.calls", "read"), ("task.exits", "")]);
    assert!(scene.lines(&[1, 1]).contains("BEGIN ebpf.io\n"));
    scene.lose(&[2, 2]);
    assert!(scene.lines(&[3]).contains("BEGIN ebpf.io 2000000\n"));
    let lines = scene.lines(&[4, 4]);
    assert!(lines.contains("BEGIN ebpf.io 1000000\n") && lines.contains("BEGIN ebpf.exit 3000000\n"), "{lines}");
}

#[test]
fn a_clock_that_is_set_changes_no_time_between_two_views() {
    let mut scene = Scene::host(&[("vfs.calls", "read")]);
    scene.lines(&[1]);
    for wall in [1_600_003_600, 1_599_996_400, 0, u64::MAX / 2] {
        scene.bench.set_wall(Duration::from_secs(wall));
        assert!(scene.lines(&[2]).contains("BEGIN ebpf.io 1000000\n"), "{wall}");
    }
}

#[test]
fn the_chart_of_tasks_needs_all_its_terms_and_the_whole_host() {
    let all = [("task.started", "process"), ("task.started", "thread"), ("task.exits", ""), ("task.releases", "")];
    let totals = [3, 1, 9, 4];
    let status = |scope, series: &[(&'static str, &str)], totals: &[u64]| {
        let mut scene = Scene::new(series, Duration::from_secs(1), scope);
        let lines = scene.lines(totals);
        block(&lines, "ebpf.process_status").map(|values| values.join(", "))
    };
    assert_eq!(status(Scope::Host, &all, &totals).as_deref(), Some("SET process = -5, SET zombie = 5"));
    assert_eq!(status(Scope::Host, &all[..3], &totals[..3]).as_deref(), Some("SET process = -5"));
    assert_eq!(status(Scope::Host, &all[1..], &totals[1..]).as_deref(), Some("SET zombie = 5"));
    assert_eq!(status(Scope::Host, &all[..2], &totals[..2]), None);
    assert_eq!(status(Scope::Filtered, &all, &totals), None);
}

#[test]
fn a_renamed_metric_is_not_taken_for_a_known_one() {
    let mut scene = Scene::host(&[("vfs.calls", "read")]);
    let selection = Selection { prefix: "lab.".to_owned(), ..Selection::default() };
    let cell = scene.series[0];
    let lines = scene.bench.tick(
        &selection,
        |recorder| cell.counter(recorder, 1),
        |view| String::from_utf8(scene.encoder.encode(view).to_vec()).expect("text"),
    );
    assert!(lines.starts_with("CHART ebpf.lab_vfs_calls '' 'Calls' 'calls/s' 'Lab' ebpf.lab_vfs_calls line 1000 1 ''"));
}

#[test]
fn two_metrics_under_one_name_keep_their_numbers_apart() {
    let mut scene = Scene::host(&[("vfs.calls", "read"), ("nfs.calls", "read")]);
    let rename = [("nfs.calls".to_owned(), "vfs.calls".to_owned())].into();
    let selection = Selection { rename, ..Selection::default() };
    let cells = scene.series.clone();
    let lines = scene.bench.tick(
        &selection,
        |recorder| cells.iter().zip([1, 2]).for_each(|(cell, total)| cell.counter(recorder, total)),
        |view| String::from_utf8(scene.encoder.encode(view).to_vec()).expect("text"),
    );
    assert_eq!(block(&lines, "ebpf.io").expect("a block"), ["SET read = 1"]);
    assert_eq!(block(&lines, "ebpf.vfs_calls").expect("a block"), ["SET read = 2"]);
}

/// A kind of the agent's own with one label.
fn own_kind() -> EntityKind {
    EntityKind::new("demo").keys(["name"]).names_as_they_are()
}

#[test]
fn a_series_that_comes_back_at_once_keeps_its_dimension() {
    let mut bench = Bench::new();
    let mut encoder = Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut lines = |names: &[&str], end: &[&str]| {
        let calls = || Column::counter("demo.calls", Unit::CALLS, "Calls");
        let series: Vec<_> = names.iter().map(|name| (*name, bench.cell(&own_kind(), &[name], calls()))).collect();
        bench.tick(
            &Selection::default(),
            |recorder| {
                for (name, cell) in series {
                    cell.counter(recorder, 1);
                    if end.contains(&name) {
                        cell.end(recorder);
                    }
                }
            },
            |view| String::from_utf8(encoder.encode(view).to_vec()).expect("text"),
        )
    };
    assert!(lines(&["a", "b", "c"], &["a", "b"]).contains("SET b = 1\n"), "the last value");
    let lines = lines(&["b", "c", "d"], &[]);
    assert!(lines.contains("DIMENSION a 'a' incremental 1 1 obsolete\nDIMENSION d 'd'"), "{lines}");
    assert!(!lines.contains("DIMENSION b") && lines.contains("SET b = 1\n"), "{lines}");
}

#[test]
fn the_chart_of_tasks_goes_and_comes_with_its_terms() {
    let mut bench = Bench::new();
    let mut encoder = Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut lines = |live: bool, end: bool| {
        let kind = EntityKind::new("demo").names_as_they_are();
        let column = |name| Column::counter(name, Unit::TASKS, "Tasks");
        let cells = ["task.exits", "task.releases"].map(|name| live.then(|| bench.cell(&kind, &[], column(name))));
        bench.tick(
            &Selection::default(),
            |recorder| {
                cells.iter().flatten().for_each(|cell| cell.counter(recorder, 1));
                if let Some(cell) = cells[0].filter(|_| end) {
                    cell.end(recorder);
                }
            },
            |view| String::from_utf8(encoder.encode(view).to_vec()).expect("text"),
        )
    };
    for _ in 0..2 {
        assert!(lines(true, false).contains("DIMENSION zombie"));
        assert_eq!(block(&lines(true, true), "ebpf.process_status").expect("a block"), ["SET zombie = 0"]);
        let last = lines(false, false);
        assert_eq!((last.matches(" 'obsolete' ").count(), last.lines().count()), (2, 2), "{last}");
        assert_eq!(lines(false, false), "");
    }
}

#[test]
fn a_chart_by_rule_never_takes_the_id_of_a_known_one() {
    let mut scene = Scene::host(&[("io", "read"), ("vfs.calls", "read")]);
    let lines = scene.lines(&[1, 2]);
    assert_eq!(block(&lines, "ebpf.io_2").expect("a block"), ["SET read = 1"]);
    assert!(lines.contains("BEGIN ebpf.io\nSET read = 2\nEND\n"), "{lines}");
}
