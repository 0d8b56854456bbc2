//! What each reply does to the book, end to end.

use crate::server::{Act, LIMIT, Request, Server, TAKEN, reply, reply_with};
use crate::sink::{Running, run};

fn options(server: &Server) -> String {
    format!("url = \"{}\"\ndatabase = \"db\"", server.url)
}

#[test]
fn a_partial_write_is_rejected_as_far_as_the_server_says() {
    let body = r#"{"error":"partial write: field type conflict dropped=3"}"#;
    let server = Server::start(vec![reply("400 Bad Request", body)]);
    let tally = run(&options(&server), 2);
    assert_eq!((tally.written, &tally.rejected[..]), (17, &[("partial write", 3)][..]));
    assert_eq!(server.requests().len(), 2, "what the server has is not sent again");

    let server = Server::start(vec![reply(
        "422 Unprocessable Entity",
        r#"{"code":"unprocessable entity","message":"partial write: dropped=4"}"#,
    )]);
    let v2 = format!("url = \"{}\"\nversion = 2\norg = \"o\"\nbucket = \"b\"", server.url);
    assert_eq!(run(&v2, 1).rejected, [("partial write", 4)]);

    let line = r#"{"original_line":"x","line_number":1,"error_message":"no"}"#;
    let body = format!(r#"{{"error":"partial write of line protocol occurred","data":[{line}]}}"#);
    let server = Server::start(vec![reply("400 Bad Request", &body)]);
    let v3 = format!("url = \"{}\"\nversion = 3\ndatabase = \"db\"", server.url);
    assert_eq!(run(&v3, 1).rejected, [("partial write", 1)]);
}

#[test]
fn a_request_refused_as_a_whole_is_halved_until_the_culprit_is_alone() {
    // Ten lines, then five, two (one and one: the culprit and its neighbour), three, five.
    let refused = || reply("400 Bad Request", r#"{"code":"invalid","message":"unable to parse 'x'"}"#);
    let server = Server::start(vec![refused(), refused(), refused(), refused()]);
    let v2 = format!("url = \"{}\"\nversion = 2\norg = \"o\"\nbucket = \"b\"", server.url);
    let tally = run(&v2, 1);
    assert_eq!((tally.written, &tally.rejected[..]), (9, &[("not accepted by the server", 1)][..]));
    let lines: Vec<_> = server.requests().iter().map(|request| request.lines.len()).collect();
    assert_eq!(lines, [10, 5, 2, 1, 1, 3, 5]);
}

/// The fields of a request's lines.
fn fields(request: &Request) -> Vec<&str> {
    request.lines.iter().filter_map(|line| line.split(' ').nth(1)).collect()
}

#[test]
fn a_line_that_is_refused_for_one_field_is_sent_again_in_pieces_and_its_neighbours_are_not_lost() {
    let conflict = |dropped| {
        reply(
            "400 Bad Request",
            &format!(
                r#"{{"error":"partial write: field type conflict: input field \"more_1\" on measurement \"vfs\" is type integer, already exists as type float dropped={dropped}"}}"#
            ),
        )
    };
    // What a real server does: a line is dropped as a whole, and with one value each only the culprit is.
    let server = Server::start(vec![conflict(2), conflict(2)]);
    let mut running = Running::of(&options(&server), 2, 3).expect("a sink");
    running.tick(1);
    let tally = running.settle();
    assert_eq!((tally.written, &tally.rejected[..]), (4, &[("partial write", 2)][..]));
    let requests = server.requests();
    assert_eq!(fields(&requests[0]), ["calls=1i,more_1=1i,more_2=1i"; 2]);
    assert_eq!(fields(&requests[1]), ["calls=1i", "more_1=1i", "more_2=1i"].repeat(2));
    assert_eq!(requests.len(), 2);
}

#[test]
fn a_line_that_is_refused_alone_is_sent_again_in_pieces_and_only_the_culprit_is_rejected() {
    // Two lines of three values, one line, its values; two of them, one and one; the third; the other line.
    let refused = || reply("400 Bad Request", r#"{"code":"invalid","message":"unable to parse 'x'"}"#);
    let taken = || Act::Reply(TAKEN.to_owned());
    let server = Server::start(vec![refused(), refused(), refused(), taken(), refused(), refused()]);
    let v2 = format!("url = \"{}\"\nversion = 2\norg = \"o\"\nbucket = \"b\"", server.url);
    let mut running = Running::of(&v2, 2, 3).expect("a sink");
    running.tick(1);
    let tally = running.settle();
    assert_eq!((tally.written, &tally.rejected[..]), (5, &[("not accepted by the server", 1)][..]));
    let requests = server.requests();
    let sent: Vec<_> = requests.iter().map(|request| fields(request).join(" ")).collect();
    let line = "calls=1i,more_1=1i,more_2=1i";
    assert_eq!(
        sent,
        [
            &format!("{line} {line}"),
            line,
            "calls=1i more_1=1i more_2=1i",
            "calls=1i",
            "more_1=1i more_2=1i",
            "more_1=1i",
            "more_2=1i",
            line,
        ]
    );
}

#[test]
fn version_3_gets_the_lines_again_that_it_named_and_no_others() {
    let line = |number: &u64| {
        format!(r#"{{"original_line":"x","line_number":{number},"error_message":"invalid column type"}}"#)
    };
    let partial = |numbers: &[u64]| {
        let lines: Vec<_> = numbers.iter().map(line).collect();
        let body = format!(r#"{{"error":"partial write of line protocol occurred","data":[{}]}}"#, lines.join(","));
        reply("400 Bad Request", &body)
    };
    let server = Server::start(vec![partial(&[2]), partial(&[1])]);
    let mut running =
        Running::of(&format!("url = \"{}\"\nversion = 3\ndatabase = \"db\"", server.url), 3, 2).expect("a sink");
    running.tick(1);
    let tally = running.settle();
    assert_eq!((tally.written, &tally.rejected[..]), (5, &[("partial write", 1)][..]));
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(fields(&requests[1]), ["calls=1i", "more_1=1i"]);
}

#[test]
fn lines_that_are_too_old_are_rejected_with_all_their_samples() {
    let beyond = reply("400 Bad Request", r#"{"error":"partial write: points beyond retention policy dropped=2"}"#);
    let server = Server::start(vec![beyond]);
    let mut running = Running::of(&options(&server), 2, 3).expect("a sink");
    running.tick(1);
    assert_eq!(running.settle().rejected, [("not accepted by the server", 6)]);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn what_is_not_influxdbs_own_answer_rejects_nothing_and_is_asked_again() {
    let page = "<html><center>The plain HTTP request was sent to HTTPS port</center></html>";
    let compressed = reply_with("400 Bad Request", "Content-Encoding: gzip\r\n", r#"{"error":"x"}"#);
    for act in [
        reply("400 Bad Request", page),
        reply("422 Unprocessable Entity", page),
        reply("200 OK", page),
        reply("201 Created", "{}"),
        Act::Reply("HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nnot here\n".to_owned()),
        compressed,
    ] {
        for place in ["database = \"db\"", "version = 2\norg = \"o\"\nbucket = \"b\"", "version = 3\ndatabase = \"db\""]
        {
            let server = Server::start(vec![act.clone(), act.clone()]);
            let tally = run(&format!("url = \"{}\"\n{place}", server.url), 2);
            assert_eq!((tally.written, tally.rejected_total()), (20, 0), "{act:?}");
            assert_eq!(server.requests().len(), 4, "{act:?}");
        }
    }
}

#[test]
fn what_is_too_large_is_halved() {
    let server =
        Server::start(vec![reply("413 Request Entity Too Large", ""), reply("413 Request Entity Too Large", "")]);
    assert_eq!(run(&options(&server), 1).written, 10);
    let lines: Vec<_> = server.requests().iter().map(|request| request.lines.len()).collect();
    assert_eq!(lines, [10, 5, 2, 3, 5]);
    // A single line is sent in pieces.
    let too_large = || reply("413 Request Entity Too Large", "");
    let server = Server::start(vec![too_large(), too_large(), too_large()]);
    let mut running = Running::of(&options(&server), 1, 3).expect("a sink");
    running.tick(1);
    let tally = running.settle();
    assert_eq!((tally.written, &tally.rejected[..]), (2, &[("too large for the receiver", 1)][..]));
    let lines: Vec<_> = server.requests().iter().map(|request| request.lines.len()).collect();
    assert_eq!(lines, [1, 3, 1, 2]);
}

#[test]
fn what_waiting_or_a_person_mends_is_sent_again() {
    for status in [
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "503 Service Unavailable",
        "301 Moved Permanently",
        "307 Temporary Redirect",
    ] {
        let refused = reply_with(status, "Location: http://127.0.0.1:9/\r\n", r#"{"error":"not now"}"#);
        let server = Server::start(vec![refused; 3]);
        assert_eq!(run(&options(&server), 2).written, 20, "{status}");
        let requests = server.requests();
        assert_eq!(requests.len(), 5, "{status}");
        assert!(requests[..3].iter().all(|request| request.lines == requests[3].lines), "{status}: the same again");
    }
}

#[test]
fn a_secret_that_was_replaced_is_read_again_and_sent_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    let secret = format!("{{ file = \"{}\" }}", path.display());
    for (status, credentials, sent) in [
        ("401 Unauthorized", format!("token = {secret}"), ["authorization: token old\r", "authorization: token new\r"]),
        (
            "403 Forbidden",
            format!("username = \"u\"\npassword = {secret}"),
            ["authorization: basic dtpvbgq=", "authorization: basic dtpuzxc="],
        ),
        (
            "401 Unauthorized",
            format!("username = \"u\"\nauth = \"query\"\npassword = {secret}"),
            ["&u=u&p=old ", "&u=u&p=new "],
        ),
    ] {
        std::fs::write(&path, "old\r\n").expect("a write");
        let server = Server::start(vec![reply(status, "{}")]);
        let delivery = "delivery = { retry_min = \"1h\", retry_max = \"1h\" }";
        let mut running = Running::start(&format!("{}\n{credentials}\n{delivery}", options(&server))).expect("a sink");
        std::fs::write(&path, "\u{feff}new\n").expect("a write");
        running.tick(1);
        running.until("the batch written", |tally| tally.written == 10);
        let heads: Vec<_> = server.requests().iter().map(|request| request.head.to_lowercase()).collect();
        assert!(heads.len() == 2 && heads[0].contains(sent[0]) && heads[1].contains(sent[1]), "{heads:?}");
        running.stop(LIMIT);
    }
}

#[test]
fn a_server_that_is_never_told_about_compression_gets_plain_lines_at_once() {
    // What a real InfluxDB 1.x says to compressed bytes whose header was lost on the way.
    let words = r#"{"error":"unable to parse '\u001f\ufffd': missing fields\nunable to parse 'x': missing fields"}"#;
    let refused = || reply("400 Bad Request", words);
    let doubtful = reply("400 Bad Request", "<html>starting</html>");
    let taken = || Act::Reply(TAKEN.to_owned());
    for (acts, expected) in [
        // The second frame is as convincing as the first.
        (vec![refused(), taken(), refused()], &[true, false, true, false, false, false][..]),
        // Once was an accident.
        (vec![doubtful], &[true, false, true, true, true]),
    ] {
        let server = Server::start(acts);
        let delivery = "delivery = { retry_min = \"1h\", retry_max = \"1h\" }\nmax_lines = 50";
        let mut running = Running::start(&format!("{}\ngzip = true\nmax_age = \"1h\"\n{delivery}", options(&server)))
            .expect("a sink");
        running.tick(20);
        running.until("twenty batches taken", |tally| tally.offered == 200);
        let tally = running.stop(LIMIT);
        assert_eq!((tally.written, tally.rejected_total()), (200, 0));
        let compressed: Vec<_> =
            server.requests().iter().map(|request| request.head.to_lowercase().contains("gzip\r\n")).collect();
        assert_eq!(compressed, expected);
    }
}

#[test]
fn a_busy_server_is_left_alone_as_long_as_it_says() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let server = Server::start(vec![reply_with(status, "Retry-After: 3600\r\n", "busy")]);
        let mut running = Running::start(&options(&server)).expect("a sink");
        running.tick(1);
        server.request();
        running.tick(1);
        running.until("both batches taken", |tally| tally.queued == 20);
        // A stop does not wait for an hour: it tries once more.
        assert_eq!(running.stop(LIMIT).written, 20);
    }
}

#[test]
fn a_reply_without_end_is_cut_and_means_what_its_number_says() {
    let body = "x".repeat(10 << 20);
    let server = Server::start(vec![reply("500 Internal Server Error", &body), reply("200 OK", &body)]);
    assert_eq!(run(&options(&server), 2).written, 20);
    // No write is answered with such a body: it was something else.
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn a_connection_that_the_server_closed_is_opened_again() {
    let closing = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned();
    let server = Server::start(vec![Act::Reply(closing)]);
    assert_eq!(run(&options(&server), 2).written, 20);
    let connections: Vec<_> = server.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 1]);
}
