//! Rows: who they are, and what a kind without room makes of them.

#![expect(clippy::trivially_copy_pass_by_ref, reason = "a view comes as a sink gets it")]

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, Cell, no_slots};
use ebpf_process_core::*;

fn thing() -> EntityKind {
    EntityKind::new("thing").keys(["name"])
}

fn calls() -> Column {
    Column::counter("test.calls", Unit::CALLS, "Calls")
}

fn sizes() -> Column {
    Column::histogram("test.sizes", Unit::BYTES, "Sizes")
}

/// A kind with one counter.
#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
fn declared(bench: &mut Bench, kind: &EntityKind) -> (KindId, ColumnId) {
    let kind = bench.kind(kind);
    (kind, bench.recorder().column(kind, calls()).expect("a column"))
}

/// The first label and the total of each counter.
fn totals(view: &View<'_>) -> Vec<(String, u64)> {
    let total = |sample: Sample<'_>| match sample.value() {
        Value::Counter(total) => Some((sample.labels().next()?.1.to_owned(), total)),
        _ => None,
    };
    view.samples().filter_map(total).collect()
}

fn pairs<const N: usize>(expected: [(&str, u64); N]) -> Vec<(String, u64)> {
    expected.map(|(name, total)| (name.to_owned(), total)).to_vec()
}

#[test]
fn labels_that_are_equal_after_cleaning_stay_two_rows() {
    let long = "x".repeat(LABEL_VALUE_LIMIT);
    let names =
        [format!("{long}-big"), format!("{long}-small"), "a\nb".to_owned(), "a_b".to_owned(), "a\tb".to_owned()];
    let labels = |order: &[usize]| {
        let mut bench = Bench::new();
        let cells: Vec<_> = order.iter().map(|&name| (name, bench.cell(&thing(), &[&names[name]], calls()))).collect();
        for (name, cell) in &cells {
            let again = bench.cell(&thing(), &[&names[*name]], calls());
            assert_eq!(again, *cell, "the same one when it is asked for again");
        }
        let total = |name: usize| 10_u64.pow(u32::try_from(name).expect("few"));
        let record =
            |recorder: &mut Recorder| cells.iter().for_each(|(name, cell)| cell.counter(recorder, total(*name)));
        bench.tick(&Selection::default(), record, totals)
    };
    let seen = labels(&[0, 1, 2, 3, 4]);
    assert_eq!(seen.iter().map(|(_, total)| total).sum::<u64>(), 11_111, "nothing is overwritten");
    let distinct: BTreeSet<_> = seen.iter().map(|(label, _)| label).collect();
    assert_eq!(distinct.len(), 5, "{seen:?}");
    assert!(distinct.iter().all(|label| label.len() <= LABEL_VALUE_LIMIT), "{seen:?}");
    assert_eq!((seen[0].0.as_str(), seen[2].0.as_str()), (long.as_str(), "a_b"), "the first one has its name");
    assert_eq!(labels(&[0, 1]), seen[..2], "in every run alike");
}

#[test]
fn an_identity_is_not_its_text() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let (kind, column) = declared(&mut bench, &thing());
    let recorder = bench.recorder();
    let rows = [7, 8, 9].map(|identity| recorder.row(kind, identity, &["same"]).expect("a row"));
    assert_eq!(rows.iter().collect::<HashSet<_>>().len(), 3);
    let record = |recorder: &mut Recorder| {
        for (row, total) in rows.into_iter().zip([1, 20, 300]) {
            recorder.counter(row, column, total);
        }
    };
    let expected = pairs([("same", 1), ("same~0000000000000008", 20), ("same~0000000000000009", 300)]);
    assert_eq!(bench.tick(&all, record, totals), expected);
    // Who has the name first keeps it; the others keep theirs when that one is gone.
    bench.recorder().end(rows[0]);
    bench.tick(&all, |_| (), |_| ());
    let recorder = bench.recorder();
    assert_eq!(recorder.row(kind, 8, &["same"]), Ok(rows[1]));
    let again = recorder.row(kind, 7, &["same"]).expect("a row");
    let record = |recorder: &mut Recorder| {
        recorder.counter(rows[1], column, 21);
        recorder.counter(again, column, 2);
    };
    let mut seen = bench.tick(&all, record, totals);
    seen.sort_unstable();
    assert_eq!(seen, pairs([("same", 2), ("same~0000000000000008", 21)]));
}

#[test]
fn who_takes_the_name_of_a_row_that_was_told_apart_stays_a_row_of_its_own() {
    let names = ["a_b", "a\nb", "a_b~000000000000000b"];
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
        let mut bench = Bench::new();
        let (kind, column) = declared(&mut bench, &thing());
        let rows = order.map(|index| {
            // Whoever names a process may know the number of another.
            let identity = [10, 11, 12][index];
            bench.recorder().row(kind, identity, &[names[index]]).expect("a row")
        });
        let record = |recorder: &mut Recorder| rows.iter().for_each(|row| recorder.counter(*row, column, 1));
        let seen = bench.tick(&Selection::default(), record, totals);
        assert_eq!(seen.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), 3, "{order:?}: {seen:?}");
    }
}

#[test]
fn an_id_of_another_recorder_a_former_row_or_another_kind_is_refused_and_counted() {
    let (mut mine, mut theirs, all) = (Bench::new(), Bench::new(), Selection::default());
    let ends = mine.cell(&thing(), &["ends"], calls());
    let foreign = theirs.cell(&thing(), &["ends"], calls());
    assert_ne!(ends, foreign, "made alike, and yet another one");
    ends.end(mine.recorder());
    mine.tick(&all, |_| (), |_| ());
    // In the place of the one that has ended.
    let cell = mine.cell(&thing(), &["here"], calls());
    let other_kind = mine.cell(&EntityKind::new("else").keys(["name"]), &["there"], calls());
    let level = mine.cell(&thing(), &["here"], Column::gauge("test.level", Unit::ONE, "Level"));
    let record = |recorder: &mut Recorder| {
        let mut refused = 0;
        let wrong = [
            Cell { row: ends.row, ..cell },
            Cell { row: foreign.row, ..cell },
            Cell { column: foreign.column, ..cell },
            foreign,
            Cell { row: other_kind.row, ..cell },
            Cell { column: other_kind.column, ..cell },
            Cell { column: level.column, ..cell },
        ];
        for wrong in wrong {
            wrong.counter(recorder, 99);
            recorder.add(wrong.row, wrong.column, 99);
            wrong.histogram(recorder, &no_slots(), 99);
            recorder.add_histogram(wrong.row, wrong.column, &no_slots(), 99);
            refused += 4;
            assert_eq!(recorder.refusals().values, refused);
        }
        for gone in [ends, foreign] {
            gone.gauge(recorder, 99.0);
            gone.end(recorder);
            refused += 2;
        }
        let host = recorder.host();
        recorder.end(host);
        assert_eq!(recorder.refusals().values, refused + 1, "the host does not end");
        cell.counter(recorder, 1);
        other_kind.counter(recorder, 2);
    };
    assert_eq!(mine.tick(&all, record, totals), pairs([("here", 1), ("there", 2)]));
    let (kind, _) = declared(&mut theirs, &thing());
    assert_eq!(mine.recorder().row(kind, 1, &["x"]), Err(Refused::Foreign));
    assert_eq!(mine.recorder().column(kind, sizes()), Err(Refused::Foreign));
    let host = theirs.recorder().host_kind();
    assert_eq!(mine.recorder().column(host, sizes()), Err(Refused::Foreign));
}

#[test]
fn a_changed_label_ends_the_row_and_begins_another_at_zero() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let (kind, column) = declared(&mut bench, &thing());
    let histogram = bench.recorder().column(kind, sizes()).expect("a column");
    let look = |view: &View<'_>| {
        let shown = |sample: Sample<'_>| {
            let text = match sample.value() {
                Value::Histogram(histogram) => format!("{:?} of {}", histogram.counts(), histogram.sum()),
                value => value.to_string(),
            };
            let end = if sample.row().is_final() { "!" } else { "" };
            format!("{}{end} {text}", sample.labels().next().map_or("", |(_, value)| value))
        };
        view.samples().map(shown).collect::<Vec<_>>()
    };
    let record = |bench: &mut Bench, name: &str, total: u64| {
        let record = |recorder: &mut Recorder| {
            let row = recorder.row(kind, 7, &[name]).expect("a row");
            recorder.counter(row, column, total);
            recorder.histogram(row, histogram, &[total, 2 * total], 3 * total);
        };
        bench.tick(&all, record, look)
    };
    assert_eq!(record(&mut bench, "sh", 5), ["sh 5", "sh [5, 10] of 15"]);
    assert_eq!(record(&mut bench, "sh", 6), ["sh 6", "sh [6, 12] of 18"]);
    // What the same entity did under its new name, and no more.
    let seen = record(&mut bench, "nginx", 16);
    assert_eq!(seen, ["sh! 6", "nginx 10", "sh! [6, 12] of 18", "nginx [10, 20] of 30"]);
    assert_eq!(record(&mut bench, "nginx", 17), ["nginx 11", "nginx [11, 22] of 33"]);
    // Also where nothing was recorded under a name.
    let renamed = bench.recorder().row(kind, 7, &["between"]).expect("a row");
    assert_eq!(record(&mut bench, "sh", 20), ["nginx! 11", "sh 3", "nginx! [11, 22] of 33", "sh [3, 6] of 9"]);
    bench.recorder().counter(renamed, column, 1);
    assert_eq!(bench.recorder().refusals(), Refusals { rows: 0, values: 1, finals: 0 });
}

#[test]
fn what_has_no_row_counts_in_other_which_never_falls() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let (kind, column) = declared(&mut bench, &thing().limit(2));
    let add = |recorder: &mut Recorder, identity: u64, increment| {
        let row = recorder.row(kind, identity, &[&format!("n{identity}")]).expect("a row");
        recorder.add(row, column, increment);
        row
    };
    let four = |recorder: &mut Recorder| (1..=4).map(|identity| add(recorder, identity, identity)).collect::<Vec<_>>();
    let mut rows = Vec::new();
    let seen = bench.tick(&all, |recorder| rows = four(recorder), totals);
    assert_eq!(seen, pairs([("n1", 1), ("n2", 2), ("other", 7)]));
    assert_eq!(rows[2], rows[3]);
    assert_eq!(bench.tick(&all, |recorder| drop(four(recorder)), totals), pairs([("n1", 2), ("n2", 4), ("other", 14)]));
    assert_eq!(bench.recorder().refusals().rows, 2, "each counts once, not once a tick");
    // One ends: who gets its place begins at 0, and what it did before stays where it was.
    let record = |recorder: &mut Recorder| {
        recorder.end(rows[0]);
        four(recorder).into_iter().for_each(drop);
    };
    // The first of the four that asks is the one that has just ended.
    let seen = bench.tick(&all, record, totals);
    assert_eq!(seen, pairs([("n1", 2), ("n2", 6), ("other", 21), ("n1~0000000000000001", 1)]));
    let record = |recorder: &mut Recorder| {
        let mine = recorder.row(kind, 1, &["n1"]).expect("a row");
        recorder.end(mine);
        add(recorder, 3, 30);
        add(recorder, 1, 100);
    };
    let seen = bench.tick(&all, record, totals);
    assert_eq!(seen, pairs([("n1~0000000000000001", 1), ("n3", 30), ("n2", 6), ("other", 121)]));
    assert_eq!(bench.recorder().refusals(), Refusals { rows: 3, values: 0, finals: 0 });
    let refused = |recorder: &mut Recorder| {
        let other = rows[3];
        recorder.counter(other, column, 5);
        recorder.end(other);
        assert_eq!(recorder.refusals().values, 2, "it takes no totals, and does not end");
        recorder.add(other, column, 1);
    };
    assert_eq!(bench.tick(&all, refused, totals), pairs([("n3", 30), ("n2", 6), ("other", 122)]));
}

#[test]
fn an_entity_called_other_is_not_the_row_of_the_others() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let (kind, column) = declared(&mut bench, &thing().limit(1));
    let record = |recorder: &mut Recorder| {
        for identity in [1, 2] {
            let row = recorder.row(kind, identity, &["other"]).expect("a row");
            recorder.add(row, column, identity);
        }
    };
    assert_eq!(bench.tick(&all, record, totals), pairs([("other~0000000000000001", 1), ("other", 2)]));
}

#[test]
fn a_kind_without_room_for_any_row_has_its_other() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let (kind, column) = declared(&mut bench, &thing().limit(0));
    let record = |recorder: &mut Recorder| {
        for identity in 0..1000 {
            let row = recorder.row(kind, identity, &["x"]).expect("a row");
            recorder.add(row, column, 1);
        }
    };
    assert_eq!(bench.tick(&all, record, totals), pairs([("other", 1000)]));
    assert_eq!(bench.recorder().refusals().rows, 1000);
}

#[test]
fn columns_that_come_later_move_no_cell() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let kind = bench.kind(&thing());
    let numbered = |n: u64| -> Column {
        let (name, labels) = (format!("test.m{}", n / 3), [("n", n.to_string())]);
        if n % 7 == 3 {
            Column::histogram(format!("{name}h"), Unit::BYTES, "Sizes").slots(1..=9).labels(labels)
        } else {
            Column::counter(name, Unit::CALLS, "Calls").labels(labels)
        }
    };
    let mut columns: Vec<ColumnId> = Vec::new();
    let mut rows = Vec::new();
    // Each cell's own number, in whatever kind of value.
    let own = |row: usize, column: usize| (row as u64 + 1) * 1000 + column as u64;
    let record = |recorder: &mut Recorder, rows: &[RowId], columns: &[ColumnId]| {
        for (r, row) in rows.iter().enumerate() {
            for (c, column) in columns.iter().enumerate().filter(|(c, _)| (r + c) % 2 == 0) {
                if c % 7 == 3 {
                    recorder.histogram(*row, *column, &[0, 0, 0, own(r, c)], own(r, c) * 10);
                } else {
                    recorder.counter(*row, *column, own(r, c));
                }
            }
        }
    };
    let look = |view: &View<'_>| {
        let cell = |sample: Sample<'_>| {
            let name = sample.labels().next().map_or("", |(_, name)| name);
            let (row, column) = (name[1..].parse::<usize>().expect("a row's name"), sample.column().index());
            match sample.value() {
                Value::Counter(total) => assert_eq!(total, own(row, column), "{name} {column}"),
                Value::Histogram(histogram) => {
                    let expected = (3, &[own(row, column)][..], own(row, column) * 10);
                    assert_eq!((histogram.first(), histogram.counts(), histogram.sum()), expected, "{name} {column}");
                }
                value => panic!("{value:?}"),
            }
            (row, column)
        };
        let cells: BTreeSet<_> = view.samples().map(cell).collect();
        assert_eq!(cells.len(), view.len(), "no cell twice");
        cells
    };
    for (step, count) in [1, 5, 8, 9, 63, 64, 65, 70, 140].into_iter().enumerate() {
        let recorder = bench.recorder();
        for n in columns.len()..count {
            columns.push(recorder.column(kind, numbered(n as u64)).expect("a column"));
        }
        rows.push(recorder.row(kind, step as u64, &[&format!("r{step}")]).expect("a row"));
        let seen = bench.tick(&all, |recorder| record(recorder, &rows, &columns), look);
        let cells = (0..rows.len()).flat_map(|row| (0..count).map(move |column| (row, column)));
        let expected: BTreeSet<_> = cells.filter(|(row, column)| (row + column) % 2 == 0).collect();
        assert_eq!(seen, expected, "with {count} columns");
        // Nothing was recorded: what a row that ends has is what it had.
        let seen = bench.tick(&all, |_| (), look);
        assert!(seen.is_empty());
    }
    let all_ended = |recorder: &mut Recorder| rows.iter().for_each(|row| recorder.end(*row));
    let seen = bench.tick(&all, all_ended, look);
    assert_eq!(seen.len(), rows.len() * columns.len() / 2);
}

#[test]
fn a_row_began_when_the_batch_before_its_first_one_was_made() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let start = Duration::from_secs(1_600_000_000);
    let first = bench.cell(&thing(), &["first"], calls());
    let begins = |view: &View<'_>| {
        let rows = view.kinds().filter(|kind| kind.kind().has_start_times()).flat_map(|kind| kind.rows());
        rows.map(|row| row.started().saturating_sub(start).as_secs()).collect::<Vec<_>>()
    };
    assert_eq!(
        bench.tick(&all, |recorder| first.counter(recorder, 1), begins),
        [0],
        "before the first batch: the start"
    );
    bench.tick(&all, |_| (), |_| ());
    let later = bench.cell(&thing(), &["later"], calls());
    assert_eq!(bench.tick(&all, |recorder| later.counter(recorder, 1), begins), [0, 1]);
    // Under a new name it is a new row.
    let kind = bench.kind(&thing());
    let rename = |recorder: &mut Recorder| {
        recorder.row(kind, identity_of("first"), &["second"]).expect("a row");
    };
    assert_eq!(bench.tick(&all, rename, begins), [0, 1, 2], "the one that has ended first");
}

#[test]
fn what_is_kept_of_a_row_is_there_until_no_view_has_the_row() {
    let (mut bench, mut cache) = (Bench::new(), RowCache::default());
    let mut look = |cell: Cell, bench: &mut Bench, record: &dyn Fn(&mut Recorder)| {
        bench.tick(
            &Selection::default(),
            |recorder| record(recorder),
            |view| {
                cache.update(view, drop);
                for row in view.kinds().flat_map(|kind| kind.rows()) {
                    cache.entry(&row, || row.labels().map(|(_, value)| value.to_owned()).collect::<String>());
                }
            },
        );
        cache.get(cell.row).cloned()
    };
    let first = bench.cell(&thing(), &["a"], calls());
    assert_eq!(look(first, &mut bench, &|recorder| first.counter(recorder, 1)).as_deref(), Some("a"));
    assert_eq!(look(first, &mut bench, &|recorder| first.end(recorder)).as_deref(), Some("a"), "it is final");
    let second = bench.cell(&thing(), &["a"], calls());
    assert_eq!(look(first, &mut bench, &|recorder| second.counter(recorder, 1)), None);
    assert_eq!(look(second, &mut bench, &|_| ()).as_deref(), Some("a"));
}

#[test]
fn a_refusal_counts_once_however_many_others_come_and_go() {
    let mut bench = Bench::new();
    let kind = bench.kind(&thing().limit(0));
    for tick in 1..=8_u64 {
        let record = |recorder: &mut Recorder| {
            // Some that stay and ask at each tick, and many that ask twice and are seen no more.
            let passing = (tick * 20_000..(tick + 1) * 20_000).flat_map(|identity| [identity, identity]);
            for identity in (0..100).chain(passing) {
                recorder.row(kind, identity, &["x"]).expect("the row of the others");
            }
        };
        bench.tick(&Selection::default(), record, |_| ());
        assert_eq!(bench.recorder().refusals().rows, 100 + tick * 20_000);
    }
}

#[test]
fn rows_that_are_gone_cost_a_batch_nothing() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let (kind, column) = declared(&mut bench, &thing().limit(20_000));
    let stays = bench.recorder().row(kind, u64::MAX, &["stays"]).expect("a row");
    let mut tick = |crowd: u64| {
        let record = |recorder: &mut Recorder| {
            recorder.counter(stays, column, crowd);
            for identity in 0..crowd {
                let row = recorder.row(kind, identity, &[&identity.to_string()]).expect("a row");
                recorder.counter(row, column, 1);
                recorder.end(row);
            }
        };
        let len = bench.tick(&all, record, |view| view.samples().count());
        (len, bench.batch().memory())
    };
    let (_, before) = tick(0);
    let (len, crowded) = tick(10_000);
    assert_eq!(len, 10_001);
    assert!(crowded > 10_000 * 16, "{crowded}");
    // The batch of the crowd still has its place for it, the next one has not.
    let (len, after) = (0..2).map(|_| tick(0)).last().expect("two");
    assert_eq!(len, 1);
    assert!(after <= before + 64, "{before} bytes before, {after} after");
}
