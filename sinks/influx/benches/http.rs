//! What a value costs out to the wire: encoded, packed, sent by HTTP over loopback, acknowledged.
//!
//! `cargo bench -p ebpf-process-sink-influx --bench http`. The time of the sink's thread alone is on the clock, the
//! kernel's for its system calls included; a server that reads everything has a thread of its own.

#![expect(clippy::print_stdout, reason = "what it finds is for a person at a terminal")]
#![expect(clippy::expect_used, reason = "a bench's own mistake should stop it")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ebpf_process_core::testkit::{context, cost, offer};
use ebpf_process_core::{Options, SinkPlugin as _};
use ebpf_process_sink_influx::PLUGIN;
use rustix::time::{ClockId, clock_gettime};

const TAKEN: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

fn main() {
    for (name, more) in [("one line per row", ("lines", "per-row")), ("one per value", ("lines", "per-value"))] {
        for (shape, mut source) in [("of the host", cost::Source::host()), ("in rows", cost::Source::rows())] {
            for gzip in [false, true] {
                let url = serve();
                let text = BTreeMap::from([("url", url.as_str()), ("database", "db"), more]);
                let options = Options::from_value(Written { text, gzip });
                let context = context("db");
                let ledger = Arc::clone(&context.ledger);
                let mut sink = PLUGIN.build(&options, context).expect("a sink");
                let times = cost::Times::of(|| {
                    let mut spent = Duration::ZERO;
                    source.time(
                        || (),
                        |view| {
                            offer(&ledger, view.len() as u64);
                            let before = clock_gettime(ClockId::ThreadCPUTime);
                            sink.write(view).expect("a write");
                            while ledger.read(|tally| tally.queued > 0) {
                                sink.flush().expect("a flush");
                            }
                            let after = clock_gettime(ClockId::ThreadCPUTime);
                            spent = Duration::try_from(after - before).expect("a time");
                        },
                    );
                    spent
                });
                let tally = ledger.tally();
                assert_eq!(tally.offered, tally.written, "{tally:?}");
                println!(
                    "influx by HTTP, {} values {shape}, {name}, {}: {:.1} ns of CPU per value at best ({:.1} half the time)",
                    cost::CELLS,
                    if gzip { "compressed" } else { "plain" },
                    times.best(cost::CELLS),
                    times.median(cost::CELLS)
                );
            }
        }
    }
}

/// The options, and the only one that is no text.
#[derive(serde::Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    text: BTreeMap<&'a str, &'a str>,
    gzip: bool,
}

/// A server that takes everything.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut reader = BufReader::new(stream);
        let mut body = Vec::new();
        loop {
            let (mut length, mut line) = (0, String::new());
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if let Some(given) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = given.trim().parse().expect("a length");
                }
            }
            body.resize(length, 0);
            reader.read_exact(&mut body).expect("a body");
            reader.get_mut().write_all(TAKEN).expect("a client");
        }
    };
    thread::Builder::new().spawn(answer).expect("a thread");
    url
}
