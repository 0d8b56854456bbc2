//! The sink in each dialect through the conformance kit: a receiver adds up what comes over TCP, slowly or not at all where
//! the kit says so.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod receiver;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use ebpf_process_core::Options;
use ebpf_process_core::testkit::conformance::{Kit, Number, Outcome, Peer, Reading, Row, Steering};
use ebpf_process_core::testkit::loopback;
use ebpf_process_sink_statsd::{PLUGIN, Syntax};
use parking_lot::Mutex;
use receiver::Receiver;
use rustix::net::sockopt::set_socket_recv_buffer_size;

/// Reads the lines of one connection until it ends, or is hung up on with what it has sent unread. A line that lacks its
/// end is none.
fn listen(mut stream: TcpStream, receiver: &Mutex<Receiver>, steering: &Steering) -> io::Result<()> {
    let (mut chunk, mut lines) = ([0; 4096], Vec::new());
    while stream.peek(&mut chunk[..1])? > 0 {
        let most = match steering.ask() {
            Peer::Away => return Ok(()),
            Peer::Slow => {
                thread::park_timeout(Duration::from_millis(20));
                16
            }
            _ => chunk.len(),
        };
        let length = stream.read(&mut chunk[..most])?;
        lines.extend_from_slice(&chunk[..length]);
        if let Some(end) = lines.iter().rposition(|byte| *byte == b'\n') {
            receiver.lock().read(&lines[..end]).expect("lines by the rules");
            lines.drain(..=end);
        }
    }
    Ok(())
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
    let receiver = Arc::new(Mutex::new(Receiver::new(syntax, 1 << 20)));
    let (at_receiver, steering) = (Arc::clone(&receiver), Steering::default());
    let asked = steering.clone();
    let accept = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (receiver, steering) = (Arc::clone(&at_receiver), asked.clone());
            // A connection that ends in an error is one that the sink has left.
            let listen = move || drop(listen(stream, &receiver, &steering));
            thread::Builder::new().spawn(listen).expect("a thread");
        }
    };
    thread::Builder::new().spawn(accept).expect("a thread");
    let options = Options::from_value(BTreeMap::from([("address", address.as_str()), ("dialect", dialect)]));
    let kit = Kit::new(PLUGIN, options).read_back(move || readings(&receiver.lock())).seed(7);
    let kit = kit.peer(steering.steer()).not_applicable(Peer::Refusing, "lines over TCP have no answer");
    // A sink waits a tenth of a second for the end that a receiver may have come to.
    // Of what was written only what is missing is waited for.
    let report = kit.rebuilds(100).patience(Duration::from_secs(20)).run();
    report.assert_passed();
    assert!(report.findings().iter().all(|finding| finding.outcome == Outcome::Passed), "{report}");
}

/// Over UDP there is nobody to be slow or to refuse.
#[test]
fn the_sink_does_what_it_promises_in_datagrams() {
    let _turn = TURN.lock();
    let socket = UdpSocket::bind((loopback(), 0)).expect("a port");
    let address = format!("udp://{}", socket.local_addr().expect("an address"));
    // The kernel keeps what the receiver has not read yet, up to its limit.
    set_socket_recv_buffer_size(&socket, 16 << 20).expect("a size");
    let receiver = Arc::new(Mutex::new(Receiver::new(Syntax::Plain, 8192)));
    let at_receiver = Arc::clone(&receiver);
    let (sender, packets) = channel();
    let take = move || {
        let mut packet = [0; 8192];
        while let Ok(length) = socket.recv(&mut packet) {
            sender.send(packet[..length].to_vec()).expect("a receiver");
        }
    };
    let read = move || {
        for packet in packets {
            at_receiver.lock().read(&packet).expect("lines by the rules");
        }
    };
    thread::Builder::new().spawn(take).expect("a thread");
    thread::Builder::new().spawn(read).expect("a thread");
    let options = Options::from_value(BTreeMap::from([("address", address.as_str())]));
    let mut kit = Kit::new(PLUGIN, options).read_back(move || readings(&receiver.lock())).seed(7);
    for peer in [Peer::Slow, Peer::Refusing, Peer::Away] {
        kit = kit.not_applicable(peer, "a datagram has no answer");
    }
    let report = kit.patience(Duration::from_secs(20)).run();
    report.assert_passed();
    let never = report.findings().iter().filter(|finding| finding.outcome == Outcome::NotApplicable);
    assert_eq!(never.map(|finding| finding.row).collect::<Vec<_>>(), [Row::SlowPeer, Row::EachVerdict], "{report}");
}

#[test]
fn the_sink_does_what_it_promises_to_etsys_server() {
    conforms("etsy", Syntax::Plain);
}

#[test]
fn the_sink_does_what_it_promises_to_datadogs_server() {
    conforms("dogstatsd", Syntax::Dogstatsd);
}
