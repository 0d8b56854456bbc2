//! What `check` finds out about a receiver, and that it sends no numbers.

use std::net::TcpListener;
use std::time::Duration;

use ebpf_process_core::{Finding, Severity, SinkPlugin as _, TrialContext};
use ebpf_process_sink_otlp::PLUGIN;

use crate::server::{Server, reply};
use crate::sink::options;

fn try_out(text: &str) -> Finding {
    let context = TrialContext::new("otel", "host", Duration::from_secs(5));
    let [finding] = PLUGIN.try_out(&options(text), &context).try_into().expect("one finding");
    finding
}

#[test]
fn a_receiver_is_asked_by_a_request_without_a_metric() {
    for (answer, severity, word) in [
        (reply(200, "", b""), Severity::Fine, "takes metrics"),
        (reply(400, "", b"empty"), Severity::Fine, "takes metrics"),
        (reply(401, "", b""), Severity::Error, "token"),
        (reply(404, "", b""), Severity::Error, "/api/v1/otlp/v1/metrics"),
        (reply(301, "Location: https://elsewhere.example/x\r\n", b""), Severity::Error, "https://elsewhere.example/x"),
        (reply(200, "", b"<html>Sign in</html>"), Severity::Error, "login"),
        (reply(503, "", b""), Severity::Warning, "503"),
    ] {
        let server = Server::start(vec![answer]);
        let finding = try_out(&format!("url = \"{}\"", server.url));
        let text = format!("{} {}", finding.what, finding.way_out.clone().unwrap_or_default());
        assert!(finding.severity == severity && text.contains(word), "{finding:?}");
        let requests = server.requests();
        assert!(requests.len() == 1 && requests[0].points.is_empty(), "{requests:?}");
    }
}

#[test]
fn nobody_there_is_a_warning() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let finding = try_out(&format!("url = \"http://{nobody}/v1/metrics\""));
    assert_eq!(finding.severity, Severity::Warning, "{finding:?}");
}
