//! Two agents on one host: what one of them sends, the other one does not send as well.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, getuid};

use crate::agent::{Running, VITALS_ONLY, command, finish};

/// A user with a runtime directory of its own.
const NOBODY: u32 = 65_534;

/// An agent that appends to a file in this folder, and to standard output where it is asked to.
fn agent(folder: &Path, name: &str, stdout: bool, more: &[&str]) -> Command {
    let path = folder.join(format!("{name}.toml"));
    let socket = folder.join("status.sock");
    let shared = folder.join("shared.json");
    let own = if stdout { "[sinks.own]\ntype = \"json\"\n" } else { "" };
    let text = format!(
        "interval = \"100ms\"\ngrace = \"500ms\"\n[status]\nsocket = \"{}\"\n\
         [sinks.shared]\ntype = \"json\"\noptions.path = \"{}\"\n{own}{VITALS_ONLY}",
        socket.display(),
        shared.display()
    );
    std::fs::write(&path, text).expect("a file");
    let path = path.display().to_string();
    let arguments: Vec<&str> = ["run", "--config", &path].into_iter().chain(more.iter().copied()).collect();
    let mut command = command(&arguments);
    // Root's agents meet in /run; the file's path tells these from all others there.
    command.env("XDG_RUNTIME_DIR", folder);
    command
}

fn status(folder: &Path, socket: &str) -> serde_json::Value {
    let socket = format!("status.socket={}", folder.join(socket).display());
    let finished = finish(&mut command(&["status", "--format", "json", "--set", &socket]));
    assert_eq!(finished.code(), 0, "{finished:?}");
    serde_json::from_str(&finished.stdout).expect("JSON")
}

fn sink<'a>(report: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let sinks = report["sinks"].as_array().expect("sinks");
    sinks.iter().find(|sink| sink["name"] == name).expect("the sink")
}

#[test]
fn the_second_one_waits_and_then_leaves_out_what_the_first_one_sends() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut first = Running::start(&mut agent(folder, "first", false, &[]));
    first.wait_for_log("counting");
    let pid = first.pid().as_raw_nonzero().to_string();

    // Nothing is left for it.
    let alone = finish(&mut agent(folder, "alone", false, &[]));
    assert_eq!(alone.code(), 1, "{alone:?}");
    for words in ["waiting up to 1.5s", &pid, "shared.json already", "instance = \"NAME\""] {
        assert!(alone.stderr.contains(words), "no {words:?} in {}", alone.stderr);
    }
    assert!(!alone.stderr.contains("counting"), "it has counted nothing meanwhile: {}", alone.stderr);

    // Something is left for it.
    let elsewhere = format!("status.socket={}", folder.join("second.sock").display());
    let mut second = Running::start(&mut agent(folder, "second", true, &["--set", &elsewhere]));
    second.wait_for_log("counting");
    assert!(!second.line().is_empty());
    second.wait_for_log("the sink is absent");
    second.wait_for_log(&pid);
    let report = status(folder, "second.sock");
    let shared = sink(&report, "shared");
    assert_eq!((&shared["state"], &shared["offered"]), (&"absent".into(), &0.into()), "{report}");
    assert!(shared["reason"].as_str().expect("a reason").contains(&pid), "{report}");
    assert_eq!(sink(&report, "own")["state"], "working", "{report}");
    let line: serde_json::Value = serde_json::from_str(&second.line()).expect("JSON");
    let states = line["samples"].as_array().expect("samples").iter();
    let states = states.filter(|sample| sample["name"] == "agent.sink_state");
    let states: Vec<_> = states.map(|sample| (&sample["labels"]["sink"], &sample["value"])).collect();
    assert_eq!(states.len(), 2, "{line}");
    assert!(
        states.contains(&(&"shared".into(), &0.0.into())) && states.contains(&(&"own".into(), &1.0.into())),
        "{line}"
    );

    second.signal(Signal::TERM);
    assert_eq!(second.finish().code(), 0);
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code(), 0);
}

/// Ends the first of two agents and looks whether the second one takes its place, lock included. A third one that waits as
/// well is asked to end meanwhile.
fn restart(end: Signal) {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::set_permissions(folder, Permissions::from_mode(0o777)).expect("permissions");
    // Root's agents meet where others may be, which keeps their directory in being.
    let start = |name: &str, more: &[&str]| {
        let mut command = agent(folder, name, false, more);
        if getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Running::start(&mut command)
    };
    // The others have far more patience than anything here takes.
    let mut first = start("first", &["--set", "grace=30s"]);
    first.wait_for_log("counting");
    let mut second = start("second", &["--set", "grace=30s"]);
    second.wait_for_log("waiting up to 31s");
    let mut third = start("third", &[]);
    third.wait_for_log("waiting up to 31s");
    third.signal(Signal::TERM);
    let third = third.finish();
    assert_eq!(third.code(), 0, "{third:?}");
    first.signal(end);
    if end == Signal::TERM {
        assert_eq!(first.finish().code(), 0);
    } else {
        drop(first);
    }
    second.wait_for_log("counting");
    let pid = second.pid().as_raw_nonzero();
    let mut fourth = start("fourth", &[]);
    fourth.wait_for_log(&format!("the agent with process number {pid} sends"));
    for agent in [fourth, second] {
        agent.signal(Signal::TERM);
        let finished = agent.finish();
        assert_eq!(finished.code(), 0, "{finished:?}");
        assert!(!finished.stderr.contains("no lock"), "{finished:?}");
    }
}

#[test]
fn a_restart_may_overlap_and_whoever_waits_can_be_ended() {
    restart(Signal::TERM);
}

#[test]
fn not_even_an_agent_that_is_killed_takes_its_lock_along() {
    restart(Signal::KILL);
}

#[test]
fn instances_have_names_and_all_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut first = Running::start(&mut agent(folder, "first", false, &[]));
    first.wait_for_log("counting");
    let mut second = Running::start(&mut agent(folder, "second", true, &["--set", "instance=b"]));
    second.wait_for_log("counting");
    let line: serde_json::Value = serde_json::from_str(&second.line()).expect("JSON");
    assert!(line["samples"].as_array().expect("samples").iter().all(|sample| sample["labels"]["instance"] == "b"));
    let [one, two] = ["status.sock", "status-b.sock"].map(|socket| status(folder, socket)["pid"].as_i64());
    let pids = [&first, &second].map(|agent| Some(agent.pid().as_raw_nonzero().get().into()));
    assert_eq!([one, two], pids);
    for agent in [first, second] {
        agent.signal(Signal::TERM);
        assert_eq!(agent.finish().code(), 0);
    }
    assert!(!folder.join("status-b.sock").exists());
}

#[test]
fn commands_that_only_look_take_no_lock_and_see_whose_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut first = Running::start(&mut agent(folder, "first", false, &[]));
    first.wait_for_log("counting");
    let path = folder.join("first.toml").display().to_string();
    for arguments in [vec!["check"], vec!["check", "--offline"], vec!["once", "--interval", "100ms"]] {
        let arguments: Vec<&str> = arguments.into_iter().chain(["--config", &path]).collect();
        let finished = finish(command(&arguments).env("XDG_RUNTIME_DIR", folder));
        assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
    }
    let report = status(folder, "status.sock");
    assert!(sink(&report, "shared")["written"].as_u64() > Some(0), "it goes on: {report}");
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code(), 0);
}
