//! Whatever a server answers, in each version's interface, the book balances, and nothing counts as
//! written that no reply said so of.
#![no_main]

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use ebpf_process_core::testkit::{Bench, context, offer};
use ebpf_process_core::{Column, Options, Selection, SinkPlugin as _, Unit};
use ebpf_process_sink_influx::PLUGIN;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const SAMPLES: u64 = 3;

/// What the server answers next.
static REPLY: Mutex<Vec<u8>> = Mutex::new(Vec::new());

// The version as a digit, then the reply.
fuzz_target!(|bytes: &[u8]| {
    let Some((version, reply)) = bytes.split_first() else { return };
    REPLY.lock().unwrap_or_else(PoisonError::into_inner).splice(.., reply.iter().copied());
    let url = format!("unix://{}", server().display());
    let options = match version % 3 {
        1 => json!({"url": url, "version": 1, "database": "d"}),
        2 => json!({"url": url, "version": 2, "org": "o", "bucket": "b"}),
        _ => json!({"url": url, "version": 3, "database": "d"}),
    };
    let context = context("db");
    let ledger = context.ledger.clone();
    let mut sink = PLUGIN.build(&Options::from_value(options), context).expect("a sink");
    let column = |(name, operation)| Column::counter(name, Unit::CALLS, "Calls").labels([("operation", operation)]);
    let mut bench = Bench::new();
    // A line of one sample and one of two.
    let cells = [("vfs.calls", "open"), ("vfs.calls", "read"), ("vfs.bytes", "read")];
    let cells = cells.map(|cell| bench.host(column(cell)));
    offer(&ledger, SAMPLES);
    let record = |recorder: &mut ebpf_process_core::Recorder| cells.iter().for_each(|cell| cell.counter(recorder, 1));
    bench.tick(&Selection::default(), record, |view| sink.write(view)).expect("room");
    // Sends it now, in pieces if the reply asks for that, and gives up what is left.
    sink.close().expect("an end");
    let tally = ledger.tally();
    assert!(tally.balances() && tally.queued == 0, "{tally:?}");
    let taken = [&b"HTTP/1.0 2"[..], b"HTTP/1.1 2", b"hinted handoff"];
    let is_taken = taken.iter().any(|words| reply.windows(words.len()).any(|window| window == *words));
    assert!(is_taken || tally.written < SAMPLES, "{tally:?}");
});

/// Starts the server with the first input.
fn server() -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("fuzz-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).expect("a socket");
        let serve = move || listener.incoming().flatten().for_each(|client| drop(answer(client)));
        thread::Builder::new().spawn(serve).expect("a thread");
        path
    })
}

/// Says the reply, and reads until the client is gone: what it sent would cut the reply otherwise.
fn answer(mut client: std::os::unix::net::UnixStream) -> io::Result<()> {
    let reply = REPLY.lock().unwrap_or_else(PoisonError::into_inner).clone();
    client.write_all(&reply)?;
    client.shutdown(Shutdown::Write)?;
    client.read_to_end(&mut Vec::new()).map(drop)
}
