//! What a server answers.

use std::borrow::Cow;
use std::time::Duration;

use crate::request::Request;

/// How much of an error text is repeated in a message.
const EXCERPT: usize = 300;

/// A server's answer to one request, as it came. What it means is the protocol's to say.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply<'a> {
    /// What was answered.
    pub request: &'a Request,
    /// The number.
    pub status: u16,
    /// How long the server wants to be left alone, if it says that.
    pub retry_after: Option<Duration>,
    /// Where a redirect points to. None is followed: data goes where the configuration says.
    pub location: Option<String>,
    /// The body, up to 1 MiB of it.
    pub body: Vec<u8>,
    /// Whether the body broke off.
    pub broken: bool,
    /// Whether the body is compressed, though nobody asked for that.
    pub compressed: bool,
    /// Whether the way to the server is encrypted.
    pub encrypted: bool,
}

impl<'a> Reply<'a> {
    /// An answer of a number and a body.
    pub fn new(request: &'a Request, status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            request,
            status,
            retry_after: None,
            location: None,
            body: body.into(),
            broken: false,
            compressed: false,
            encrypted: false,
        }
    }

    /// The body as text.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// What the server said, for a message: the start of the body on one line, and without our secrets.
    pub fn excerpt(&self) -> String {
        self.excerpt_of(&self.text())
    }

    /// The same of a part of what it said.
    pub fn excerpt_of(&self, text: &str) -> String {
        let hidden = self.request.hide(text.trim());
        let cleaned = hidden.chars().map(|c| if c.is_control() { ' ' } else { c });
        cleaned.take(EXCERPT).collect()
    }

    /// A message that says what the server answered, and then the way out.
    pub fn describe(&self, way_out: &str) -> String {
        self.describe_as(&self.text(), way_out)
    }

    /// The same where the server's words are not its whole body.
    pub fn describe_as(&self, words: &str, way_out: &str) -> String {
        let (status, said) = (self.status, self.excerpt_of(words));
        if said.is_empty() {
            format!("the server answered {status}; {way_out}")
        } else {
            format!("the server answered {status}: {said}; {way_out}")
        }
    }

    /// Whether it repeats the credentials of our `Authorization`, by whatever scheme the server calls them.
    pub fn repeats_who_we_are(&self) -> bool {
        let credentials = self.request.authorization().and_then(|header| header.split_once(' '));
        let Some((_, words)) = credentials else { return false };
        let body = self.text();
        ["Basic", "Bearer", "Token"].iter().any(|scheme| body.contains(&format!("{scheme} {words}")))
    }
}

/// How long a server wants to be left alone: `Retry-After` is a number of seconds or a moment (RFC 9110, 10.2.3), by
/// the clock of the server, which the reply's `Date` tells. A moment that has passed is now.
pub(crate) fn retry_after(wish: &str, date: Option<&str>) -> Option<Duration> {
    let moment = |text| httpdate::parse_http_date(text).ok();
    let until = || Some(moment(wish)?.duration_since(moment(date?)?).unwrap_or_default());
    wish.trim().parse().ok().map(Duration::from_secs).or_else(until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;

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
    fn what_a_server_says_is_repeated_on_one_line_in_part_and_without_our_secrets() {
        let server = Server::at("http://db").expect("an address");
        let request = Request::to(&server, "/", "text/plain").bearer("s3cr3t");
        let reply = Reply::new(&request, 401, "no such token \"Token s3cr3t\"\r\n\u{1b}[31mred");
        assert_eq!(reply.describe("look"), "the server answered 401: no such token \"Token ***\"   [31mred; look");
        assert!(reply.repeats_who_we_are());
        assert!(!Reply::new(&request, 401, "s3cr3t").repeats_who_we_are());
        assert_eq!(Reply::new(&request, 500, " \n").describe("look"), "the server answered 500; look");
        assert_eq!(Reply::new(&request, 500, "x".repeat(60_000)).excerpt().len(), EXCERPT);
    }
}
