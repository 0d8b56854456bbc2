//! Life as netdata's plugin.

use std::fs::File;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use crate::agent::{Finished, HARMLESS, Running, VITALS_ONLY, file, finish, plugin, skip};

/// A plugin that runs anywhere, in a folder of its own.
fn vitals_only() -> (tempfile::TempDir, Command) {
    let (folder, path) = file(VITALS_ONLY);
    let mut command = plugin(&["1", "--config", &path.display().to_string()]);
    command.env("NETDATA_LOCK_DIR", folder.path());
    (folder, command)
}

#[test]
fn it_speaks_the_protocol_and_ends_in_order() {
    let (folder, path) = file(VITALS_ONLY);
    let path = path.display().to_string();
    let mut command = plugin(&["1", "--config", &path]);
    let mut agent = Running::start(command.env("NETDATA_LOCK_DIR", folder.path()).env("NETDATA_UPDATE_EVERY", "2"));
    assert!(agent.line().starts_with("CHART ebpf."));
    agent.wait_for_log("one batch every 2s");
    agent.signal(Signal::HUP);
    agent.signal(Signal::TERM);
    let finished = agent.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(finished.stdout.contains("obsolete"), "a clean end retires the charts: {}", finished.stdout);
    assert!(!finished.stdout.contains("DISABLE"), "{}", finished.stdout);
}

#[test]
fn a_closed_stdout_is_netdatas_goodbye() {
    let (folder, path) = file(VITALS_ONLY);
    let path = path.display().to_string();
    let mut agent = Running::start(plugin(&["1", "--config", &path]).env("NETDATA_LOCK_DIR", folder.path()));
    agent.line();
    agent.close_stdout();
    let finished = agent.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
}

#[test]
fn a_second_instance_leaves_the_network_to_the_first() {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = receiver.local_addr().expect("an address");
    let sink = format!("[sinks.lan]\ntype = \"statsd\"\noptions.address = \"udp://{address}\"\n");
    let (folder, path) = file(&format!("{VITALS_ONLY}{sink}"));
    let path = path.display().to_string();
    let start = || Running::start(plugin(&["1", "--config", &path]).env("NETDATA_LOCK_DIR", folder.path()));
    let mut first = start();
    first.line();
    let mut second = start();
    second.line();
    for agent in [&first, &second] {
        agent.signal(Signal::TERM);
    }
    let (first, second) = (first.finish(), second.finish());
    assert_eq!((first.code(), second.code()), (0, 0), "{first:?} {second:?}");
    assert!(first.stderr.contains("(sink lan)") && !first.stderr.contains("another agent"), "{}", first.stderr);
    assert!(second.stderr.contains("another agent runs on this host"), "{}", second.stderr);
    let account = second.stderr.lines().find(|line| line.contains(" samples: ") && line.contains("(sink lan)"));
    assert!(account.is_some_and(|account| account.contains(": 0 samples: 0 written")), "it sends nothing: {account:?}");
}

#[test]
fn the_old_configuration_file_warns_and_never_stops_the_plugin() {
    let (folder, path) = file(VITALS_ONLY);
    std::fs::write(folder.path().join("ebpf_process.conf"), "[global]\nload = both\n").expect("a file");
    let path = path.display().to_string();
    let mut command = plugin(&["--config", &path]);
    command.env("NETDATA_LOCK_DIR", folder.path()).env("NETDATA_USER_CONFIG_DIR", folder.path());
    let mut agent = Running::start(&mut command);
    agent.wait_for_log("ebpf_process.conf, line 2");
    agent.line();
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
}

#[test]
fn no_signal_kills_it() {
    let (_folder, mut command) = vitals_only();
    let mut agent = Running::start(&mut command);
    agent.wait_until_caught(&HARMLESS);
    agent.wait_until_caught(&[Signal::QUIT, Signal::TERM]);
    for harmless in HARMLESS {
        agent.signal(harmless);
    }
    agent.wait_for_log("the configuration was read again: nothing has changed");
    assert!(agent.line().starts_with("CHART "), "it goes on");
    agent.signal(Signal::QUIT);
    let finished = agent.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(finished.stdout.contains("obsolete"), "SIGQUIT is a clean end: {finished:?}");
}

#[test]
fn each_signal_is_caught_before_anything_is_done() {
    for signal in HARMLESS.into_iter().chain([Signal::QUIT, Signal::INT, Signal::TERM]) {
        let (_folder, mut command) = vitals_only();
        let agent = Running::start(&mut command);
        agent.wait_until_caught(&[signal]);
        agent.signal(signal);
        // Whoever asks for the end gets it, also this early.
        agent.signal(Signal::TERM);
        let finished = agent.finish();
        assert_eq!(finished.code(), 0, "{signal:?}: {finished:?}");
        assert!(!finished.stdout.contains("DISABLE"), "{signal:?}: {finished:?}");
    }
}

#[test]
fn an_output_that_fails_is_an_error_and_no_goodbye() {
    let (_folder, mut command) = vitals_only();
    command.stdout(File::options().write(true).open("/dev/full").expect("/dev/full"));
    let finished = finish(&mut command);
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stderr.contains("No space left"), "{finished:?}");
}

#[test]
fn the_log_has_the_form_and_the_level_that_netdata_asks_for() {
    let log = |variables: &[(&str, &str)]| {
        let (_folder, mut command) = vitals_only();
        let mut agent = Running::start(command.envs(variables.iter().copied()));
        agent.line();
        agent.signal(Signal::TERM);
        let finished = agent.finish();
        assert_eq!(finished.code(), 0, "{finished:?}");
        finished.stderr
    };
    let classic = log(&[]);
    assert!(classic.lines().all(|line| line.contains(": ebpf_process.plugin INFO : ")), "{classic}");
    let logfmt = log(&[("NETDATA_LOG_METHOD", "stderr"), ("NETDATA_LOG_FORMAT", "logfmt")]);
    assert!(!logfmt.is_empty());
    for line in logfmt.lines() {
        assert!(line.starts_with("time=2") && line.contains(" comm=ebpf_process.plugin source=collector "), "{line}");
        assert!(line.contains(" level=info ") && line.contains(" msg="), "{line}");
    }
    let json = log(&[("NETDATA_LOG_METHOD", "stderr"), ("NETDATA_LOG_FORMAT", "json")]);
    for line in json.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).expect("an object a line");
        assert_eq!((&entry["source"], &entry["level"]), (&"collector".into(), &"info".into()), "{line}");
        assert!(entry["msg"].is_string() && entry["time"].is_string(), "{line}");
    }
    assert_eq!(log(&[("NETDATA_LOG_LEVEL", "warning")]), "");
    assert_eq!(log(&[("NETDATA_LOG_METHOD", "none")]), "");
    let own = log(&[("NETDATA_LOG_LEVEL", "error"), ("EBPF_PROCESS_LOG", "debug")]);
    assert!(own.contains("INFO"), "the agent's own variable has the last word: {own}");
}

#[test]
fn a_unit_that_withholds_the_rights_is_named_with_the_remedy() {
    if !rustix::process::geteuid().is_root() {
        return skip("withheld rights", "cutting the bounding set needs root");
    }
    // The set is a thread's, and a process gets it from the thread that starts it.
    let cut = || -> Finished {
        for capability in [CapabilitySet::BPF, CapabilitySet::PERFMON, CapabilitySet::SYS_ADMIN] {
            remove_capability_from_bounding_set(capability).expect("a capability less");
        }
        let folder = tempfile::tempdir().expect("a folder");
        finish(plugin(&["1"]).env("NETDATA_LOCK_DIR", folder.path()))
    };
    let finished = std::thread::scope(|scope| scope.spawn(cut).join()).expect("a thread");
    assert_eq!((finished.code(), finished.stdout.as_str()), (1, "DISABLE\n"), "{finished:?}");
    let shipped = "packaging/netdata.service.d/ebpf-process.conf";
    for words in ["CAP_BPF", shipped, "/etc/systemd/system/netdata.service.d/ebpf-process.conf", "daemon-reload"] {
        assert!(finished.stderr.contains(words), "no {words:?} in {finished:?}");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(shipped);
    let drop_in = std::fs::read_to_string(file).expect("the file that is named is shipped");
    for line in ["CapabilityBoundingSet=CAP_BPF CAP_PERFMON", "CapabilityBoundingSet=CAP_DAC_OVERRIDE"] {
        assert!(drop_in.lines().any(|active| active == line), "no {line} in {drop_in}");
    }
}
