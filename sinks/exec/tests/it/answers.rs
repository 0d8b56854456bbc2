//! What becomes of batches, by what a program answers.

use std::time::Duration;

use ebpf_process_core::testkit::offer;
use serde_json::json;

use crate::rig::{Rig, spooling};

/// Answers every batch.
pub(crate) const GOOD: &str = "
hello(window=4)
for batch in batches():
    ok(batch)
";

#[test]
fn each_batch_is_sent_once_and_what_is_answered_is_written() {
    let mut rig = Rig::with(GOOD, json!({"config": {"table": "cells", "depth": 2}}));
    rig.write_all(100);
    rig.written(100);
    assert_eq!(rig.numbers(), (1..=100).map(|number| (number, false)).collect::<Vec<_>>());
    let start = &rig.lines()[0];
    assert_eq!(start["start"], 1);
    assert_eq!(rig.streams().len(), 1);
    assert_eq!((&start["format"], &start["sink"], &start["host"]), (&json!("rows"), &json!("mine"), &json!("host")));
    assert_eq!((&start["interval"], &start["scope"]), (&json!(1.0), &json!("host")));
    assert_eq!((&start["batch_size"], &start["reply_timeout"]), (&json!(8 << 20), &json!(10.0)));
    assert_eq!(start["options"], json!({"table": "cells", "depth": 2}));
    rig.close(Duration::from_secs(20));
    assert_eq!(rig.ledger.tally().written, 600);
}

#[test]
fn the_input_of_a_program_holds_most_batches_as_a_whole() {
    let mut rig = Rig::python(
        r#"
import fcntl
hello()
for batch in batches():
    open("room", "w").write(str(fcntl.fcntl(0, 1032)))  # F_GETPIPE_SZ, which old ones have no name for
    ok(batch)
"#,
    );
    rig.write_all(1);
    rig.written(1);
    assert_eq!(rig.file("room"), (1 << 20).to_string());
}

#[test]
fn what_a_program_rejects_is_rejected_to_the_value_and_the_rest_written() {
    let mut rig = Rig::python(
        r#"
hello()
for batch in batches():
    rows = [row["id"] for row in batch["kinds"][0]["rows"]]
    number = batch["batch"]
    if number == 1:
        say(batch=1, rejected=[{"row": rows[0], "reason": "a row"}, {"row": rows[1], "column": 1, "reason": "a value"}])
    elif number == 2:
        say(batch=2, rejected=True, reason="all")
    elif number == 3:
        say(batch=3, rejected=[])
    elif number == 4:
        # One value twice, one of no column, one of no row.
        say(batch=4, rejected=[{"row": rows[0], "column": 0}, {"row": rows[0], "column": 0},
                               {"row": rows[0], "column": 2}, {"row": 12345}])
"#,
    );
    rig.write_all(4);
    rig.until("all is settled", |tally| tally.queued == 0 && tally.offered == 24);
    let tally = rig.ledger.tally();
    assert_eq!((tally.written, &tally.rejected[..]), (3 + 6 + 5, &[("rejected by the program", 3 + 6 + 1)][..]));
    assert!(tally.balances());
}

#[test]
fn what_is_wanted_later_is_sent_again_in_its_place() {
    let mut rig = Rig::python(
        r#"
hello(window=2)
asked = set()
for batch in batches():
    if batch["batch"] == 2 and 2 not in asked:
        asked.add(2)
        say(batch=2, retry_after=0.05, reason="busy")
    else:
        ok(batch)
"#,
    );
    rig.write_all(6);
    rig.written(6);
    let numbers = rig.numbers();
    let again = numbers.iter().position(|sent| *sent == (2, true)).expect("it was sent again");
    // One that was on its way already may come before.
    assert!(numbers[..again].iter().all(|(number, _)| *number <= 3), "{numbers:?}");
    assert_eq!(numbers.len(), 7);
}

#[test]
fn without_an_order_what_is_newer_overtakes() {
    let mut rig = Rig::python(
        r#"
hello(ordered=False, window=8)
waits = True
for batch in batches():
    if batch["batch"] == 1 and waits:
        say(batch=1, retry_after=3600)
    else:
        ok(batch)
"#,
    );
    rig.write_all(5);
    rig.until("the others are written", |tally| tally.written == 24);
    assert_eq!(rig.numbers(), (1..=5).map(|number| (number, false)).collect::<Vec<_>>());
    assert_eq!(rig.ledger.tally().queued, 6);
    rig.close(Duration::from_millis(500));
    assert_eq!(rig.ledger.tally().dropped, [("agent stopped", 6)]);
}

#[test]
fn second_unknown_and_contradicting_answers_change_nothing() {
    let mut rig = Rig::python(
        r#"
hello(window=3)
for batch in batches():
    number = batch["batch"]
    say(batch=number + 7, ok=True)
    say(batch=0, ok=True)
    say(batch=number, ok=True, rejected=True)
    ok(batch)
    ok(batch)
    say(batch=number, rejected=True)
"#,
    );
    rig.write_all(10);
    rig.written(10);
    assert_eq!(rig.numbers().len(), 10, "the program was never ended for it");
}

#[test]
fn more_than_a_hundred_wrong_answers_a_minute_are_too_many() {
    let mut rig = Rig::python(
        r#"
hello()
if os.path.exists("again"):
    for batch in batches():
        ok(batch)
open("again", "w").close()
for batch in batches():
    for _ in range(101):
        say(batch=99, ok=True)
    time.sleep(1000)
"#,
    );
    rig.write_all(1);
    rig.written(1);
    assert_eq!(rig.numbers(), [(1, false), (1, true)]);
}

#[test]
fn an_answer_that_is_missing_ends_the_program_and_the_batch_comes_again() {
    let mut rig = Rig::with(
        r#"
hello(window=2)
first = not os.path.exists("again")
open("again", "w").close()
for batch in batches():
    if not (first and batch["batch"] == 2):
        ok(batch)
"#,
        json!({"reply_timeout": "300ms"}),
    );
    rig.write_all(3);
    rig.written(3);
    assert!(rig.numbers().contains(&(2, true)), "{:?}", rig.numbers());
}

#[test]
fn who_works_has_more_time_and_not_for_ever() {
    let mut rig = Rig::with(
        r#"
hello()
for batch in batches():
    if batch["batch"] == 1:
        # Longer than it has without saying so.
        for _ in range(12):
            time.sleep(0.1)
            say(batch=1, working=True)
        ok(batch)
    else:
        while True:
            time.sleep(0.1)
            say(batch=2, working=True)
"#,
        json!({"reply_timeout": "1s", "delivery": {"age_limit": "5s", "retry_min": "1ms", "retry_max": "5ms"}}),
    );
    rig.write_all(2);
    rig.until("all is settled", |tally| tally.queued == 0);
    let tally = rig.ledger.tally();
    assert_eq!(
        (tally.written, &tally.dropped[..]),
        (6, &[("older than age_limit", 6)][..]),
        "what was worked on for ever"
    );
}

#[test]
fn what_a_stop_leaves_is_in_the_spool_and_sent_first_by_the_next_agent() {
    let spool = tempfile::tempdir().expect("a folder");
    let rig = Rig::with(
        r#"
hello(window=2)
answers = os.path.exists("answers")
for batch in batches():
    if answers or batch["batch"] == 1:
        ok(batch)
"#,
        spooling(&spool),
    );
    let mut rig = rig.stopped_until_it_answers();
    rig.write_all(1);
    rig.written(5);
    // What was sent and not answered comes again, with its number; the next sink goes on behind it.
    let numbers = rig.numbers();
    let expected = [(2, true), (3, true), (4, false), (5, false), (6, false)];
    assert!(numbers.starts_with(&[(1, false), (2, false), (3, false)]) && numbers.ends_with(&expected), "{numbers:?}");
    assert_eq!(rig.streams().len(), 1);
}

#[test]
fn what_one_sink_leaves_another_one_delivers() {
    let mut rig = Rig::python(
        r#"
hello(window=2)
while not os.path.exists("go"):
    time.sleep(0.01)
for batch in batches():
    ok(batch)
"#,
    );
    rig.write_all(5);
    let legacy = {
        rig.shorten(Duration::from_millis(500));
        rig.sink.bequeath().expect("what is left")
    };
    assert_eq!((legacy.samples, rig.ledger.tally().queued), (30, 30));
    std::fs::write(rig.path("go"), "").expect("a file");
    let mut heir = rig.heir();
    offer(&heir.ledger, legacy.samples);
    heir.sink.inherit(legacy);
    heir.written(5);
}
