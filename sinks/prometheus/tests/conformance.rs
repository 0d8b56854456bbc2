//! The sink through the conformance kit: a scraper keeps the newest number of each series, as a server does, and is slow or
//! hangs up in the middle of a page where the kit says so.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::Options;
use ebpf_process_core::testkit::conformance::{Kit, Outcome, Peer, Reading};
use ebpf_process_core::testkit::loopback;
use ebpf_process_sink_prometheus::PLUGIN;
use parking_lot::Mutex;

/// A scraper, and what it has of all pages.
struct Scraper {
    address: String,
    newest: BTreeMap<String, String>,
    manner: Peer,
    /// A page of which it has read the beginning.
    half: Option<(TcpStream, Vec<u8>)>,
}

impl Scraper {
    /// Asks for the page and reads so many bytes of it, at least one, unless nobody serves one.
    fn begin(&self, limit: usize) -> Option<(TcpStream, Vec<u8>)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        let mut reply = vec![0; limit];
        // A sink that ends meanwhile ends the connection.
        let length = stream.write_all(request.as_bytes()).and_then(|()| stream.read(&mut reply)).ok()?;
        reply.truncate(length);
        (length > 0).then_some((stream, reply))
    }

    /// Reads the rest of a page. Half a page is none.
    fn finish(&mut self, (mut stream, mut reply): (TcpStream, Vec<u8>)) {
        if stream.read_to_end(&mut reply).is_err() {
            return;
        }
        let reply = String::from_utf8(reply).expect("text");
        let Some((_, page)) = reply.split_once("\r\n\r\n") else { return };
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (text, number) = line.rsplit_once(' ').expect("a sample");
            self.newest.insert(text.to_owned(), number.to_owned());
        }
    }

    fn scrape(&mut self) -> Vec<Reading> {
        // The sink has had a view since whoever is slow began.
        let pages = [self.half.take(), self.begin(4096)];
        pages.into_iter().flatten().for_each(|page| self.finish(page));
        let lines = self.newest.iter().map(|(text, number)| format!("{text} {number}"));
        lines.map(|line| Reading::parse(&line).expect("a number")).collect()
    }

    /// Asks for the newest page in the manner that has been its so far, before the next one is.
    fn behave(&mut self, manner: Peer) {
        // Of whom it hangs up on most of the page is still on its way.
        self.half = self.begin(100).filter(|_| self.manner == Peer::Slow);
        self.manner = manner;
    }
}

#[test]
fn the_sink_does_what_it_promises() {
    let free = TcpListener::bind((loopback(), 0)).and_then(|listener| listener.local_addr()).expect("a port");
    let address = free.to_string();
    let options = Options::from_value(BTreeMap::from([("listen", address.as_str())]));
    let scraper = Scraper { address, newest: BTreeMap::new(), manner: Peer::Well, half: None };
    let scraper = Arc::new(Mutex::new(scraper));
    let told = Arc::clone(&scraper);
    let tell = move |manner| {
        told.lock().behave(manner);
        Ok(())
    };
    let kit = Kit::new(PLUGIN, options).read_back(move || scraper.lock().scrape()).peer(tell);
    let kit = kit.not_applicable(Peer::Refusing, "whoever has asked for a page does not refuse it");
    // Only what is missing is waited for.
    let report = kit.seed(7).patience(Duration::from_secs(20)).run();
    report.assert_passed();
    assert!(report.findings().iter().all(|finding| finding.outcome == Outcome::Passed), "{report}");
}
