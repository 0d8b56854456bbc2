//! What a sink may rely on when it looks at a batch.

#![expect(clippy::trivially_copy_pass_by_ref, reason = "a view comes as a sink gets it")]

use ebpf_process_core::testkit::{Bench, Cell};
use ebpf_process_core::*;

fn kind(name: &'static str) -> EntityKind {
    EntityKind::new(name).keys(["pid", "comm"])
}

fn calls(operation: &str) -> Column {
    Column::counter("test.calls", Unit::CALLS, "Calls").labels([("operation", operation)])
}

/// Name, labels, value, and a mark for rows that have ended.
fn shown(view: &View<'_>) -> Vec<String> {
    let shown = |sample: Sample<'_>| {
        let end = if sample.row().is_final() { "!" } else { "" };
        format!("{}{end} {} {}", sample.name(), sample.labels(), sample.value())
    };
    view.samples().map(shown).collect()
}

#[test]
fn a_view_selects_renames_prefixes_and_tags() {
    let mut bench = Bench::new();
    let a = bench.cell(&kind("process"), &["7", "sh"], calls("read"));
    let b = bench.host(Column::counter("other.calls", Unit::CALLS, "Calls"));
    let selection = Selection {
        exclude: vec!["other.*".into()],
        rename: [("process.test.calls".to_owned(), "calls".to_owned())].into(),
        prefix: "my.".into(),
        tags: [("env".to_owned(), "prod".to_owned()), ("pid".to_owned(), "taken".to_owned())].into(),
        ..Selection::default()
    };
    let record = |recorder: &mut Recorder| {
        a.counter(recorder, 1);
        b.counter(recorder, 1);
    };
    bench.tick(&selection, record, |view| {
        let metrics: Vec<_> = view.metrics().collect();
        assert_eq!(metrics.len(), 1);
        assert_eq!((metrics[0].name(), metrics[0].own_name().as_str()), ("my.calls", "process.test.calls"));
        // A tag does not displace a label.
        assert_eq!(metrics[0].tags().collect::<Vec<_>>(), [("env", "prod")]);
        assert_eq!(shown(view), ["my.calls pid=7,comm=sh,operation=read,env=prod 1"]);
        let sample = view.samples().next().expect("one");
        assert_eq!(sample.own_labels().collect::<Vec<_>>(), [("pid", "7"), ("comm", "sh"), ("operation", "read")]);
    });
}

/// A host's cell, cells of two kinds, one of them of a row that ends; and what all of it looks like.
fn scene(selection: &Selection) -> (Vec<String>, usize, u64) {
    let mut bench = Bench::new();
    let host = bench.host(calls("read"));
    let cell = |bench: &mut Bench, of: &'static str, pid: &str, comm: &str, operation: &str| -> Cell {
        bench.cell(&kind(of), &[pid, comm], calls(operation))
    };
    let living = cell(&mut bench, "process", "1", "nginx: master", "read");
    let writes = cell(&mut bench, "process", "1", "nginx: master", "write");
    let ends = cell(&mut bench, "process", "2", "nginx", "read");
    let shell = cell(&mut bench, "process", "3", "sh", "read");
    let group = cell(&mut bench, "cgroup", "4", "nginx", "read");
    let group_ends = cell(&mut bench, "cgroup", "5", "sh", "read");
    let record = |recorder: &mut Recorder| {
        for (cell, total) in [host, living, writes, ends, shell, group, group_ends].into_iter().zip(1..) {
            cell.counter(recorder, total);
        }
        for cell in [ends, shell, group_ends] {
            cell.end(recorder);
        }
    };
    bench.tick(selection, record, |view| (shown(view), view.len(), view.tick().seq))
}

#[test]
fn kinds_and_labels_choose_among_living_and_ended_rows_alike() {
    let host = "test.calls operation=read 1";
    let nginx = [
        "process.test.calls! pid=2,comm=nginx,operation=read 4",
        "process.test.calls pid=1,comm=nginx: master,operation=read 2",
    ];
    let writes = "process.test.calls pid=1,comm=nginx: master,operation=write 3";
    let shell = "process.test.calls! pid=3,comm=sh,operation=read 5";
    let groups =
        ["cgroup.test.calls! pid=5,comm=sh,operation=read 7", "cgroup.test.calls pid=4,comm=nginx,operation=read 6"];
    let all = Selection::default();
    let expect = |selection: &Selection, expected: &[&str]| {
        let (seen, len, _) = scene(selection);
        assert_eq!(seen, expected, "{selection:?}");
        assert_eq!(len, expected.len(), "{selection:?}");
    };
    expect(&all, &[host, nginx[0], shell, nginx[1], writes, groups[0], groups[1]]);
    let unasked = Selection { unasked: vec!["process".into()], ..all.clone() };
    expect(&unasked, &[host, groups[0], groups[1]]);
    let asked = Selection { kinds: Some(vec!["process".into()]), ..unasked };
    expect(&asked, &[nginx[0], shell, nginx[1], writes]);
    let matching = |pairs: &[(&str, &str)], selection: Selection| Selection {
        matching: pairs.iter().map(|(key, pattern)| ((*key).to_owned(), (*pattern).to_owned())).collect(),
        ..selection
    };
    expect(&matching(&[("comm", "nginx*")], asked.clone()), &[nginx[0], nginx[1], writes]);
    expect(&matching(&[("comm", "nginx*"), ("operation", "write")], asked), &[writes]);
    expect(&matching(&[("comm", "sh")], all.clone()), &[host, shell, groups[0]]);
    expect(&matching(&[("pid", "?"), ("operation", "w*")], all.clone()), &[writes]);
    let none = Selection { kinds: Some(Vec::new()), ..all.clone() };
    expect(&none, &[]);
    let exclude = Selection { exclude: vec!["process.*".into()], ..all };
    expect(&exclude, &[host, groups[0], groups[1]]);
}

#[test]
fn a_view_is_the_same_by_row_by_metric_and_flat() {
    let mut bench = Bench::new();
    let mut cells = Vec::new();
    for row in 0..7 {
        for column in 0..70 {
            let metric = Column::counter(format!("test.m{}", column / 4), Unit::CALLS, "Calls");
            let metric = metric.labels([("c", column.to_string())]);
            cells.push(bench.cell(&kind("process"), &[&row.to_string(), "x"], metric));
        }
    }
    let record = |recorder: &mut Recorder| {
        for (total, cell) in cells.iter().enumerate().filter(|(index, _)| index % 3 != 0) {
            cell.counter(recorder, total as u64);
        }
        cells[70].end(recorder);
    };
    let selection = Selection { exclude: vec!["*.m2".into(), "*.m17".into()], ..Selection::default() };
    bench.tick(&selection, record, |view| {
        let mut flat = shown(view);
        assert_eq!(flat.len(), view.len());
        let kinds = || view.kinds().flat_map(|kind| kind.rows().map(move |row| (kind, row)));
        let mut by_row: Vec<_> = kinds()
            .flat_map(|(kind, row)| {
                row.cells().map(move |(column, value)| {
                    let (column, end) = (kind.column(column).expect("taken"), if row.is_final() { "!" } else { "" });
                    let labels = row.labels().chain(column.column().own_labels());
                    let labels: Vec<_> = labels.map(|(key, value)| format!("{key}={value}")).collect();
                    format!("{}{end} {} {value}", column.name(), labels.join(","))
                })
            })
            .collect();
        flat.sort_unstable();
        by_row.sort_unstable();
        assert_eq!(flat, by_row);
        let columns: Vec<_> = view.kinds().flat_map(|kind| kind.columns().map(|column| column.index())).collect();
        assert_eq!(columns, (0..70).filter(|column| ![2, 17].contains(&(column / 4))).collect::<Vec<_>>());
    });
}

#[test]
fn a_kept_view_stays_as_it_was_while_the_agent_goes_on() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let stays = bench.cell(&kind("process"), &["1", "stays"], calls("read"));
    let ends = bench.cell(&kind("process"), &["2", "ends"], calls("read"));
    let sizes = bench.cell(&kind("process"), &["1", "stays"], Column::histogram("test.sizes", Unit::BYTES, "Sizes"));
    let record = |recorder: &mut Recorder| {
        stays.counter(recorder, 1);
        ends.counter(recorder, 2);
        sizes.histogram(recorder, &[1, 2, 3], 14);
        ends.end(recorder);
    };
    let (kept, before) = bench.tick(&all, record, |view| (view.keep(), shown(view)));
    assert_eq!(before.len(), 3);
    for total in 2..40_u64 {
        // Another row in the place of the one that has ended, another column, other totals.
        let next = bench.cell(&kind("process"), &[&total.to_string(), "next"], calls(&total.to_string()));
        let record = |recorder: &mut Recorder| {
            stays.counter(recorder, total);
            sizes.histogram(recorder, &[total; 64], total);
            next.counter(recorder, total);
            next.end(recorder);
        };
        bench.tick(&all, record, |view| assert_eq!(view.len(), 3));
        assert_eq!((shown(&kept.view()), kept.view().tick().seq), (before.clone(), 0));
    }
}

#[test]
fn what_is_kept_by_row_and_by_column_lasts_as_long_as_they_do() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let (mut rows, mut columns) = (RowCache::default(), ColumnCache::default());
    let mut look = |view: &View<'_>| {
        let (mut gone, mut made) = (Vec::new(), Vec::new());
        rows.update(view, |name: String| gone.push(name));
        for kind in view.kinds() {
            for row in kind.rows() {
                let name = || row.labels().map(|(_, value)| value).collect::<Vec<_>>().join(" ");
                let kept = rows.entry(&row, || {
                    made.push(name());
                    name()
                });
                assert_eq!(*kept, name(), "never another's");
                for (index, _) in row.cells() {
                    let column = kind.column(index).expect("taken");
                    let text = column.column().own_labels().next().map(|(_, value)| value.to_owned());
                    assert_eq!(*columns.entry(&column, || text.clone()), text, "never another's");
                }
            }
        }
        (made.join(","), gone.join(","))
    };
    let a = bench.cell(&kind("process"), &["1", "a"], calls("read"));
    let b = bench.cell(&kind("cgroup"), &["1", "b"], calls("read"));
    let pair = |made: &str, gone: &str| (made.to_owned(), gone.to_owned());
    let record = |recorder: &mut Recorder| [a, b].iter().for_each(|cell| cell.counter(recorder, 1));
    assert_eq!(bench.tick(&all, record, &mut look), pair("1 a,1 b", ""));
    assert_eq!(bench.tick(&all, record, &mut look), pair("", ""));
    // It has what was kept for it when its end comes, and loses it after that.
    a.end(bench.recorder());
    assert_eq!(bench.tick(&all, |_| (), &mut look), pair("", ""));
    let c = bench.cell(&kind("process"), &["1", "c"], calls("write"));
    assert_eq!(bench.tick(&all, |recorder| c.counter(recorder, 1), &mut look), pair("1 c", "1 a"));
    // One that is new and over at once.
    let d = bench.cell(&kind("process"), &["1", "d"], calls("read"));
    let record = |recorder: &mut Recorder| {
        d.counter(recorder, 1);
        d.end(recorder);
        c.end(recorder);
    };
    assert_eq!(bench.tick(&all, record, &mut look), pair("1 d", ""));
    let mut seen = bench.tick(&all, |_| (), &mut look);
    let mut names: Vec<_> = seen.1.split(',').collect();
    names.sort_unstable();
    seen.1 = names.join(",");
    assert_eq!(seen, pair("", "1 c,1 d"));
    assert_eq!(rows.values_mut().count(), 1);
    assert_eq!(rows.get_mut(b.row).map(|name| name.as_str()), Some("1 b"));
    assert_eq!(rows.get_mut(a.row), None);
}

#[test]
fn a_suffix_that_tells_two_rows_apart_hides_none_from_a_pattern() {
    let mut bench = Bench::new();
    let kind = bench.kind(&EntityKind::new("app").keys(["app"]));
    let recorder = bench.recorder();
    let column = recorder.column(kind, Column::counter("a.calls", Unit::CALLS, "Calls")).expect("a column");
    let rows = [(1, "nginx"), (2, "nginx"), (3, "nginx~2"), (4, "sh")]
        .map(|(identity, name)| recorder.row(kind, identity, &[name]).expect("a row"));
    let selection = Selection { matching: [("app".to_owned(), "nginx".to_owned())].into(), ..Selection::default() };
    let record = |recorder: &mut Recorder| rows.iter().for_each(|row| recorder.counter(*row, column, 1));
    let ids = bench.tick(&selection, record, |view| {
        view.kinds().flat_map(|kind| kind.rows()).map(|row| row.id()).collect::<Vec<_>>()
    });
    assert_eq!(ids, rows[..2]);
}
