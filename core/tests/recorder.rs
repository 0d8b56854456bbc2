//! What probes may rely on.

#![expect(clippy::trivially_copy_pass_by_ref, reason = "a view comes as a sink gets it")]

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::*;

fn thing() -> EntityKind {
    EntityKind::new("thing").keys(["name"]).limit(10_000)
}

fn calls() -> Column {
    Column::counter("test.calls", Unit::CALLS, "Calls")
}

fn latency() -> Column {
    Column::histogram("test.latency", Unit::SECONDS, "Latency")
}

/// All counters of a view by their first label.
fn totals(view: &View<'_>) -> Vec<(String, u64)> {
    let total = |sample: Sample<'_>| match sample.value() {
        Value::Counter(total) => Some((sample.labels().next()?.1.to_owned(), total)),
        _ => None,
    };
    view.samples().filter_map(total).collect()
}

/// All samples of a view, with the first label's value; in order.
fn values(view: &View<'_>) -> Vec<(String, String)> {
    let shown = |sample: Sample<'_>| {
        let label = sample.labels().next().map_or(String::new(), |(_, value)| value.to_owned());
        let value = match sample.value() {
            Value::Histogram(histogram) => format!("{} of {}", histogram.count(), histogram.sum()),
            value => value.to_string(),
        };
        (label, value)
    };
    let mut values: Vec<_> = view.samples().map(shown).collect();
    values.sort_unstable();
    values
}

#[test]
fn ten_thousand_rows_of_a_column_stay_under_300_kib() {
    let mut bench = Bench::new();
    let cells: Vec<_> = (0..10_000).map(|n| bench.cell(&thing(), &[&n.to_string()], calls())).collect();
    for _ in 0..3 {
        let record = |recorder: &mut Recorder| cells.iter().for_each(|cell| cell.counter(recorder, 1));
        bench.tick(&Selection::default(), record, |view| assert_eq!(view.len(), 10_000));
    }
    assert!(bench.batch().memory() < 300 * 1024, "{} bytes", bench.batch().memory());
}

#[test]
fn a_row_that_ends_is_in_one_batch_with_its_last_value_and_then_gone() {
    let mut bench = Bench::new();
    let (stays, ends) = (bench.cell(&thing(), &["stays"], calls()), bench.cell(&thing(), &["ends"], calls()));
    let all = Selection::default();
    let record = |recorder: &mut Recorder| {
        stays.counter(recorder, 1);
        ends.counter(recorder, 7);
        ends.end(recorder);
    };
    let finals = |view: &View<'_>| {
        let rows = view.kinds().flat_map(|kind| kind.rows());
        rows.map(|row| (row.id(), row.is_final(), row.tick() == view.tick())).collect::<Vec<_>>()
    };
    let seen = bench.tick(&all, record, |view| (totals(view), finals(view), view.len()));
    let both = vec![("ends".to_owned(), 7), ("stays".to_owned(), 1)];
    assert_eq!(seen.0, both, "those that have ended come first");
    assert_eq!(seen.1, [(ends.row, true, true), (stays.row, false, true)]);
    assert_eq!(seen.2, 2);
    let seen = bench.tick(&all, |recorder| stays.counter(recorder, 1), |view| (totals(view), finals(view).len()));
    assert_eq!(seen, (vec![("stays".to_owned(), 1)], 1));
    // Its place serves another row now, and its old id does not reach it.
    let next = bench.cell(&thing(), &["next"], calls());
    assert_ne!(next.row, ends.row);
    let record = |recorder: &mut Recorder| {
        ends.counter(recorder, 99);
        next.counter(recorder, 1);
        assert_eq!(recorder.refusals().values, 1);
    };
    assert_eq!(bench.tick(&all, record, totals), [("next".to_owned(), 1)]);
}

#[test]
fn a_row_asked_for_again_after_its_end_is_another_one() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let first = bench.cell(&thing(), &["a"], calls());
    let record = |recorder: &mut Recorder| {
        first.counter(recorder, 5);
        first.end(recorder);
    };
    bench.tick(&all, record, |_| ());
    let again = bench.cell(&thing(), &["a"], calls());
    assert_ne!(again.row, first.row);
    assert_eq!(bench.tick(&all, |recorder| again.counter(recorder, 2), totals), [("a".to_owned(), 2)]);
    // In one batch with its own end it has another name: nobody could tell the two apart.
    again.end(bench.recorder());
    let third = bench.cell(&thing(), &["a"], calls());
    let seen = bench.tick(&all, |recorder| third.counter(recorder, 1), totals);
    assert_eq!(seen[0], ("a".to_owned(), 2));
    assert!(seen[1].0.starts_with("a~") && seen[1].1 == 1, "{seen:?}");
}

#[test]
fn what_does_not_fit_is_refused_and_counted() {
    let mut bench = Bench::new();
    let kind = EntityKind::new("thing").keys(["name"]).limit(1);
    let level = bench.cell(&kind, &["a"], Column::gauge("test.level", Unit::ONE, "A level"));
    let id = bench.kind(&kind);
    let record = |recorder: &mut Recorder| {
        let labels = recorder.row(id, 1, &[]);
        assert_eq!(labels, Err(Refused::Labels { kind: "thing".to_owned(), expected: 1, given: 0 }));
        let other = recorder.row(id, 1, &["b"]).expect("the row of the others");
        level.gauge(recorder, f64::NAN);
        level.gauge(recorder, f64::INFINITY);
        level.counter(recorder, 1);
        level.histogram(recorder, &no_slots(), 1);
        recorder.gauge(other, level.column, 1.0);
        assert_eq!(recorder.refusals(), Refusals { rows: 1, values: 5, finals: 0 });
    };
    bench.tick(&Selection::default(), record, |view| assert!(view.is_empty()));
}

#[test]
fn the_last_value_of_a_tick_wins_and_makes_one_sample() {
    let mut bench = Bench::new();
    let (counter, histogram) = (bench.host(calls()), bench.host(latency()));
    let mut slots = no_slots();
    let record = |recorder: &mut Recorder| {
        counter.counter(recorder, 1);
        counter.counter(recorder, 2);
        histogram.histogram(recorder, &slots, 0);
        slots[3] = 4;
        histogram.histogram(recorder, &slots, 40);
    };
    bench.tick(&Selection::default(), record, |view| {
        assert_eq!(view.len(), 2);
        let values: Vec<_> = view.samples().map(|sample| sample.value()).collect();
        assert_eq!(values[0], Value::Counter(2));
        let Value::Histogram(seen) = values[1] else { panic!("a histogram") };
        assert_eq!((seen.first(), seen.counts(), seen.sum()), (3, &[4][..], 40));
    });
}

#[test]
fn a_total_that_is_not_recorded_is_absent_and_one_that_is_added_to_stays() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let [told, adds, quiet] = ["told", "adds", "quiet"].map(|name| bench.cell(&thing(), &[name], calls()));
    let spread = bench.cell(&thing(), &["adds"], latency());
    let record = |recorder: &mut Recorder| {
        told.counter(recorder, 3);
        recorder.add(adds.row, adds.column, 4);
        recorder.add_histogram(spread.row, spread.column, &[0, 0, 1], 5);
    };
    let pairs = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(bench.tick(&all, record, values), pairs(&[("adds", "1 of 5"), ("adds", "4"), ("told", "3")]));
    // A sink that did not get that batch has it all the same with its next one.
    assert_eq!(bench.tick(&all, |_| (), values), pairs(&[("adds", "1 of 5"), ("adds", "4")]));
    let record = |recorder: &mut Recorder| {
        recorder.add(adds.row, adds.column, 1);
        quiet.counter(recorder, 0);
        told.counter(recorder, 3);
    };
    let expected = pairs(&[("adds", "1 of 5"), ("adds", "5"), ("quiet", "0"), ("told", "3")]);
    assert_eq!(bench.tick(&all, record, values), expected);
}

#[test]
fn a_counter_has_a_scale_and_its_total_stays_exact() {
    let mut bench = Bench::new();
    let time = bench.host(Column::counter("test.time", Unit::SECONDS, "Time").scale(1e-9));
    let total = (1 << 60) + 1;
    bench.tick(
        &Selection::default(),
        |recorder| time.counter(recorder, total),
        |view| {
            let values: Vec<_> = view.samples().map(|sample| (sample.value(), sample.value().to_string())).collect();
            let [(Value::Scaled(scaled), text)] = &values[..] else { panic!("one scaled counter: {values:?}") };
            assert_eq!((scaled.total, scaled.scale), (total, 1e-9));
            assert_eq!(text, "1152921504.606847");
        },
    );
}

#[test]
fn a_row_that_ends_without_a_value_in_this_tick_keeps_its_own_last_ones() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let (first, ends) = (bench.cell(&thing(), &["first"], latency()), bench.cell(&thing(), &["ends"], latency()));
    let (counter, never) = (bench.cell(&thing(), &["counter"], calls()), bench.cell(&thing(), &["never"], calls()));
    let empty = bench.cell(&thing(), &["empty"], latency());
    let of = |count| {
        let mut slots = no_slots();
        slots[2] = count;
        slots
    };
    let record = |recorder: &mut Recorder| {
        first.histogram(recorder, &of(1), 4);
        ends.histogram(recorder, &of(5), 20);
        counter.counter(recorder, 7);
    };
    bench.tick(&all, record, |_| ());
    let record = |recorder: &mut Recorder| {
        first.histogram(recorder, &of(2), 8);
        for cell in [ends, counter, never, empty] {
            cell.end(recorder);
        }
    };
    let expected = [("counter", "7"), ("ends", "5 of 20"), ("first", "2 of 8")];
    let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(bench.tick(&all, record, values), expected, "no value of another's, and no zero of nobody's");
    assert_eq!(bench.tick(&all, |recorder| first.histogram(recorder, &of(2), 8), values), expected[2..]);
}

#[test]
fn what_is_recorded_after_the_end_is_refused_and_counted() {
    let (mut bench, all) = (Bench::new(), Selection::default());
    let (counter, histogram) = (bench.cell(&thing(), &["a"], calls()), bench.cell(&thing(), &["b"], latency()));
    let mut slots = no_slots();
    let record = |recorder: &mut Recorder| {
        counter.counter(recorder, 100);
        slots[0] = 3;
        histogram.histogram(recorder, &slots, 2);
        counter.end(recorder);
        histogram.end(recorder);
        counter.counter(recorder, 3);
        recorder.add(counter.row, counter.column, 3);
        histogram.histogram(recorder, &no_slots(), 0);
        recorder.add_histogram(histogram.row, histogram.column, &slots, 2);
        counter.end(recorder);
        assert_eq!(recorder.refusals().values, 5);
    };
    let expected = [("a", "100"), ("b", "3 of 2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(bench.tick(&all, record, values), expected);
    let record = |recorder: &mut Recorder| {
        counter.counter(recorder, 4);
        assert_eq!(recorder.refusals().values, 6);
    };
    assert_eq!(bench.tick(&all, record, values), []);
}

#[test]
fn a_declaration_that_would_make_two_things_one_is_refused() {
    let mut bench = Bench::new();
    let recorder = bench.recorder();
    let kind = recorder.kind(thing()).expect("a kind");
    let text = |text: &str| text.to_owned();
    assert_eq!(recorder.kind(thing()), Err(Refused::KindTaken { kind: text("thing") }));
    assert_eq!(recorder.existing_kind("thing"), Some(kind));
    let twice = EntityKind::new("twice").keys(["a", "b", "a"]);
    assert_eq!(recorder.kind(twice), Err(Refused::KeyTwice { name: text("twice"), key: text("a") }));
    let calls_of = |name: &'static str, labels: &[(&'static str, &str)]| {
        Column::counter(name, Unit::CALLS, "Calls").labels(labels.iter().copied())
    };
    let own = recorder.column(kind, calls_of("a.b", &[("name", "x")]));
    assert_eq!(own, Err(Refused::KeyTaken { metric: text("thing.a.b"), key: text("name") }));
    let own = recorder.column(kind, calls_of("a.b", &[("x", "1"), ("x", "2")]));
    assert_eq!(own, Err(Refused::KeyTwice { name: text("thing.a.b"), key: text("x") }));
    let first = recorder.column(kind, calls_of("a.b", &[("x", "1")])).expect("a column");
    assert_eq!(recorder.column(kind, calls_of("a.b", &[("x", "1")])), Ok(first), "the same one");
    assert_ne!(recorder.column(kind, calls_of("a.b", &[("x", "2")])), Ok(first));
    let gauge = recorder.column(kind, Column::gauge("a.b", Unit::CALLS, "Calls").labels([("x", "3")]));
    assert_eq!(gauge, Err(Refused::MetricKind { metric: text("thing.a.b"), has: MetricKind::Counter }));
    let scaled = recorder.column(kind, calls_of("a.b", &[("x", "1")]).scale(1e-9));
    let numbers = |name: &str| Err(Refused::Numbers { metric: text(name), unit: text(Unit::CALLS.as_str()) });
    assert_eq!(scaled, numbers("thing.a.b"), "its totals would be read as a billion times as many");
    let times = |last| Column::histogram("a.times", Unit::CALLS, "Times").slots(0..=last);
    let known = recorder.column(kind, times(9)).expect("a column");
    assert_eq!(recorder.column(kind, times(9)), Ok(known));
    assert_eq!(recorder.column(kind, times(10)), numbers("thing.a.times"));
    let host = recorder.host_kind();
    let namesake = recorder.column(host, calls_of("thing.a.b", &[]));
    assert_eq!(namesake, Err(Refused::NameTaken { metric: text("thing.a.b"), kind: text("thing") }));
    assert_eq!(recorder.row(host, 1, &[]), Err(Refused::OneRow { kind: text("host") }));
    let single = recorder.kind(EntityKind::new("single")).expect("a kind");
    let row = recorder.row(single, 7, &[]).expect("a row");
    assert_eq!(recorder.row(single, 7, &[]), Ok(row));
    assert_eq!(recorder.row(single, 8, &[]), Err(Refused::OneRow { kind: text("single") }));
    recorder.end(row);
    assert!(recorder.row(single, 8, &[]).is_err(), "this tick's batch has the other");
    bench.tick(&Selection::default(), |_| (), |_| ());
    assert!(bench.recorder().row(single, 8, &[]).is_ok());
}
