//! What a server gets, and what its reply does to the ledger.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ebpf_process_core::testkit::{ManualClock, context};
use ebpf_process_core::{
    Agent, Clock, Descriptor, Ledger, Options, OutletSpec, Probe, ProbeError, Recorder, SinkContext, Tally, Unit,
};
use ebpf_process_sink_influx::PLUGIN;

/// What arrived: the number of the connection, the head and the body of a request.
#[derive(Debug)]
struct Request {
    connection: usize,
    head: String,
    body: String,
}

/// A server that answers request by request with the replies it was given, then hangs up.
struct Server {
    address: String,
    requests: Receiver<Request>,
}

impl Server {
    fn start(replies: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, requests) = channel();
        let replies: Vec<_> = replies.iter().map(|reply| (*reply).to_owned()).collect();
        let serve = move || {
            let mut replies = replies.into_iter();
            for (connection, stream) in listener.incoming().enumerate() {
                if !answer(&stream.expect("a connection"), connection, &mut replies, &sender) {
                    return;
                }
            }
        };
        std::thread::Builder::new().spawn(serve).expect("a thread");
        Self { address, requests }
    }
}

/// Answers on one connection; false when there are no more replies.
fn answer(
    stream: &TcpStream,
    connection: usize,
    replies: &mut impl Iterator<Item = String>,
    requests: &Sender<Request>,
) -> bool {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).expect("a head") == 0 {
                return true;
            }
        }
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        reader.read_exact(&mut body).expect("a body");
        let Some(reply) = replies.next() else { return false };
        let body = String::from_utf8(body).expect("text");
        requests.send(Request { connection, head, body }).expect("a listener");
        (&*stream).write_all(reply.as_bytes()).expect("a reply");
        if reply.contains("Connection: close") {
            return true;
        }
    }
}

/// Ten counters that grow by one per tick.
struct Ten(Arc<Descriptor>, u64);

impl Probe for Ten {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.1 += 1;
        for number in 0..10 {
            let id =
                recorder.series(&self.0, &[&number.to_string()]).map_err(|error| ProbeError::new(error.to_string()))?;
            recorder.counter(id, self.1);
        }
        Ok(())
    }
}

/// Runs an agent for so many ticks of ten samples; returns the sink's book.
fn run(options: &[(&str, &str)], ticks: usize) -> Tally {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), Duration::from_secs(100)));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, Duration::from_secs(1));
    let descriptor = Descriptor::counter("demo.calls", Unit::CALLS, "Calls").labels(["number"]).share();
    agent.push_probe("ten", Box::new(Ten(descriptor, 0)));
    let options = Options::from_value(options.iter().copied().collect::<BTreeMap<_, _>>());
    let ledger = Arc::new(Ledger::default());
    let context = SinkContext { ledger: Arc::clone(&ledger), stop: agent.stop_signal(), ..context("db") };
    agent.add_sink(&PLUGIN, &options, OutletSpec::new("db"), context).expect("a sink");
    for _ in 0..ticks {
        agent.tick(clock.advance(Duration::from_secs(1)));
    }
    let closed = agent.close(Duration::from_secs(30));
    assert!(closed[0].in_time);
    assert!(closed[0].tally.balances(), "{:?}", closed[0].tally);
    assert_eq!(closed[0].tally.offered, ticks as u64 * 10);
    closed[0].tally.clone()
}

const TAKEN: &str = "HTTP/1.1 204 No Content\r\n\r\n";

fn reply(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn batches_go_over_one_connection_with_one_timestamp_each() {
    let server = Server::start(&[TAKEN, TAKEN]);
    let options =
        [("url", server.address.as_str()), ("database", "my db"), ("username", "user"), ("password", "secret")];
    let tally = run(&options, 2);
    assert_eq!(tally.written, 20);
    let requests: Vec<_> = server.requests.iter().take(2).collect();
    for (index, request) in requests.iter().enumerate() {
        assert_eq!(request.connection, 0);
        assert!(request.head.starts_with("POST /write?db=my%20db&precision=ns HTTP/1.1\r\n"), "{}", request.head);
        let head = request.head.to_lowercase();
        assert!(head.contains("\r\nauthorization: basic "), "{head}");
        assert!(head.contains("\r\ncontent-type: text/plain"), "{head}");
        assert_eq!(request.body.lines().count(), 10);
        let end = format!(" {}", 1_600_000_001_000_000_000_u64 + index as u64 * 1_000_000_000);
        assert!(request.body.lines().all(|line| line.ends_with(&end)), "{}", request.body);
    }
}

#[test]
fn a_partial_write_is_rejected_as_far_as_the_server_says() {
    let body = r#"{"error":"partial write: field type conflict dropped=3"}"#;
    let server = Server::start(&[&reply("400 Bad Request", body), TAKEN]);
    let tally = run(&[("url", &server.address), ("database", "db")], 2);
    assert_eq!((tally.written, tally.failed), (17, 0));
    assert_eq!(tally.rejected, [("partial write", 3)]);
}

#[test]
fn a_refusal_fails_or_rejects_its_batch_alone() {
    let replies = [
        reply("404 Not Found", r#"{"error":"database not found: \"db\""}"#),
        reply("401 Unauthorized", r#"{"error":"authorization failed"}"#),
        reply("413 Request Entity Too Large", r#"{"error":"Request Entity Too Large"}"#),
        reply("500 Internal Server Error", &"x".repeat(100_000)),
        TAKEN.to_owned(),
    ];
    let replies: Vec<_> = replies.iter().map(String::as_str).collect();
    let server = Server::start(&replies);
    let tally = run(&[("url", &server.address), ("database", "db")], 5);
    assert_eq!((tally.written, tally.failed), (10, 30));
    assert_eq!(tally.rejected, [("batch too large for the server", 10)]);
}

#[test]
fn a_connection_that_the_server_closed_is_opened_again() {
    let closing = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    let server = Server::start(&[closing, TAKEN]);
    let tally = run(&[("url", &server.address), ("database", "db")], 2);
    assert_eq!(tally.written, 20);
    let connections: Vec<_> = server.requests.iter().take(2).map(|request| request.connection).collect();
    assert_eq!(connections, [0, 1]);
}

#[test]
fn a_refused_connection_fails_the_batch() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let tally = run(&[("url", &address), ("database", "db")], 3);
    assert_eq!((tally.written, tally.failed), (0, 30));
}

#[test]
fn a_server_that_never_answers_fails_the_batch() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let tally = run(&[("url", &address), ("database", "db"), ("timeout", "50ms")], 2);
    assert_eq!((tally.written, tally.failed), (0, 20));
}

#[test]
fn it_claims_standard_output_only_when_it_prints() {
    use ebpf_process_core::SinkPlugin as _;
    let printing = PLUGIN.stdout_options().expect("a format");
    assert!(PLUGIN.check(&printing).expect("right options").stdout);
    let posting = Options::from_value(BTreeMap::from([("database", "db")]));
    assert!(!PLUGIN.check(&posting).expect("right options").stdout);
}
