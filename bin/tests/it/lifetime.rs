//! Start and stop of `run`.

use std::net::UdpSocket;
use std::time::Duration;

use rustix::process::Signal;

use crate::agent::{HARMLESS, Running, VITALS_ONLY, command, file, without_terminal};

const LINES_ON_STDOUT: &str = "interval = \"100ms\"\n[sinks.out]\ntype = \"influx\"\noptions.url = \"stdout\"\n";

fn config(text: &str) -> (tempfile::TempDir, String) {
    let (folder, path) = file(&format!("{text}{VITALS_ONLY}"));
    (folder, path.display().to_string())
}

#[test]
fn it_ends_in_order_when_asked_and_only_then() {
    let (_folder, path) = config(LINES_ON_STDOUT);
    for end in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut agent = Running::start(&mut without_terminal(&["run", "--config", &path]));
        assert!(agent.line().starts_with("agent,"), "the first batch");
        for harmless in HARMLESS {
            agent.signal(harmless);
        }
        agent.wait_for_log("the configuration was read again: nothing has changed");
        assert!(agent.line().starts_with("agent,"));
        agent.signal(end);
        let finished = agent.finish();
        assert_eq!(finished.code(), 0, "{finished:?}");
        assert!(finished.stdout.ends_with('\n'), "no line is torn");
        assert!(finished.stderr.contains("(sink out)"), "it says what became of the samples: {}", finished.stderr);
    }
}

#[test]
fn a_closed_stdout_ends_the_sink_that_owns_it_and_no_other() {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    receiver.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    let address = receiver.local_addr().expect("an address");
    let lan = format!("[sinks.lan]\ntype = \"statsd\"\noptions.address = \"udp://{address}\"\n");
    let (_folder, path) = config(&format!("{LINES_ON_STDOUT}{lan}"));
    let mut agent = Running::start(&mut command(&["run", "--config", &path]));
    agent.line();
    agent.close_stdout();
    agent.wait_for_log("the sink is over");
    // What was sent before is read first; after that it can only be what came later.
    let mut datagram = [0; 2048];
    for _ in 0..20 {
        receiver.recv(&mut datagram).expect("the other sink goes on");
    }
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
}

#[test]
fn each_loss_is_said_once_and_an_ordinary_stop_is_none() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let (_folder, path) = config(&format!(
        "interval = \"100ms\"\n[sinks.db]\ntype = \"influx\"\noptions = {{ url = \"http://{gone}\", database = \"db\" }}\n\
         [sinks.scrape]\ntype = \"prometheus\"\noptions.listen = \"127.0.0.1:0\"\n"
    ));
    let mut agent = Running::start(&mut command(&["run", "--config", &path]));
    agent.wait_for_log("the data is kept and sent again");
    agent.signal(Signal::TERM);
    let finished = agent.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    let told: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("dropped: ")).collect();
    assert_eq!(told.len(), 1, "{}", finished.stderr);
    assert!(
        told[0].contains("dropped: agent stopped; set delivery.spool") && !told[0].contains("samples are"),
        "{told:?}"
    );
}

#[test]
fn without_any_sink_left_it_fails() {
    let (_folder, path) = config(LINES_ON_STDOUT);
    let mut agent = Running::start(&mut command(&["run", "--config", &path]));
    agent.line();
    agent.close_stdout();
    let finished = agent.finish();
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stderr.contains("no sink is left"), "{}", finished.stderr);
}

#[test]
fn a_receiver_that_is_not_there_is_said_once_and_no_reason_to_end() {
    let nowhere = "[sinks.lan]\ntype = \"statsd\"\noptions.address = \"udp://no-such-host.invalid:8125\"\n";
    let (_folder, path) = config(nowhere);
    let mut agent = Running::start(&mut command(&["run", "--config", &path, "--set", "interval=\"100ms\""]));
    agent.wait_for_log("no-such-host.invalid");
    agent.signal(Signal::TERM);
    let finished = agent.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert_eq!(finished.stderr.matches("no-such-host.invalid").count(), 1, "{}", finished.stderr);
}

#[test]
fn a_signal_ends_the_interval_of_once_early_and_prints() {
    let (_folder, path) = config("");
    let mut once = command(&["--log", "debug", "once", "--interval", "1h", "--format", "json", "--config", &path]);
    let agent = Running::start(&mut once);
    // Signals that come before the listener starts are kept for it.
    agent.wait_until_caught(&[Signal::INT]);
    agent.signal(Signal::INT);
    let finished = agent.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(finished.stdout.starts_with("{\"timestamp\""), "{finished:?}");
}
