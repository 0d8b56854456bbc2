//! The status of a running agent.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, getuid};

use crate::agent::{Finished, Running, VITALS_ONLY, command, file, finish, plugin, skip};

/// A user that has nothing to do with the agent.
const STRANGER: u32 = 65_533;

/// An agent that writes lines and answers at a socket.
fn start(folder: &Path, socket: &str) -> Running {
    let path = folder.join("agent.toml");
    let sink = "interval = \"100ms\"\n[sinks.out]\ntype = \"json\"\n[sinks.quiet]\ntype = \"prometheus\"\n\
                exclude = [\"*\"]\noptions.listen = \"127.0.0.1:0\"\n";
    std::fs::write(&path, format!("{sink}{VITALS_ONLY}[status]\nsocket = \"{socket}\"\n")).expect("a file");
    Running::start(&mut command(&["run", "--config", &path.display().to_string()]))
}

fn ask(socket: &str, format: &str) -> Command {
    command(&["status", "--format", format, "--set", &format!("status.socket={socket}")])
}

fn status(socket: &str, format: &str) -> Finished {
    finish(&mut ask(socket, format))
}

#[test]
fn it_says_what_became_of_every_sample() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("run/status.sock").display().to_string();
    let mut agent = start(folder.path(), &socket);
    agent.line();
    agent.line();
    let mode = |path: &str| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o600);
    let finished = status(&socket, "json");
    assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(report["pid"].as_i64(), Some(agent.pid().as_raw_nonzero().get().into()));
    assert!(report["ticks"].as_u64() >= Some(2) && report["uptime"].as_f64() > Some(0.0), "{report}");
    assert!(report["last_batch"]["samples"].as_u64() > Some(0), "{report}");
    let sinks = report["sinks"].as_array().expect("sinks");
    assert_eq!(sinks.iter().map(|sink| &sink["name"]).collect::<Vec<_>>(), ["out", "quiet"]);
    assert_eq!((&sinks[0]["type"], &sinks[1]["type"]), (&"json".into(), &"prometheus".into()));
    assert_eq!((&sinks[0]["state"], &sinks[1]["state"]), (&"working".into(), &"working".into()), "{report}");
    let number = |key: &str| sinks[0][key].as_u64().expect("a number");
    let reasons = |key: &str| -> u64 {
        sinks[0][key].as_object().expect("reasons").values().map(|samples| samples.as_u64().expect("a number")).sum()
    };
    let accounted =
        ["written", "unconfirmed", "superseded", "failed", "spooled", "queued"].map(number).iter().sum::<u64>();
    assert_eq!(number("offered"), accounted + reasons("dropped") + reasons("rejected"), "{report}");
    assert!(number("written") > 0 && sinks[1]["offered"] == 0, "{report}");

    let confinement = &report["confinement"];
    assert_eq!(confinement["user"].is_string(), getuid().is_root(), "{confinement}");
    assert_eq!(confinement["system_calls"]["applies"], true, "{confinement}");

    let finished = status(&socket, "table");
    assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
    for words in [
        "By seccomp, system calls that it does not make are closed to it",
        "ebpf-process ",
        "up ",
        "last batch: number ",
        "SINK",
        "OFFERED",
        "UNCONFIRMED",
        "SUPERSEDED",
        "out ",
        "prometheus",
    ] {
        assert!(finished.stdout.contains(words), "no {words:?} in {}", finished.stdout);
    }
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
    assert!(!Path::new(&socket).exists(), "nobody would answer there");
    // Root's agent is somebody else by then, who may not write above it: the directory stays, empty.
    assert!(getuid().is_root() || !folder.path().join("run").exists(), "nothing is left behind");
}

#[test]
fn only_root_and_the_agents_user_may_ask() {
    if !getuid().is_root() {
        return skip("only_root_and_the_agents_user_may_ask", "it takes root to be somebody else");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("status.sock").display().to_string();
    let mut agent = start(folder.path(), &socket);
    agent.line();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("permissions");
    // Even where the socket itself lets everybody in, the agent looks at who asks.
    for mode in [0o600, 0o666] {
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(mode)).expect("permissions");
        let finished = finish(ask(&socket, "json").uid(STRANGER).gid(STRANGER));
        assert_eq!((finished.code(), finished.stdout.as_str()), (1, ""), "{finished:?}");
        assert!(finished.stderr.to_lowercase().contains("permission denied"), "{finished:?}");
        assert!(finished.stderr.contains("ask as root"), "{finished:?}");
    }
    assert_eq!(status(&socket, "json").code(), 0);
    agent.signal(Signal::TERM);
    agent.finish();
}

#[test]
fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("status.sock").display().to_string();
    let mut dead = start(folder.path(), &socket);
    dead.line();
    dead.signal(Signal::KILL);
    drop(dead);
    assert!(Path::new(&socket).exists());
    let finished = status(&socket, "table");
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stderr.contains("start the agent"), "{finished:?}");

    let mut first = start(folder.path(), &socket);
    first.line();
    assert_eq!(status(&socket, "json").code(), 0);
    let mut second = start(folder.path(), &socket);
    let pid = first.pid().as_raw_nonzero();
    second.wait_for_log(&format!("the agent with process number {pid} answers there"));
    second.line();
    second.signal(Signal::TERM);
    assert_eq!(second.finish().code(), 0, "it runs without");
    let report: serde_json::Value = serde_json::from_str(&status(&socket, "json").stdout).expect("JSON");
    assert_eq!(report["pid"].as_i64(), Some(pid.get().into()));
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code(), 0);
}

#[test]
fn an_agent_that_cannot_make_the_socket_runs_without_and_says_so_once() {
    let (folder, path) = file("no socket");
    for socket in ["/proc/nobody/status.sock", &path.display().to_string()] {
        let mut agent = start(folder.path(), socket);
        agent.wait_for_log(&format!("no status at {socket}"));
        agent.line();
        agent.line();
        agent.signal(Signal::TERM);
        let finished = agent.finish();
        assert_eq!(finished.code(), 0, "{finished:?}");
        assert_eq!(finished.stderr.matches("no status at").count(), 1, "{finished:?}");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "no socket", "it is not ours to replace");
}

#[test]
fn under_netdata_there_is_a_status_where_one_is_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("status.sock").display().to_string();
    let (_folder, path) = file(&format!("{VITALS_ONLY}[status]\nsocket = \"{socket}\"\n"));
    let mut agent = Running::start(&mut plugin(&["1", "--config", &path.display().to_string()]));
    assert!(!agent.line().is_empty(), "the first chart");
    assert_eq!(status(&socket, "json").code(), 0);
    agent.signal(Signal::TERM);
    agent.finish();
    // The usual place belongs to the agent that runs as a service.
    let (_folder, path) = file(VITALS_ONLY);
    let mut agent = Running::start(&mut plugin(&["1", "--config", &path.display().to_string()]));
    assert!(!agent.line().is_empty(), "the first chart");
    let open = std::fs::read_dir(format!("/proc/{}/task", agent.pid().as_raw_nonzero())).expect("its threads");
    let names =
        open.map(|task| std::fs::read_to_string(task.expect("a thread").path().join("comm")).unwrap_or_default());
    assert_eq!(names.filter(|name| name.trim_end() == "status").count(), 0);
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
}

#[test]
fn without_a_configuration_it_runs_and_says_what_to_configure() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("status.sock").display().to_string();
    let (_folder, path) = file(&format!("{VITALS_ONLY}[status]\nsocket = \"{socket}\"\n"));
    let mut agent = Running::start(&mut command(&["run", "--config", &path.display().to_string()]));
    agent.wait_for_log("no sink is configured");
    agent.wait_for_log("counting");
    let finished = status(&socket, "table");
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(finished.stdout.contains("no sink is configured: configure one in /etc/"), "{}", finished.stdout);
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
}
