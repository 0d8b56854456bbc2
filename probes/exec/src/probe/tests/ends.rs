//! How programs end and fail, and what is left of them.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;

use super::rig::{LIMIT, Look, Rig, wait_for};
use crate::shared::Standing;

/// A program that answers, and says who it is.
const GOOD: &str = "open('pids', 'a').write(f'{os.getpid()}\\n')\n\
    hello(('jobs', 'counter'))\n\
    for tick in questions(): answer(tick, ('a', tick))\n";

fn pid(text: &str) -> Pid {
    text.trim().parse().ok().and_then(Pid::from_raw).expect("a process's number")
}

/// Whether a process runs; one that nobody has waited for does not.
fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[test]
fn nothing_is_started_before_the_first_collection() {
    let rig = Rig::python(GOOD, json!({}));
    assert!(rig.probe.talker.is_none() && rig.file("pids").is_empty());
}

#[test]
fn a_program_ends_with_its_probe() {
    let script = format!("{GOOD}open('end', 'w').write('end of input')\n");
    let mut rig = Rig::python(&script, json!({"close_timeout": "30s"}));
    rig.batch();
    let (pid, Rig { probe, folder, .. }) = (pid(&rig.file("pids")), rig);
    drop(probe);
    assert!(test_kill_process(pid).is_err(), "it was waited for");
    assert_eq!(fs::read_to_string(folder.path().join("end")).expect("a file"), "end of input");
}

#[test]
fn who_does_not_end_is_asked_and_then_killed_with_its_group() {
    let script = "signal.signal(signal.SIGTERM, lambda *_: open('asked', 'w'))\n\
        child = os.fork()\n\
        if child == 0:\n    \
            while True: time.sleep(1000)\n\
        open('pids', 'a').write(f'{os.getpid()}\\n{child}\\n')\n\
        hello(('jobs', 'counter'))\n\
        for tick in questions(): answer(tick, ('a', tick))\n\
        while True: time.sleep(1000)\n";
    let mut rig = Rig::python(script, json!({"close_timeout": "50ms"}));
    rig.batch();
    let pids: Vec<_> = rig.file("pids").lines().map(pid).collect();
    let start = Instant::now();
    let Rig { probe, folder, .. } = rig;
    drop(probe);
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1) && took < LIMIT, "{took:?}");
    assert!(folder.path().join("asked").exists());
    for pid in pids {
        wait_for("the end of the group", || !runs(pid));
    }
}

#[test]
fn a_program_that_is_killed_is_started_again() {
    let mut rig = Rig::python(GOOD, json!({}));
    rig.batch();
    for round in 1..4 {
        let last = pid(rig.file("pids").lines().last().expect("a line"));
        kill_process(last, Signal::KILL).expect("a signal");
        rig.wait_for_lines("pids", round + 1);
        // Until the next one is asked it is only by what the one before has answered.
        let asked = rig.file("log").lines().count();
        wait_for("an answer of the next one", || {
            std::thread::park_timeout(Duration::from_millis(5));
            matches!(rig.look(), Look::Batch(_)) && rig.file("log").lines().count() > asked + 1
        });
    }
}

#[test]
fn a_program_that_is_stopped_is_killed_and_started_again() {
    let mut rig = Rig::python(GOOD, json!({"reply_timeout": "500ms"}));
    rig.batch();
    let first = pid(&rig.file("pids"));
    kill_process(first, Signal::STOP).expect("a signal");
    wait_for("another one", || {
        rig.look();
        rig.file("pids").lines().count() > 1
    });
    assert!(!runs(first));
    rig.until_batch();
}

#[test]
fn a_program_that_leaves_a_child_with_its_pipe_has_ended() {
    let script = format!(
        "if not os.path.exists('again'):\n    \
            open('again', 'w')\n    \
            child = os.fork()\n    \
            while child == 0: time.sleep(1000)\n    \
            open('child', 'w').write(f'{{child}}\\n')\n    \
            os._exit(0)\n{GOOD}"
    );
    let mut rig = Rig::python(&script, json!({}));
    rig.look();
    rig.wait_for_lines("child", 1);
    let child = pid(&rig.file("child"));
    rig.until_batch();
    wait_for("the end of what it left", || !runs(child));
}

#[test]
fn some_ends_are_for_good() {
    for (does, expected) in [
        ("sys.exit(78)", "the program exited with 78: its configuration has to be changed"),
        ("say(fatal='no card')", "the program cannot work: no card"),
        ("say(ebpf_process=[2])", "the program's hello is refused: no common version"),
        ("hello(('Jobs', 'counter'))", "the program's hello is refused: column 0: its name has to be"),
    ] {
        let script = format!("{does}\nopen('heard', 'w').write(sys.stdin.read())\n");
        let mut rig = Rig::python(&script, json!({"close_timeout": "30s"}));
        let why = rig.closed();
        assert!(why.starts_with(expected), "{why}");
        assert!(why.ends_with("; the program is not started again before a reload"), "{why}");
        assert_eq!(rig.look(), Look::Closed(why));
        if expected.contains("refused") {
            assert!(rig.file("heard").starts_with("{\"refused\":\""), "{}", rig.file("heard"));
        }
    }
}

#[test]
fn what_breaks_the_protocol_ends_the_program_and_the_next_one_works() {
    let short = json!({"reply_timeout": "300ms"});
    for (does, more, problem) in [
        ("print('nonsense', flush=True)", json!({}), "what the program says is no JSON: nonsense"),
        ("print('[1]', flush=True)", json!({}), "what the program says is no object: [1]"),
        ("print('{}', flush=True)", json!({}), "has none of the keys ebpf_process, tick and fatal"),
        ("answer(1, ('a', 1))", json!({}), "the program says something else than hello"),
        ("print('x' * 2**21, flush=True)", json!({}), "the program says a line of more than 1 MiB"),
        (
            "hello(('jobs', 'counter')); [answer(7, ('a', 1)) for _ in range(200)]",
            json!({}),
            "more than a hundred times a minute",
        ),
        ("os.close(1); time.sleep(1000)", json!({}), "the program closed its standard output"),
        ("sys.exit(3)", json!({}), "(exit status: 3)"),
        (
            "time.sleep(1000)",
            json!({"start_timeout": "300ms"}),
            "the program has not said hello within 300ms: does it flush its standard output?",
        ),
        ("hello(('jobs', 'counter')); time.sleep(1000)", short.clone(), "the program has not answered tick 1 within"),
        (
            "hello(('jobs', 'counter')); os.close(0); time.sleep(1000)",
            short.clone(),
            "the program has not answered tick 1 within",
        ),
    ] {
        let script = format!(
            "if not os.path.exists('again'):\n    open('again', 'w')\n    {does}\n    sys.stdin.read(); sys.exit()\n{GOOD}"
        );
        let mut more = more;
        for (key, value) in [("retry_min", "300ms"), ("retry_max", "300ms"), ("close_timeout", "50ms")] {
            more[key] = json!(value);
        }
        let mut rig = Rig::python(&script, more);
        rig.look();
        rig.until(problem, |standing| match standing {
            Standing::Down(said) => {
                assert!(said.contains(problem), "{said}");
                true
            }
            _ => false,
        });
        rig.until_batch();
    }
}

#[test]
fn a_flood_is_bounded() {
    let is_too_many =
        |standing: &Standing| matches!(standing, Standing::Down(said) if said.contains("more than a hundred"));
    let slow = json!({"retry_min": "1s", "retry_max": "1s", "close_timeout": "50ms"});
    let mut rig = Rig::python("hello(('jobs', 'counter'))\nwhile True: print('{\"tick\":7}')\n", slow.clone());
    rig.look();
    rig.until("too many", is_too_many);
    let mut more = slow;
    more["format"] = json!("openmetrics");
    let mut rig = Rig::program("#!/usr/bin/env python3\nwhile True: print('up 1\\n')\n", more);
    rig.look();
    rig.until("too many", is_too_many);
    // Of its standard error as much is told as may be, and its answers are heard meanwhile.
    let noise = format!(
        "import threading\n\
        def noise():\n    \
            while True: print('noise', file=sys.stderr)\n\
        threading.Thread(target=noise, daemon=True).start()\n{GOOD}os._exit(0)\n"
    );
    let mut rig = Rig::python(&noise, json!({}));
    for _ in 0..5 {
        rig.batch();
    }
}

#[test]
fn a_socket_is_connected_to_and_again_after_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let serve = move || {
        for total in [5, 9] {
            let (agent, _) = listener.accept().expect("a connection");
            let mut agent = BufReader::new(agent);
            let hello = json!({"ebpf_process": [1], "probe": "own", "kind": "thing",
                "columns": [{"name": "jobs", "type": "counter"}]});
            writeln!(agent.get_mut(), "{hello}").expect("a hello");
            let mut question = String::new();
            agent.read_line(&mut question).expect("a question");
            let tick = serde_json::from_str::<serde_json::Value>(&question).expect("JSON")["tick"].clone();
            writeln!(agent.get_mut(), "{}", json!({"tick": tick, "rows": [{"values": [total]}]})).expect("an answer");
        }
    };
    let server = std::thread::Builder::new().spawn(serve).expect("a thread");
    let options = json!({"address": format!("unix:{}", path.display())});
    let mut rig = Rig::of(folder, options, json!({}));
    assert_eq!(rig.batch(), ["thing.jobs  5"]);
    assert_eq!(rig.batch(), ["thing.jobs  9"]);
    server.join().expect("no panic");
}
