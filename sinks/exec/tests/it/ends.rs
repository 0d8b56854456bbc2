//! How programs end, and that nothing is lost then beyond what is counted.

use std::fs;
use std::time::{Duration, Instant};

use ebpf_process_core::SinkErrorKind;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::answers::GOOD;
use crate::rig::{Rig, wait_for};

/// Children of this process that are not waited for, and descriptors of it.
fn zombies() -> usize {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let stats = processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    let is_zombie = |stat: &String| {
        let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
        fields.next() == Some("Z") && fields.next() == Some(&own)
    };
    stats.filter(is_zombie).count()
}

fn pid(text: &str) -> Pid {
    text.trim().parse().ok().and_then(Pid::from_raw).expect("a number")
}

fn lives(text: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", text.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_program_that_is_killed_is_started_again_and_gets_what_it_has_not_answered() {
    let mut rig = Rig::python(
        r#"
hello(window=8)
dies = not os.path.exists("again")
open("again", "w").close()
for batch in batches():
    if dies and batch["batch"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if batch["batch"] != 2 or not dies:
        ok(batch)
"#,
    );
    rig.write_all(8);
    rig.written(8);
    let numbers = rig.numbers();
    let again: Vec<u64> = numbers.iter().filter(|(_, resent)| *resent).map(|(number, _)| *number).collect();
    // Unanswered ones first, in their order, with their numbers.
    assert!(again.starts_with(&[2, 4]) && again.is_sorted(), "{numbers:?}");
    assert_eq!(rig.streams().len(), 1);
}

#[test]
fn a_program_that_is_stopped_is_ended_and_its_batches_come_again() {
    let mut rig = Rig::with(
        r#"
hello(window=2)
open("pids", "a").write(f"{os.getpid()}\n")
for batch in batches():
    if batch["resent"] or batch["batch"] != 2:
        ok(batch)
    else:
        os.kill(os.getpid(), signal.SIGSTOP)
"#,
        json!({"reply_timeout": "500ms"}),
    );
    rig.write_all(5);
    rig.written(5);
    assert!(rig.numbers().contains(&(2, true)));
    assert!(!lives(rig.file("pids").lines().next().expect("it ran")), "also a stopped process ends when it is killed");
}

#[test]
fn who_never_reads_is_ended() {
    let mut rig = Rig::with(
        r#"
hello(window=64)
open("runs", "a").write("one\n")
if len(open("runs").readlines()) == 1:
    time.sleep(1000)
for batch in batches():
    ok(batch)
"#,
        json!({"reply_timeout": "500ms"}),
    );
    // More than a pipe holds.
    rig.write_all(500);
    rig.written(500);
    assert_eq!(rig.file("runs").lines().count(), 2);
}

#[test]
fn who_never_says_hello_is_ended_and_a_half_line_is_no_hello() {
    for said in ["", r#"sys.stdout.write('{\"ebpf_process\": [1]'); sys.stdout.flush()"#] {
        let rig = Rig::with(
            &format!("open(\"runs\", \"a\").write(\"one\\n\")\n{said}\ntime.sleep(1000)\n"),
            json!({"start_timeout": "500ms"}),
        );
        rig.wait_for_lines("runs", 3);
        let reason = rig.ledger.condition().reason.expect("why it fails");
        assert!(reason.contains("has not said hello") && reason.contains("flush"), "{reason}");
    }
}

#[test]
fn garbage_ends_a_program_and_costs_nothing() {
    for garbage in [
        r#"sys.stdout.write("Hello, world\n")"#,
        r#"sys.stdout.write("[1, 2]\n")"#,
        r#"sys.stdout.write("{\"colour\": 1}\n")"#,
        r#"sys.stdout.write("\n")"#,
        r#"os.write(1, bytes(range(256)) + b"\n")"#,
        r#"sys.stdout.write("x" * 2000000)"#,
        // For ever, and faster than anybody could read.
        r#"[sys.stdout.write("{\"batch\": 7, \"ok\": true}\n" * 10000) for _ in iter(int, 1)]"#,
        r#"[sys.stdout.write("y\n" * 10000) for _ in iter(int, 1)]"#,
        "os.close(1)",
        "sys.exit(3)",
    ] {
        let script = format!(
            r#"
hello(window=2)
good = os.path.exists("again")
open("again", "w").close()
for batch in batches():
    if not good and batch["batch"] == 2:
        {garbage}
        sys.stdout.flush()
        time.sleep(1000)
    ok(batch)
"#
        );
        let mut rig = Rig::with(&script, json!({"close_timeout": "200ms"}));
        rig.write_all(4);
        rig.written(4);
        let numbers = rig.numbers();
        assert!(numbers.contains(&(2, true)), "{garbage}: {numbers:?}");
    }
}

#[test]
fn who_says_hello_twice_in_one_breath_is_ended() {
    let mut rig = Rig::python(
        r#"
open("runs", "a").write("one\n")
good = os.path.exists("again")
open("again", "w").close()
line = json.dumps({"ebpf_process": [1], "format": "rows"}) + "\n"
sys.stdout.write(line if good else line + line)
sys.stdout.flush()
for batch in batches():
    ok(batch)
"#,
    );
    rig.wait_for_lines("runs", 2);
    rig.write_all(1);
    rig.written(1);
    assert_eq!((rig.file("runs").lines().count(), rig.streams().len()), (2, 1));
}

#[test]
fn who_rejects_what_is_not_there_is_ended_after_a_hundred_times_and_nobody_else() {
    for (rejects, starts) in [(false, 1), (true, 2)] {
        let answer = if rejects { r#"say(batch=batch["batch"], rejected=[{"line": 0}])"# } else { "ok(batch)" };
        let mut rig = Rig::python(&format!("hello(window=4)\nfor batch in batches():\n    {answer}\n"));
        rig.write_all(101);
        rig.written(101);
        let started = || rig.lines().iter().filter(|line| line.get("start").is_some()).count();
        wait_for("another one is started", || started() >= starts);
        assert_eq!(started(), starts);
    }
}

#[test]
fn a_program_that_leaves_a_child_with_its_pipes_has_ended() {
    let script = r#"
hello()
good = os.path.exists("again")
open("again", "w").close()
for batch in batches():
    ok(batch)
    if not good:
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
"#;
    // Nothing else tells: neither is a pipe closed nor an answer late.
    let mut rig = Rig::with(script, json!({"reply_timeout": "10m"}));
    rig.write_all(2);
    rig.written(2);
}

#[test]
fn a_program_that_fails_is_left_alone_as_long_as_is_said_and_a_stop_ends_that() {
    let delivery = json!({"retry_min": "1h", "retry_max": "1h"});
    let mut rig = Rig::with("open(\"runs\", \"a\").write(\"one\\n\")\n", json!({"delivery": delivery}));
    wait_for("a reason", || rig.ledger.condition().reason.is_some());
    // So long a thousand others could be started.
    std::thread::park_timeout(Duration::from_millis(300));
    rig.close(Duration::from_secs(20));
    assert_eq!(rig.file("runs"), "one\n");
}

#[test]
fn half_an_answer_at_the_end_is_none() {
    let mut rig = Rig::python(
        r#"
hello()
good = os.path.exists("again")
open("again", "w").close()
for batch in batches():
    if not good:
        os.write(1, b"{\"batch\": 1, \"ok\": true}")
        os._exit(0)
    ok(batch)
"#,
    );
    rig.write_all(1);
    rig.written(1);
    assert_eq!(rig.numbers(), [(1, false), (1, true)]);
}

#[test]
fn answers_count_until_the_program_has_exited_whoever_holds_its_output() {
    let mut rig = Rig::python(
        r#"
hello()
if not os.path.exists("again"):
    open("again", "w").close()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    open("child", "w").write(str(child))
    for batch in batches():
        ok(batch)
        os._exit(0)
for batch in batches():
    ok(batch)
"#,
    );
    rig.write_all(3);
    rig.written(3);
    let numbers: Vec<u64> = rig.numbers().iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3], "the first answer counted");
    wait_for("the end of what it left", || !lives(&rig.file("child")));
}

#[test]
fn who_ignores_the_end_of_input_and_the_request_to_end_is_killed() {
    let mut rig = Rig::with(
        r#"
signal.signal(signal.SIGTERM, lambda *_: open("asked", "w").close())
hello()
open("pid", "w").write(str(os.getpid()))
for batch in batches():
    ok(batch)
open("closed", "w").close()
while True:
    time.sleep(1000)
"#,
        json!({"close_timeout": "100ms"}),
    );
    rig.write_all(1);
    rig.written(1);
    let start = Instant::now();
    rig.close(Duration::from_secs(20));
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(rig.path("closed").exists() && rig.path("asked").exists(), "first its input is closed, then it is asked");
    assert!(!lives(&rig.file("pid")));
}

#[test]
fn what_is_answered_after_the_end_of_input_counts() {
    let mut rig = Rig::python(
        "
hello(window=8)
held = list(batches())
for batch in held:
    ok(batch)
",
    );
    rig.write_all(3);
    rig.wait_for_lines("log", 4);
    rig.close(Duration::from_secs(3));
    let tally = rig.ledger.tally();
    assert_eq!((tally.written, tally.queued, tally.dropped_total()), (18, 0, 0));
}

#[test]
fn who_says_that_it_cannot_work_is_not_started_again() {
    for (script, reason) in [
        ("hello()\nopen(\"runs\", \"a\").write(\"one\\n\")\nsys.stdin.readline()\nsys.exit(78)\n", "78"),
        (
            "open(\"runs\", \"a\").write(\"one\\n\")\nsay(fatal=\"no such table\\n\")\nsys.stdin.read()\n",
            "no such table",
        ),
        (
            "hello()\nopen(\"runs\", \"a\").write(\"one\\n\")\nsys.stdin.readline()\nsay(fatal=\"no\")\nsys.stdin.read()\n",
            "cannot work: no",
        ),
        (
            "open(\"runs\", \"a\").write(\"one\\n\")\nsay(ebpf_process=[7], format=\"rows\")\n\
             open(\"refused\", \"w\").write(sys.stdin.read())\n",
            "no common version",
        ),
        (
            "open(\"runs\", \"a\").write(\"one\\n\")\nhello(format=\"xml\")\nopen(\"refused\", \"w\").write(sys.stdin.read())\n",
            "format has to be",
        ),
    ] {
        let mut rig = Rig::python(script);
        let cause = rig.over();
        assert!(cause.contains(reason), "{cause}");
        assert_eq!(rig.file("runs"), "one\n", "{reason}");
        if script.contains("refused") {
            assert!(rig.file("refused").contains(&format!("{{\"refused\":\"{reason}")), "{}", rig.file("refused"));
        }
        // What is queued then the outlet drops.
        let tally = rig.ledger.tally();
        assert_eq!(tally.failed + tally.queued, tally.offered, "{tally:?}");
    }
}

#[test]
fn what_cannot_be_started_is_tried_again_and_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("missing");
    let mut rig = Rig::of(folder, json!({"program": [path]}), json!({}));
    wait_for("a reason", || rig.ledger.condition().reason.is_some());
    let reason = rig.ledger.condition().reason.expect("why it fails");
    assert!(reason.contains("cannot find") && reason.contains("install it"), "{reason}");
    assert_eq!(rig.write().expect_err("there is nobody").kind(), SinkErrorKind::Failed);
    assert_eq!((rig.ledger.tally().failed, rig.ledger.tally().queued), (6, 0));
    fs::write(&path, format!("#!/bin/sh\necho '{}'\nexec cat >/dev/null\n", r#"{"ebpf_process":[1],"format":"rows"}"#))
        .expect("a file");
    let mut mode = fs::metadata(&path).expect("it is there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&path, mode).expect("a mode");
    wait_for("the program", || rig.write().is_ok());
}

#[test]
fn a_thousand_restarts_leave_no_process_and_no_descriptor() {
    let mut rig = Rig::with(
        GOOD,
        // The shell starts in a millisecond.
        json!({"program": ["/bin/sh", "-c", "echo '{\"ebpf_process\":[1],\"format\":\"rows\"}'; echo run >> runs"]}),
    );
    let descriptors = || fs::read_dir("/proc/self/fd").expect("descriptors").count();
    rig.wait_for_lines("runs", 20);
    let _ = rig.write();
    let before = descriptors();
    rig.wait_for_lines("runs", 1020);
    // One that runs just now has its own, and other tests of this program have theirs.
    assert!(descriptors() < before + 100, "{before}, then {}", descriptors());
    rig.close(Duration::from_secs(2));
    assert!(zombies() < 20);
    assert_eq!(rig.ledger.tally().queued, 0);
}

#[test]
fn a_sink_that_is_let_go_ends_its_program() {
    let rig = Rig::python("hello()\nopen(\"pid\", \"w\").write(f\"{os.getpid()}\\n\")\ntime.sleep(1000)\n");
    rig.wait_for_lines("pid", 1);
    let Rig { sink, folder, .. } = rig;
    drop(sink);
    assert!(!lives(&fs::read_to_string(folder.path().join("pid")).expect("a number")));
}

#[test]
fn a_program_that_is_killed_from_outside_is_missed_though_it_is_idle() {
    let rig = Rig::python("hello()\nopen(\"pids\", \"a\").write(f\"{os.getpid()}\\n\")\ntime.sleep(1000)\n");
    rig.wait_for_lines("pids", 1);
    kill_process(pid(&rig.file("pids")), Signal::KILL).expect("a signal");
    rig.wait_for_lines("pids", 2);
}
