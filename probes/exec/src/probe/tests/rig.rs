//! A probe with a program, and the batches that it fills.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::Bench;
use ebpf_process_core::{Options, Probe as _, ProbeContext, ProbeErrorKind, Recorder, Selection, Value as Shown, View};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::options::Settings;
use crate::probe::ExecProbe;
use crate::shared::Standing;

/// Far more than anything here takes.
pub(super) const LIMIT: Duration = Duration::from_mins(1);

/// A probe, and a folder for what its program leaves.
pub(super) struct Rig {
    pub(super) probe: ExecProbe,
    pub(super) bench: Bench,
    pub(super) folder: TempDir,
}

/// What every Python program here begins with.
const PRELUDE: &str = r#"import json, os, signal, sys, time
def say(**words):
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()
def hello(*columns, **more):
    columns = [{"name": name, "type": kind} for name, kind in columns]
    say(**{"ebpf_process": [1], "probe": "own", "kind": "thing", "keys": ["name"], "columns": columns, **more})
log = open("log", "a")
def questions():
    for line in sys.stdin:
        log.write(line)
        log.flush()
        yield json.loads(line)["tick"]
def answer(tick, *rows):
    say(tick=tick, rows=[{"labels": [name], "values": list(values)} for name, *values in rows])
"#;

/// What came of one look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The batch, a line for each value.
    Batch(Vec<String>),
    Skipped(String),
    Closed(String),
}

impl Rig {
    /// With a Python program, in short times.
    pub(super) fn python(script: &str, more: Value) -> Self {
        Self::program(&format!("#!/usr/bin/env python3\n{PRELUDE}{script}"), more)
    }

    /// With a program, in short times.
    pub(super) fn program(text: &str, more: Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("program");
        fs::write(&program, text).expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
        let options = json!({
            "program": [program], "directory": folder.path(), "environment": {"PATH": std::env::var("PATH").expect("a path")},
        });
        Self::of(folder, options, more)
    }

    /// Of a probe with these options.
    pub(super) fn of(folder: TempDir, mut options: Value, more: Value) -> Self {
        let table = options.as_object_mut().expect("a table");
        for (key, value) in
            [("retry_min", "1ms"), ("retry_max", "5ms"), ("start_timeout", "30s"), ("reply_timeout", "30s")]
        {
            table.insert(key.to_owned(), json!(value));
        }
        let Value::Object(more) = more else { panic!("a table") };
        table.extend(more);
        let (settings, target) = Settings::read(&Options::from_value(&options)).expect("right options");
        let mut bench = Bench::new();
        let context = ProbeContext::new("own", bench.recorder(), Duration::from_secs(1));
        let opener = Arc::clone(&context.opener);
        Self { probe: ExecProbe::new("own", settings, target, opener), bench, folder }
    }

    /// One tick, now.
    pub(super) fn look(&mut self) -> Look {
        let mut outcome = Ok(());
        let probe = &mut self.probe;
        let record = |recorder: &mut Recorder| outcome = probe.collect(recorder);
        let shown = self.bench.tick(&Selection::default(), record, shown);
        match outcome {
            Ok(()) => Look::Batch(shown),
            Err(error) if error.kind() == ProbeErrorKind::Skipped => Look::Skipped(error.source().to_string()),
            Err(error) if error.kind() == ProbeErrorKind::Closed => Look::Closed(error.source().to_string()),
            Err(error) => panic!("{error}"),
        }
    }

    /// One tick, as soon as there is an answer for it.
    pub(super) fn batch(&mut self) -> Vec<String> {
        if self.probe.talker.is_none() {
            // It is asked for the first time. Who writes by its own clock may have answered by then.
            match self.look() {
                Look::Batch(shown) => return shown,
                Look::Skipped(_) => {}
                Look::Closed(reason) => panic!("{reason}"),
            }
        }
        self.wait_for_answer();
        match self.look() {
            Look::Batch(shown) => shown,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until there is an answer that was not taken.
    pub(super) fn wait_for_answer(&self) {
        let talker = self.probe.talker.as_ref().expect("it is asked");
        wait_for("an answer", || talker.shared().is_untaken());
    }

    /// Waits until the program fares like this.
    pub(super) fn until(&self, what: &str, is: impl Fn(&Standing) -> bool) {
        let talker = self.probe.talker.as_ref().expect("it is asked");
        wait_for(what, || is(&talker.shared().standing()));
    }

    /// Looks until there is a batch.
    pub(super) fn until_batch(&mut self) {
        wait_for("a batch", || {
            // Who is asked more often than it answers is late for ever.
            std::thread::park_timeout(Duration::from_millis(5));
            matches!(self.look(), Look::Batch(_))
        });
    }

    /// The end of the probe, by itself: why.
    pub(super) fn closed(&mut self) -> String {
        let mut why = String::new();
        wait_for("the end", || match self.look() {
            Look::Closed(reason) => {
                why = reason;
                true
            }
            _ => false,
        });
        why
    }

    /// What the program has left in a file of its folder.
    pub(super) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Says something to the program, by a file.
    pub(super) fn tell(&self, name: &str) {
        fs::write(self.path(name), "").expect("a file");
    }

    /// Waits until the program has left so many lines in a file.
    pub(super) fn wait_for_lines(&self, name: &str, count: usize) {
        wait_for(name, || self.file(name).lines().count() >= count);
    }
}

/// Waits until something is so.
pub(super) fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < LIMIT, "it takes too long: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// What a view has: `name labels value`, with `!` behind the labels of a row that ends.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "a view comes as a sink gets it")]
fn shown(view: &View<'_>) -> Vec<String> {
    let mut lines: Vec<String> = view
        .samples()
        .map(|sample| {
            let value = match sample.value() {
                Shown::Histogram(histogram) => {
                    format!("{}..{:?} of {}", histogram.first(), histogram.counts(), histogram.sum())
                }
                value => value.to_string(),
            };
            let end = if sample.row().is_final() { "!" } else { "" };
            format!("{} {}{end} {value}", sample.name(), sample.labels())
        })
        .collect();
    lines.sort_unstable();
    lines
}
