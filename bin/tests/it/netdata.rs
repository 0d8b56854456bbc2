//! Life as netdata's plugin.

use std::net::UdpSocket;

use rustix::process::Signal;

use crate::agent::{Running, VITALS_ONLY, file, plugin};

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
    assert!(!second.stderr.contains("written, 0 failed, 0 dropped, 0 rejected (sink lan)"), "{}", second.stderr);
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
