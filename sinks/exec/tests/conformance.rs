//! The sink through the conformance kit: a program keeps the lines that it gets in a file, and another one is behind a
//! socket. The tests are alone in their process, whose threads and memory the kit looks at.

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
use ebpf_process_core::testkit::conformance::{Kit, Number, Reading};
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
        let number = batch["batch"].as_u64().expect("a number");
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

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> Number {
    value.as_u64().map_or_else(|| value.as_f64().expect("a number").into(), Number::from)
}

/// One at a time: the kit looks at the threads and the memory of its process.
static TURN: Mutex<()> = Mutex::new(());

fn conforms(options: &Value, read_back: impl FnMut() -> Vec<Reading> + Send + 'static) {
    let _turn = TURN.lock();
    let kit = Kit::new(PLUGIN, Options::from_value(options)).read_back(read_back).seed(7);
    // Each sink of the check for growth has a program of its own. Only what is missing is waited for.
    kit.rebuilds(100).patience(Duration::from_secs(20)).run().assert_passed();
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
    conforms(&options, move || {
        while file.read_until(b'\n', &mut line).expect("a file that can be read") > 0 {
            // The rest of a line may still be on its way.
            if line.ends_with(b"\n") {
                stored.take(&line);
                line.clear();
            }
        }
        stored.readings.clone()
    });
}

/// Answers on one connection until it ends, by an error where the agent is gone.
fn serve(mut stream: UnixStream, stored: &Mutex<Stored>) -> io::Result<()> {
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
        let number = stored.lock().take(&line);
        writeln!(stream, "{{\"batch\":{number},\"ok\":true}}")?;
    }
}

#[test]
fn the_sink_does_what_it_promises_to_a_program_behind_a_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a listener");
    let stored = Arc::new(Mutex::new(Stored::default()));
    let at_receiver = Arc::clone(&stored);
    let accept = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let stored = Arc::clone(&at_receiver);
            thread::Builder::new().spawn(move || drop(serve(stream, &stored))).expect("a thread");
        }
    };
    thread::Builder::new().spawn(accept).expect("a thread");
    let options = json!({"address": format!("unix:{}", path.display())});
    conforms(&options, move || stored.lock().readings.clone());
}
