//! The process that opens for root's agent what it may not open any more.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::agent::{HARMLESS, Running, VITALS_ONLY, command, file, plugin, skip};

const LIMIT: Duration = Duration::from_mins(1);
const NOBODY: u32 = 65_534;

/// Whether an agent of this user has a broker.
fn can_run(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip(test, "only root's agent has rights that it gives up");
    }
    is_root
}

/// An agent that appends to a file, and its broker.
fn start(lines: &Path) -> (tempfile::TempDir, Running, Pid) {
    let (folder, path) = file(&format!(
        "interval = \"100ms\"\n[sinks.lines]\ntype = \"json\"\noptions.path = \"{}\"\n{VITALS_ONLY}",
        lines.display()
    ));
    let mut agent = Running::start(&mut command(&["run", "--config", &path.display().to_string()]));
    agent.wait_for_log("counting");
    // It has its name a moment after it was forked.
    wait_for("root's agent has one", || broker_of(agent.pid()).is_some());
    let broker = broker_of(agent.pid()).expect("root's agent has one");
    (folder, agent, broker)
}

fn broker_of(agent: Pid) -> Option<Pid> {
    let processes = fs::read_dir("/proc").expect("processes");
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let is_its = |number: &i32| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        stat.contains(" (ebpf-broker) ") && stat.split_whitespace().nth(3) == Some(&agent.as_raw_nonzero().to_string())
    };
    numbers.filter(is_its).find_map(Pid::from_raw)
}

fn wait_for(what: &str, look: impl Fn() -> bool) {
    let start = Instant::now();
    while !look() {
        assert!(start.elapsed() < LIMIT, "it takes too long: {what}");
        std::thread::yield_now();
    }
}

fn is_over(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn the_agent_and_its_broker_end_together() {
    if !can_run("the_agent_and_its_broker_end_together") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let lines = folder.path().join("lines");
    // Who ends the broker ends the agent, with a reason.
    let (_config, agent, broker) = start(&lines);
    for signal in HARMLESS.into_iter().chain([Signal::TERM, Signal::INT, Signal::QUIT]) {
        kill_process(broker, signal).expect("a signal");
    }
    let written = fs::metadata(&lines).expect("a file").len();
    wait_for("lines", || fs::metadata(&lines).is_ok_and(|lines| lines.len() > written));
    assert!(!is_over(broker), "signals that ask for the end are the agent's");
    kill_process(broker, Signal::KILL).expect("a signal");
    let finished = agent.finish();
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stderr.contains("(ebpf-broker) has ended"), "{}", finished.stderr);
    assert!(finished.stderr.contains("(sink lines)"), "it ends in order: {}", finished.stderr);

    // Who kills the agent ends the broker.
    let (_config, agent, broker) = start(&lines);
    agent.signal(Signal::KILL);
    wait_for("the broker's end", || is_over(broker));
    drop(agent);

    // And so does an ordinary stop.
    let (_config, agent, broker) = start(&lines);
    agent.signal(Signal::TERM);
    let finished = agent.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(!finished.stderr.contains("ebpf-broker"), "{}", finished.stderr);
    wait_for("the broker's end", || is_over(broker));
}

#[test]
fn the_plugin_of_netdata_ends_with_its_broker_such_that_it_is_started_again() {
    if !can_run("the_plugin_of_netdata_ends_with_its_broker_such_that_it_is_started_again") {
        return;
    }
    let (folder, path) = file(VITALS_ONLY);
    let mut command = plugin(&["1", "--config", &path.display().to_string()]);
    let mut agent = Running::start(command.env("NETDATA_LOCK_DIR", folder.path()));
    assert!(agent.line().starts_with("CHART"), "data");
    kill_process(broker_of(agent.pid()).expect("it has one"), Signal::KILL).expect("a signal");
    assert_eq!(agent.finish().code(), 1);
}

#[test]
fn a_file_that_rotation_makes_for_another_user_is_written() {
    if !can_run("a_file_that_rotation_makes_for_another_user_is_written") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let lines = folder.path().join("lines");
    let (_config, agent, _) = start(&lines);
    wait_for("lines", || fs::metadata(&lines).is_ok_and(|lines| lines.len() > 0));
    // What logrotate does by `create 0640 nobody nogroup`: in one step here, so that the agent makes none itself.
    let new = folder.path().join("new");
    fs::write(&new, "").expect("a file");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o640)).expect("a mode");
    chown(&new, Some(NOBODY), Some(NOBODY)).expect("an owner");
    fs::rename(&new, &lines).expect("rotated");
    wait_for("lines after the rotation", || fs::metadata(&lines).is_ok_and(|lines| lines.len() > 0));
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
}
