//! `check` tries the sinks.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use ebpf_process_core::testkit::loopback;
use rustix::process::{Signal, getuid};

use crate::agent::{Finished, Running, VITALS_ONLY, command, file, finish, skip};

/// A user that has nothing to do with the agent.
const STRANGER: u32 = 65_533;

/// A configuration with a file, a port, a spool and a receiver, all of them in this folder or free.
fn everything(folder: &Path, receiver: u16) -> PathBuf {
    // On an address of this test's own: it is bound later, and nobody else must be given it meanwhile.
    let free = TcpListener::bind((loopback(), 0)).and_then(|listener| listener.local_addr()).expect("a port");
    let path = folder.join("everything.toml");
    let text = format!(
        "interval = \"100ms\"\n[status]\nsocket = \"{0}/status.sock\"\n{VITALS_ONLY}\
         [sinks.lines]\ntype = \"json\"\noptions.path = \"{0}/lines.json\"\n\
         [sinks.scrape]\ntype = \"prometheus\"\noptions.listen = \"{free}\"\n\
         [sinks.lan]\ntype = \"statsd\"\noptions.address = \"udp://127.0.0.1:{receiver}\"\n\
         [sinks.db]\ntype = \"influx\"\noptions.url = \"file://{0}/lines.lp\"\n\
         options.database = \"x\"\noptions.delivery.spool = \"{0}/spool\"\n",
        folder.display()
    );
    std::fs::write(&path, text).expect("a file");
    path
}

/// What there is in a folder, with sizes.
fn there(folder: &Path) -> BTreeSet<(PathBuf, u64)> {
    let mut found = BTreeSet::new();
    for entry in folder.read_dir().expect("a folder") {
        let entry = entry.expect("an entry");
        let metadata = entry.metadata().expect("it is there");
        found.insert((entry.path(), if metadata.is_dir() { 0 } else { metadata.len() }));
        if metadata.is_dir() {
            found.extend(there(&entry.path()));
        }
    }
    found
}

fn check(path: &Path, folder: &Path, user: Option<u32>) -> Finished {
    let path = path.display().to_string();
    let mut check = command(&["check", "--strict", "--format", "json", "--config", &path]);
    check.env("XDG_RUNTIME_DIR", folder);
    if let Some(user) = user {
        check.uid(user).gid(user);
    }
    finish(&mut check)
}

fn findings(finished: &Finished) -> serde_json::Value {
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    report["sinks"].clone()
}

#[test]
fn nothing_is_left_behind_and_nothing_arrives() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    receiver.set_nonblocking(true).expect("a socket");
    let path = everything(folder.path(), receiver.local_addr().expect("an address").port());
    let before = there(folder.path());
    let mut users = vec![None];
    if getuid().is_root() {
        users.push(Some(STRANGER));
    } else {
        skip("nothing_is_left_behind_and_nothing_arrives as another user", "it takes root to be somebody else");
    }
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("permissions");
    for user in users {
        let finished = check(&path, folder.path(), user);
        assert_eq!(finished.code(), 0, "{finished:?}");
        for sink in findings(&finished).as_array().expect("sinks") {
            assert_eq!(sink["state"], "fine", "{sink}");
            assert!(!sink["findings"].as_array().expect("findings").is_empty(), "{sink}");
        }
        assert_eq!(there(folder.path()), before);
    }
    while let Ok(length) = receiver.recv(&mut [0; 64]) {
        assert_eq!(length, 0, "an empty datagram is no number");
    }
}

#[test]
fn what_a_running_agent_holds_is_no_fault_and_what_somebody_else_holds_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let path = everything(folder.path(), receiver.local_addr().expect("an address").port());
    let mut run = command(&["run", "--config", &path.display().to_string()]);
    let mut agent = Running::start(run.env("XDG_RUNTIME_DIR", folder.path()));
    agent.wait_for_log("counting");
    let finished = check(&path, folder.path(), None);
    assert_eq!(finished.code(), 0, "{finished:?}");
    let pid = agent.pid().as_raw_nonzero().to_string();
    let sinks = findings(&finished);
    let scrape = sinks.as_array().expect("sinks").iter().find(|sink| sink["name"] == "scrape").expect("the sink");
    assert!(scrape.to_string().contains(&pid), "it says whose the port is: {scrape}");
    // The configuration has changed meanwhile: the port is another one, and somebody else has that.
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let text = std::fs::read_to_string(&path).expect("a file");
    let (before, rest) = text.split_once("options.listen = \"").expect("the port");
    let (_, rest) = rest.split_once('"').expect("its end");
    let listen = other.local_addr().expect("an address");
    std::fs::write(&path, format!("{before}options.listen = \"{listen}\"{rest}")).expect("a file");
    let finished = check(&path, folder.path(), None);
    assert_eq!(finished.code(), 1, "{finished:?}");
    let states: Vec<_> = findings(&finished).as_array().expect("sinks").iter().map(|s| s["state"].clone()).collect();
    assert_eq!(states, ["fine", "fine", "fine", "error"], "{finished:?}");
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
}

#[test]
fn whoever_may_not_look_is_told_so_and_warned() {
    if !getuid().is_root() {
        return skip("whoever_may_not_look_is_told_so_and_warned", "it takes root to be somebody else");
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("permissions");
    let path = folder.path().join("scrape.toml");
    let socket = folder.path().join("status.sock").display().to_string();
    let listen = TcpListener::bind((loopback(), 0)).and_then(|listener| listener.local_addr()).expect("a port");
    let text = format!(
        "[status]\nsocket = \"{socket}\"\n{VITALS_ONLY}[sinks.scrape]\ntype = \"prometheus\"\n\
         options.listen = \"{listen}\"\n"
    );
    std::fs::write(&path, text).expect("a file");
    let mut agent = Running::start(&mut command(&["run", "--config", &path.display().to_string()]));
    agent.wait_for_log("counting");
    for (strict, code) in [(false, 0), (true, 1)] {
        let path = path.display().to_string();
        let mut arguments = vec!["check", "--format", "json", "--config", &path];
        arguments.extend(strict.then_some("--strict"));
        let finished = finish(command(&arguments).env("XDG_RUNTIME_DIR", folder.path()).uid(STRANGER).gid(STRANGER));
        assert_eq!(finished.code(), code, "{finished:?}");
        let sinks = findings(&finished);
        assert_eq!(sinks[0]["state"], "warning", "{sinks}");
        for words in ["is taken", "/run/ebpf-process", "as root"] {
            assert!(sinks.to_string().contains(words), "no {words:?} in {sinks}");
        }
    }
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
}

#[test]
fn a_port_that_the_running_agent_could_not_get_either_is_a_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let path = everything(folder.path(), receiver.local_addr().expect("an address").port());
    let text = std::fs::read_to_string(&path).expect("a file");
    let (_, rest) = text.split_once("options.listen = \"").expect("the port");
    let listen: Option<SocketAddr> = rest.split_once('"').and_then(|(listen, _)| listen.parse().ok());
    let somebody = TcpListener::bind(listen.expect("an address")).expect("a free port");
    let mut run = command(&["run", "--config", &path.display().to_string()]);
    let mut agent = Running::start(run.env("XDG_RUNTIME_DIR", folder.path()));
    agent.wait_for_log("the sink is absent");
    agent.wait_for_log("counting");
    // The agent has the lock of this destination, and has not got its port.
    let finished = check(&path, folder.path(), None);
    assert_eq!(finished.code(), 1, "{finished:?}");
    let sinks = findings(&finished);
    let scrape = sinks.as_array().expect("sinks").iter().find(|sink| sink["name"] == "scrape").expect("the sink");
    assert_eq!(scrape["state"], "error", "{scrape}");
    assert!(scrape.to_string().contains("taken by another process"), "{scrape}");
    drop(somebody);
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
}

#[test]
fn offline_opens_nothing_and_says_so() {
    let (folder, path) = file("");
    let lines = folder.path().join("missing/lines.json");
    let sink = format!("[sinks.a]\ntype = \"json\"\noptions.path = \"{}\"\n{VITALS_ONLY}", lines.display());
    std::fs::write(&path, sink).expect("a file");
    let path = path.display().to_string();
    let finished = finish(&mut command(&["check", "--offline", "--config", &path]));
    assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
    assert!(finished.stdout.contains("the configuration alone is checked"), "{}", finished.stdout);
    assert!(!lines.parent().expect("a directory").exists());
    let finished = finish(&mut command(&["check", "--offline", "--config", &path, "--set", "sinks.a.queue=0"]));
    assert_eq!(finished.code(), 2, "{finished:?}");
}
