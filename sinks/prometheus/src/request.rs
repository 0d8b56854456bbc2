//! A request as it comes, and what is answered.

use std::borrow::Cow;
use std::sync::Arc;

use httparse::{EMPTY_HEADER, Error, Status};

use crate::format::Format;
use crate::page::Page;
use crate::wanted::{Wanted, decoded};

/// A request's line and headers may have so many bytes together: tokens and what a service mesh adds
/// take 16 KiB at times.
pub(crate) const HEAD_LIMIT: usize = 32 * 1024;

/// Headers that one request may have.
const MOST_HEADERS: usize = 512;

/// Where it is said that the server answers, as Prometheus itself does.
const HEALTHY: &str = "/-/healthy";

/// A whole answer; the connection is closed after it.
#[derive(Debug)]
pub(crate) struct Reply {
    head: Vec<u8>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    None,
    Words(Cow<'static, str>),
    Page(Arc<Page>),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Words(words) => words.as_bytes(),
            Self::Page(page) => &page.bytes,
        }
    }
}

impl Reply {
    /// The answer to what has come so far; `None` as long as it may go on. `make` makes the page, if there is one.
    pub(crate) fn to(
        request: &[u8],
        path: &str,
        make: impl FnOnce(Format, &Wanted) -> Option<Arc<Page>>,
    ) -> Option<Self> {
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
        let accept = || {
            let accept = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
            accept.filter_map(|header| std::str::from_utf8(header.value).ok())
        };
        let (asked, query) = parts_of(parsed.path.unwrap_or_default());
        let asked = decoded(asked);
        let is_page = asked == decoded(path);
        let found = is_page || asked == HEALTHY.as_bytes() || (asked == b"/" && Format::is_for_people(accept()));
        let reply = if !found {
            Self::words("404 Not Found", "", format!("nothing is here; the page for Prometheus is at {path}\n"))
        } else if !matches!(parsed.method, Some("GET" | "HEAD")) {
            Self::words("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "the page can only be read\n")
        } else if !is_page && asked == HEALTHY.as_bytes() {
            Self::words("200 OK", "", "ebpf-process is healthy\n")
        } else if !is_page {
            Self::new("200 OK", "text/html; charset=utf-8", "", Body::Words(landing(path).into()))
        } else {
            let format = Format::negotiate(accept());
            match make(format, &Wanted::read(query)) {
                Some(page) => Self::new("200 OK", format.content_type(), "", Body::Page(page)),
                None => Self::words("503 Service Unavailable", "Retry-After: 1\r\n", "there is no batch yet\n"),
            }
        };
        Some(if parsed.method == Some("HEAD") { Self { body: Body::None, ..reply } } else { reply })
    }

    fn words(status: &str, header: &str, words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", header, Body::Words(words.into()))
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

    /// Whether this is the page itself, not words about it.
    pub(crate) const fn page(&self) -> Option<&Arc<Page>> {
        match &self.body {
            Body::Page(page) => Some(page),
            Body::None | Body::Words(_) => None,
        }
    }
}

/// The path and the query of a request's target, which may be a whole address: a proxy asks that way.
fn parts_of(target: &str) -> (&str, &str) {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find(['/', '?', '#']).map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    (if path.is_empty() { "/" } else { path }, query)
}

/// What a person sees who opens the address without a path.
fn landing(path: &str) -> String {
    let escaped = path.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;").replace('\'', "&#39;");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><title>ebpf-process</title></head><body>\n\
         <h1>ebpf-process</h1>\n<p>What processes and their I/O do on this host, for Prometheus: \
         <a href=\"{escaped}\">{escaped}</a></p>\n</body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::Ledger;

    use super::*;
    use crate::page::Account;

    /// A page that says for what it was asked.
    fn page(format: Format, wanted: &Wanted) -> Arc<Page> {
        let account = Arc::new(Account::new(Arc::new(Ledger::default()), 0));
        let bytes = format!("{format:?} {wanted:?}").into_bytes();
        Arc::new(Page { bytes, sections: Vec::new(), finals: 0, account })
    }

    fn reply(request: &str, path: &str) -> Option<Reply> {
        Reply::to(request.as_bytes(), path, |format, wanted| Some(page(format, wanted)))
    }

    fn status(request: &str) -> Option<String> {
        let found = reply(request, "/metrics")?;
        let head = String::from_utf8(found.head).expect("text");
        Some(head.split("\r\n").next().unwrap_or_default().trim_start_matches("HTTP/1.1 ").to_owned())
    }

    #[test]
    fn only_the_page_can_be_read_and_nothing_can_be_written() {
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MOST_HEADERS + 1));
        let mesh = format!("GET /metrics HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(16 * 1024));
        let seventy = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(70));
        let long = format!("GET /metrics HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(HEAD_LIMIT));
        let endless = format!("GET /{}", "x".repeat(HEAD_LIMIT));
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Some("200 OK")),
            ("GET /metrics?name=x HTTP/1.0\r\n\r\n", Some("200 OK")),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Some("200 OK")),
            ("GET http://h:9/metrics HTTP/1.1\r\nHost: h:9\r\n\r\n", Some("200 OK")),
            ("GET http://h:9/metrics?x=http://y/ HTTP/1.1\r\n\r\n", Some("200 OK")),
            ("GET http://h:9 HTTP/1.1\r\nAccept: text/html\r\n\r\n", Some("200 OK")),
            ("GET /m%65tr%69cs HTTP/1.1\r\n\r\n", Some("200 OK")),
            ("GET /metrics%zz HTTP/1.1\r\n\r\n", Some("404 Not Found")),
            ("GET /metrics% HTTP/1.1\r\n\r\n", Some("404 Not Found")),
            (&mesh, Some("200 OK")),
            (&seventy, Some("200 OK")),
            ("GET /-/healthy HTTP/1.1\r\n\r\n", Some("200 OK")),
            ("POST /-/healthy HTTP/1.1\r\n\r\n", Some("405 Method Not Allowed")),
            ("GET / HTTP/1.1\r\n\r\n", Some("404 Not Found")),
            ("GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", Some("200 OK")),
            ("GET / HTTP/1.1\r\nAccept: text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\r\n", Some("404 Not Found")),
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
    fn a_person_finds_the_way_to_the_page() {
        let landing = reply("GET / HTTP/1.1\r\nAccept: text/html,*/*\r\n\r\n", "/a<b\"").expect("a reply");
        let text = String::from_utf8_lossy(landing.body.bytes()).into_owned();
        assert!(text.contains("<a href=\"/a&lt;b&quot;\">"), "{text}");
        let lost = reply("GET /metric HTTP/1.1\r\n\r\n", "/metrics").expect("a reply");
        assert!(String::from_utf8_lossy(lost.body.bytes()).contains("is at /metrics"));
        // What was configured comes first.
        for path in ["/", HEALTHY] {
            let request = format!("GET {path} HTTP/1.1\r\nAccept: text/html\r\n\r\n");
            assert!(reply(&request, path).is_some_and(|reply| reply.page().is_some()));
        }
    }

    #[test]
    fn a_head_says_how_long_the_page_is_and_does_not_send_it() {
        let request = "HEAD /metrics?name[]=x HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n";
        let found = reply(request, "/metrics").expect("a reply");
        let whole = page(Format::OpenMetrics, &Wanted::read("name[]=x")).bytes.len();
        let head = String::from_utf8_lossy(found.rest(0)).into_owned();
        assert!(head.contains(&format!("Content-Length: {whole}\r\n")), "{head}");
        assert!(found.rest(head.len()).is_empty());
    }
}
