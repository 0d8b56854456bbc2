//! A request as it comes, and what is answered.

use std::sync::Arc;

use httparse::{EMPTY_HEADER, Error, Status};

use crate::encode::Page;
use crate::format::Format;

/// A request's line and headers may have so many bytes together.
pub(crate) const HEAD_LIMIT: usize = 8 * 1024;

/// Headers that one request may have.
const MOST_HEADERS: usize = 64;

/// A whole answer; the connection is closed after it.
#[derive(Debug)]
pub(crate) struct Reply {
    head: Vec<u8>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    None,
    Words(&'static str),
    Page(Arc<Page>, Format),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Words(words) => words.as_bytes(),
            Self::Page(page, format) => page.bytes(*format),
        }
    }
}

impl Reply {
    /// The answer to what has come so far; `None` as long as it may go on.
    pub(crate) fn to(request: &[u8], path: &str, page: Option<&Arc<Page>>) -> Option<Self> {
        let mut headers = [EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(request) {
            Ok(Status::Complete(length)) if length <= HEAD_LIMIT => {}
            Ok(Status::Partial) if request.len() < HEAD_LIMIT => return None,
            Ok(_) | Err(Error::TooManyHeaders) => {
                return Some(Self::words("431 Request Header Fields Too Large", "", "the request is too long\n"));
            }
            Err(_) => return Some(Self::words("400 Bad Request", "", "this is no HTTP request\n")),
        }
        let target = parsed.path.unwrap_or_default();
        let reply = if target.split('?').next() != Some(path) {
            Self::words("404 Not Found", "", "nothing is here; Prometheus finds its page at the configured path\n")
        } else if !matches!(parsed.method, Some("GET" | "HEAD")) {
            Self::words("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "the page can only be read\n")
        } else if let Some(page) = page {
            let accept = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
            let format = Format::negotiate(accept.filter_map(|header| std::str::from_utf8(header.value).ok()));
            Self::new("200 OK", format.content_type(), "", Body::Page(Arc::clone(page), format))
        } else {
            Self::words("503 Service Unavailable", "Retry-After: 1\r\n", "there is no batch yet\n")
        };
        Some(if parsed.method == Some("HEAD") { Self { body: Body::None, ..reply } } else { reply })
    }

    fn words(status: &str, header: &str, words: &'static str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", header, Body::Words(words))
    }

    fn new(status: &str, content_type: &str, header: &str, body: Body) -> Self {
        let length = body.bytes().len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{header}\
             Connection: close\r\n\r\n"
        );
        Self { head: head.into_bytes(), body }
    }

    /// What is left to send after so many bytes; empty at the end.
    pub(crate) fn rest(&self, sent: usize) -> &[u8] {
        match self.head.get(sent..) {
            Some(head) if !head.is_empty() => head,
            _ => self.body.bytes().get(sent.saturating_sub(self.head.len())..).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> Option<String> {
        let page = Arc::new(Page::default());
        let reply = Reply::to(request.as_bytes(), "/metrics", Some(&page))?;
        let head = String::from_utf8(reply.head).expect("text");
        Some(head.split("\r\n").next().unwrap_or_default().trim_start_matches("HTTP/1.1 ").to_owned())
    }

    #[test]
    fn only_the_page_can_be_read_and_nothing_can_be_written() {
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
        let long = format!("GET /metrics HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(HEAD_LIMIT));
        let endless = format!("GET /{}", "x".repeat(HEAD_LIMIT));
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Some("200 OK")),
            ("GET /metrics?name=x HTTP/1.0\r\n\r\n", Some("200 OK")),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Some("200 OK")),
            ("GET / HTTP/1.1\r\n\r\n", Some("404 Not Found")),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", Some("404 Not Found")),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", Some("405 Method Not Allowed")),
            ("get /metrics HTTP/1.1\r\n\r\n", Some("405 Method Not Allowed")),
            ("GET /metrics HTTP/2.0\r\n\r\n", Some("400 Bad Request")),
            ("GET /metrics\r\n\r\n", Some("400 Bad Request")),
            ("\u{16}\u{3}\u{1}", Some("400 Bad Request")),
            (&many, Some("431 Request Header Fields Too Large")),
            (&long, Some("431 Request Header Fields Too Large")),
            (&endless, Some("431 Request Header Fields Too Large")),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(request).as_deref(), expected, "{request:?}");
        }
    }

    #[test]
    fn a_head_says_how_long_the_page_is_and_does_not_send_it() {
        let mut encoder = crate::Encoder::new("");
        let mut page = Page::default();
        ebpf_process_core::testkit::Bench::new().tick(
            &ebpf_process_core::Selection::default(),
            |_| {},
            |view| encoder.encode(view, &mut page),
        );
        let request = b"HEAD /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n";
        let reply = Reply::to(request, "/metrics", Some(&Arc::new(page))).expect("a reply");
        let head = String::from_utf8_lossy(reply.rest(0)).into_owned();
        assert!(head.contains("Content-Length: 6\r\n"), "an end of file alone: {head}");
        assert!(reply.rest(head.len()).is_empty());
    }
}
