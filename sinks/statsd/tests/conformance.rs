//! The sink in each dialect through the conformance kit: a receiver adds up what comes over TCP.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod receiver;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ebpf_process_core::Options;
use ebpf_process_core::testkit::conformance::{Kit, Number, Reading};
use ebpf_process_core::testkit::loopback;
use ebpf_process_sink_statsd::{PLUGIN, Syntax};
use parking_lot::Mutex;
use receiver::Receiver;

/// Reads the lines of one connection. One that lacks its end is none.
fn listen(stream: TcpStream, receiver: &Mutex<Receiver>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|length| length > 0) {
        if let Some(line) = line.strip_suffix('\n') {
            receiver.lock().read(line.as_bytes()).expect("a line by the rules");
        }
        line.clear();
    }
}

fn readings(receiver: &Receiver) -> Vec<Reading> {
    let sums = receiver
        .counters
        .iter()
        .map(|(text, sum)| Reading::new(text, Number::from(i128::try_from(*sum).expect("no sum is so large"))));
    sums.chain(receiver.gauges.iter().map(|(text, level)| Reading::new(text, *level))).collect()
}

/// One at a time: the kit looks at the threads and the memory of its process.
static TURN: Mutex<()> = Mutex::new(());

fn conforms(dialect: &str, syntax: Syntax) {
    let _turn = TURN.lock();
    let listener = TcpListener::bind((loopback(), 0)).expect("a port");
    let address = format!("tcp://{}", listener.local_addr().expect("an address"));
    let receiver = Arc::new(Mutex::new(Receiver::new(syntax, 8192)));
    let at_receiver = Arc::clone(&receiver);
    let accept = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let receiver = Arc::clone(&at_receiver);
            thread::Builder::new().spawn(move || listen(stream, &receiver)).expect("a thread");
        }
    };
    thread::Builder::new().spawn(accept).expect("a thread");
    let options = Options::from_value(BTreeMap::from([("address", address.as_str()), ("dialect", dialect)]));
    let kit = Kit::new(PLUGIN, options).read_back(move || readings(&receiver.lock())).seed(7);
    // A sink waits a tenth of a second for the end that a receiver may have come to.
    // Of what was written only what is missing is waited for.
    let report = kit.rebuilds(100).patience(Duration::from_secs(20)).run();
    report.assert_passed();
}

#[test]
fn the_sink_does_what_it_promises_to_etsys_server() {
    conforms("etsy", Syntax::Plain);
}

#[test]
fn the_sink_does_what_it_promises_to_datadogs_server() {
    conforms("dogstatsd", Syntax::Dogstatsd);
}
