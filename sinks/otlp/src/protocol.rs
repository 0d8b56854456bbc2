//! Export requests over HTTP, and what the answers mean.

use std::time::Duration;

use ebpf_process_core::{BuildError, Opener};
use ebpf_process_delivery::{Carrier, Frame, Verdict};
use ebpf_process_http::{HttpCarrier, Protocol, Reply, Request};

use crate::options::ServerOptions;
use crate::response::Response;

/// Why samples are rejected when the receiver took the rest.
const PARTIAL: &str = "partial success";
/// Why samples are rejected when the receiver does not want the request.
const REFUSED: &str = "not accepted by the server";

/// What a spool's frames are.
pub(crate) const ENCODINGS: &[&str] = &["otlp-metrics/1"];

/// What OTLP makes of HTTP.
#[derive(Debug)]
pub(crate) struct Otlp(pub(crate) ServerOptions);

impl Protocol for Otlp {
    fn request(&self, opener: &dyn Opener) -> Result<Request, BuildError> {
        let ServerOptions { server, path, headers, token } = &self.0;
        let mut request = Request::to(server, path, "application/x-protobuf");
        for (name, value) in headers {
            request = request.secret_header(name, &value.reveal(&format!("headers.{name}"), opener)?);
        }
        Ok(match token {
            Some(token) => request.bearer(&token.reveal("token", opener)?),
            None => request,
        })
    }

    fn verdict(&self, reply: &Reply<'_>, _: &Frame) -> Verdict {
        verdict(reply)
    }

    fn deed(&self) -> String {
        "takes metrics".to_owned()
    }

    fn encodings(&self) -> &'static [&'static str] {
        ENCODINGS
    }

    /// OTLP asks that of every receiver.
    fn is_unpacked_everywhere(&self) -> bool {
        true
    }
}

/// What a reply means. OTLP names four numbers after which a request may be sent again; with any other the receiver has
/// had it.
fn verdict(reply: &Reply<'_>) -> Verdict {
    let rejected = |way_out: &str| Verdict::Rejected { reason: REFUSED, problem: reply.describe(way_out) };
    let misconfigured = |way_out: &str| Verdict::Misconfigured { problem: reply.describe(way_out) };
    match reply.status {
        200..=299 if reply.broken => rejected("its answer broke off; look at its log, and at who is on the way"),
        200..=299 => match Response::read(&reply.body) {
            Some(Response { rejected: 0, .. }) => Verdict::Accepted,
            Some(Response { rejected, message }) => {
                let problem = reply.describe_as(&message, &format!("it did not take {rejected} data points"));
                Verdict::Partly { rejected, reason: PARTIAL, problem }
            }
            // Written as JSON, the same as no bytes.
            None if reply.body.trim_ascii() == b"{}" => Verdict::Accepted,
            None => {
                misconfigured("no receiver of OTLP has such an answer: a login or another server? Check the option url")
            }
        },
        429 | 502 | 503 | 504 => Verdict::Retry {
            after: reply.retry_after,
            problem: reply.describe("it is busy, or see its log for what is wrong"),
        },
        413 => Verdict::TooLarge { problem: reply.describe("lower the option max_bytes, or raise the server's limit") },
        300..=399 => misconfigured(&match &reply.location {
            Some(location) => format!("it points to {}; write that into the option url", reply.excerpt_of(location)),
            None => "it points elsewhere without saying where; check the option url".to_owned(),
        }),
        401 | 403 => misconfigured("check the options token and headers"),
        404 | 405 => misconfigured(
            "check the path in the option url: \"/v1/metrics\" of most, \"/api/v1/otlp/v1/metrics\" of Prometheus, \
             \"/opentelemetry/v1/metrics\" of VictoriaMetrics",
        ),
        407 => misconfigured("check user and password in the option proxy"),
        415 => misconfigured("it does not take protocol buffers here; check the option url"),
        _ => rejected("see its log for what is wrong"),
    }
}

/// Requests that are answered are never sent again but where OTLP says so.
#[derive(Debug)]
pub(crate) struct Exporter(pub(crate) HttpCarrier<Otlp>);

impl Carrier for Exporter {
    /// What a person has to mend is rejected as well where there was an answer: by then a secret that was replaced has
    /// been tried. Totals are cumulative, so that a later request has what this one would have said.
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict {
        match self.0.send(frame, limit) {
            Verdict::Misconfigured { problem } if self.0.status() > 0 => Verdict::Rejected { reason: REFUSED, problem },
            verdict => verdict,
        }
    }

    fn encodings(&self) -> &'static [&'static str] {
        self.0.encodings()
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_http::Server;

    use super::*;

    fn answer(status: u16, change: fn(&mut Reply<'_>)) -> Verdict {
        let server = Server::at("http://127.0.0.1:4318").expect("an address");
        let request = Request::to(&server, "/v1/metrics", "application/x-protobuf");
        let mut reply = Reply::new(&request, status, "");
        change(&mut reply);
        verdict(&reply)
    }

    #[test]
    fn what_a_person_has_to_mend_is_named() {
        for (status, words) in [
            (302, "it points elsewhere"),
            (401, "the options token and headers"),
            (403, "the options token and headers"),
            (404, "the path in the option url"),
            (405, "the path in the option url"),
            (407, "user and password in the option proxy"),
            (415, "does not take protocol buffers"),
        ] {
            let Verdict::Misconfigured { problem } = answer(status, |_| {}) else { panic!("{status}") };
            assert!(problem.contains(words), "{status}: {problem}");
        }
    }

    #[test]
    fn an_answer_that_breaks_off_says_nothing_of_what_was_taken() {
        assert!(matches!(answer(200, |_| {}), Verdict::Accepted));
        let Verdict::Rejected { reason, problem } = answer(200, |reply| reply.broken = true) else {
            panic!("not taken")
        };
        assert_eq!(reason, REFUSED);
        assert!(problem.contains("broke off"), "{problem}");
    }

    /// A later version finds what this one has left in a spool.
    #[test]
    fn frames_are_named_as_they_always_were() {
        let server = Server::at("http://127.0.0.1:4318").expect("an address");
        let options = ServerOptions { server, path: "/v1/metrics", headers: [].into(), token: None };
        assert_eq!(Otlp(options).encodings(), ["otlp-metrics/1"]);
    }
}
