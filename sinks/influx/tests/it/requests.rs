//! What a server is sent.

use std::net::UdpSocket;

use crate::server::{Act, LIMIT, Server, TAKEN};
use crate::sink::{Running, run};

#[test]
fn batches_go_over_one_connection_with_one_timestamp_each() {
    let server = Server::start(Vec::new());
    let options = format!("url = \"{}/\"\ndatabase = \"db\"\nusername = \"me\"\npassword = \"x\"", server.url);
    assert_eq!(run(&options, 3).written, 30);
    for (index, request) in (0_u64..).zip(server.requests()) {
        assert_eq!(request.connection, 0);
        assert!(request.head.starts_with("POST /write?db=db&precision=ns HTTP/1.1\r\n"), "{}", request.head);
        let head = request.head.to_lowercase();
        assert!(head.contains("\r\nauthorization: basic "), "{head}");
        assert!(head.contains("\r\ncontent-type: text/plain") && !head.contains("gzip\r\n"), "{head}");
        assert_eq!(request.lines.len(), 10);
        let end = format!(" {}", 1_600_000_001_000_000_000_u64 + index * 1_000_000_000);
        assert!(request.lines.iter().all(|line| line.ends_with(&end)), "{:?}", request.lines);
    }
}

#[test]
fn each_version_has_its_request() {
    let variable = format!("bearer {}", std::env::var("PATH").expect("a variable").to_lowercase());
    let cases = [
        (
            "database = \"db\"\nauth = \"query\"\nusername = \"a b\"\npassword = \"x&y\"",
            "/write?db=db&precision=ns&u=a%20b&p=x%26y ",
            "",
        ),
        (
            "database = \"a b&c/é\"\nretention_policy = \"one week\"",
            "/write?db=a%20b%26c%2F%C3%A9&precision=ns&rp=one%20week ",
            "",
        ),
        (
            "version = 2\norg = \"o=1\"\nbucket = \"b\"\ntoken = \"t\"",
            "/api/v2/write?org=o%3D1&bucket=b&precision=ns ",
            "token t",
        ),
        (
            "version = 3\ndatabase = \"db\"\ntoken = { env = \"PATH\" }",
            "/api/v3/write_lp?db=db&precision=nanosecond&accept_partial=true ",
            &variable,
        ),
        ("database = \"db\"\nauth = \"bearer\"\ntoken = \"t\"", "/write?db=db&precision=ns ", "bearer t"),
    ];
    for (options, path, authorization) in cases {
        let server = Server::start(Vec::new());
        assert_eq!(run(&format!("url = \"{}\"\n{options}", server.url), 1).written, 10);
        let head = server.request().head;
        assert!(head.starts_with(&format!("POST {path}")), "{head}");
        let head = head.to_lowercase();
        let sent = head.lines().find_map(|line| line.strip_prefix("authorization: "));
        assert_eq!(sent.unwrap_or_default(), authorization);
    }
}

#[test]
fn what_leaves_this_host_is_compressed_or_as_the_option_says() {
    for (gzip, compressed) in [("gzip = true", true), ("gzip = false", false), ("", false)] {
        let server = Server::start(Vec::new());
        let options = format!("url = \"{}\"\ndatabase = \"db\"\nmax_age = \"1h\"\n{gzip}", server.url);
        let mut running = Running::start(&options).expect("a sink");
        running.tick(10);
        running.until("ten batches taken", |tally| tally.offered == 100);
        // The stop sends what waits for its age, as one request.
        assert_eq!(running.stop(LIMIT).written, 100);
        let request = server.request();
        assert_eq!(request.lines.len(), 100);
        assert_eq!(request.head.to_lowercase().contains("content-encoding: gzip\r\n"), compressed);
    }
}

#[test]
fn numbers_of_one_row_share_a_line_or_have_one_each() {
    for (lines, expected) in [("per-row", &["calls=1i,more_1=1i"][..]), ("per-value", &["calls=1i", "more_1=1i"])] {
        let server = Server::start(Vec::new());
        let options = format!("url = \"{}\"\ndatabase = \"db\"\nlines = \"{lines}\"\nnamespace = \"my\"", server.url);
        let mut running = Running::of(&options, 1, 2).expect("a sink");
        running.tick(1);
        assert_eq!(running.settle().written, 2);
        let expected = expected.iter().map(|field| format!("my_vfs,host=host,n=0 {field} 1600000001000000000"));
        assert_eq!(server.request().lines, expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_row_that_is_longer_than_a_datagram_is_several_lines() {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
    receiver.set_read_timeout(Some(LIMIT)).expect("a time limit");
    let address = receiver.local_addr().expect("an address");
    let mut running = Running::of(&format!("url = \"udp://{address}\""), 1, 100).expect("a sink");
    running.tick(1);
    let (mut fields, mut datagram) = (Vec::new(), [0; 2048]);
    while fields.len() < 100 {
        let length = receiver.recv(&mut datagram).expect("a datagram");
        assert!(length <= 1432, "{length}");
        let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
        for line in text.lines() {
            let [head, own, time] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert_eq!((head, time), ("vfs,host=host,n=0", "1600000001000000000"));
            fields.extend(own.split(',').map(str::to_owned));
        }
    }
    let expected = (0..100).map(|n| if n == 0 { "calls=1i".to_owned() } else { format!("more_{n}=1i") });
    assert_eq!(fields, expected.collect::<Vec<_>>());
    assert_eq!(running.settle().written, 100);
}

#[test]
fn requests_are_as_large_as_they_may_be() {
    let server = Server::start(Vec::new());
    let options = format!("url = \"{}\"\ndatabase = \"db\"\nmax_lines = 4", server.url);
    assert_eq!(run(&options, 1).written, 10);
    let lines: Vec<_> = server.requests().iter().map(|request| request.lines.len()).collect();
    assert_eq!(lines, [4, 4, 2]);

    let server = Server::start(Vec::new());
    let options = format!("url = \"{}\"\ndatabase = \"db\"\nmax_bytes = \"100B\"", server.url);
    assert_eq!(run(&options, 1).written, 10);
    let requests = server.requests();
    assert!(requests.len() >= 5, "{requests:?}");
    let bytes = |lines: &[String]| lines.iter().map(|line| line.len() + 1).sum::<usize>();
    assert!(requests.iter().all(|request| bytes(&request.lines) <= 100), "{requests:?}");
}

#[test]
fn integers_are_written_as_the_option_says() {
    for (option, end) in [("i", "calls=1i"), ("u", "calls=1u"), ("float", "calls=1.0")] {
        let server = Server::start(Vec::new());
        run(&format!("url = \"{}\"\ndatabase = \"db\"\nintegers = \"{option}\"", server.url), 1);
        let request = server.request();
        assert!(request.lines.iter().all(|line| line.contains(&format!(" {end} "))), "{request:?}");
    }
}

#[test]
fn a_unix_socket_is_a_server_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let closing = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned();
    let server =
        Server::on_socket(&folder.path().join("sock"), vec![Act::Reply(TAKEN.to_owned()), Act::Reply(closing)]);
    assert_eq!(run(&format!("url = \"{}\"\ndatabase = \"db\"", server.url), 3).written, 30);
    let requests = server.requests();
    let connections: Vec<_> = requests.iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
    assert!(requests[0].head.starts_with("POST /write?db=db&precision=ns HTTP/1.1\r\n"), "{:?}", requests[0]);
}

#[test]
fn a_unix_socket_that_does_not_answer_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sock");
    let options = format!("url = \"unix://{}\"\ndatabase = \"db\"\ntimeout = \"50ms\"", path.display());
    let mut running = Running::start(&options).expect("a sink");
    running.tick(1);
    let server =
        Server::on_socket(&path, vec![Act::Hang, Act::HalfClose(String::new()), Act::Reset("garbage".to_owned())]);
    assert_eq!(running.settle().written, 10);
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn datagrams_hold_whole_lines_and_come_after_the_receiver_does() {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = receiver.local_addr().expect("an address");
    drop(receiver);
    let mut running = Running::start(&format!("url = \"udp://{address}\"\nmax_bytes = \"100B\"")).expect("a sink");
    running.tick(1);
    running.until("the batch in hand", |tally| tally.queued == 10);
    let receiver = UdpSocket::bind(address).expect("the same port");
    receiver.set_read_timeout(Some(LIMIT)).expect("a time limit");
    let (mut lines, mut datagram) = (Vec::new(), [0; 2048]);
    while lines.len() < 10 {
        let length = receiver.recv(&mut datagram).expect("a datagram");
        assert!(length <= 100 && datagram[..length].ends_with(b"\n"));
        lines.extend(String::from_utf8_lossy(&datagram[..length]).lines().map(str::to_owned));
    }
    assert_eq!(running.settle().written, 10);
    let counted: Vec<_> =
        (0..10).filter(|n| lines[*n].starts_with(&format!("vfs,host=host,n={n} calls=1i "))).collect();
    assert_eq!(counted.len(), 10, "{lines:?}");
}
