//! Whatever a program says, in place of a hello and of answers, the book balances, and nothing counts as written or rejected
//! that it did not answer for.
#![no_main]

mod program;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ebpf_process::registry;
use ebpf_process_core::testkit::{Bench, context, offer, stop};
use ebpf_process_core::{Column, EntityKind, Options, Selection, Unit};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const SAMPLES: u64 = 4;

/// What the program says next.
static WORDS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// How many programs have said all of it.
static SAID: AtomicUsize = AtomicUsize::new(0);

// The first line in place of a hello, the rest once there is a batch.
fuzz_target!(|words: &[u8]| {
    let said = SAID.load(Ordering::SeqCst);
    WORDS.lock().unwrap_or_else(PoisonError::into_inner).splice(.., words.iter().copied());
    // One program is enough.
    let options = json!({
        "address": format!("unix:{}", program::listening("program", speak).display()), "start_timeout": "50ms", "close_timeout": "50ms",
        "delivery": {"retry_min": "1h", "retry_max": "1h"},
    });
    let context = context("store");
    let (ledger, end) = (context.ledger.clone(), context.stop.clone());
    let registry = registry();
    let plugin = registry.find_sink("exec").expect("the sink");
    let mut sink = plugin.build(&Options::from_value(options), context).expect("a sink");
    let mut bench = Bench::new();
    let kind = EntityKind::new("process").keys(["pid"]);
    let calls = |operation| Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", operation)]);
    let cells = [("1", "read"), ("1", "write"), ("2", "read"), ("3", "read")];
    let cells = cells.map(|(pid, operation)| bench.cell(&kind, &[pid], calls(operation)));
    offer(&ledger, SAMPLES);
    let record = |recorder: &mut ebpf_process_core::Recorder| cells.iter().for_each(|cell| cell.counter(recorder, 1));
    // A program that says no hello gets nothing.
    let _ = bench.tick(&Selection::default(), record, |view| sink.write(view));
    let _ = sink.flush();
    while SAID.load(Ordering::SeqCst) == said {
        thread::yield_now();
    }
    stop(&end, Duration::from_millis(50));
    sink.close().expect("an end");
    drop(sink);
    let tally = ledger.tally();
    assert!(tally.balances() && tally.offered == SAMPLES, "{tally:?}");
    let answers = words.iter().filter(|byte| **byte == b'\n').count() > 1;
    assert!(answers || tally.written + tally.rejected_total() == 0, "{tally:?}");
});

/// Says the words to an agent, and hears it out.
fn speak(mut agent: UnixStream) -> io::Result<()> {
    let words = WORDS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let hello = words.iter().position(|byte| *byte == b'\n').map_or(words.len(), |end| end + 1);
    let (hello, answers) = words.split_at(hello);
    let said = agent.write_all(hello).and_then(|()| {
        let mut heard = BufReader::new(agent.try_clone()?);
        if !answers.is_empty() {
            // What it starts with, or why not; then a batch, or its end.
            for _ in 0..2 {
                heard.read_until(b'\n', &mut Vec::new())?;
            }
        }
        agent.write_all(answers)
    });
    let _ = agent.shutdown(Shutdown::Write);
    let heard = agent.read_to_end(&mut Vec::new());
    SAID.fetch_add(1, Ordering::SeqCst);
    said.and(heard).map(drop)
}
