//! A sink that wants the most active rows alone: nothing is lost, and nobody moves about.

mod totals;
mod workshop;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ebpf_process_core::testkit::Bench;
use ebpf_process_core::*;
use proptest::prelude::*;
use totals::{Totals, totals};
use workshop::{Workshop, deeds};

fn of_things(top: usize) -> Selection {
    Selection { top: [("thing".to_owned(), top)].into(), ..Selection::default() }
}

proptest! {
    #[test]
    fn rows_with_a_place_and_the_others_gain_what_the_host_gains(
        ticks in prop::collection::vec(deeds(), 1..4),
        limit in 0usize..13,
        top in 1usize..7,
    ) {
        let mut bench = Bench::new();
        let mut workshop = Workshop::new(bench.recorder(), limit);
        let mut last: HashMap<RowId, Totals> = HashMap::new();
        let mut ended = HashSet::new();
        let mut starts: HashMap<Vec<String>, Duration> = HashMap::new();
        for (tick, deeds) in ticks.iter().flatten().enumerate() {
            let record = |recorder: &mut Recorder| workshop.tick(recorder, deeds);
            let gains = bench.tick(&of_things(top), record, |view| {
                let flat = view.samples().count();
                assert!(flat == view.len(), "{flat} samples, {} said", view.len());
                let of_kind = |kind: KindView<'_>| {
                    let (mut texts, mut ids, mut sum) = (HashSet::new(), HashSet::new(), Totals::default());
                    for row in kind.rows() {
                        let text: Vec<String> = row.labels().map(|(_, value)| value.to_owned()).collect();
                        assert!(ids.insert(row.id()) && !ended.contains(&row.id()), "a row twice");
                        ended.extend(row.is_final().then_some(row.id()));
                        let before = last.get(&row.id()).copied().unwrap_or_default();
                        let now = totals(&row, before);
                        sum = std::array::from_fn(|index| sum[index] + now[index] - before[index]);
                        if last.insert(row.id(), now).is_none() && kind.index() > 0 {
                            // Of equal text, the later one begins later.
                            let earlier = starts.insert(text.clone(), row.started());
                            assert!(earlier.is_none_or(|earlier| earlier < row.started()), "{text:?} twice at once");
                        }
                        assert!(texts.insert(text), "two rows of one name");
                    }
                    let living = kind.rows().filter(|row| !row.is_final()).count();
                    assert!(kind.index() == 0 || living <= top + 1, "{living} rows");
                    sum
                };
                view.kinds().map(of_kind).collect::<Vec<_>>()
            });
            prop_assert_eq!(gains[0], gains[1], "tick {}", tick);
        }
    }
}

/// Things that count calls and bytes and have a level.
struct Things {
    bench: Bench,
    kind: KindId,
    columns: [ColumnId; 3],
}

/// What a sink sees of a row: its name, its calls, its level, whether it has ended, and when it began.
type Seen = (String, Option<u64>, Option<f64>, bool, u64);

#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
impl Things {
    fn new() -> Self {
        let mut bench = Bench::new();
        let kind = bench.kind(&EntityKind::new("thing").keys(["name"]).limit(8));
        let columns = [
            Column::counter("a.calls", Unit::CALLS, "Calls"),
            Column::counter("a.bytes", Unit::BYTES, "Bytes"),
            Column::gauge("a.level", Unit::ONE, "Level"),
        ];
        let columns = columns.map(|column| bench.recorder().column(kind, column).expect("a column"));
        Self { bench, kind, columns }
    }

    /// A tick in which these gain so many calls, and a thousandth as many bytes less; those in `ends` end.
    fn tick(&mut self, selection: &Selection, gains: &[(&str, u64)], ends: &[&str]) -> Vec<Seen> {
        let Self { bench, kind, columns: [calls, bytes, level] } = self;
        let row = |recorder: &mut Recorder, name| recorder.row(*kind, identity_of(name), &[name]).expect("a row");
        let record = |recorder: &mut Recorder| {
            for (name, gain) in gains {
                let row = row(recorder, name);
                recorder.add(row, *calls, *gain);
                recorder.add(row, *bytes, 1_000_000 / (gain + 1));
                recorder.gauge(row, *level, 0.5);
            }
            for name in ends {
                let row = row(recorder, name);
                recorder.end(row);
            }
        };
        let begin = Duration::from_secs(1_600_000_000);
        bench.tick(selection, record, |view| {
            let kinds = view.kinds().filter(|kind| kind.kind().name() == "thing");
            let rows = kinds.flat_map(|kind| kind.rows().collect::<Vec<_>>());
            let seen = |row: RowView<'_>| {
                let name = row.labels().map(|(_, value)| value).collect();
                let calls = row.value(0).map(|value| if let Value::Counter(total) = value { total } else { 0 });
                let level = row.value(2).map(|value| if let Value::Gauge(level) = value { level } else { 0.0 });
                (name, calls, level, row.is_final(), row.started().saturating_sub(begin).as_secs())
            };
            let mut rows: Vec<Seen> = rows.map(seen).collect();
            // Those that have ended come first anyway; which place a row has is nobody's business.
            rows.sort_by_key(|(name, _, _, ended, _)| (!ended, name == "other"));
            rows
        })
    }
}

fn seen(name: &str, calls: u64, level: Option<f64>, is_final: bool, started: u64) -> Seen {
    (name.to_owned(), Some(calls), level, is_final, started)
}

#[test]
fn a_row_that_gets_a_place_begins_at_nothing_and_one_that_loses_it_ends() {
    let (mut things, top) = (Things::new(), of_things(1));
    let first = things.tick(&top, &[("a", 100), ("b", 10)], &[]);
    assert_eq!(first, [seen("a", 100, Some(0.5), false, 0), seen("other", 10, None, false, 0)]);
    for tick in 1..10 {
        // Whatever the others do, one that has got a place keeps it for ten ticks.
        let rows = things.tick(&top, &[("a", 0), ("b", 1000)], &[]);
        assert_eq!(rows, [seen("a", 100, Some(0.5), false, 0), seen("other", 10 + 1000 * tick, None, false, 0)]);
    }
    let changed = things.tick(&top, &[("a", 7), ("b", 1000)], &[]);
    let other = seen("other", 9010, None, false, 0);
    let expected = [seen("a", 107, Some(0.5), true, 0), seen("b", 1000, Some(0.5), false, 9), other];
    assert_eq!(changed, expected, "what it gained in that tick is its own already");
    let later = things.tick(&top, &[("a", 1), ("b", 1)], &[]);
    assert_eq!(later, [seen("b", 1001, Some(0.5), false, 9), seen("other", 9011, None, false, 0)]);
    for _ in 12..20 {
        things.tick(&top, &[("a", 0), ("b", 1)], &[]);
    }
    let returned = things.tick(&top, &[("a", 2)], &["b"]);
    let a = seen("a", 2, Some(0.5), false, 19);
    assert_eq!(returned, [seen("b", 1009, Some(0.5), true, 9), a, seen("other", 9011, None, false, 0)]);
}

#[test]
fn however_fast_rows_come_and_go_a_place_changes_hands_once_in_ten_ticks() {
    let (mut things, top) = (Things::new(), of_things(2));
    let mut began = HashSet::new();
    for tick in 0..100_u64 {
        let names = [tick % 7, tick % 7 + 1].map(|number| format!("t{number}"));
        let gains = [(&*names[0], 1 << (tick % 20)), (&*names[1], 5)];
        let rows = things.tick(&top, &gains, &[&names[0]]);
        let with_places = rows.into_iter().filter(|(name, ..)| name != "other");
        began.extend(with_places.map(|(name, .., started)| (name, started)));
    }
    let most = top.most_rows("thing", 100).expect("a bound");
    assert!((2..=most).contains(&(began.len() as u64)) && most == 22, "{began:?}");
}

#[test]
fn two_that_are_nearly_equal_do_not_change_places() {
    let (mut things, top) = (Things::new(), of_things(1));
    things.tick(&top, &[("a", 100), ("b", 99)], &[]);
    for tick in 0..100 {
        let gains = [("a", 100), ("b", if tick % 2 == 0 { 120 } else { 110 })];
        let rows = things.tick(&top, &gains, &[]);
        assert!(rows.iter().all(|(name, _, _, ended, _)| (name == "a" || name == "other") && !ended), "{rows:?}");
    }
    // Much more active is another thing, and then it is the other one that stays.
    let mut changes = 0;
    for _ in 0..100 {
        let rows = things.tick(&top, &[("a", 100), ("b", 1000)], &[]);
        changes += rows.iter().filter(|(.., ended, _)| *ended).count();
    }
    assert_eq!(changes, 1);
}

#[test]
fn what_makes_active_can_be_chosen_and_is_what_the_sink_takes() {
    let gains = [("calls", 1000), ("bytes", 1)];
    let first = |selection: &Selection| Things::new().tick(selection, &gains, &[])[0].0.clone();
    assert_eq!(first(&of_things(1)), "calls");
    assert_eq!(first(&Selection { top_by: vec!["thing.a.b*".into()], ..of_things(1) }), "bytes");
    assert_eq!(first(&Selection { include: vec!["*.bytes".into()], ..of_things(1) }), "bytes");
}

#[test]
fn labels_are_asked_for_first_and_the_others_are_those_who_have_them() {
    let matching = [("name".to_owned(), "n*".to_owned())].into();
    let (mut things, top) = (Things::new(), Selection { matching, ..of_things(1) });
    let rows = things.tick(&top, &[("n1", 10), ("n2", 5), ("x", 1000)], &["n2"]);
    assert_eq!(rows, [seen("n1", 10, Some(0.5), false, 0), seen("other", 5, None, false, 0)]);
    let rows = things.tick(&Selection { top: [].into(), ..top }, &[], &[]);
    assert_eq!(rows.len(), 1, "{rows:?}");
}

#[test]
fn where_there_is_room_for_all_there_are_no_others() {
    let (mut things, top) = (Things::new(), of_things(8));
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let rows = things.tick(&top, &names.map(|name| (name, 0)), &[]);
    assert_eq!(rows.iter().map(|row| &*row.0).collect::<Vec<_>>(), names);
    // Who has no room in the batch has none here.
    let rows = things.tick(&top, &[("i", 3)], &[]);
    assert_eq!(rows.last(), Some(&seen("other", 3, None, false, 0)));
}
