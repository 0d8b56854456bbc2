//! The protocol of the sink `exec`, as a program behind a Unix socket speaks it.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ebpf_process_core::testkit::conformance::{Number, Peer};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::shared::Shared;
use super::stored::{Point, Says};

/// What is answered by whoever refuses, one each time.
const REFUSED: [&str; 2] = [r#""retry_after":0.01,"reason":"made up""#, r#""rejected":true,"reason":"made up""#];

/// How many there are.
pub(super) const REFUSALS: u32 = 2;

/// Whoever is slow answers so late.
const PAUSE: Duration = Duration::from_millis(100);

/// A longer line is none.
const LONGEST: u64 = 256 << 20;

/// A folder that goes with its owner, also with what is in it.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is two empty names among others that are temporary.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Listens for as long as the process lives, at a path in a folder of its own.
pub(super) fn listen(shared: &Shared) -> io::Result<(String, Folder)> {
    let path = std::env::temp_dir().join(format!("ebpf-process-sink-test-{}", process::id()));
    DirBuilder::new().mode(0o700).create(&path)?;
    let folder = Folder(path);
    let path = folder.0.join("socket");
    let listener = UnixListener::bind(&path)?;
    let (shared, batches) = (shared.clone(), Arc::<Mutex<HashSet<(String, u64)>>>::default());
    let accept = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (shared, batches) = (shared.clone(), Arc::clone(&batches));
            // Without a thread the connection is closed, as by a receiver that is away.
            let _ = thread::Builder::new().name("receiver".to_owned()).spawn(move || serve(stream, &shared, &batches));
        }
    };
    thread::Builder::new().name("receiver".to_owned()).spawn(accept)?;
    let path = path.into_os_string().into_string();
    Ok((path.map_err(|path| io::Error::other(format!("{} is no text", path.display())))?, folder))
}

/// Answers on one connection until it ends, by an error where the agent is gone. A batch that comes again is the one that
/// is there.
fn serve(mut stream: UnixStream, shared: &Shared, batches: &Mutex<HashSet<(String, u64)>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    stream.write_all(b"{\"ebpf_process\":[1],\"format\":\"rows\",\"window\":4}\n")?;
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok(());
        }
        let message: Map<String, Value> = match serde_json::from_slice(&line) {
            Ok(message) => message,
            Err(error) => {
                shared.stored.lock().complain(&format!("no JSON object in a line: {error}"));
                return Ok(());
            }
        };
        let Some(number) = message.get("batch") else { continue };
        match shared.steering.ask() {
            Peer::Slow => thread::park_timeout(PAUSE),
            Peer::Refusing => {
                writeln!(stream, "{{\"batch\":{number},{}}}", shared.refusal(&REFUSED))?;
                continue;
            }
            Peer::Away => return Ok(()),
            _ => {}
        }
        match Batch::deserialize(Value::Object(message.clone())).map_err(|error| error.to_string()).and_then(points) {
            Ok((batch, points)) => {
                if batches.lock().insert(batch) {
                    shared.stored.lock().take(points);
                }
                writeln!(stream, "{{\"batch\":{number},\"ok\":true}}")?;
            }
            Err(problem) => {
                shared.stored.lock().complain(&format!("no batch of rows: {problem}"));
                writeln!(stream, "{{\"batch\":{number},\"rejected\":true,\"reason\":\"it is no batch of rows\"}}")?;
            }
        }
    }
}

/// A batch of rows, as far as it is needed here.
#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "batch")]
    number: u64,
    stream: String,
    kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    columns: Vec<Column>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    labels: Map<String, Value>,
    #[serde(default)]
    bounds: Vec<Option<Value>>,
}

#[derive(Deserialize)]
struct Row {
    labels: Vec<String>,
    values: Vec<Option<Cell>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Cell {
    Histogram { count: Value, sum: Value, slots: Vec<Value> },
    Number(Value),
}

/// Which batch it is, and its numbers.
fn points(batch: Batch) -> Result<((String, u64), Vec<Point>), String> {
    let mut points = Vec::new();
    for kind in batch.kinds {
        for row in kind.rows {
            if row.values.len() != kind.columns.len() {
                return Err(format!("{} values for {} columns", row.values.len(), kind.columns.len()));
            }
            let labels = Value::from(row.labels);
            for (column, cell) in kind.columns.iter().zip(row.values) {
                let mut push = |part: &str, value: &Value| -> Result<(), String> {
                    let Column { name, labels: own, .. } = column;
                    let series = format!("{name}{part}{}{labels}", Value::from(own.clone()));
                    points.push(Point::new(series, Says::Is(None, number(value)?)));
                    Ok(())
                };
                match cell {
                    None => {}
                    Some(Cell::Number(value)) => push("", &value)?,
                    Some(Cell::Histogram { count, sum, slots }) => {
                        push(".count", &count)?;
                        push(".sum", &sum)?;
                        for (bound, slot) in column.bounds.iter().zip(&slots) {
                            let bound = bound.as_ref().map_or_else(|| "+Inf".to_owned(), Value::to_string);
                            push(&format!(".le_{bound}"), slot)?;
                        }
                    }
                }
            }
        }
    }
    Ok(((batch.stream, batch.number), points))
}

fn number(value: &Value) -> Result<Number, String> {
    Number::parse(&value.to_string()).ok_or_else(|| format!("{value} is no number"))
}
