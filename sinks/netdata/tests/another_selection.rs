//! What netdata is told when the selection becomes another one.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod parser;

use std::collections::BTreeSet;
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, Cell};
use ebpf_process_core::{Column, EntityKind, Recorder, Scope, Selection, Unit};
use ebpf_process_sink_netdata::Encoder;
use parser::Netdata;
use proptest::prelude::*;

/// Counters of the host, some with charts that are known, and rows that come and go.
struct Scene {
    bench: Bench,
    encoder: Encoder,
    netdata: Netdata,
    cells: Vec<Cell>,
    total: u64,
}

fn process() -> EntityKind {
    EntityKind::new("process").keys(["pid"])
}

fn columns() -> [Column; 3] {
    let of =
        |name: &'static str, operation| Column::counter(name, Unit::CALLS, "Calls").labels([("operation", operation)]);
    [of("vfs.calls", "read"), of("vfs.calls", "write"), of("disk.calls", "read")]
}

impl Scene {
    fn new() -> Self {
        let encoder = Encoder::new(Duration::from_secs(1), Scope::Host);
        let mut scene = Self { bench: Bench::new(), encoder, netdata: Netdata::default(), cells: Vec::new(), total: 0 };
        let host = columns().map(|column| scene.bench.host(column));
        let tasks = [("task.exits", None), ("task.releases", None), ("task.started", Some("process"))];
        let tasks = tasks.map(|(name, kind)| {
            let column = Column::counter(name, Unit::TASKS, "Tasks");
            scene.bench.host(column.labels(kind.map(|kind| ("kind", kind))))
        });
        let rows = ["7", "8"].map(|pid| columns().map(|column| scene.bench.cell(&process(), &[pid], column)));
        scene.cells.extend(host.into_iter().chain(tasks).chain(rows.into_iter().flatten()));
        scene
    }

    /// The lines for a view, which netdata takes.
    fn tick(&mut self, selection: &Selection) -> String {
        self.total += 1;
        let Self { bench, encoder, netdata, cells, total } = self;
        let record = |recorder: &mut Recorder| cells.iter().for_each(|cell| cell.counter(recorder, *total));
        let lines =
            bench.tick(selection, record, |view| String::from_utf8(encoder.encode(view).to_vec()).expect("text"));
        netdata.read(lines.as_bytes()).expect("lines that netdata takes");
        lines
    }

    /// The dimensions on the dashboard, each behind its chart; those of one metric are one, however many it takes while
    /// some rest.
    fn dashboard(&self) -> BTreeSet<String> {
        let number = |suffix: &str| suffix.chars().all(|c| c.is_ascii_digit());
        let plain = |chart: &'_ str| match chart.rsplit_once('_') {
            Some((stem, suffix)) if number(suffix) => stem.to_owned(),
            _ => chart.to_owned(),
        };
        let charts = self.netdata.charts.iter().map(|(chart, all)| (plain(chart), all));
        charts.flat_map(|(chart, all)| all.iter().map(move |dimension| format!("{chart} {dimension}"))).collect()
    }
}

/// Lines of this kind.
fn count(lines: &str, with: &str) -> usize {
    lines.lines().filter(|line| line.contains(with)).count()
}

#[test]
fn charts_that_are_not_selected_any_more_go_new_ones_come_and_the_others_are_not_touched() {
    let mut scene = Scene::new();
    let all = Selection::default();
    scene.tick(&all);
    let before = scene.dashboard();
    let lines = scene.tick(&all);
    assert_eq!((count(&lines, "CHART"), count(&lines, "DIMENSION")), (0, 0), "{lines}");
    // One row and one metric less, and one metric by another name.
    let other = Selection {
        exclude: vec!["*disk.calls".to_owned()],
        matching: [("pid".to_owned(), "7".to_owned())].into(),
        rename: [("task.exits".to_owned(), "my.exits".to_owned())].into(),
        ..Selection::default()
    };
    let lines = scene.tick(&other);
    let gone: Vec<_> = before.difference(&scene.dashboard()).cloned().collect();
    let new: Vec<_> = scene.dashboard().difference(&before).cloned().collect();
    assert_eq!(
        gone,
        [
            "ebpf.disk_calls read",
            "ebpf.exit process",
            "ebpf.process_disk_calls_read 7",
            "ebpf.process_disk_calls_read 8",
            "ebpf.process_status zombie",
            "ebpf.process_vfs_calls_read 8",
            "ebpf.process_vfs_calls_write 8",
        ],
        "{lines}"
    );
    assert_eq!(new, ["ebpf.my_exits exits"], "{lines}");
    assert_eq!(count(&lines, "CHART ebpf.io "), 0, "{lines}");
    // And back.
    scene.tick(&all);
    assert_eq!(scene.dashboard(), before);
    let lines = scene.tick(&all);
    assert_eq!((count(&lines, "CHART"), count(&lines, "DIMENSION")), (0, 0), "{lines}");
}

#[test]
fn other_tags_are_other_labels_of_the_same_charts() {
    let mut scene = Scene::new();
    let tagged =
        |value: &str| Selection { tags: [("rack".to_owned(), value.to_owned())].into(), ..Selection::default() };
    scene.tick(&tagged("7"));
    let before = scene.dashboard();
    let lines = scene.tick(&tagged("8"));
    assert_eq!(scene.dashboard(), before);
    let charts = scene.netdata.charts.len();
    assert_eq!(count(&lines, "CLABEL 'rack' '8' 2"), charts, "{lines}");
    assert_eq!((count(&lines, "obsolete"), count(&lines, "'rack' '7'")), (charts, 0), "{lines}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// After any selections the dashboard is that of an agent which had the last one from the start.
    #[test]
    fn the_dashboard_is_that_of_the_last_selection(
        selections in prop::collection::vec((0..4_usize, 0..3_usize, 0..3_usize, 0..2_usize), 1..8),
    ) {
        let select = |(exclude, rename, pid, tag): (usize, usize, usize, usize)| Selection {
            exclude: [None, Some("vfs.*"), Some("process.*"), Some("*calls")][exclude].into_iter().map(str::to_owned).collect(),
            // Two that change their names with one another, and one that takes the name of a chart that is known.
            rename: [
                &[][..],
                &[("disk.calls", "vfs.calls"), ("vfs.calls", "disk.calls")],
                &[("process.vfs.calls", "process.disk.calls"), ("process.disk.calls", "process.vfs.calls")],
            ][rename].iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect(),
            matching: [None, Some("7"), Some("9")][pid].into_iter().map(|pid| ("pid".to_owned(), pid.to_owned())).collect(),
            tags: (tag > 0).then(|| ("rack".to_owned(), "7".to_owned())).into_iter().collect(),
            ..Selection::default()
        };
        let (mut scene, mut fresh) = (Scene::new(), Scene::new());
        for &selection in &selections {
            scene.tick(&select(selection));
        }
        let last = select(selections[selections.len() - 1]);
        fresh.tick(&last);
        prop_assert_eq!(scene.dashboard(), fresh.dashboard());
        prop_assert_eq!(count(&scene.tick(&last), "SET"), count(&fresh.tick(&last), "SET"));
    }
}
