//! A request as it comes, and what is answered.

use ebpf_process_core::identity;
use httparse::{EMPTY_HEADER, Error, Status};

use crate::format::Format;
use crate::page::Page;
use crate::reply::Reply;
use crate::wanted::{Wanted, decoded};

/// A request's line and headers may have so many bytes together: tokens and what a service mesh adds
/// take 16 KiB at times.
pub(crate) const HEAD_LIMIT: usize = 32 * 1024;

/// Headers that one request may have.
const MOST_HEADERS: usize = 512;

/// Where it is said that the server answers, as Prometheus itself does.
const HEALTHY: &str = "/-/healthy";

/// The answer to what has come so far; `None` as long as it may go on. `make` makes the page, if there is one.
pub(crate) fn answer(request: &[u8], path: &str, make: impl FnOnce(Format, &Wanted) -> Option<Page>) -> Option<Reply> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(request) {
        Ok(Status::Complete(length)) if length <= HEAD_LIMIT => {}
        Ok(Status::Partial) if request.len() < HEAD_LIMIT => return None,
        Ok(_) | Err(Error::TooManyHeaders) => {
            return Some(Reply::words("431 Request Header Fields Too Large", "", "the request is too long\n"));
        }
        Err(_) => return Some(Reply::words("400 Bad Request", "", "this is no HTTP request\n")),
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
        Reply::words("404 Not Found", "", format!("nothing is here; the page for Prometheus is at {path}\n"))
    } else if !matches!(parsed.method, Some("GET" | "HEAD")) {
        Reply::words("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "the page can only be read\n")
    } else if !is_page && asked == HEALTHY.as_bytes() {
        Reply::words("200 OK", "", format!("{} is healthy\n", identity().name()))
    } else if !is_page {
        Reply::text("200 OK", "text/html; charset=utf-8", "", &landing(path))
    } else {
        let format = Format::negotiate(accept());
        match make(format, &Wanted::read(query)) {
            Some(page) => Reply::page(page, format.content_type(), parsed.version != Some(0)),
            None => Reply::words("503 Service Unavailable", "Retry-After: 1\r\n", "there is no batch yet\n"),
        }
    };
    Some(if parsed.method == Some("HEAD") { reply.without_body() } else { reply })
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
    let name = identity().name();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><title>{name}</title></head><body>\n\
         <h1>{name}</h1>\n<p>What processes and their I/O do on this host, for Prometheus: \
         <a href=\"{escaped}\">{escaped}</a></p>\n</body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Column, Ledger, Selection, Unit};

    use super::*;
    use crate::Encoder;
    use crate::exposition::Exposition;
    use crate::renderer::PIECE;

    /// What there is to be scraped: a metric with so many columns.
    fn exposition(columns: u32) -> Exposition {
        let mut exposition = Exposition::new(Encoder::new("x"), Arc::new(Ledger::default()));
        let mut bench = Bench::new();
        let metric = Column::counter("calls", Unit::CALLS, "Calls");
        let column = |n: u32| bench.host(metric.clone().labels([("n", n.to_string().as_str())]));
        let cells: Vec<_> = (0..columns).map(column).collect();
        let record = |recorder: &mut _| cells.iter().for_each(|cell| cell.counter(recorder, 7));
        bench.tick(&Selection::default(), record, |view| exposition.publish(*view));
        exposition
    }

    fn reply_of(exposition: &mut Exposition, request: &str, path: &str) -> Option<Reply> {
        let exposition = std::cell::RefCell::new(exposition);
        answer(request.as_bytes(), path, |format, wanted| exposition.borrow_mut().page(format, wanted))
    }

    fn reply(request: &str, path: &str) -> Option<Reply> {
        reply_of(&mut exposition(1), request, path)
    }

    /// The head, and the body as it is sent.
    fn whole(mut reply: Reply) -> (String, String) {
        let mut text = String::new();
        let mut goes_on = true;
        while goes_on {
            // Never all at once.
            let length = reply.rest().len().div_ceil(2);
            assert!(reply.rest().len() < 2 * PIECE);
            text += std::str::from_utf8(&reply.rest()[..length]).expect("text");
            goes_on = reply.sent(length);
        }
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), body.to_owned())
    }

    /// What chunks hold; nothing follows on the last one.
    fn joined(mut chunks: &str) -> String {
        let mut text = String::new();
        loop {
            let (length, rest) = chunks.split_once("\r\n").expect("a length");
            let length = usize::from_str_radix(length, 16).expect("hexadecimal digits");
            let (chunk, rest) = rest.split_at(length);
            text += chunk;
            chunks = rest.strip_prefix("\r\n").expect("the end of a chunk");
            if length == 0 {
                assert_eq!(chunks, "");
                return text;
            }
        }
    }

    fn status(request: &str) -> Option<String> {
        let found = reply(request, "/metrics")?;
        let (head, _) = whole(found);
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
        let (_, text) = whole(landing);
        assert!(text.contains("<a href=\"/a&lt;b&quot;\">"), "{text}");
        let lost = reply("GET /metric HTTP/1.1\r\n\r\n", "/metrics").expect("a reply");
        assert!(whole(lost).1.contains("is at /metrics"));
        // What was configured comes first.
        for path in ["/", HEALTHY] {
            let request = format!("GET {path} HTTP/1.1\r\nAccept: text/html\r\n\r\n");
            assert!(reply(&request, path).is_some_and(|mut reply| reply.take_receipt().is_some()));
        }
    }

    #[test]
    fn a_head_is_that_of_the_page_without_it() {
        for columns in [1, 3_000] {
            let mut exposition = exposition(columns);
            for version in ["1.1", "1.0"] {
                let mut ask = |method: &str| {
                    let request =
                        format!("{method} /metrics HTTP/{version}\r\nAccept: application/openmetrics-text\r\n\r\n");
                    whole(reply_of(&mut exposition, &request, "/metrics").expect("a reply"))
                };
                let (page, head) = (ask("GET"), ask("HEAD"));
                assert_eq!((head.0, head.1.as_str()), (page.0, ""));
            }
        }
    }

    #[test]
    fn a_long_page_comes_in_pieces() {
        for accept in ["text/plain", "application/openmetrics-text"] {
            // From a page in one piece to one in many, past those that end where a piece does.
            for columns in [1, 2_400, 2_500, 5_000] {
                let mut exposition = exposition(columns);
                let mut ask = |version: &str| {
                    let request = format!("GET /metrics HTTP/{version}\r\nAccept: {accept}\r\n\r\n");
                    whole(reply_of(&mut exposition, &request, "/metrics").expect("a reply"))
                };
                let (old, plain) = ask("1.0");
                let (new, body) = ask("1.1");
                assert_eq!(plain.lines().filter(|line| line.ends_with(" 7")).count(), columns as usize);
                assert!(plain.ends_with(if accept == "text/plain" { " 7\n" } else { " 7\n# EOF\n" }));
                let length = format!("Content-Length: {}\r\n", plain.len());
                let is_long = plain.len() >= PIECE;
                assert_eq!((old.contains(&length), new.contains(&length)), (!is_long, !is_long));
                assert_eq!(new.contains("Transfer-Encoding: chunked\r\n"), is_long, "{columns}");
                assert!(!old.contains("Transfer-Encoding"), "HTTP/1.0 knows none");
                assert_eq!(if is_long { joined(&body) } else { body }, plain, "{columns}");
            }
        }
    }
}
