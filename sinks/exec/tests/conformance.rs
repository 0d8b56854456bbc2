//! The sink through the conformance kit: a program keeps the lines that it gets in a file, and another one, behind a socket,
//! behaves as the kit says. The tests are alone in their process, whose threads and memory the kit looks at.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ebpf_process_core::Options;
use ebpf_process_core::testkit::conformance::{Kit, Number, Outcome, Peer, Reading, Steering};
use ebpf_process_sink_exec::PLUGIN;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// What a program has stored: a batch that comes again is the one that it has.
#[derive(Default)]
struct Stored {
    batches: HashSet<(String, u64)>,
    readings: Vec<Reading>,
}

impl Stored {
    /// Takes a batch, and says which one it is.
    fn take(&mut self, line: &[u8]) -> u64 {
        let batch: Value = serde_json::from_slice(line).expect("JSON");
        let number = number_of(&batch);
        if self.batches.insert((batch["stream"].as_str().expect("a stream").to_owned(), number)) {
            for kind in list(&batch["kinds"]) {
                for row in list(&kind["rows"]) {
                    let cells = list(&kind["columns"]).iter().zip(list(&row["values"]));
                    cells.for_each(|(column, value)| self.add(column, &row["labels"], value));
                }
            }
        }
        number
    }

    fn add(&mut self, column: &Value, labels: &Value, value: &Value) {
        let name = column["name"].as_str().expect("a name");
        let text = |part: &str| format!("{name}{part}{}{labels}", column["labels"]);
        let mut push = |part: &str, value: &Value| self.readings.push(Reading::new(text(part), number(value)));
        if value.is_object() {
            push(".count", &value["count"]);
            push(".sum", &value["sum"]);
            for (bound, count) in list(&column["bounds"]).iter().zip(list(&value["slots"])) {
                push(&format!(".le_{}", bound.as_u64().unwrap_or(u64::MAX)), count);
            }
        } else if !value.is_null() {
            push("", value);
        }
    }
}

fn number_of(batch: &Value) -> u64 {
    batch["batch"].as_u64().expect("a number")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> Number {
    value.as_u64().map_or_else(|| value.as_f64().expect("a number").into(), Number::from)
}

/// One at a time: the kit looks at the threads and the memory of its process.
static TURN: Mutex<()> = Mutex::new(());

fn kit(options: &Value, read_back: impl FnMut() -> Vec<Reading> + Send + 'static) -> Kit {
    let kit = Kit::new(PLUGIN, Options::from_value(options)).read_back(read_back).seed(7);
    // Each sink of the check for growth has a program of its own. Only what is missing is waited for.
    kit.rebuilds(100).patience(Duration::from_secs(20))
}

/// Keeps lines, each written as a whole: the programs of two sinks may have the file at one time.
const PROGRAM: &str = r#"
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
print('{"ebpf_process":[1],"format":"rows","window":4}', flush=True)
sys.stdin.buffer.readline()
for line in sys.stdin.buffer:
    os.write(file, line)
    number = line[len('{"batch":'):line.index(b",")].decode()
    print('{"batch":%s,"ok":true}' % number, flush=True)
"#;

/// Python itself: what is first in the path may be a script that looks for it, and takes its time.
fn python() -> PathBuf {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("Python");
    String::from_utf8(output.stdout).expect("a path").trim().into()
}

#[test]
fn the_sink_does_what_it_promises_to_a_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let [script, lines] = ["program.py", "lines"].map(|name| folder.path().join(name));
    fs::write(&script, PROGRAM).expect("a file");
    let file = File::create(&lines).and_then(|_| File::open(&lines)).expect("a file");
    let (mut file, mut line, mut stored) = (BufReader::new(file), Vec::new(), Stored::default());
    let options = json!({"program": [python(), "-S", script, lines]});
    let read_back = move || {
        while file.read_until(b'\n', &mut line).expect("a file that can be read") > 0 {
            // The rest of a line may still be on its way.
            if line.ends_with(b"\n") {
                stored.take(&line);
                line.clear();
            }
        }
        stored.readings.clone()
    };
    let _turn = TURN.lock();
    kit(&options, read_back).run().assert_passed();
}

/// Answers on one connection until it ends, by an error where the agent is gone. A batch is refused by `refusal`.
fn serve(mut stream: UnixStream, stored: &Mutex<Stored>, steering: &Steering, refusal: &str) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    stream.write_all(b"{\"ebpf_process\":[1],\"format\":\"rows\",\"window\":4}\n")?;
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok(());
        }
        match steering.ask() {
            Peer::Slow => thread::park_timeout(Duration::from_millis(100)),
            Peer::Refusing => {
                let number = number_of(&serde_json::from_slice(&line)?);
                writeln!(stream, "{{\"batch\":{number},{refusal}}}")?;
                continue;
            }
            Peer::Away => return Ok(()),
            _ => {}
        }
        let number = stored.lock().take(&line);
        writeln!(stream, "{{\"batch\":{number},\"ok\":true}}")?;
    }
}

/// The sink with a program behind a socket.
fn conforms(refusal: &'static str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a listener");
    let (stored, steering) = (Arc::new(Mutex::new(Stored::default())), Steering::default());
    let (at_receiver, asked) = (Arc::clone(&stored), steering.clone());
    let accept = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (stored, steering) = (Arc::clone(&at_receiver), asked.clone());
            let answer = move || drop(serve(stream, &stored, &steering, refusal));
            thread::Builder::new().spawn(answer).expect("a thread");
        }
    };
    thread::Builder::new().spawn(accept).expect("a thread");
    // What was refused is soon sent again: the next behaviour meets it.
    let delivery = json!({"retry_min": "10ms", "retry_max": "100ms"});
    let options = json!({"address": format!("unix:{}", path.display()), "delivery": delivery});
    let _turn = TURN.lock();
    let report = kit(&options, move || stored.lock().readings.clone()).peer(steering.steer()).run();
    report.assert_passed();
    assert!(report.findings().iter().all(|finding| finding.outcome == Outcome::Passed), "{report}");
}

#[test]
fn the_sink_does_what_it_promises_to_a_program_behind_a_socket() {
    conforms(r#""retry_after":0.01"#);
}

#[test]
fn the_sink_does_what_it_promises_to_a_program_that_rejects() {
    conforms(r#""rejected":true,"reason":"made up""#);
}
