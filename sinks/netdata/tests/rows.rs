//! The charts of rows that come and go, byte for byte and by what they cost.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ebpf-process-sink-netdata` writes the golden file anew; look at the difference before
//! you keep it.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod parser;

use std::collections::BTreeSet;
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, golden};
use ebpf_process_core::{Column, ColumnId, EntityKind, KindId, Recorder, RowId, Scope, Selection, Unit};
use ebpf_process_sink_netdata::Encoder;
use parser::Netdata;

/// Rows of one kind with these columns, and netdata.
struct Scene {
    bench: Bench,
    kind: KindId,
    columns: Vec<ColumnId>,
    encoder: Encoder,
    netdata: Netdata,
    selection: Selection,
}

impl Scene {
    fn new(kind: EntityKind, columns: impl IntoIterator<Item = Column>) -> Self {
        let mut bench = Bench::new();
        let kind = bench.recorder().kind(kind).expect("a kind");
        let columns = columns.into_iter().map(|column| bench.recorder().column(kind, column).expect("a column"));
        let columns = columns.collect();
        let encoder = Encoder::new(Duration::from_secs(1), Scope::Host);
        Self { bench, kind, columns, encoder, netdata: Netdata::default(), selection: Selection::default() }
    }

    fn row(&mut self, identity: u64, labels: &[&str]) -> RowId {
        self.bench.recorder().row(self.kind, identity, labels).expect("a row")
    }

    /// The lines for a view, which netdata takes, and how many samples have none.
    fn tick(&mut self, record: impl FnOnce(&mut Recorder, &[ColumnId])) -> (String, u64) {
        let Self { bench, columns, encoder, netdata, selection, .. } = self;
        let lines = bench.tick(
            selection,
            |recorder| record(recorder, columns),
            |view| String::from_utf8(encoder.encode(view).to_vec()).expect("text"),
        );
        netdata.read(lines.as_bytes()).expect("lines that netdata takes");
        (lines, encoder.rejected())
    }

    fn lines(&mut self, record: impl FnOnce(&mut Recorder, &[ColumnId])) -> String {
        self.tick(record).0
    }
}

fn process() -> EntityKind {
    EntityKind::new("process").keys(["pid", "comm"]).limit(20_000)
}

fn calls(operation: &'static str) -> Column {
    Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", operation)])
}

#[test]
fn rows_that_come_end_and_return() {
    let time = Column::counter("cpu.time", Unit::SECONDS, "Time on a processor").scale(1e-9);
    let latency = Column::histogram("vfs.latency", Unit::SECONDS, "Time of a call").scale(1e-9);
    let level = Column::gauge("memory.level", Unit::BYTES, "Memory");
    let info = Column::gauge("info", Unit::ONE, "What it is");
    let mut scene = Scene::new(process(), [calls("read"), calls("write"), time, latency, level, info]);
    scene.selection.tags = [("rack".to_owned(), "7".to_owned())].into();
    let sh = scene.row(1, &["1", "sh"]);
    let mut output = String::new();
    let mut tick = |scene: &mut Scene, name: &str, record: &dyn Fn(&mut Recorder, &[ColumnId])| {
        output.extend(["---- ", name, "\n", &scene.lines(record)]);
    };
    tick(&mut scene, "one row, not all of its cells", &|recorder, columns| {
        recorder.counter(sh, columns[0], 7);
        recorder.counter(sh, columns[2], 1_500_000_000);
        recorder.histogram(sh, columns[3], &[0, 0, 3, 1], 29);
        recorder.gauge(sh, columns[4], 0.5);
        recorder.gauge(sh, columns[5], 1.0);
    });
    let ls = scene.row(2, &["2", "l s"]);
    tick(&mut scene, "another, and one cell more of the first", &|recorder, columns| {
        recorder.counter(ls, columns[0], 1);
        recorder.counter(sh, columns[0], 8);
        recorder.counter(sh, columns[1], 1);
    });
    tick(&mut scene, "the first ends", &|recorder, columns| {
        recorder.counter(sh, columns[0], 9);
        recorder.end(sh);
    });
    let again = scene.row(3, &["1", "sh"]);
    tick(&mut scene, "one comes back under its name", &|recorder, columns| {
        recorder.counter(again, columns[0], 1);
        recorder.end(ls);
    });
    tick(&mut scene, "the second is gone", &|recorder, columns| recorder.counter(again, columns[0], 2));
    tick(&mut scene, "no row is left", &|recorder, _| recorder.end(again));
    tick(&mut scene, "and no chart", &|_, _| ());
    tick(&mut scene, "nothing", &|_, _| ());
    assert!(scene.netdata.charts.is_empty(), "{:?}", scene.netdata.charts);
    golden::compare("rows.txt", &output);
}

/// So many rows that count.
fn many(scene: &mut Scene, rows: std::ops::Range<u64>) -> Vec<RowId> {
    rows.map(|number| scene.row(number, &[&number.to_string(), "program"])).collect()
}

#[test]
fn what_is_new_is_told_and_nothing_else() {
    let mut scene = Scene::new(process(), [calls("read")]);
    let mut rows = many(&mut scene, 0..10_000);
    let count = |rows: &[RowId], recorder: &mut Recorder, columns: &[ColumnId]| {
        for row in rows {
            recorder.counter(*row, columns[0], 7);
        }
    };
    let first = scene.lines(|recorder, columns| count(&rows, recorder, columns));
    let still = scene.lines(|recorder, columns| count(&rows, recorder, columns));
    assert_eq!((first.matches("DIMENSION").count(), still.matches("DIMENSION").count()), (10_000, 0));

    // One row more: its chart, its dimension and its value, which may need a chart of its own.
    rows.extend(many(&mut scene, 10_000..10_001));
    let more = scene.lines(|recorder, columns| count(&rows, recorder, columns));
    let news = more.len() - still.len();
    assert!(news < 300, "{news} bytes for one row beside {}", still.len());

    // One row ends: its last value, then the end of its dimension.
    let before = scene.lines(|recorder, columns| count(&rows, recorder, columns));
    let ended = rows.remove(5000);
    let last = scene.lines(|recorder, columns| {
        count(&rows, recorder, columns);
        recorder.counter(ended, columns[0], 7);
        recorder.end(ended);
    });
    assert_eq!(last, before, "as without an end");
    let after = scene.lines(|recorder, columns| count(&rows, recorder, columns));
    assert_eq!((after.matches("DIMENSION").count(), after.matches("CHART").count()), (1, 1));
    assert!(after.contains("DIMENSION 5000_program '5000_program' incremental 1 1 obsolete\n"));
}

#[test]
fn ten_thousand_rows_are_a_handful_of_charts_of_bounded_size() {
    let mut scene = Scene::new(process(), ["open", "close", "read", "write", "delete"].map(calls));
    let rows = many(&mut scene, 0..10_000);
    let (lines, rejected) = scene.tick(|recorder, columns| {
        for row in rows {
            for column in columns {
                recorder.counter(row, *column, 1);
            }
        }
    });
    let charts = &scene.netdata.charts;
    assert_eq!((charts.len(), rejected), (5 * 157, 0), "64 dimensions each");
    assert!(charts.values().all(|dimensions| dimensions.len() <= 64));
    assert_eq!(charts.values().map(BTreeSet::len).sum::<usize>(), 50_000);
    let contexts: BTreeSet<_> = lines.lines().filter(|line| line.starts_with("CHART")).map(context).collect();
    assert_eq!(contexts.len(), 5, "the charts of one column are of one context");
}

/// The context of a CHART line.
fn context(line: &str) -> &str {
    line.split(' ').rev().nth(6).expect("a context")
}

#[test]
fn what_needs_a_chart_too_many_is_rejected_until_there_is_room() {
    // 64 times 64 rows; the first of each 64 is in all columns, the others in one.
    let columns = (0..1032).map(|number| Column::counter(format!("load.calls_{number}"), Unit::CALLS, "Calls"));
    let mut scene = Scene::new(process(), columns);
    let rows = many(&mut scene, 0..64 * 64);
    let (_, rejected) = scene.tick(|recorder, columns| {
        for (number, row) in rows.iter().enumerate() {
            let used = if number % 64 > 0 { 1 } else { 1024 };
            columns[..used].iter().for_each(|column| recorder.counter(*row, *column, 1));
        }
        columns[1024..].iter().for_each(|column| recorder.counter(rows[0], *column, 1));
    });
    // The first row's last eight came before the last rows.
    assert_eq!((rejected, scene.netdata.charts.len()), (8, 65_536));
    let more = |recorder: &mut Recorder, columns: &[ColumnId]| recorder.counter(rows[64], columns[1031], 1);
    assert_eq!(scene.tick(more).1, 1, "each time");
    scene.lines(|recorder, _| rows[4032..].iter().for_each(|row| recorder.end(*row)));
    scene.lines(|_, _| ());
    assert_eq!(scene.netdata.charts.len(), 65_536 + 8 - 1024);
    let (lines, rejected) = scene.tick(more);
    assert!(rejected == 0 && lines.contains("SET 64_program = 1\n"), "{rejected}, {lines}");
}

/// Fifty thousand rows of forty columns, of which so many are replaced at each tick, at most half of them: every tenth, then
/// those beside them. Nothing is rejected. Returns how many charts there were in each view. Each row counts in four columns.
fn charts_with_replaced(replaced: usize) -> Vec<usize> {
    let columns = (0..40).map(|number| Column::counter(format!("load.calls_{number}"), Unit::CALLS, "Calls"));
    let mut scene = Scene::new(process().limit(100_000), columns);
    let mut rows = many(&mut scene, 0..50_000);
    let charts = (1..=3_u64).map(|tick| {
        let (_, rejected) = scene.tick(|recorder, columns| {
            for (number, row) in rows.iter().enumerate() {
                for more in [0, 10, 20, 30] {
                    recorder.counter(*row, columns[(number + number / 10 + more) % 40], tick);
                }
            }
        });
        assert_eq!(rejected, 0, "at tick {tick}");
        for number in 0..replaced {
            let place = (number * 10) % 50_000 + number / 5000;
            scene.bench.recorder().end(rows[place]);
            rows[place] = scene.row(tick * 50_000 + number as u64, &[&format!("{tick}-{number}"), "program"]);
        }
        scene.netdata.charts.len()
    });
    charts.collect()
}

#[test]
fn fifty_thousand_rows_of_forty_columns_have_their_charts_however_many_are_replaced() {
    // Beside those of rows that live there are those of rows that end in this view and in the one before.
    assert_eq!(charts_with_replaced(5000), [31_280, 34_400, 37_520]);
    assert_eq!(charts_with_replaced(25_000), [31_280, 46_880, 62_520]);
}

#[test]
fn rows_that_are_equal_after_cleaning_stay_apart() {
    let mut scene = Scene::new(EntityKind::new("unit").keys(["name"]), [calls("read")]);
    let names = ["a b", "a/b", "a_b", "a=b"];
    let rows: Vec<_> = names.iter().zip(0..).map(|(name, identity)| scene.row(identity, &[name])).collect();
    let lines = scene.lines(|recorder, columns| {
        rows.iter().zip(1..).for_each(|(row, total)| recorder.counter(*row, columns[0], total));
    });
    let sets: BTreeSet<_> = lines.lines().filter_map(|line| line.strip_prefix("SET ")).collect();
    let ids: BTreeSet<_> = sets.iter().filter_map(|set| set.split(' ').next()).collect();
    assert_eq!((ids.len(), sets.len()), (4, 4), "{lines}");
    // Who comes back at once as somebody else is not taken for who has gone.
    scene.lines(|recorder, _| recorder.end(rows[0]));
    let other = scene.row(9, &["a'b"]);
    let lines = scene.lines(|recorder, columns| recorder.counter(other, columns[0], 5));
    assert!(lines.contains("DIMENSION a_b 'a b' incremental 1 1 obsolete\n"), "{lines}");
    assert!(lines.contains("DIMENSION a_b_ba533c82a782b5eb 'a_b' incremental 1 1\n"), "{lines}");
}

#[test]
fn a_view_in_which_nothing_comes_or_goes_tells_values_only() {
    let mut scene = Scene::new(process(), [calls("read"), calls("write")]);
    let rows = many(&mut scene, 0..300);
    let mut tick = |touched: usize| {
        scene.lines(|recorder, columns| {
            for (index, row) in rows.iter().enumerate() {
                recorder.counter(*row, columns[index % touched], 7);
            }
        })
    };
    tick(2);
    for (lines, begins) in [(tick(1), 5), (tick(2), 10)] {
        let firsts: BTreeSet<_> = lines.lines().filter_map(|line| line.split(' ').next()).collect();
        let news = begins == 5;
        assert_eq!(firsts.contains("DIMENSION"), news, "cells that had no value before have it now");
        assert_eq!(lines.matches("BEGIN").count(), begins, "a chart without a value has no block");
    }
}

#[test]
fn a_chart_whose_dimensions_go_gets_no_new_ones_for_fifteen_seconds() {
    let mut scene = Scene::new(process(), [calls("read")]);
    let mut rows = many(&mut scene, 0..30);
    let mut number = 30;
    let mut tick = |ends: bool| {
        let ended = ends.then(|| rows.remove(0));
        scene.lines(|recorder, columns| {
            for row in &rows {
                recorder.counter(*row, columns[0], 7);
            }
            if let Some(row) = ended {
                recorder.end(row);
            }
        });
        rows.extend(many(&mut scene, number..number + 1));
        number += 1;
        let lines = scene.lines(|recorder, columns| recorder.counter(rows[rows.len() - 1], columns[0], 7));
        lines.lines().rfind(|line| line.starts_with("CHART")).expect("a chart").contains("vfs_calls_read_2 ")
    };
    assert!(!tick(false), "where there is room");
    assert!(tick(true), "not where netdata may be removing one");
    let back = (0..20).position(|_| !tick(false));
    assert_eq!(back, Some(7), "after eight times two seconds");
}

#[test]
fn control_groups_are_called_by_what_is_in_them() {
    let keys = ["cgroup", "unit", "container", "pod", "namespace", "container_name"];
    let mut scene = Scene::new(EntityKind::new("cgroup").keys(keys), [calls("read")]);
    let id = "0123456789abcdef".repeat(4);
    let docker = format!("/system.slice/docker-{id}.scope");
    let pod = format!("/kubepods/pod8dbc5577-d0e2-4706-8787-57d52c03ddf2/{id}");
    let rows = [
        ["/system.slice/nginx.service", "nginx.service", "_", "_", "_", "_"],
        // One of another manager, whose unit has the same name for a reader.
        ["/other.slice/nginx.service", "nginx.service", "_", "_", "_", "_"],
        [&docker, "_", &id, "_", "_", "_"],
        [&pod, "_", &id, "shop-1", "default", "web"],
        ["/", "_", "_", "_", "_", "_"],
        ["unknown:7", "_", "_", "_", "_", "_"],
        ["other"; 6],
    ];
    let rows: Vec<_> = rows.iter().zip(0..).map(|(labels, identity)| scene.row(identity, labels)).collect();
    let mut output = scene.lines(|recorder, columns| {
        rows.iter().zip(1..).for_each(|(row, total)| recorder.counter(*row, columns[0], total));
    });
    output += "---- the container gets its name\n";
    let named = scene.row(9, &[&docker, "_", &id, "_", "_", "web"]);
    output += &scene.lines(|recorder, columns| {
        recorder.end(rows[2]);
        recorder.counter(named, columns[0], 8);
    });
    golden::compare("cgroups.txt", &output);
}
