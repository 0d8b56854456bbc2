//! What `check` finds out about a sink, and that it leaves nothing behind.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use ebpf_process_core::testkit::loopback;
use ebpf_process_core::{Finding, Severity, SinkPlugin as _, TrialContext};
use ebpf_process_sink_influx::PLUGIN;

use crate::server::{Act, LIMIT, Server, TAKEN, reply, reply_with};
use crate::sink::{Running, options};

fn try_out(text: &str) -> Vec<Finding> {
    let context = TrialContext::new("db", "host", Duration::from_secs(5));
    PLUGIN.try_out(&options(text), &context)
}

fn one(text: &str) -> Finding {
    let [finding] = try_out(text).try_into().expect("one finding");
    finding
}

#[test]
fn a_server_is_asked_by_a_write_without_a_line() {
    let missing = || reply("404 Not Found", r#"{"error":"database not found: \"db\""}"#);
    let page = reply("200 OK", "<!doctype html><title>Sign in</title>");
    let moved = reply_with("301 Moved Permanently", "Location: https://elsewhere.example/write?db=db\r\n", "");
    let v1 = "database = \"db\"";
    let v2 = "version = 2\norg = \"o\"\nbucket = \"b\"";
    for (act, more, severity, word) in [
        (Act::Reply(TAKEN.to_owned()), v1, Severity::Fine, "takes writes"),
        (
            reply("400 Bad Request", r#"{"code":"invalid","message":"writing requires points"}"#),
            v2,
            Severity::Fine,
            "b",
        ),
        (missing(), v1, Severity::Error, "CREATE DATABASE"),
        (missing(), "database = \"db\"\ncreate_database = true", Severity::Fine, "makes it"),
        (reply("401 Unauthorized", r#"{"error":"authorization failed"}"#), v1, Severity::Error, "password"),
        (page, v1, Severity::Error, "login"),
        (moved, v1, Severity::Error, "https://elsewhere.example"),
        (reply("503 Service Unavailable", ""), v1, Severity::Warning, "503"),
    ] {
        let server = Server::start(vec![act.clone()]);
        let finding = one(&format!("url = \"{}\"\n{more}", server.url));
        assert_eq!(finding.severity, severity, "{act:?}: {finding:?}");
        let text = format!("{} {}", finding.what, finding.way_out.unwrap_or_default());
        assert!(text.contains(word), "{text}");
        let requests = server.requests();
        assert!(requests.len() == 1 && requests[0].lines.is_empty(), "{requests:?}");
    }
}

#[test]
fn who_does_not_answer_is_a_warning() {
    let gone = TcpListener::bind((loopback(), 0)).and_then(|port| port.local_addr()).expect("a port");
    let finding = one(&format!("url = \"http://{gone}\"\ndatabase = \"db\""));
    assert_eq!(finding.severity, Severity::Warning, "{finding:?}");
    let gone = UdpSocket::bind((loopback(), 0)).and_then(|port| port.local_addr()).expect("a port");
    let finding = one(&format!("url = \"udp://{gone}\""));
    assert_eq!(finding.severity, Severity::Warning, "{finding:?}");
    let there = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let finding = one(&format!("url = \"udp://{}\"", there.local_addr().expect("an address")));
    assert_eq!(finding.severity, Severity::Fine, "{finding:?}");
}

#[test]
fn what_is_wrong_on_this_host_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display();
    let finding = one(&format!("database = \"db\"\ntoken = {{ file = \"{path}/none\" }}"));
    assert!(finding.severity == Severity::Error && finding.what.contains("token"), "{finding:?}");
    let finding = one(&format!("url = \"file://{path}/no/lines\""));
    assert_eq!(finding.severity, Severity::Error, "{finding:?}");
    let [fine, spool] = try_out(&format!(
        "url = \"file://{path}/lines\"\ndelivery = {{ spool = \"{path}/spool\", retry_min = \"1ms\" }}"
    ))
    .try_into()
    .expect("two findings");
    assert_eq!((fine.severity, spool.severity), (Severity::Fine, Severity::Fine), "{fine:?} {spool:?}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    assert_eq!(try_out("url = \"stdout\""), []);
}

#[test]
fn a_database_that_does_not_exist_is_made_by_a_run_if_it_may() {
    let missing = || reply("404 Not Found", r#"{"error":"database not found: \"a \\\"b\""}"#);
    let made = || reply("200 OK", r#"{"results":[{"statement_id":0}]}"#);
    let refused = || reply("200 OK", r#"{"results":[{"statement_id":0,"error":"not allowed"}]}"#);
    let delivery = "delivery = { retry_min = \"1h\", retry_max = \"1h\" }";
    let options = |server: &Server| {
        format!(
            "url = \"{}\"\ndatabase = 'a \"b'\ncreate_database = true\nusername = \"u\"\npassword = \"p\"\n\
             auth = \"query\"\n{delivery}",
            server.url
        )
    };
    let server = Server::start(vec![missing(), made()]);
    let mut running = Running::start(&options(&server)).expect("a sink");
    running.tick(1);
    running.until("the batch written", |tally| tally.written == 10);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[1].head.starts_with("POST /query?u=u&p=p HTTP/1.1\r\n"), "{}", requests[1].head);
    assert_eq!(requests[1].lines, ["q=CREATE%20DATABASE%20%22a%20%5C%22b%22"]);
    running.stop(LIMIT);

    let server = Server::start(vec![missing(), refused()]);
    let mut running = Running::start(&options(&server)).expect("a sink");
    running.tick(1);
    server.request();
    server.request();
    running.until("the batch kept", |tally| tally.queued == 10);
    // The stop tries once more.
    assert_eq!(running.stop(LIMIT).written, 10);
}
