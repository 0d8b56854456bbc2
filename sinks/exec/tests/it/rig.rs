//! A sink with a program, and the batches that it is given.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::{Bench, Cell, context, offer, stop};
use ebpf_process_core::{
    Column, EntityKind, Ledger, Options, Selection, Sink, SinkErrorKind, SinkPlugin as _, SinkResult, Stop, Tally,
    Unit, View,
};
use ebpf_process_sink_exec::{FormContext, LineBatches, LineForm, LineFormat, PLUGIN};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A format of lines, beside those of the protocol.
pub(crate) static FORMATS: [LineFormat; 1] = [LineFormat { name: "plain", form: Plain::start }];

/// Writes a line for each row below one for its kind. No two views have the same lines.
#[derive(Debug)]
struct Plain {
    joins: bool,
    views: u32,
}

impl Plain {
    fn start(context: &FormContext) -> Box<dyn LineForm + Send> {
        Box::new(Self { joins: context.joins, views: 0 })
    }
}

impl LineForm for Plain {
    fn write(&mut self, view: &View<'_>, batches: &mut LineBatches) {
        self.views += 1;
        for kind in view.kinds() {
            batches.heading(format!("# {}, joins: {}", kind.kind().name(), self.joins).as_bytes());
            for row in kind.rows() {
                let labels: Vec<_> = row.labels().map(|(_, value)| value).collect();
                let values: Vec<_> = row.cells().map(|(_, value)| value.to_string()).collect();
                let line = format!("{} {} in {}\n", labels.join(","), values.join(","), self.views);
                batches.push(line.as_bytes(), u32::try_from(values.len()).expect("a few"));
            }
        }
    }
}

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_mins(1);

/// A sink, its ledger, and a folder for what its program leaves.
pub(crate) struct Rig {
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) ledger: Arc<Ledger>,
    stop: Stop,
    options: Value,
    pub(crate) folder: TempDir,
    bench: Bench,
    cells: Vec<Cell>,
    total: u64,
}

/// What every program here begins with: it says hello, reads lines and appends them to a file, and knows how to answer.
const PRELUDE: &str = r#"import json, os, signal, sys, time
def say(**words):
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()
def hello(**more):
    say(ebpf_process=[1], **{"format": "rows", **more})
log = open("log", "a")
def lines():
    for line in sys.stdin:
        message = json.loads(line)
        log.write(line)
        log.flush()
        yield message
def batches():
    for message in lines():
        if "batch" in message:
            yield message
def ok(message):
    say(batch=message["batch"], ok=True)
"#;

/// The options of a sink with a spool, in short times.
pub(crate) fn spooling(spool: &TempDir) -> Value {
    json!({
        "delivery": {"spool": spool.path().join("spool"), "retry_min": "1ms", "retry_max": "5ms"},
        "close_timeout": "100ms",
    })
}

impl Rig {
    /// With a Python program, in short times.
    pub(crate) fn python(script: &str) -> Self {
        Self::with(script, json!({}))
    }

    /// The same with further options.
    pub(crate) fn with(script: &str, more: Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("program");
        fs::write(&program, format!("#!/usr/bin/env python3\n{PRELUDE}{script}")).expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
        let options = json!({
            "program": [program], "directory": folder.path(), "environment": {"PATH": std::env::var("PATH").expect("a path")},
        });
        Self::of(folder, options, more)
    }

    /// Of a sink with these options.
    pub(crate) fn of(folder: TempDir, mut options: Value, more: Value) -> Self {
        let table = options.as_object_mut().expect("a table");
        table.entry("delivery").or_insert_with(|| json!({"retry_min": "1ms", "retry_max": "5ms"}));
        table.entry("start_timeout").or_insert_with(|| json!("30s"));
        let Value::Object(more) = more else { panic!("a table") };
        table.extend(more);
        let context = context("mine");
        let (ledger, stop) = (Arc::clone(&context.ledger), context.stop.clone());
        let sink = PLUGIN.with_formats(&FORMATS).build(&Options::from_value(&options), context).expect("a sink");
        let mut bench = Bench::new();
        let kind = EntityKind::new("process").keys(["pid", "comm"]);
        let column = |operation| Column::counter("vfs.calls", Unit::CALLS, "calls").labels([("operation", operation)]);
        let cells = (0..3)
            .flat_map(|row| ["read", "write"].map(|operation| (row, operation)))
            .map(|(row, operation)| bench.cell(&kind, &[&row.to_string(), "sh"], column(operation)))
            .collect();
        Self { sink, ledger, stop, options, folder, bench, cells, total: 0 }
    }

    /// Gives the sink a batch of six values.
    pub(crate) fn write(&mut self) -> SinkResult {
        self.total += 1;
        let (total, cells) = (self.total, &self.cells);
        let record = |recorder: &mut ebpf_process_core::Recorder| {
            for cell in cells {
                cell.counter(recorder, total);
            }
        };
        let (ledger, sink) = (&self.ledger, &mut self.sink);
        self.bench.tick(&Selection::default(), record, |view| {
            assert_eq!(view.len(), 6);
            offer(ledger, 6);
            sink.write(view)
        })?;
        self.sink.flush()
    }

    /// Ends the sink as a stop of the agent does.
    pub(crate) fn close(&mut self, grace: Duration) {
        stop(&self.stop, grace);
        self.sink.close().expect("an end");
        assert!(self.ledger.tally().balances());
    }

    /// The same, and another sink with the same options follows, with a ledger of its own.
    pub(crate) fn follow(mut self, grace: Duration) -> Self {
        self.close(grace);
        self.heir()
    }

    /// Its program answers the first of five batches alone, and all once there is a file `answers`: the next sink, which has
    /// the same spool, when that has sent the rest.
    pub(crate) fn stopped_until_it_answers(mut self) -> Self {
        self.write_all(5);
        self.until("the first is written", |tally| tally.written == 6);
        fs::write(self.path("answers"), "").expect("a file");
        let mut next = self.follow(Duration::from_millis(500));
        next.until("the rest is written", |tally| tally.written == 24);
        next
    }

    /// The time for the end begins.
    pub(crate) fn shorten(&self, grace: Duration) {
        stop(&self.stop, grace);
    }

    /// Another sink with the same options, and a ledger of its own.
    pub(crate) fn heir(self) -> Self {
        let Self { sink, folder, options, .. } = self;
        drop(sink);
        Self::of(folder, options, json!({}))
    }

    /// Gives it so many batches.
    pub(crate) fn write_all(&mut self, count: usize) {
        (0..count).for_each(|_| self.write().expect("it takes batches"));
    }

    /// Waits until the ledger says what is asked for, and has the sink do what is due meanwhile.
    pub(crate) fn until(&mut self, what: &str, is: impl Fn(&Tally) -> bool) {
        let start = Instant::now();
        while !self.ledger.read(&is) {
            assert!(start.elapsed() < LIMIT, "{what}: {:?}; {}", self.ledger.tally(), self.log());
            self.sink.flush().expect("it goes on");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Waits until all is settled, of which so much is written.
    pub(crate) fn written(&mut self, batches: u64) {
        self.until("all is written", |tally| tally.written == 6 * batches && tally.queued == 0);
        assert!(self.ledger.tally().balances());
    }

    /// What the program has left in a file of its folder.
    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        self.file("log")
    }

    /// The lines that the program got, of all its runs.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The batches among them: their numbers, and whether they were sent before.
    pub(crate) fn numbers(&self) -> Vec<(u64, bool)> {
        let number = |line: &Value| Some((line.get("batch")?.as_u64()?, line["resent"].as_bool()?));
        self.lines().iter().filter_map(number).collect()
    }

    /// The streams that they are of.
    pub(crate) fn streams(&self) -> BTreeSet<String> {
        let stream = |line: &Value| Some(line.get("stream")?.as_str().filter(|it| it.len() == 32)?.to_owned());
        self.lines().iter().filter_map(stream).collect()
    }

    /// Waits until the program has left so many lines in a file.
    pub(crate) fn wait_for_lines(&self, name: &str, count: usize) {
        wait_for(name, || self.file(name).lines().count() >= count);
    }

    /// Waits until the sink says that it is over.
    pub(crate) fn over(&mut self) -> String {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < LIMIT, "it goes on");
            match self.write() {
                Err(error) if error.kind() == SinkErrorKind::Closed => return error.to_string(),
                _ => std::thread::park_timeout(Duration::from_millis(5)),
            }
        }
    }
}

/// Waits until something is so.
pub(crate) fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < LIMIT, "it takes too long: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
