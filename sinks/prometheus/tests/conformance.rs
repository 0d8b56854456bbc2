//! The sink through the conformance kit: a scraper keeps the newest number of each series, as a server does.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use ebpf_process_core::Options;
use ebpf_process_core::testkit::conformance::{Kit, Reading};
use ebpf_process_core::testkit::loopback;
use ebpf_process_sink_prometheus::PLUGIN;

/// The lines of the page, unless nobody serves one.
fn scrape(address: &str) -> Vec<String> {
    let Ok(mut stream) = TcpStream::connect(address) else { return Vec::new() };
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let mut reply = Vec::new();
    // A sink that ends meanwhile ends the connection.
    if stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut reply)).is_err() {
        return Vec::new();
    }
    let reply = String::from_utf8(reply).expect("text");
    let Some((_, page)) = reply.split_once("\r\n\r\n") else { return Vec::new() };
    page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn the_sink_does_what_it_promises() {
    let free = TcpListener::bind((loopback(), 0)).and_then(|listener| listener.local_addr()).expect("a port");
    let address = free.to_string();
    let options = Options::from_value(BTreeMap::from([("listen", address.as_str())]));
    let mut newest = BTreeMap::new();
    let read_back = move || {
        for line in scrape(&address) {
            let (text, number) = line.rsplit_once(' ').expect("a sample");
            newest.insert(text.to_owned(), number.to_owned());
        }
        let lines = newest.iter().map(|(text, number)| format!("{text} {number}"));
        lines.map(|line| Reading::parse(&line).expect("a number")).collect()
    };
    // Only what is missing is waited for.
    let kit = Kit::new(PLUGIN, options).read_back(read_back).seed(7).patience(Duration::from_secs(20));
    kit.run().assert_passed();
}
