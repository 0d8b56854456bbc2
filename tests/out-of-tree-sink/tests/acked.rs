//! The stranger's asynchronous sink does what the conformance kit asks of every sink, with a receiver that answers late and the
//! newest frame first. Alone in its process: the kit looks at that process's threads and memory.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ebpf_process_core::prelude::SinkType;
use ebpf_process_core::testkit::conformance::{Kit, Reading};

#[path = "../src/acked.rs"]
mod acked;

type Stored = Arc<Mutex<Vec<Reading>>>;

/// How long the receiver waits for another frame before it answers those that it has.
const LATE: Duration = Duration::from_millis(5);

/// Reads a frame, which is stored, and returns its number; none where the connection is over.
fn read_frame(stream: &mut BufReader<TcpStream>, stored: &Stored) -> Option<String> {
    let mut head = String::new();
    stream.read_line(&mut head).ok().filter(|read| *read > 0)?;
    let (number, size) = head.trim_end().strip_prefix("frame ")?.split_once(' ')?;
    let mut text = vec![0; size.parse().ok()?];
    stream.read_exact(&mut text).ok()?;
    let text = String::from_utf8(text).expect("text");
    let readings = text.lines().map(|line| Reading::parse(line).expect("a number"));
    stored.lock().unwrap_or_else(PoisonError::into_inner).extend(readings);
    Some(number.to_owned())
}

/// Whether another frame comes soon enough to be answered together with those before it.
fn another_comes(stream: &mut BufReader<TcpStream>) -> bool {
    let connection = stream.get_ref().try_clone().expect("the connection");
    connection.set_read_timeout(Some(LATE)).expect("a limit");
    let comes = stream.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
    connection.set_read_timeout(None).expect("no limit");
    comes
}

fn receive(connection: TcpStream, stored: &Stored) {
    let mut answers = connection.try_clone().expect("the connection");
    let mut stream = BufReader::new(connection);
    let mut unanswered = Vec::new();
    while let Some(number) = read_frame(&mut stream, stored) {
        unanswered.push(number);
        if unanswered.len() < 4 && another_comes(&mut stream) {
            continue;
        }
        while let Some(number) = unanswered.pop() {
            // A sink that is gone needs no answer.
            let _ = writeln!(answers, "ok {number}");
        }
    }
}

#[test]
fn the_sink_does_what_it_promises() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let stored = Stored::default();
    let receiver = Arc::clone(&stored);
    let accept = move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new().spawn(move || receive(connection, &receiver)).expect("a thread");
        }
    };
    thread::Builder::new().spawn(accept).expect("a thread");
    let options = ebpf_process_core::Options::from_value(BTreeMap::from([("address", address)]));
    let sink =
        SinkType::new("acked", "numbers over TCP, each frame acknowledged", acked::build).opens(acked::Options::opens);
    let read_back = move || stored.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let kit = Kit::new(sink, options).read_back(read_back).seed(7).rebuilds(100);
    kit.patience(Duration::from_secs(20)).run().assert_passed();
}
