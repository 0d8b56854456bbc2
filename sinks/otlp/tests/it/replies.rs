//! What each answer does to the book, and how often a request is sent.

use crate::server::{Server, reply};
use crate::sink::Running;

/// The samples of a batch, and the points of a request: enough to be worth compressing.
const ROWS: u64 = 50;
const POINTS: usize = 50;

/// The book after two batches, and how many points each request had.
fn run(answers: Vec<Vec<u8>>, more: &str) -> (u64, Vec<(&'static str, u64)>, Vec<usize>) {
    let server = Server::start(answers);
    let mut running = Running::start(&format!("url = \"{}\"\n{more}", server.url), ROWS).expect("a sink");
    running.tick();
    running.tick();
    let tally = running.stop();
    let points = server.requests().iter().map(|request| request.points.len()).collect();
    (tally.written, tally.rejected, points)
}

#[test]
fn only_four_answers_have_a_request_sent_again() {
    for status in [429, 502, 503, 504] {
        let busy = || reply(status, "", b"later");
        assert_eq!(run(vec![busy(), busy()], ""), (100, Vec::new(), vec![POINTS; 4]), "{status}");
    }
    for status in [400, 401, 403, 404, 405, 407, 408, 409, 415, 422, 500, 501, 505, 302, 304, 299] {
        // A success has another answer than OTLP knows.
        let expected = (50, vec![("not accepted by the server", 50)], vec![POINTS; 2]);
        // Compressed or not: no receiver of OTLP has to be asked a second time for that.
        for more in ["", "gzip = true"] {
            assert_eq!(run(vec![reply(status, "", b"<html>no</html>")], more), expected, "{status}");
        }
    }
}

#[test]
fn a_wish_to_be_left_alone_is_respected() {
    for status in [429, 502, 503, 504] {
        let server = Server::start(vec![reply(status, "Retry-After: 3600\r\n", b"")]);
        let mut running = Running::start(&format!("url = \"{}\"", server.url), ROWS).expect("a sink");
        running.tick_until("a batch taken", |tally| tally.queued == ROWS);
        server.request();
        running.tick_until("both batches taken", |tally| tally.queued == 2 * ROWS);
        assert_eq!(server.requests().len(), 0, "{status}");
        // A stop does not wait for an hour: it tries once more.
        assert_eq!(running.stop().written, 2 * ROWS);
    }
}

#[test]
fn a_partial_success_is_counted_and_never_sent_again() {
    let partly = reply(200, "", b"\x0a\x06\x08\x03\x12\x02no");
    assert_eq!(run(vec![partly], ""), (97, vec![("partial success", 3)], vec![POINTS; 2]));
    let warning = reply(200, "", b"\x0a\x04\x12\x02hm");
    assert_eq!(run(vec![warning], ""), (100, Vec::new(), vec![POINTS; 2]));
    // More than there were.
    let all = reply(200, "", b"\x0a\x03\x08\xff\x7f");
    assert_eq!(run(vec![all], ""), (50, vec![("partial success", 50)], vec![POINTS; 2]));
    // Both as JSON and as nothing at all.
    assert_eq!(run(vec![reply(200, "", b"{}"), reply(202, "", b"")], ""), (100, Vec::new(), vec![POINTS; 2]));
}

#[test]
fn what_is_too_large_is_sent_in_halves() {
    let large = || reply(413, "", b"");
    let (written, rejected, points) = run(vec![large()], "max_bytes = \"3KiB\"");
    assert_eq!((written, rejected), (100, Vec::new()));
    assert_eq!(points.iter().sum::<usize>(), 2 * POINTS + points[0], "{points:?}");
    assert_eq!(points[0], points[1] + points[2], "{points:?}");
    // However small it is, too large: each piece is refused once alone.
    let (written, rejected, _) = run(vec![large(); 256], "max_bytes = \"3KiB\"");
    assert_eq!((written, rejected.iter().map(|(_, samples)| samples).sum::<u64>()), (0, 100));
}

#[test]
fn a_secret_that_was_replaced_is_used_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "old").expect("a write");
    let server = Server::start(vec![reply(200, "", b""), reply(401, "", b"who?")]);
    let options = format!("url = \"{}\"\ntoken = {{ file = \"{}\" }}", server.url, token.display());
    let mut running = Running::start(&options, ROWS).expect("a sink");
    running.tick();
    std::fs::write(&token, "new").expect("a write");
    running.tick();
    assert_eq!(running.stop().written, 100);
    let sent = server.requests();
    let sent: Vec<bool> = sent.iter().map(|request| request.head.contains("authorization: bearer new")).collect();
    assert_eq!(sent, [false, false, true]);
}
