//! `status --watch`.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Signal, getuid};

use crate::agent::{Running, VITALS_ONLY, command, finish, skip};
use crate::terminal::{read_until, terminal};

/// A user that has nothing to do with the agent.
const SOMEBODY: u32 = 65_533;

/// An agent that answers at a socket in this folder; it has begun when this returns.
fn agent(folder: &Path) -> Running {
    let path = folder.join("agent.toml");
    let sink = "interval = \"100ms\"\n[sinks.out]\ntype = \"json\"\n";
    let text = format!("{sink}{VITALS_ONLY}[status]\nsocket = \"{}\"\n", socket(folder));
    std::fs::write(&path, text).expect("a file");
    let mut agent = Running::start(&mut command(&["run", "--config", &path.display().to_string()]));
    assert!(agent.line().starts_with('{'), "the first batch");
    agent
}

fn end(agent: Running) {
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
}

fn socket(folder: &Path) -> String {
    folder.join("status.sock").display().to_string()
}

fn watch(folder: &Path, format: &str) -> Command {
    let socket = format!("status.socket={}", socket(folder));
    command(&["status", "--watch", "0.1", "--format", format, "--config", "/dev/null", "--set", &socket])
}

/// Reads lines until there is such a one.
fn read_to(watching: &mut Running, is_it: impl Fn(&str) -> bool) {
    let lines = std::iter::from_fn(|| Some(watching.line()).filter(|line| !line.is_empty()));
    assert!({ lines }.any(|line| is_it(&line)), "there is no such line before the end");
}

#[test]
fn a_terminal_shows_the_table_in_one_place_until_it_is_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = agent(folder.path());
    let (mut screen, slave) = terminal();
    let watching = Running::start(watch(folder.path(), "table").stdout(Stdio::from(slave)));
    let text = read_until(&mut screen, "last batch: number", 3);
    assert!(text.contains("SINK") && text.contains("working"), "{text:?}");
    assert!(text.contains("\u{1b}[J"), "drawn in place: {text:?}");

    // An agent that goes away is said in the same place, and the next one is shown.
    end(running);
    read_until(&mut screen, "waiting for it", 2);
    let running = agent(folder.path());
    read_until(&mut screen, "last batch: number", 1);
    watching.signal(Signal::INT);
    let finished = watching.finish();
    assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
    end(running);
}

#[test]
fn a_terminal_that_is_closed_is_a_quiet_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = agent(folder.path());
    let (mut screen, slave) = terminal();
    let watching = Running::start(watch(folder.path(), "table").stdout(Stdio::from(slave)));
    read_until(&mut screen, "last batch: number", 1);
    drop(screen);
    let finished = watching.finish();
    assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
    end(running);
}

#[test]
fn elsewhere_tables_follow_each_other_and_a_missing_agent_is_said_once_and_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    // It need not be there yet.
    let mut watching = Running::start(&mut watch(folder.path(), "table"));
    watching.wait_for_log("waiting for it");
    let running = agent(folder.path());
    assert!(watching.line().starts_with("ebpf-process "), "a table");
    read_to(&mut watching, |line| line.starts_with("out "));
    assert_eq!(watching.line(), "\n", "an empty line");
    assert!(watching.line().starts_with("ebpf-process "), "the next table");
    end(running);
    // Its last tables are still being read while it has gone.
    let running = agent(folder.path());
    let pid = format!("process {},", running.pid().as_raw_nonzero());
    read_to(&mut watching, |line| line.contains(&pid));
    watching.signal(Signal::INT);
    let finished = watching.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    let said = finished.stderr.lines().filter(|line| line.contains("no agent answers at")).count();
    assert!((1..=2).contains(&said), "once each time: {finished:?}");
    assert!(!finished.stdout.contains('\u{1b}'), "{finished:?}");
    end(running);
}

#[test]
fn as_json_it_is_one_object_a_line_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = agent(folder.path());
    let mut watching = Running::start(&mut watch(folder.path(), "json"));
    let mut ticks = Vec::new();
    while ticks.len() < 3 {
        let report: serde_json::Value = serde_json::from_str(&watching.line()).expect("an object");
        ticks.push(report["ticks"].as_u64().expect("a number"));
    }
    assert!(ticks.is_sorted(), "{ticks:?}");
    end(running);
    watching.wait_for_log("waiting for it");
    watching.signal(Signal::TERM);
    let finished = watching.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    for line in finished.stdout.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("an object");
    }
}

#[test]
fn it_ends_when_nobody_reads_it_any_more_also_while_nobody_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    for format in ["table", "json"] {
        let mut watching = Running::start(&mut watch(folder.path(), format));
        watching.wait_for_log("waiting for it");
        watching.close_stdout();
        assert_eq!(watching.finish().code(), 0);
        let running = agent(folder.path());
        let mut watching = Running::start(&mut watch(folder.path(), format));
        watching.line();
        watching.close_stdout();
        assert_eq!(watching.finish().code(), 0);
        end(running);
    }
}

#[test]
fn who_may_not_ask_is_told_so_and_waits_for_nothing() {
    if !getuid().is_root() {
        return skip("who_may_not_ask_is_told_so_and_waits_for_nothing", "it takes root to be somebody else");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let running = agent(folder.path());
    let finished = finish(watch(folder.path(), "table").uid(SOMEBODY).gid(SOMEBODY));
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stderr.contains("ask as root"), "{finished:?}");
    end(running);
}
