//! Servers that are not there, die, dawdle or babble: nothing is lost, and every line arrives.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::loopback;

use crate::server::{Act, LIMIT, Request, Server, TAKEN};
use crate::sink::{Running, run};

fn options(url: &str) -> String {
    format!("url = \"{url}\"\ndatabase = \"db\"\ntimeout = \"500ms\"")
}

/// The lines of all requests, each once.
fn lines(requests: &[Request]) -> BTreeSet<&str> {
    requests.iter().flat_map(|request| request.lines.iter().map(String::as_str)).collect()
}

#[test]
fn a_server_that_is_absent_at_the_start_gets_everything_later() {
    let listener = TcpListener::bind((loopback(), 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let mut running = Running::start(&options(&format!("http://{address}"))).expect("a sink");
    running.tick(20);
    running.until("everything waiting", |tally| tally.queued == 200);
    let server = Server::on(TcpListener::bind(address).expect("the same port"), Vec::new());
    assert_eq!(running.settle().written, 200);
    assert_eq!(lines(&server.requests()).len(), 200);
}

#[test]
fn a_server_that_is_killed_and_started_again_gets_everything_once() {
    let listener = TcpListener::bind((loopback(), 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    // Its last connection is reset, and nobody listens any more.
    let (first, mortal) = (listener.try_clone().expect("a listener"), listener);
    let server = Server::on(first, vec![Act::Reply(TAKEN.to_owned()), Act::Reset(String::new())]);
    let mut running = Running::start(&options(&server.url)).expect("a sink");
    running.tick(1);
    running.until("the first batch written", |tally| tally.written == 10);
    rustix::net::shutdown(&mortal, rustix::net::Shutdown::Both).expect("a listener");
    drop(mortal);
    running.tick(5);
    server.request();
    server.request();
    running.until("an outage", |tally| tally.queued == 50);
    let again = Server::on(TcpListener::bind(address).expect("the same port"), Vec::new());
    assert_eq!(running.settle().written, 60);
    let requests = again.requests();
    let sent: usize = requests.iter().map(|request| request.lines.len()).sum();
    assert_eq!((lines(&requests).len(), sent), (50, 50));
}

#[test]
fn a_server_that_misbehaves_gets_the_frame_again() {
    let slow = Act::Drip(TAKEN.to_owned(), Duration::from_millis(100));
    for act in [
        slow,
        Act::Hang,
        Act::HalfClose(String::new()),
        Act::HalfClose("HTTP/1.1 20".to_owned()),
        Act::Reset(String::new()),
        Act::Reset("HTTP/1.1 204 No".to_owned()),
        Act::Reset("\0\u{1}garbage\r\n\r\n".to_owned()),
        Act::Reply("HTTP/9.9 xyz\r\n\r\n".to_owned()),
        Act::Reply(format!("HTTP/1.1 204 No Content\r\nX: {}\r\n\r\n", "y".repeat(1 << 20))),
    ] {
        let server = Server::start(vec![act.clone(), act.clone()]);
        assert_eq!(run(&options(&server.url), 2).written, 20, "{act:?}");
        let requests = server.requests();
        // On a machine that stands still a time limit may be over once more.
        assert!(requests.len() >= 4 && lines(&requests).len() == 20, "{act:?}: {requests:?}");
    }
}

#[test]
fn a_connection_that_the_server_gave_up_while_it_was_idle_costs_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for (on_socket, end) in [
        (None, Act::Reset(String::new())),
        (None, Act::HalfClose(String::new())),
        (Some("reset"), Act::Reset(String::new())),
        (Some("close"), Act::HalfClose(String::new())),
    ] {
        // Each connection takes one request and is given up when the second one comes.
        let taken = || Act::Reply(TAKEN.to_owned());
        let acts = vec![taken(), end.clone(), taken(), end.clone(), taken()];
        let server = match on_socket {
            Some(name) => Server::on_socket(&folder.path().join(name), acts),
            None => Server::start(acts),
        };
        // Whoever waits for another attempt waits too long.
        let delivery = "delivery = { retry_min = \"1h\", retry_max = \"1h\" }";
        let mut running =
            Running::start(&format!("url = \"{}\"\ndatabase = \"db\"\n{delivery}", server.url)).expect("a sink");
        for batch in 1..=3 {
            running.tick(1);
            running.until("a batch written", |tally| tally.written == batch * 10);
        }
        running.stop(LIMIT);
        let connections: Vec<_> = server.requests().iter().map(|request| request.connection).collect();
        assert_eq!(connections, [0, 0, 1, 1, 2], "{end:?}");
    }
}

#[test]
fn a_reply_that_breaks_off_behind_its_number_counts() {
    let own = r#"{"error":"partial write: dropped=3"#;
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Length: 1000\r\n\r\n";
    for act in [
        Act::Reset(format!("{head}{own}")),
        Act::HalfClose(format!("{head}{own}")),
        Act::Drip(format!("{head}{own}{}", " ".repeat(1000)), Duration::from_millis(1)),
    ] {
        let server = Server::start(vec![act.clone()]);
        let tally = run(&options(&server.url), 2);
        assert_eq!((tally.written, tally.rejected_total()), (17, 3), "{act:?}");
        assert_eq!(lines(&server.requests()).len(), 20);
    }
}

#[test]
fn a_stop_during_an_outage_takes_no_longer_than_the_grace_and_counts_what_is_left() {
    let server = Server::start(vec![Act::Hang; 100]);
    let options = format!("url = \"{}\"\ndatabase = \"db\"\ntimeout = \"1h\"", server.url);
    let mut running = Running::start(&options).expect("a sink");
    running.tick(3);
    server.request();
    let started = Instant::now();
    let tally = running.stop(Duration::from_millis(200));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(tally.dropped, [("agent stopped", 30)]);
}

#[test]
fn a_server_that_hangs_when_the_agent_stops_leaves_time_to_keep_what_waits() {
    for on_socket in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let acts = vec![Act::Reply(TAKEN.to_owned()), Act::Hang];
        let socket = on_socket.then(|| folder.path().join("socket"));
        let server = match &socket {
            Some(path) => Server::on_socket(path, acts),
            None => Server::start(acts),
        };
        let spool = folder.path().join("spool");
        let delivery = format!("delivery = {{ spool = \"{}\" }}", spool.display());
        let long = options(&server.url).replace("500ms", "60s");
        let mut running = Running::start(&format!("{long}\n{delivery}")).expect("a sink");
        running.tick(1);
        running.until("the first batch written", |tally| tally.written == 10);
        server.request();
        running.tick(1);
        server.request();
        // One batch is on its way to a server that is well, for all we know, and the others wait for it.
        running.tick(3);
        let closed = running.close(Duration::from_secs(4));
        assert!(closed.in_time, "{closed:?}");
        assert_eq!((closed.tally.written, closed.tally.spooled, closed.tally.dropped_total()), (10, 40, 0));
    }
}

#[test]
fn what_an_outage_leaves_in_the_spool_arrives_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind((loopback(), 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let spool = folder.path().display();
    let options = format!(
        "url = \"http://{address}\"\ndatabase = \"db\"\n\
         delivery = {{ spool = \"{spool}\", retry_min = \"1ms\", retry_max = \"5ms\" }}"
    );
    let mut running = Running::start(&options).expect("a sink");
    running.tick(20);
    running.until("everything on disk", |tally| tally.spooled == 200);
    let tally = running.stop(LIMIT);
    assert_eq!((tally.spooled, tally.dropped_total()), (200, 0));

    let server = Server::on(TcpListener::bind(address).expect("the same port"), Vec::new());
    let running = Running::start(&options).expect("a sink");
    assert_eq!(running.settle().written, 200);
    let requests = server.requests();
    let sent: Vec<_> = requests.iter().flat_map(|request| request.lines.clone()).collect();
    assert_eq!((lines(&requests).len(), sent.len()), (200, 200));
    let times: Vec<_> = sent.iter().map(|line| line.rsplit(' ').next().map(str::to_owned)).collect();
    assert!(times.is_sorted(), "with their own timestamps, in order");
}

#[test]
fn what_waits_while_the_clock_is_set_keeps_its_order_and_its_timestamps() {
    const HOUR: u64 = 3600;
    const START: u64 = 1_600_000_000;
    let folder = tempfile::tempdir().expect("a folder");
    let (socket, spool) = (folder.path().join("socket"), folder.path().join("spool"));
    let options = format!(
        "url = \"unix://{}\"\ndatabase = \"db\"\n\
         delivery = {{ spool = \"{}\", retry_min = \"1ms\", retry_max = \"5ms\" }}",
        socket.display(),
        spool.display()
    );
    let mut running = Running::start(&options).expect("a sink");
    for wall in [START, START + HOUR, START - HOUR, START + 2 * HOUR] {
        running.set_wall(Duration::from_secs(wall));
        running.tick(2);
    }
    running.until("everything on disk", |tally| tally.spooled == 80);
    let server = Server::on_socket(&socket, Vec::new());
    assert_eq!(running.settle().written, 80);
    let requests = server.requests();
    let sent = requests.iter().flat_map(|request| &request.lines);
    let mut times: Vec<u64> =
        sent.map(|line| line.rsplit(' ').next().and_then(|time| time.parse().ok()).expect("a time")).collect();
    assert_eq!(times.len(), 80);
    times.dedup();
    let clock = [START, START + HOUR, START - HOUR, START + 2 * HOUR];
    let expected = clock.map(|wall| [wall + 1, wall + 2].map(|seconds| seconds * 1_000_000_000));
    assert_eq!(times, expected.concat());
}
