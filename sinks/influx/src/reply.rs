//! What a server's reply means for the lines that it answers: the same number means different
//! things in different versions.

use std::time::Duration;

use ebpf_process_delivery::{Frame, Verdict};

use crate::options::Place;

/// Why samples are rejected when the server took the rest.
const PARTIAL: &str = "partial write";
/// Why samples are rejected when the server could not read the line.
const MALFORMED: &str = "not accepted by the server";

/// What to do when the server does not know us.
const WHO: &str = "check username and password, or the token";

/// How much of an error text is repeated in a message.
const EXCERPT: usize = 300;

/// A server's answer to one request.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: &'a str,
    /// The header by which we said who we are.
    pub(crate) authorization: Option<&'a str>,
    /// What is not repeated, should the server do it.
    pub(crate) secrets: &'a [String],
}

impl Reply<'_> {
    /// What became of the frame that was sent to this place.
    pub(crate) fn verdict(&self, place: &Place, frame: &Frame) -> Verdict {
        let body = self.body;
        match self.status {
            200..=299 => Verdict::Accepted,
            // A cluster has the points and has not told all its members yet.
            _ if body.contains("hinted handoff queue not empty") => Verdict::Accepted,
            // A doorkeeper (vmauth) that does not know us says so with our own words. No line has them.
            400 if self.repeats_who_we_are() => Verdict::Misconfigured { problem: self.describe(WHO) },
            400 | 422 => match self.refused_lines(place) {
                Some(lines) => {
                    // One line is one sample. All of them refused is no part any more, but the
                    // server has named them: nothing would be gained by sending them one by one.
                    let rejected = lines.max(1);
                    let all = rejected >= frame.len() as u64;
                    let reason = if all { MALFORMED } else { PARTIAL };
                    Verdict::Partly { rejected, reason, problem: self.describe("see which lines it names") }
                }
                None => Verdict::Rejected {
                    reason: MALFORMED,
                    problem: self.describe("is the option version that of the server?"),
                },
            },
            413 => Verdict::TooLarge { problem: self.describe("lower the option max_bytes") },
            401 => Verdict::Misconfigured { problem: self.describe(WHO) },
            403 => Verdict::Misconfigured { problem: self.describe("give these credentials the right to write") },
            404 => Verdict::Misconfigured { problem: self.describe(&missing(place)) },
            300..=399 => {
                Verdict::Misconfigured { problem: self.describe("write the address it points to into the option url") }
            }
            408 | 429 | 500..=599 => Verdict::Retry {
                after: self.retry_after,
                problem: self.describe("it is busy, or see its log for what is wrong"),
            },
            _ => Verdict::Misconfigured { problem: self.describe("check the options url and version") },
        }
    }

    /// How many lines were refused while the others were stored; `None` if nothing was stored.
    fn refused_lines(&self, place: &Place) -> Option<u64> {
        let body = self.body;
        match place {
            // Lines that cannot be read are named, the others are stored. Only a request without a
            // good line is an error without the words.
            Place::V1 { .. } if body.contains("partial write") => Some(dropped(body).saturating_add(unreadable(body))),
            Place::V1 { .. } => Some(unreadable(body)).filter(|lines| *lines > 0),
            // 400 is nothing, 422 is what the bucket cannot hold.
            Place::V2 { .. } => (self.status == 422).then(|| dropped(body)),
            // A list of the lines that were refused.
            Place::V3 { .. } => Some(body.matches("\"line_number\":").count() as u64).filter(|lines| *lines > 0),
        }
    }

    /// Whether the text is about our credentials, by whatever scheme the server calls them.
    fn repeats_who_we_are(&self) -> bool {
        let credentials =
            self.authorization.and_then(|header| header.split_once(' ')).map(|(_, credentials)| credentials);
        let schemes = ["Basic", "Bearer", "Token"];
        credentials.is_some_and(|words| schemes.iter().any(|scheme| self.body.contains(&format!("{scheme} {words}"))))
    }

    fn describe(&self, way_out: &str) -> String {
        let (status, said) = (self.status, excerpt(self.body, self.secrets));
        if said.is_empty() {
            format!("the server answered {status}; {way_out}")
        } else {
            format!("the server answered {status}: {said}; {way_out}")
        }
    }
}

/// How long a server wants to be left alone: `Retry-After` is a number of seconds or a moment (RFC 9110, 10.2.3), by
/// the clock of the server, which the reply's `Date` tells. A moment that has passed is now.
pub(crate) fn retry_after(wish: &str, date: Option<&str>) -> Option<Duration> {
    let moment = |text| httpdate::parse_http_date(text).ok();
    let until = || Some(moment(wish)?.duration_since(moment(date?)?).unwrap_or_default());
    wish.trim().parse().ok().map(Duration::from_secs).or_else(until)
}

/// What to do when the place does not exist.
fn missing(place: &Place) -> String {
    match place {
        Place::V1 { database, .. } => {
            format!("create the database on the server: CREATE DATABASE \"{database}\"; or check the option version")
        }
        Place::V2 { .. } => "create the bucket, or check the options org, bucket and version".to_owned(),
        Place::V3 { .. } => "check the options database and version".to_owned(),
    }
}

/// The number after `dropped=`.
fn dropped(body: &str) -> u64 {
    let digits = body.rsplit_once("dropped=").map_or("", |(_, rest)| rest);
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    digits.fold(0, |number: u64, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

/// Lines that the server could not read; it does not count them as dropped.
fn unreadable(body: &str) -> u64 {
    body.matches("unable to parse").count() as u64
}

/// The start of an error text, on one line and without our secrets.
fn excerpt(body: &str, secrets: &[String]) -> String {
    let hidden = secrets.iter().fold(body.trim().to_owned(), |body, secret| body.replace(secret, "***"));
    let cleaned = hidden.chars().map(|c| if c.is_control() { ' ' } else { c });
    cleaned.take(EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A verdict in short, for a frame of ten lines.
    #[derive(Debug, PartialEq)]
    enum Short {
        Accepted,
        Partly(u64),
        Rejected,
        TooLarge,
        Retry,
        Misconfigured,
    }

    fn answer(place: &Place, status: u16, body: &str) -> Verdict {
        let mut frame = Frame::default();
        for _ in 0..10 {
            frame.push(b"m f=1i 1\n", 1);
        }
        let retry_after = Some(Duration::from_secs(7));
        Reply { status, retry_after, body, authorization: None, secrets: &[] }.verdict(place, &frame)
    }

    #[test]
    fn the_time_to_wait_is_a_number_or_a_moment() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        for (wish, seconds) in [
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(retry_after(wish, date), seconds.map(Duration::from_secs), "{wish}");
        }
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", None), None);
    }

    #[test]
    fn a_secret_that_the_server_repeats_is_not_repeated() {
        let (body, secrets) = ("no such token \"Bearer s3cr3t\"", ["s3cr3t".to_owned()]);
        let place = Place::V3 { database: "db".to_owned() };
        for status in [400, 401, 403, 404, 413, 422, 302, 429, 503, 418] {
            let reply = Reply { status, retry_after: None, body, authorization: None, secrets: &secrets };
            let verdict = format!("{:?}", reply.verdict(&place, &Frame::default()));
            assert!(verdict.contains("***") && !verdict.contains("s3cr3t"), "{verdict}");
        }
    }

    #[test]
    fn a_bad_request_that_repeats_who_we_are_is_about_that_and_not_about_the_lines() {
        let verdict = |body| {
            let authorization = Some("Token s3cr3t");
            let reply = Reply { status: 400, retry_after: None, body, authorization, secrets: &["s3cr3t".to_owned()] };
            reply.verdict(&Place::V2 { org: "o".to_owned(), bucket: "b".to_owned() }, &Frame::default())
        };
        let refused = verdict("cannot find the provided auth token \"Bearer s3cr3t\" in config");
        assert!(matches!(&refused, Verdict::Misconfigured { problem } if problem.contains("token")), "{refused:?}");
        assert!(!format!("{refused:?}").contains("s3cr3t"), "{refused:?}");
        assert!(matches!(verdict("unable to parse 's3cr3t'"), Verdict::Rejected { .. }));
    }

    fn short(place: &Place, status: u16, body: &str) -> Short {
        match answer(place, status, body) {
            Verdict::Accepted => Short::Accepted,
            Verdict::Partly { rejected, .. } => Short::Partly(rejected.min(10)),
            Verdict::Rejected { .. } => Short::Rejected,
            Verdict::TooLarge { .. } => Short::TooLarge,
            Verdict::Retry { .. } => Short::Retry,
            Verdict::Misconfigured { .. } => Short::Misconfigured,
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
            (only_bad, Short::Partly(2)),
            ("partial write: dropped=99999999999999999999", Short::Partly(10)),
            ("partial write", Short::Partly(1)),
            (r#"{"error":"database is required"}"#, Short::Rejected),
            ("", Short::Rejected),
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
        assert_eq!(short(&v2, 422, ""), Short::Partly(1));
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
        assert!(!problem(&v1, 500, "a\r\n\u{1b}[31mb").chars().any(char::is_control));
        assert!(problem(&v1, 500, &"x".repeat(60_000)).len() < 450);
        assert!(matches!(answer(&v1, 503, ""), Verdict::Retry { after: Some(wish), .. } if wish.as_secs() == 7));
    }
}
