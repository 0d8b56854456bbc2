use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use ebpf_process_core::Opener;
use ebpf_process_core::testkit::{context, loopback};

use super::*;
use crate::reply::Reply;
use crate::request::Request;

/// Every answer without a body is a good one.
struct Plain(Server);

impl Protocol for Plain {
    fn request(&self, _: &dyn Opener) -> Result<Request, BuildError> {
        Ok(Request::to(&self.0, "/write", "text/plain"))
    }

    fn verdict(&self, _: &Reply<'_>, _: &Frame) -> Verdict {
        Verdict::Accepted
    }

    fn deed(&self) -> String {
        "takes text".to_owned()
    }

    fn mends(&self, status: u16) -> Option<String> {
        (status == 404).then(|| "makes it".to_owned())
    }
}

fn carrier(server: Server, resolve: Resolve) -> HttpCarrier<Plain> {
    HttpCarrier::with_names(server.clone(), Plain(server), &context("db"), resolve).expect("a carrier")
}

fn server(url: &str) -> Server {
    let mut server = Server::at(url).expect("an address");
    server.timeout = Duration::from_secs(10);
    server
}

fn frame() -> Frame {
    let mut frame = Frame::default();
    frame.push(b"text", 1);
    frame
}

/// A server that takes one request and closes the connection.
fn once() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").expect("a client");
    };
    std::thread::Builder::new().spawn(serve).expect("a thread");
    address
}

#[test]
fn tls_to_a_plain_server_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&ca_file, own.cert.pem()).expect("a write");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
    let babble = move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
            let _ = io::copy(&mut stream, &mut io::sink());
        }
    };
    std::thread::Builder::new().spawn(babble).expect("a thread");
    let mut server = server(&url);
    server.ca_file = Some(ca_file);
    let mut http = HttpCarrier::new(server.clone(), Plain(server), &context("db")).expect("a carrier");
    // Also where the answer before was that something is missing: this is no answer at all.
    for before in [0, 404] {
        http.status = before;
        match http.send(&frame(), Duration::MAX) {
            Verdict::Misconfigured { problem } => {
                assert!(problem.contains("does not speak TLS; http?"), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_zone_finds_the_address_and_is_not_sent() {
    let there = once();
    let resolve: Resolve =
        Arc::new(
            move |receiver| {
                if receiver == "[fe80::1%eth0]:8086" { Ok(vec![there]) } else { Err(io::Error::other(receiver)) }
            },
        );
    let mut http = carrier(server("http://[fe80::1%eth0]:8086"), resolve);
    assert_eq!(http.send(&frame(), Duration::MAX), Verdict::Accepted);
}

#[test]
fn of_several_addresses_the_next_one_is_tried_after_a_refusal() {
    let nobody = TcpListener::bind((loopback(), 0)).and_then(|port| port.local_addr()).expect("a port");
    let there = once();
    let resolve: Resolve = Arc::new(move |_| Ok(vec![nobody, there]));
    let mut http = carrier(server("http://db.example:8086"), resolve);
    assert_eq!(http.send(&frame(), Duration::MAX), Verdict::Accepted);
}

#[test]
fn a_name_that_fails_and_comes_back_with_another_address_is_followed() {
    let (first, second) = (once(), once());
    let port = Arc::new(AtomicU16::new(0));
    let current = Arc::clone(&port);
    let resolve: Resolve = Arc::new(move |_| match current.load(Ordering::SeqCst) {
        0 => Err(io::ErrorKind::NotFound.into()),
        port => Ok(vec![([127, 0, 0, 1], port).into()]),
    });
    let mut http = carrier(server("http://db.example:8086"), resolve);
    let deadline = Instant::now() + Duration::from_secs(60);
    // Not known; there; gone; there again, elsewhere.
    for answer in [0, first.port(), second.port()] {
        port.store(answer, Ordering::SeqCst);
        loop {
            match http.send(&frame(), Duration::MAX) {
                Verdict::Accepted => break,
                Verdict::Retry { problem, .. } if answer == 0 => {
                    assert!(problem.contains("cannot resolve db.example:8086"), "{problem}");
                    break;
                }
                Verdict::Retry { problem, .. } => assert!(problem.contains("db.example"), "{problem}"),
                other => panic!("{other:?}"),
            }
            assert!(Instant::now() < deadline, "the server is not found");
            std::thread::yield_now();
        }
    }
}
