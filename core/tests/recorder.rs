//! What probes may rely on.

use std::sync::Arc;

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::*;

fn calls() -> Arc<Descriptor> {
    Descriptor::counter("test.calls", Unit::CALLS, "Calls").labels(["name"]).series_limit(10_000).share()
}

/// All counters of a view by their first label.
fn totals(view: &View<'_>) -> Vec<(String, u64)> {
    let samples = view.metrics().flat_map(|metric| metric.samples());
    let total = |sample: Sample<'_>| match sample.value() {
        Value::Counter(total) => Some((sample.labels().next()?.1.to_owned(), total)),
        _ => None,
    };
    samples.filter_map(total).collect()
}

#[test]
fn ten_thousand_counters_stay_under_300_kib() {
    let (mut bench, descriptor) = (Bench::new(), calls());
    let ids: Vec<_> = (0..10_000).map(|n| bench.series(&descriptor, &[&n.to_string()])).collect();
    for _ in 0..3 {
        let record = |recorder: &mut Recorder| ids.iter().for_each(|id| recorder.counter(*id, 1));
        bench.tick(&Selection::default(), record, |view| assert_eq!(view.len(), 10_000));
    }
    assert!(bench.batch().memory() < 300 * 1024, "{} bytes", bench.batch().memory());
}

#[test]
fn a_series_that_ends_is_repeated_with_its_final_value_and_then_gone() {
    let (mut bench, descriptor) = (Bench::new(), calls());
    let (stays, ends) = (bench.series(&descriptor, &["stays"]), bench.series(&descriptor, &["ends"]));
    let all = Selection::default();
    let record = |recorder: &mut Recorder| {
        recorder.counter(stays, 1);
        recorder.counter(ends, 7);
        recorder.end(ends);
    };
    let both = vec![("stays".to_owned(), 1), ("ends".to_owned(), 7)];
    assert_eq!(bench.tick(&all, record, totals), both);
    for _ in 0..2 {
        assert_eq!(bench.tick(&all, |recorder| recorder.counter(stays, 1), totals), both);
    }
    let look = |view: &View<'_>| (totals(view), view.contains(stays), view.contains(ends));
    let last = bench.tick(&all, |recorder| recorder.counter(stays, 1), look);
    assert_eq!(last, (vec![("stays".to_owned(), 1)], true, false));
    // Its number serves another series now, and its old id does not reach it.
    let next = bench.series(&descriptor, &["next"]);
    assert_eq!(next.slot(), ends.slot());
    let record = |recorder: &mut Recorder| {
        recorder.counter(ends, 99);
        recorder.counter(next, 1);
    };
    assert_eq!(bench.tick(&all, record, totals), [("next".to_owned(), 1)]);
}

#[test]
fn a_series_asked_for_again_before_it_is_gone_goes_on() {
    let (mut bench, descriptor) = (Bench::new(), calls());
    let id = bench.series(&descriptor, &["a"]);
    let record = |recorder: &mut Recorder| {
        recorder.counter(id, 5);
        recorder.end(id);
    };
    bench.tick(&Selection::default(), record, |_| ());
    assert_eq!(bench.series(&descriptor, &["a"]), id);
    for total in 6..12 {
        let seen = bench.tick(&Selection::default(), |recorder| recorder.counter(id, total), totals);
        assert_eq!(seen, [("a".to_owned(), total)]);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_counted() {
    let descriptor = Descriptor::gauge("test.level", Unit::ONE, "A level").labels(["name"]).series_limit(1).share();
    let mut bench = Bench::new();
    let id = bench.series(&descriptor, &["a"]);
    let record = |recorder: &mut Recorder| {
        assert!(matches!(recorder.series(&descriptor, &["b"]), Err(SeriesRefused::Limit { limit: 1, .. })));
        assert!(matches!(recorder.series(&descriptor, &[]), Err(SeriesRefused::Labels { expected: 1, given: 0, .. })));
        recorder.gauge(id, f64::NAN);
        recorder.gauge(id, f64::INFINITY);
        recorder.counter(id, 1);
        recorder.histogram(id, &no_slots(), 1);
        assert_eq!(recorder.refusals(), Refusals { series: 1, values: 4, finals: 0 });
    };
    bench.tick(&Selection::default(), record, |view| assert!(view.is_empty()));
}

#[test]
fn the_last_value_of_a_tick_wins_and_makes_one_sample() {
    let latency = Descriptor::histogram("test.latency", Unit::SECONDS, "Latency").share();
    let (mut bench, descriptor) = (Bench::new(), calls());
    let (counter, histogram) = (bench.series(&descriptor, &["a"]), bench.series(&latency, &[]));
    let mut slots = no_slots();
    let record = |recorder: &mut Recorder| {
        recorder.counter(counter, 1);
        recorder.counter(counter, 2);
        recorder.histogram(histogram, &slots, 0);
        slots[3] = 4;
        recorder.histogram(histogram, &slots, 40);
    };
    bench.tick(&Selection::default(), record, |view| {
        assert_eq!(view.len(), 2);
        let values: Vec<_> = view.metrics().flat_map(|metric| metric.samples()).collect();
        assert_eq!(values[0].value(), Value::Counter(2));
        let Value::Histogram(seen) = values[1].value() else { panic!("a histogram") };
        assert_eq!((seen.slots[3], seen.count(), seen.sum), (4, 4, 40));
    });
}

#[test]
fn a_view_selects_renames_prefixes_and_tags() {
    let (mut bench, descriptor) = (Bench::new(), calls());
    let other = Descriptor::counter("other.calls", Unit::CALLS, "Calls").share();
    let (a, b) = (bench.series(&descriptor, &["a"]), bench.series(&other, &[]));
    let selection = Selection {
        exclude: vec!["other.*".into()],
        rename: [("test.calls".to_owned(), "calls".to_owned())].into(),
        prefix: "my.".into(),
        tags: [("env".to_owned(), "prod".to_owned()), ("name".to_owned(), "taken".to_owned())].into(),
        ..Selection::default()
    };
    let record = |recorder: &mut Recorder| {
        recorder.counter(a, 1);
        recorder.counter(b, 1);
    };
    bench.tick(&selection, record, |view| {
        let metrics: Vec<_> = view.metrics().collect();
        assert_eq!(metrics.len(), 1);
        assert_eq!((metrics[0].name(), metrics[0].descriptor().name()), ("my.calls", "test.calls"));
        // A tag does not displace a label.
        assert_eq!(metrics[0].tags().collect::<Vec<_>>(), [("env", "prod")]);
    });
}

/// All samples of a view, with the first label's value.
fn values(view: &View<'_>) -> Vec<(String, String)> {
    let samples = view.metrics().flat_map(|metric| metric.samples());
    let shown = |sample: Sample<'_>| {
        let label = sample.labels().next().map_or(String::new(), |(_, value)| value.to_owned());
        let value = match sample.value() {
            Value::Counter(total) => total.to_string(),
            Value::Gauge(level) => level.to_string(),
            Value::Histogram(histogram) => format!("{} of {}", histogram.count(), histogram.sum),
        };
        (label, value)
    };
    samples.map(shown).collect()
}

#[test]
fn a_series_that_ends_without_a_value_in_this_tick_keeps_its_own_last_one() {
    let latency = Descriptor::histogram("test.latency", Unit::SECONDS, "Latency").labels(["name"]).share();
    let (mut bench, calls) = (Bench::new(), calls());
    let all = Selection::default();
    let (first, ends) = (bench.series(&latency, &["first"]), bench.series(&latency, &["ends"]));
    let (counter, never) = (bench.series(&calls, &["counter"]), bench.series(&calls, &["never"]));
    let empty = bench.series(&latency, &["empty"]);
    let of = |count| {
        let mut slots = no_slots();
        slots[2] = count;
        slots
    };
    let record = |recorder: &mut Recorder| {
        recorder.histogram(first, &of(1), 4);
        recorder.histogram(ends, &of(5), 20);
        recorder.counter(counter, 7);
    };
    bench.tick(&all, record, |_| ());
    let record = |recorder: &mut Recorder| {
        recorder.histogram(first, &of(2), 8);
        for id in [ends, counter, never, empty] {
            recorder.end(id);
        }
    };
    let mut expected: Vec<_> = [("first", "2 of 8"), ("ends", "5 of 20"), ("counter", "7")]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .to_vec();
    let mut seen = bench.tick(&all, record, values);
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected, "no value of another's, and no zero of nobody's");
    let mut seen = bench.tick(&all, |recorder| recorder.histogram(first, &of(2), 8), values);
    seen.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn what_is_recorded_after_the_end_is_refused_and_counted() {
    let latency = Descriptor::histogram("test.latency", Unit::SECONDS, "Latency").labels(["name"]).share();
    let (mut bench, calls) = (Bench::new(), calls());
    let (counter, histogram) = (bench.series(&calls, &["a"]), bench.series(&latency, &["b"]));
    let mut slots = no_slots();
    let record = |recorder: &mut Recorder| {
        recorder.counter(counter, 100);
        slots[0] = 3;
        recorder.histogram(histogram, &slots, 2);
        recorder.end(counter);
        recorder.end(histogram);
        recorder.counter(counter, 3);
        recorder.histogram(histogram, &no_slots(), 0);
    };
    let expected = [("a", "100"), ("b", "3 of 2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let all = Selection::default();
    assert_eq!(bench.tick(&all, record, values), expected);
    let record = |recorder: &mut Recorder| {
        recorder.counter(counter, 4);
        assert_eq!(recorder.refusals().values, 3);
    };
    assert_eq!(bench.tick(&all, record, values), expected);
}

#[test]
fn labels_that_are_equal_after_cleaning_stay_two_series() {
    let calls = Descriptor::counter("test.calls", Unit::CALLS, "Calls").labels(["name"]).share();
    let long = "x".repeat(LABEL_VALUE_LIMIT);
    let names =
        [format!("{long}-big"), format!("{long}-small"), "a\nb".to_owned(), "a_b".to_owned(), "a\tb".to_owned()];
    let labels = |order: &[usize]| {
        let mut bench = Bench::new();
        let ids: Vec<_> = order.iter().map(|&name| (name, bench.series(&calls, &[&names[name]]))).collect();
        for (name, id) in &ids {
            assert_eq!(bench.series(&calls, &[&names[*name]]), *id, "the same one when it is asked for again");
        }
        let total = |name: usize| 10_u64.pow(u32::try_from(name).expect("few"));
        let record = |recorder: &mut Recorder| ids.iter().for_each(|(name, id)| recorder.counter(*id, total(*name)));
        bench.tick(&Selection::default(), record, totals)
    };
    let seen = labels(&[0, 1, 2, 3, 4]);
    assert_eq!(seen.iter().map(|(_, total)| total).sum::<u64>(), 11_111, "nothing is overwritten");
    let mut distinct: Vec<_> = seen.iter().map(|(label, _)| label.clone()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 5, "{seen:?}");
    assert!(distinct.iter().all(|label| label.len() <= LABEL_VALUE_LIMIT), "{seen:?}");
    assert_eq!((seen[0].0.as_str(), seen[2].0.as_str()), (long.as_str(), "a_b"), "the first one has its name");
    assert_eq!(labels(&[0, 1]), seen[..2], "in every run alike");
}

#[test]
fn a_series_that_was_told_apart_is_found_again_when_its_twin_is_gone() {
    let (mut bench, calls) = (Bench::new(), calls());
    let all = Selection::default();
    for names in [["a\nb", "a_b"], ["a_b", "a\tb"], ["c\nd", "c\td"]] {
        let (first, second) = (bench.series(&calls, &[names[0]]), bench.series(&calls, &[names[1]]));
        let record = |recorder: &mut Recorder| {
            recorder.counter(first, 1);
            recorder.counter(second, 1);
            recorder.end(first);
        };
        bench.tick(&all, record, |_| ());
        while bench.tick(&all, |recorder| recorder.counter(second, 2), |view| view.contains(first)) {}
        assert_eq!(bench.series(&calls, &[names[1]]), second, "{names:?}: it lives");
        let again = bench.series(&calls, &[names[0]]);
        assert!(again != first && again != second, "{names:?}");
        assert_eq!(bench.series(&calls, &[names[1]]), second, "{names:?}");
        let record = |recorder: &mut Recorder| {
            recorder.end(second);
            recorder.end(again);
        };
        bench.tick(&all, record, |_| ());
        while bench.tick(&all, |_| (), |view| view.contains(second)) {}
    }
}

#[test]
fn who_takes_the_name_of_a_series_that_was_told_apart_stays_a_series_of_its_own() {
    let calls = Descriptor::counter("test.calls", Unit::CALLS, "Calls").labels(["name"]).share();
    let mut bench = Bench::new();
    let (plain, apart) = (bench.series(&calls, &["a_b"]), bench.series(&calls, &["a\nb"]));
    let record = |recorder: &mut Recorder| {
        recorder.counter(plain, 1);
        recorder.counter(apart, 1);
    };
    let name = bench.tick(&Selection::default(), record, totals)[1].0.clone();
    // Whoever names a process may know the hash.
    let mut bench = Bench::new();
    let ids = ["a_b", name.as_str(), "a\nb"].map(|name| bench.series(&calls, &[name]));
    let record = |recorder: &mut Recorder| ids.iter().for_each(|id| recorder.counter(*id, 1));
    let seen = bench.tick(&Selection::default(), record, totals);
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(["a_b", name.as_str(), "a\nb"].map(|name| bench.series(&calls, &[name])), ids);
}
