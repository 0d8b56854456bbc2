//! What is recorded of what a program answers, and what is not.

use ebpf_process_core::{Column, EntityKind, Unit};
use serde_json::json;

use super::rig::{Look, Rig};
use crate::shared::Standing;

#[test]
fn each_tick_has_the_answer_to_the_question_before() {
    let script = "hello(('jobs', 'counter'), ('load', 'gauge'))\n\
        for tick in questions():\n    \
            answer(tick, ('a', 10 * tick, 0.5 * tick), ('b', 2**64 - 1, None))\n";
    let mut rig = Rig::python(script, json!({}));
    for tick in 1..6_u32 {
        let expected = [
            format!("thing.jobs name=a {}", 10 * tick),
            "thing.jobs name=b 18446744073709551615".to_owned(),
            format!("thing.load name=a {}", 0.5 * f64::from(tick)),
        ];
        assert_eq!(rig.batch(), expected);
    }
    let asked = rig.file("log");
    assert!(asked.starts_with("{\"tick\":1,\"time\":["), "{asked}");
}

#[test]
fn units_labels_and_histograms_arrive_as_they_are_meant() {
    let script = r#"
say(ebpf_process=[1], probe="own", kind="io", columns=[
    {"name": "time", "labels": {"way": "in"}, "type": "counter", "unit": "seconds", "help": "Time."},
    {"name": "size", "type": "histogram", "unit": "bytes", "bounds": [3, 7, None]}])
for tick in questions():
    say(tick=tick, rows=[{"values": [1.25, {"count": 6, "sum": 99, "slots": [1, 2, 3]}]}])
"#;
    let mut rig = Rig::python(script, json!({}));
    assert_eq!(rig.batch(), ["io.size  1..[1, 2, 3] of 99", "io.time way=in 1.25"]);
}

#[test]
fn a_total_that_falls_goes_on_from_where_it_was_also_over_programs() {
    let script = "hello(('jobs', 'counter'))\n\
        for count, tick in enumerate(questions(), 1):\n    \
            answer(tick, ('a', 5 * count if count < 3 else 7))\n    \
            if count == 3: sys.exit()\n";
    let mut rig = Rig::python(script, json!({}));
    let totals: Vec<_> = (0..6).map(|_| rig.batch()).collect();
    let expected = [5, 10, 17, 22, 27, 34].map(|total| vec![format!("thing.jobs name=a {total}")]);
    assert_eq!(totals, expected);
}

#[test]
fn a_row_that_is_missing_in_three_answers_has_ended() {
    let script = "hello(('jobs', 'counter'))\n\
        for count, tick in enumerate(questions(), 1):\n    \
            rows = [('a', count)]\n    \
            if count not in (2, 3, 5, 6, 7): rows.append(('b', 100 + count))\n    \
            answer(tick, *rows)\n";
    let mut rig = Rig::python(script, json!({}));
    let of_b = |shown: Vec<String>| shown.into_iter().find(|line| line.contains("name=b"));
    let lines: Vec<_> = (0..9).map(|_| of_b(rig.batch())).collect();
    let line = |text: &str| Some(format!("thing.jobs name=b{text}"));
    // The new row has the program's total, as the first one had.
    let expected = [line(" 101"), None, None, line(" 104"), None, None, line("! 104"), line(" 108"), line(" 109")];
    assert_eq!(lines, expected);
}

#[test]
fn who_has_no_room_is_counted_in_other_and_moves_out_of_it_without_a_loss() {
    let script = "hello(('jobs', 'counter'), ('load', 'gauge'))\n\
        for count, tick in enumerate(questions(), 1):\n    \
            rows = [(name, 10 * count, 1) for name in 'abcd' if name != 'a' or count < 3]\n    \
            answer(tick, *rows)\n";
    let mut rig = Rig::python(script, json!({"rows": 2}));
    let jobs = |shown: Vec<String>| -> Vec<String> {
        shown.into_iter().filter_map(|line| Some(line.strip_prefix("thing.jobs name=")?.to_owned())).collect()
    };
    assert_eq!(jobs(rig.batch()), ["a 10", "b 10", "other 20"]);
    assert_eq!(jobs(rig.batch()), ["a 20", "b 20", "other 40"]);
    assert_eq!(jobs(rig.batch()), ["b 30", "other 60"]);
    assert_eq!(jobs(rig.batch()), ["b 40", "other 80"]);
    // Whose place is free is known from then on.
    assert_eq!(jobs(rig.batch()), ["a! 20", "b 50", "other 100"]);
    assert_eq!(jobs(rig.batch()), ["b 60", "c 10", "other 110"]);
    let shown = rig.batch();
    assert_eq!(shown.iter().filter(|line| line.starts_with("thing.load")).count(), 2, "{shown:?}");
    assert_eq!(jobs(shown), ["b 70", "c 20", "other 120"]);
    assert_eq!(rig.bench.recorder().refusals().values, 0);
}

#[test]
fn a_late_answer_is_not_taken_and_the_next_one_is() {
    let script = "hello(('jobs', 'counter'))\n\
        for tick in questions():\n    \
            while tick > 1 and not os.path.exists('go'): time.sleep(0.001)\n    \
            answer(tick, ('a', tick))\n";
    let mut rig = Rig::python(script, json!({}));
    assert_eq!(rig.batch(), ["thing.jobs name=a 1"]);
    rig.wait_for_lines("log", 2);
    let late = || Look::Skipped("the program has not answered in time".to_owned());
    assert_eq!(rig.look(), late());
    assert_eq!(rig.look(), late());
    rig.tell("go");
    rig.wait_for_answer();
    // It is to tick 2. Ticks 3 and 4 were not asked: they could only have been late as well.
    assert_eq!(rig.look(), late());
    assert_eq!(rig.batch(), ["thing.jobs name=a 5"]);
    let log = rig.file("log");
    let asked: Vec<_> = log.lines().filter_map(|line| line.get(..9)).collect();
    assert_eq!(asked[..3], ["{\"tick\":1", "{\"tick\":2", "{\"tick\":5"]);
}

#[test]
fn a_wrong_answer_is_that_ticks_absence_and_costs_the_program_nothing() {
    let script = r#"
hello(("jobs", "counter"), ("load", "gauge"))
wrong = [[("a", 1)], [("a", -1, 0)], [("a", 1, 1), ("a", 1, 1)], [("a", "x", 1)], [("a", 1, "y")]]
for tick in questions():
    if tick <= len(wrong): answer(tick, *wrong[tick - 1])
    elif tick == 6: say(tick=tick, rows=7)
    elif tick == 7: say(tick=tick, rows=[{"labels": ["a", "b"], "values": [1, 2]}])
    elif tick == 8: say(tick=99, rows=[]); answer(tick, ("a", 8, 8))
    else: answer(tick, ("a", tick, tick))
"#;
    let mut rig = Rig::python(script, json!({}));
    rig.look();
    for problem in [
        "row 0: its values have to be 2",
        "row 0: jobs: a counter is a whole number",
        "row 1 has the labels",
        "row 0: jobs: a counter is",
        "row 0: load: a gauge is a number",
        "rows have to be a list",
        "row 0: its labels have to be 1 texts",
    ] {
        rig.until(problem, |standing| matches!(standing, Standing::Wrong(said) if said.contains(problem)));
        let look = rig.look();
        assert!(matches!(&look, Look::Skipped(said) if said.contains(problem)), "{look:?}");
    }
    assert_eq!(rig.batch(), ["thing.jobs name=a 8", "thing.load name=a 8"]);
    assert_eq!(rig.batch(), ["thing.jobs name=a 9", "thing.load name=a 9"]);
    rig.wait_for_lines("log", 10);
}

#[test]
fn a_program_that_was_started_again_may_have_more_columns_in_another_order() {
    let script = "first = not os.path.exists('again')\n\
        open('again', 'w')\n\
        jobs, load, heat = ('jobs', 'counter'), ('load', 'gauge'), ('heat', 'gauge')\n\
        hello(*([jobs, load] if first else [heat, jobs]))\n\
        for tick in questions():\n    \
            answer(tick, ('a', 5, 6) if first else ('a', 7, 8))\n    \
            if first: sys.exit()\n";
    let mut rig = Rig::python(script, json!({}));
    assert_eq!(rig.batch(), ["thing.jobs name=a 5", "thing.load name=a 6"]);
    assert_eq!(rig.batch(), ["thing.heat name=a 7", "thing.jobs name=a 8"]);
}

#[test]
fn another_kind_is_another_probes() {
    let script = "again = os.path.exists('again')\n\
        open('again', 'w')\n\
        hello(('jobs', 'counter'), keys=['title' if again else 'name'])\n\
        for tick in questions():\n    \
            answer(tick, ('a', 5))\n    \
            sys.exit()\n";
    let mut rig = Rig::python(script, json!({}));
    assert_eq!(rig.batch(), ["thing.jobs name=a 5"]);
    let why = rig.closed();
    assert!(why.contains("it had the kind thing with the keys [\"name\"] before"), "{why}");
}

#[test]
fn a_kind_or_a_metric_of_somebody_elses_is_not_taken() {
    let script = "hello(('jobs', 'counter'), kind='host')\n\
        for tick in questions(): answer(tick, ('a', 5))\n";
    let mut rig = Rig::python(script, json!({"close_timeout": "30s"}));
    rig.look();
    rig.wait_for_answer();
    assert!(matches!(rig.look(), Look::Skipped(said) if said.contains("another probe has declared the kind host")));
    let why = rig.closed();
    assert!(why.ends_with("not started again before a reload"), "{why}");
    let script = "hello(('vfs.calls', 'counter'), ('jobs', 'counter'))\n\
        for tick in questions(): answer(tick, ('a', 5, 6))\n";
    let mut rig = Rig::python(script, json!({}));
    let kind = rig.bench.kind(&EntityKind::new("other").names_as_they_are());
    let column = Column::counter("thing.vfs.calls", Unit::CALLS, "Calls");
    rig.bench.recorder().column(kind, column).expect("a column");
    assert_eq!(rig.batch(), ["thing.jobs name=a 6"]);
}

#[test]
fn ten_thousand_rows_arrive() {
    let script = "hello(('jobs', 'counter'), ('load', 'gauge'))\n\
        for tick in questions(): answer(tick, *((str(row), row + tick, row) for row in range(10000)))\n";
    let mut rig = Rig::python(script, json!({}));
    let shown = rig.batch();
    let jobs = (0..10_000).map(|row| format!("thing.jobs name={row} {}", row + 1));
    let mut expected: Vec<String> = jobs.chain((0..10_000).map(|row| format!("thing.load name={row} {row}"))).collect();
    expected.sort_unstable();
    assert!(shown == expected, "{} values", shown.len());
}
