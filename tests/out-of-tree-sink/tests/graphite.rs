//! The stranger's sink for Graphite does what the conformance kit asks of every sink. Alone in its process: the kit looks at
//! that process's threads and memory.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ebpf_process_core::prelude::SinkType;
use ebpf_process_core::testkit::conformance::{Kit, Reading};

#[path = "../src/graphite.rs"]
mod graphite;

#[test]
fn the_sink_does_what_it_promises() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let stored: Arc<Mutex<Vec<Reading>>> = Arc::default();
    let receiver = Arc::clone(&stored);
    let accept = move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let receiver = Arc::clone(&receiver);
            let read = move || {
                for line in BufReader::new(connection).lines().map_while(Result::ok) {
                    let mut words = line.split(' ');
                    let (Some(series), Some(value)) = (words.next(), words.next()) else { continue };
                    let reading = Reading::parse(&format!("{series} {value}")).expect("a number");
                    receiver.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
                }
            };
            thread::Builder::new().spawn(read).expect("a thread");
        }
    };
    thread::Builder::new().spawn(accept).expect("a thread");
    let options = ebpf_process_core::Options::from_value(BTreeMap::from([("address", address)]));
    let sink = SinkType::new("graphite", "numbers for Graphite", graphite::build).opens(graphite::Options::opens);
    let read_back = move || stored.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // A sink waits a tenth of a second for the end that a receiver may have come to.
    let kit = Kit::new(sink, options).read_back(read_back).seed(7).rebuilds(100);
    kit.patience(Duration::from_secs(20)).run().assert_passed();
}
