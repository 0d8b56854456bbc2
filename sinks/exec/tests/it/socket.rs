//! A program behind a Unix socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use ebpf_process_core::{Access, Options, Severity, SinkPlugin as _, TrialContext};
use ebpf_process_sink_exec::PLUGIN;
use serde_json::{Value, json};

use crate::rig::Rig;

/// Says hello on the next connection.
fn greet(listener: &UnixListener) -> (UnixStream, BufReader<UnixStream>) {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.write_all(b"{\"ebpf_process\": [1], \"format\": \"rows\", \"window\": 3}\n").expect("it is sent");
    let mut reader = BufReader::new(stream.try_clone().expect("the same"));
    assert_eq!(line(&mut reader).expect("a start")["start"], 1);
    (stream, reader)
}

fn line(reader: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    serde_json::from_str(&line).ok()
}

fn number(line: Option<Value>) -> (u64, bool) {
    let line = line.expect("a batch");
    (line["batch"].as_u64().expect("a number"), line["resent"].as_bool().expect("a truth"))
}

#[test]
fn a_connection_that_is_lost_is_made_anew_and_nothing_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a listener");
    let address = format!("unix:{}", path.display());
    let mut rig = Rig::of(folder, json!({"address": address}), json!({}));
    let serve = move || {
        let (mut stream, mut reader) = greet(&listener);
        assert_eq!([1, 2, 3].map(|_| number(line(&mut reader))), [(1, false), (2, false), (3, false)]);
        stream.write_all(b"{\"batch\": 2, \"ok\": true}\n").expect("it is sent");
        drop((stream, reader));
        let (mut stream, mut reader) = greet(&listener);
        for expected in [1, 3] {
            assert_eq!(number(line(&mut reader)), (expected, true));
            writeln!(stream, "{{\"batch\": {expected}, \"ok\": true}}").expect("it is sent");
        }
        assert_eq!(line(&mut reader), None, "the end of input");
    };
    let served = std::thread::Builder::new().name("served".to_owned()).spawn(serve).expect("a thread");
    rig.write_all(3);
    rig.written(3);
    rig.close(Duration::from_secs(20));
    served.join().expect("no panic");
}

#[test]
fn what_is_tried_out_leaves_no_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let options = Options::from_value(json!({"address": format!("unix:{}", path.display())}));
    let context = TrialContext::new("mine", "host", Duration::from_secs(1));
    let severity = |options: &Options| PLUGIN.try_out(options, &context)[0].severity;
    assert_eq!(severity(&options), Severity::Error);
    let listener = UnixListener::bind(&path).expect("a listener");
    assert_eq!(severity(&options), Severity::Fine);
    listener.set_nonblocking(true).expect("a mode");
    assert!(listener.accept().is_err(), "nobody has connected");
    assert_eq!(PLUGIN.opens(&options), [Access::Connect(path)]);
    let program = |path| Options::from_value(json!({"program": [path]}));
    assert_eq!(severity(&program("/bin/sh")), Severity::Fine);
    assert_eq!(severity(&program("/no/such/program")), Severity::Error);
}
