//! What a server's reply means for the lines that it answers: the same number means different
//! things in different versions.

use ebpf_process_delivery::{Frame, Verdict};
use ebpf_process_http::Reply;

use crate::options::Place;
use crate::refusal::Refusal;
use crate::values::{apart, single_apart, too_large};

/// Why samples are rejected when the server took the rest.
const PARTIAL: &str = "partial write";
/// Why samples are rejected when the server could not read the line.
const MALFORMED: &str = "not accepted by the server";

/// What to do when the server does not know us.
const WHO: &str = "check username and password, or the token";

/// What became of the frame that was sent to this place.
pub(crate) fn verdict(reply: &Reply<'_>, place: &Place, frame: &Frame) -> Verdict {
    Answer { reply, body: &reply.text() }.verdict(place, frame)
}

/// A server's answer to one request, and its body as text.
#[derive(Clone, Copy, Debug)]
struct Answer<'a> {
    reply: &'a Reply<'a>,
    body: &'a str,
}

impl Answer<'_> {
    fn verdict(self, place: &Place, frame: &Frame) -> Verdict {
        let body = self.body;
        match self.reply.status {
            // No interface answers a write with anything but its number.
            200..=299 if body.trim().is_empty() && !self.reply.broken => Verdict::Accepted,
            200..=299 => self.doubtful(),
            // A cluster has the points and has not told all its members yet.
            _ if body.contains("hinted handoff queue not empty") => Verdict::Accepted,
            // A doorkeeper (vmauth) that does not know us says so with our own words. No line has them.
            400 if self.reply.repeats_who_we_are() => Verdict::Misconfigured { problem: self.describe(WHO) },
            400 | 422 if !self.is_influxdbs() => self.doubtful(),
            400 | 422 => self.refused(place, frame),
            413 => too_large(frame, self.describe("lower the option max_bytes")),
            401 => Verdict::Misconfigured { problem: self.describe(WHO) },
            403 => Verdict::Misconfigured { problem: self.describe("give these credentials the right to write") },
            404 => Verdict::Misconfigured { problem: self.describe(&missing(place)) },
            407 => Verdict::Misconfigured { problem: self.describe("check user and password in the option proxy") },
            300..=399 => Verdict::Misconfigured { problem: self.describe(&self.redirect()) },
            500 if body.contains("retention policy not found") => Verdict::Misconfigured {
                problem: self.describe("create it on the server, or check the option retention_policy"),
            },
            408 | 429 | 500..=599 => Verdict::Retry {
                after: self.reply.retry_after,
                problem: self.describe("it is busy, or see its log for what is wrong"),
            },
            _ => Verdict::Misconfigured { problem: self.describe("check the options url and version") },
        }
    }

    /// Whether InfluxDB itself, or who speaks exactly as it does, says what it does not like: an object with
    /// `error`, or with `code` and `message`. A list of refused lines may have been cut.
    fn is_influxdbs(self) -> bool {
        let has = |key: &str| self.body.contains(key);
        !self.reply.compressed
            && self.body.trim_start().starts_with('{')
            && (has("\"error\":") || has("\"code\":") && has("\"message\":"))
    }

    /// What it means that lines are refused.
    fn refused(self, place: &Place, frame: &Frame) -> Verdict {
        if let Some(refusal) = Refusal::read(self.body, self.reply.status, place, frame) {
            return self.partly(&refusal, frame);
        }
        // Nothing was stored. A line that is alone may be refused for one of its fields.
        let problem = self.describe("is the option version that of the server?");
        match single_apart(frame) {
            Some(pieces) => Verdict::Again { pieces, reason: MALFORMED, problem },
            None => Verdict::Rejected { reason: MALFORMED, problem },
        }
    }

    /// What a refusal of some lines means. A line with several samples was refused for one of them, perhaps: it is sent
    /// again in pieces, so that the others are not lost.
    fn partly(self, refusal: &Refusal, frame: &Frame) -> Verdict {
        let all = refusal.lines >= frame.len() as u64;
        let problem = self.describe("see which lines it names");
        // All of them refused is no part any more, but the server has named them: nothing would be gained by sending
        // them one by one.
        let reason = if all { MALFORMED } else { PARTIAL };
        if all && !refusal.for_a_field {
            return Verdict::Partly { rejected: frame.samples(), reason, problem };
        }
        if has_several(frame) {
            return Verdict::Again { pieces: apart(frame, refusal.named.as_deref()), reason, problem };
        }
        // One line is one sample.
        Verdict::Partly { rejected: refusal.lines, reason, problem }
    }

    /// An answer that no InfluxDB gives, and what it looks like.
    fn doubtful(self) -> Verdict {
        let body = self.body.trim_start();
        let what = if self.reply.compressed {
            "it is compressed, which nobody asked for: a proxy or another server answers; check the option url"
        } else if !self.reply.encrypted && body.contains("HTTPS") {
            "https? Write \"https://\" instead of \"http://\" into the option url"
        } else if body.starts_with('<') {
            "that is a page for people: a proxy, a login or another server answers, not InfluxDB; check the option url"
        } else if (200..300).contains(&self.reply.status) {
            "no write has such an answer: something else than InfluxDB is there; check the options url and version"
        } else {
            "InfluxDB does not answer so: a proxy or another server? Check the options url and version"
        };
        let perhaps = if self.reply.encrypted || what.starts_with("https?") { "" } else { " (https?)" };
        Verdict::Doubtful { reason: MALFORMED, problem: self.describe(&format!("{what}{perhaps}")) }
    }

    /// What to do about a redirect. It is not followed: data goes where the configuration says.
    fn redirect(self) -> String {
        let location = self.reply.location.as_deref().map(|location| self.reply.excerpt_of(location));
        match location.filter(|location| !location.is_empty()) {
            Some(location) => {
                let server = ["/write?", "/api/v2/write?", "/api/v3/write_lp?"]
                    .iter()
                    .find_map(|path| location.split_once(path).map(|(server, _)| server));
                format!("it points to {}; write that into the option url", server.unwrap_or(&location))
            }
            None => "it points elsewhere without saying where; check the option url".to_owned(),
        }
    }

    fn describe(self, way_out: &str) -> String {
        self.reply.describe(way_out)
    }
}

/// What to do when the place does not exist.
fn missing(place: &Place) -> String {
    match place {
        Place::V1 { database, .. } => {
            format!("create the database on the server (CREATE DATABASE \"{database}\"), or set create_database = true")
        }
        Place::V2 { .. } => "create the bucket, or check the options org, bucket and version".to_owned(),
        Place::V3 { .. } => "check the options database and version".to_owned(),
    }
}

/// Whether a line of it has more than one sample.
fn has_several(frame: &Frame) -> bool {
    frame.items().any(|(_, samples)| samples > 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ebpf_process_http::{Request, Server};

    use super::*;

    /// A verdict in short, for a frame of ten lines.
    #[derive(Debug, PartialEq)]
    enum Short {
        Accepted,
        Partly(u64),
        Again(usize),
        Rejected,
        TooLarge,
        Doubtful,
        Retry,
        Misconfigured,
    }

    fn answer(place: &Place, status: u16, body: &str) -> Verdict {
        let mut frame = Frame::default();
        for _ in 0..10 {
            frame.push(b"m f=1i 1\n", 1);
        }
        let request = request();
        let mut reply = Reply::new(&request, status, body);
        reply.retry_after = Some(Duration::from_secs(7));
        verdict(&reply, place, &frame)
    }

    fn request() -> Request {
        Request::to(&Server::at("http://db").expect("an address"), "/write", "text/plain")
    }

    #[test]
    fn a_secret_that_the_server_repeats_is_not_repeated() {
        let (body, request) = ("no such token \"Bearer s3cr3t\"", request().bearer("s3cr3t"));
        let place = Place::V3 { database: "db".to_owned() };
        for status in [400, 401, 403, 404, 413, 422, 302, 429, 503, 418] {
            let reply = Reply::new(&request, status, body);
            let verdict = format!("{:?}", verdict(&reply, &place, &Frame::default()));
            assert!(verdict.contains("***") && !verdict.contains("s3cr3t"), "{verdict}");
        }
    }

    #[test]
    fn a_bad_request_that_repeats_who_we_are_is_about_that_and_not_about_the_lines() {
        let request = request().token("Token", "s3cr3t");
        let place = Place::V2 { org: "o".to_owned(), bucket: "b".to_owned() };
        let verdict = |body: &str| verdict(&Reply::new(&request, 400, body), &place, &Frame::default());
        let refused = verdict("cannot find the provided auth token \"Bearer s3cr3t\" in config");
        assert!(matches!(&refused, Verdict::Misconfigured { problem } if problem.contains("token")), "{refused:?}");
        assert!(!format!("{refused:?}").contains("s3cr3t"), "{refused:?}");
        assert!(matches!(
            verdict(r#"{"code":"invalid","message":"unable to parse 's3cr3t'"}"#),
            Verdict::Rejected { .. }
        ));
    }

    fn short(place: &Place, status: u16, body: &str) -> Short {
        match answer(place, status, body) {
            Verdict::Accepted => Short::Accepted,
            Verdict::Partly { rejected, .. } => Short::Partly(rejected.min(10)),
            Verdict::Again { pieces, .. } => Short::Again(pieces.len()),
            Verdict::Rejected { .. } => Short::Rejected,
            Verdict::TooLarge { .. } => Short::TooLarge,
            Verdict::Doubtful { .. } => Short::Doubtful,
            Verdict::Retry { .. } => Short::Retry,
            Verdict::Misconfigured { .. } => Short::Misconfigured,
            other => unreachable!("no answer means {other:?}"),
        }
    }

    fn places() -> [Place; 3] {
        [
            Place::V1 { database: "tele".to_owned(), retention_policy: None },
            Place::V2 { org: "o".to_owned(), bucket: "b".to_owned() },
            Place::V3 { database: "tele".to_owned() },
        ]
    }

    #[test]
    fn most_replies_mean_the_same_in_every_version() {
        for place in places() {
            for (status, meaning) in [
                (200, Short::Accepted),
                (204, Short::Accepted),
                (301, Short::Misconfigured),
                (401, Short::Misconfigured),
                (403, Short::Misconfigured),
                (404, Short::Misconfigured),
                (405, Short::Misconfigured),
                (408, Short::Retry),
                (413, Short::TooLarge),
                (429, Short::Retry),
                (500, Short::Retry),
                (503, Short::Retry),
                (599, Short::Retry),
                (999, Short::Misconfigured),
            ] {
                assert_eq!(short(&place, status, ""), meaning, "{status} {place:?}");
            }
            assert_eq!(short(&place, 500, "hinted handoff queue not empty"), Short::Accepted);
        }
    }

    #[test]
    fn version_1_stores_the_rest_of_a_partial_write() {
        let [v1, ..] = places();
        let conflict = r#"{"error":"partial write: field type conflict: input field \"v\" on measurement \"m\" is type integer, already exists as type float dropped=3"}"#;
        let unread = r#"{"error":"partial write: unable to parse 'bad line': invalid field format dropped=0"}"#;
        let only_bad = r#"{"error":"unable to parse 'a': missing fields\nunable to parse 'b': missing fields"}"#;
        for (body, meaning) in [
            (conflict, Short::Partly(3)),
            (unread, Short::Partly(1)),
            // Nothing is stored where it does not say "partial write".
            (only_bad, Short::Rejected),
            (&format!("{{\"error\":\"{}\"}}", "unable to parse 'a': missing fields\\n".repeat(10)), Short::Partly(10)),
            (r#"{"error":"partial write: dropped=99999999999999999999"}"#, Short::Partly(10)),
            (r#"{"error":"partial write"}"#, Short::Partly(1)),
            (r#"{"error":"database is required"}"#, Short::Rejected),
            // InfluxDB 2.x behind the interface of version 1.
            (r#"{"code":"invalid","message":"unable to parse 'x': missing fields"}"#, Short::Rejected),
            ("partial write: dropped=1", Short::Doubtful),
            ("", Short::Doubtful),
        ] {
            assert_eq!(short(&v1, 400, body), meaning, "{body}");
        }
    }

    #[test]
    fn version_2_stores_nothing_at_400_and_the_rest_at_422() {
        let [_, v2, _] = places();
        let body = r#"{"code":"invalid","message":"partial write: unable to parse 'x': missing fields dropped=0"}"#;
        assert_eq!(short(&v2, 400, body), Short::Rejected);
        let body = r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: points beyond retention policy dropped=4"}"#;
        assert_eq!(short(&v2, 422, body), Short::Partly(4));
        assert_eq!(short(&v2, 422, r#"{"code":"unprocessable entity","message":"no"}"#), Short::Rejected);
        assert_eq!(short(&v2, 422, ""), Short::Doubtful);
    }

    #[test]
    fn version_3_names_the_lines_that_it_refused() {
        let [.., v3] = places();
        let line = r#"{"original_line":"a \"line_number\":5","line_number":2,"error_message":"no"}"#;
        let body = format!(r#"{{"error":"partial write of line protocol occurred","data":[{line},{line}]}}"#);
        assert_eq!(short(&v3, 400, &body), Short::Partly(2));
        assert_eq!(short(&v3, 422, &body), Short::Partly(2));
        // A list that breaks off still counts as far as it goes.
        assert_eq!(short(&v3, 400, &body[..body.len() - 20]), Short::Partly(2));
        assert_eq!(short(&v3, 400, r#"{"error":"no database"}"#), Short::Rejected);
        let body = format!(r#"{{"error":"parsing failed for write_lp endpoint","data":{line}}}"#);
        assert_eq!(short(&v3, 400, &body), Short::Rejected, "nothing is stored");
    }

    #[test]
    fn what_is_not_influxdbs_own_answer_is_in_doubt_and_says_what_it_looks_like() {
        let gos = "Client sent an HTTP request to an HTTPS server.\n";
        let nginx = "<html><center>The plain HTTP request was sent to HTTPS port</center></html>";
        let haproxy = "<html><body><h1>400 Bad request</h1></body></html>";
        let login = "\n<!doctype html><title>Sign in</title>";
        for place in places() {
            for (status, body, word) in [
                (400, gos, "https?"),
                (400, nginx, "https?"),
                (400, haproxy, "https?"),
                (400, "Bad Request", "https?"),
                (400, r#"{"message":"Bad Request"}"#, "proxy"),
                (400, "", "proxy"),
                (422, haproxy, "proxy"),
                (200, login, "login"),
                (204, "x", "something else"),
                (200, r#"{"results":[]}"#, "something else"),
                (299, "OK", "something else"),
            ] {
                let Verdict::Doubtful { problem, .. } = answer(&place, status, body) else { panic!("{status} {body}") };
                assert!(problem.contains(word), "{problem}");
            }
            let own = r#"{"error":"partial write: dropped=1"}"#;
            let request = request();
            let odd = |status, body: &str, change: fn(&mut Reply<'_>)| {
                let mut odd = Reply::new(&request, status, body);
                change(&mut odd);
                odd
            };
            for odd in [
                odd(400, own, |reply| reply.compressed = true),
                odd(200, "", |reply| reply.broken = true),
                odd(400, haproxy, |reply| reply.encrypted = true),
                odd(400, nginx, |reply| reply.encrypted = true),
            ] {
                let verdict = verdict(&odd, &place, &Frame::default());
                assert!(
                    matches!(&verdict, Verdict::Doubtful { problem, .. } if !problem.contains("https?") || !odd.encrypted)
                );
            }
        }
    }

    #[test]
    fn a_redirect_names_the_address_it_points_to_without_secrets() {
        let problem = |location: Option<&str>| {
            let request = request().bearer("s3cr3t");
            let mut reply = Reply::new(&request, 307, "");
            reply.location = location.map(str::to_owned);
            match verdict(&reply, &places()[0], &Frame::default()) {
                Verdict::Misconfigured { problem } => problem,
                other => panic!("{other:?}"),
            }
        };
        let named = problem(Some("https://db.example:8443/influx/write?db=d&p=s3cr3t"));
        assert!(named.contains("https://db.example:8443/influx;") && !named.contains("s3cr3t"), "{named}");
        assert!(!problem(Some("https://db/?p=s3cr3t\r\n")).contains("s3cr3t"));
        assert!(problem(None).contains("without saying where"));
    }

    #[test]
    fn a_refusal_names_the_way_out_and_a_busy_server_its_wish() {
        let [v1, v2, _] = places();
        let problem = |place: &Place, status, body: &str| match answer(place, status, body) {
            Verdict::Misconfigured { problem } | Verdict::Retry { problem, .. } => problem,
            other => panic!("{other:?}"),
        };
        assert!(problem(&v1, 401, "").contains("username and password"));
        assert!(problem(&v1, 404, "{\"error\":\"database not found\"}\n").contains("CREATE DATABASE \"tele\""));
        assert!(problem(&v2, 404, "").contains("bucket"));
        assert!(problem(&v1, 403, "").contains("the right to write"));
        assert!(problem(&v1, 407, "").contains("the option proxy"));
        let no_policy = "{\"error\":\"retention policy not found: tele.x\"}\n";
        assert!(matches!(answer(&v1, 500, no_policy), Verdict::Misconfigured { .. }));
        assert!(problem(&v1, 500, no_policy).contains("the option retention_policy"));
        assert!(!problem(&v1, 500, "a\r\n\u{1b}[31mb").chars().any(char::is_control));
        assert!(problem(&v1, 500, &"x".repeat(60_000)).len() < 450);
        assert!(matches!(answer(&v1, 503, ""), Verdict::Retry { after: Some(wish), .. } if wish.as_secs() == 7));
    }
}
