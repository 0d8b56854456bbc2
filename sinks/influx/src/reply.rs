//! What a server's reply means for the samples that it answers.

/// Why samples are rejected when the server took the rest.
const PARTIAL: &str = "partial write";
/// Why samples are rejected when the server could not read the batch.
const MALFORMED: &str = "not accepted by the server";
/// Why samples are rejected when the batch is larger than the server allows.
const TOO_LARGE: &str = "batch too large for the server";

/// How much of an error text is repeated in a message.
const EXCERPT: usize = 300;

/// What became of a batch's samples; the three numbers add up to its size.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) written: u64,
    pub(crate) failed: u64,
    pub(crate) rejected: Option<(u64, &'static str)>,
    /// What went wrong, and the way out.
    pub(crate) problem: Option<String>,
}

impl Verdict {
    /// No reply came: all samples failed.
    pub(crate) fn unanswered(samples: u64, problem: String) -> Self {
        Self { failed: samples, problem: Some(problem), ..Self::default() }
    }

    /// The server answered.
    pub(crate) fn of(status: u16, body: &[u8], samples: u64, database: &str) -> Self {
        let body = String::from_utf8_lossy(body);
        let said = excerpt(&body);
        let refused = |reason| Self { rejected: Some((samples, reason)), ..Self::default() };
        let failed = || Self { failed: samples, ..Self::default() };
        let (verdict, way_out) = match status {
            200..=299 => return Self { written: samples, ..Self::default() },
            400 if body.contains("partial write") => {
                let lost = dropped(&body).saturating_add(unreadable(&body)).clamp(1, samples.max(1));
                let rejected = Some((lost, PARTIAL));
                (Self { written: samples.saturating_sub(lost), rejected, ..Self::default() }, "the rest is written")
            }
            400 => (refused(MALFORMED), "is this an InfluxDB with the /write interface of version 1?"),
            413 => (refused(TOO_LARGE), "raise max-body-size in the server's [http] section"),
            401 => (failed(), "check the options username and password"),
            403 => (failed(), "give the user the right to write to the database"),
            404 => {
                let way_out = format!("create the database on the server: CREATE DATABASE \"{database}\"");
                return Self { problem: Some(describe(status, &said, &way_out)), ..failed() };
            }
            300..=399 => (failed(), "write the address it points to into the option url"),
            429 | 503 => (failed(), "the server is busy"),
            _ => (failed(), "see the server's log"),
        };
        Self { problem: Some(describe(status, &said, way_out)), ..verdict }
    }
}

fn describe(status: u16, said: &str, way_out: &str) -> String {
    if said.is_empty() {
        format!("the server answered {status}; {way_out}")
    } else {
        format!("the server answered {status}: {said}; {way_out}")
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

/// The start of an error text, on one line.
fn excerpt(body: &str) -> String {
    let cleaned = body.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    cleaned.take(EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_settles_every_sample() {
        let partial = r#"{"error":"partial write: field type conflict: input field \"v\" on measurement \"m\" is type integer, already exists as type float dropped=3"}"#;
        let unread = r#"{"error":"partial write: unable to parse 'bad line': invalid field format dropped=0"}"#;
        let cases = [
            (204, "", (10, 0, None)),
            (200, "", (10, 0, None)),
            (400, partial, (7, 0, Some((3, PARTIAL)))),
            (400, unread, (9, 0, Some((1, PARTIAL)))),
            (400, "partial write: dropped=99999999999999999999", (0, 0, Some((10, PARTIAL)))),
            (400, "partial write", (9, 0, Some((1, PARTIAL)))),
            (400, "partial write: dropped=11", (0, 0, Some((10, PARTIAL)))),
            (400, r#"{"error":"unable to parse 'x'"}"#, (0, 0, Some((10, MALFORMED)))),
            (413, "", (0, 0, Some((10, TOO_LARGE)))),
            (301, "", (0, 10, None)),
            (401, r#"{"error":"authorization failed"}"#, (0, 10, None)),
            (403, "", (0, 10, None)),
            (404, r#"{"error":"database not found"}"#, (0, 10, None)),
            (500, "", (0, 10, None)),
            (503, "", (0, 10, None)),
        ];
        for (status, body, (written, failed, rejected)) in cases {
            let verdict = Verdict::of(status, body.as_bytes(), 10, "db");
            assert_eq!(
                (verdict.written, verdict.failed, verdict.rejected),
                (written, failed, rejected),
                "{status} {body}"
            );
            assert_eq!(verdict.problem.is_none(), (200..300).contains(&status), "{status}");
        }
    }

    #[test]
    fn a_refusal_names_the_way_out() {
        let problem = |status, body: &str| Verdict::of(status, body.as_bytes(), 1, "tele").problem.unwrap_or_default();
        assert!(problem(401, "").contains("username and password"));
        assert!(problem(404, "{\"error\":\"database not found\"}\n").contains("CREATE DATABASE \"tele\""));
        assert!(!problem(500, "a\r\n\u{1b}[31mb").chars().any(char::is_control));
        assert!(problem(500, &"x".repeat(60_000)).len() < 400);
    }
}
