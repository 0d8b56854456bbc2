//! A program of another name and version that has the sink says its own version. The test is alone in its process, whose
//! identity it sets.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::{Bench, context, offer};
use ebpf_process_core::{Column, Identity, Options, Selection, SinkPlugin as _, Unit};
use ebpf_process_sink_exec::PLUGIN;
use serde_json::{Value, json};

#[test]
fn the_agent_at_the_start_is_the_program_that_sends() {
    assert!(Identity::new("my-agent", "3.1").expect("a name").take(), "nobody has asked before");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a listener");
    let serve = move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"{\"ebpf_process\":[1],\"format\":\"rows\"}\n").expect("it is sent");
        let mut lines = BufReader::new(stream.try_clone().expect("the same")).lines();
        let start = lines.next().expect("a line").expect("text");
        lines.next().expect("a batch").expect("text");
        stream.write_all(b"{\"batch\":1,\"ok\":true}\n").expect("it is sent");
        serde_json::from_str::<Value>(&start).expect("JSON")
    };
    let served = thread::Builder::new().name("served".to_owned()).spawn(serve).expect("a thread");
    let context = context("store");
    let ledger = Arc::clone(&context.ledger);
    let options = Options::from_value(json!({"address": format!("unix:{}", path.display())}));
    let mut sink = PLUGIN.build(&options, context).expect("a sink");
    let mut bench = Bench::new();
    let calls = bench.host(Column::counter("vfs.calls", Unit::CALLS, "Calls"));
    offer(&ledger, 1);
    bench
        .tick(&Selection::default(), |recorder| calls.counter(recorder, 1), |view| sink.write(view))
        .expect("it takes it");
    let start = Instant::now();
    while ledger.read(|tally| tally.queued > 0) {
        assert!(start.elapsed() < Duration::from_mins(1), "no answer: {:?}", ledger.tally());
        sink.flush().expect("it goes on");
        thread::park_timeout(Duration::from_millis(1));
    }
    assert_eq!(served.join().expect("no panic")["agent"], "3.1");
    sink.close().expect("an end");
}
