//! The sink through the conformance kit: what it writes is read from its file.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod flat;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ebpf_process_core::testkit::conformance::{Kit, Number, Reading, Report, Row};
use ebpf_process_core::{
    BuildError, Claims, Ledger, Options, OptionsError, Settlement, Sink, SinkContext, SinkError, SinkPlugin, View,
};
use ebpf_process_sink_json::PLUGIN;
use flat::flat;
use parking_lot::Mutex;
use serde_json::Value;

/// A reader of the file that goes on where it stopped.
struct Lines {
    file: Option<BufReader<File>>,
    readings: Vec<Reading>,
}

impl Lines {
    fn read(&mut self, path: &Path) -> Vec<Reading> {
        if self.file.is_none() {
            self.file = File::open(path).ok().map(BufReader::new);
        }
        let mut line = String::new();
        while self.file.as_mut().is_some_and(|file| file.read_line(&mut line).expect("text") > 0) {
            assert!(line.ends_with('\n'), "lines are written as a whole: {line}");
            self.add(&serde_json::from_str(&line).expect("JSON"));
            line.clear();
        }
        self.readings.clone()
    }

    fn add(&mut self, line: &Value) {
        for sample in flat(line) {
            let name = sample["name"].as_str().expect("a name");
            let text = |part: &str| format!("{name}{part}{}", sample["labels"]);
            let value = &sample["value"];
            let mut push = |part: &str, value: &Value| self.readings.push(Reading::new(text(part), number(value)));
            if let Some(slots) = value["slots"].as_array() {
                push(".count", &value["count"]);
                push(".sum", &value["sum"]);
                for (slot, count) in slots.iter().enumerate() {
                    // The last slot of the kit's histograms is the 40th, and has no bound.
                    let bound = if slot == 40 { u64::MAX } else { (2 << slot) - 1 };
                    push(&format!(".le_{bound}"), count);
                }
            } else {
                push("", value);
            }
        }
    }
}

fn number(value: &Value) -> Number {
    value.as_u64().map_or_else(|| value.as_f64().expect("a number").into(), Number::from)
}

/// The sink with a mistake.
struct Mutant(fn(u64) -> bool);

struct MutantSink {
    sink: Box<dyn Sink>,
    ledger: Arc<Ledger>,
    writes: fn(u64) -> bool,
    views: u64,
}

impl SinkPlugin for Mutant {
    fn name(&self) -> &'static str {
        "mutant"
    }

    fn summary(&self) -> &'static str {
        "lines, but not all"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        PLUGIN.check(options)
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let ledger = Arc::clone(&context.ledger);
        Ok(Box::new(MutantSink { sink: PLUGIN.build(options, context)?, ledger, writes: self.0, views: 0 }))
    }
}

impl Sink for MutantSink {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.views += 1;
        if (self.writes)(self.views) {
            return self.sink.write(view);
        }
        if self.settles() == Settlement::BySink {
            self.ledger.written(view.len() as u64);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.sink.flush()
    }

    fn due(&self) -> Option<Instant> {
        self.sink.due()
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.sink.close()
    }

    fn settles(&self) -> Settlement {
        self.sink.settles()
    }
}

/// One at a time: the kit looks at the threads and the memory of its process.
static TURN: Mutex<()> = Mutex::new(());

fn run(plugin: impl SinkPlugin + 'static) -> Report {
    let _turn = TURN.lock();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("batches.json");
    let options = Options::from_value(BTreeMap::from([("path", path.display().to_string())]));
    let mut lines = Lines { file: None, readings: Vec::new() };
    Kit::new(plugin, options).read_back(move || lines.read(&path)).seed(7).run()
}

#[test]
fn the_sink_does_what_it_promises() {
    run(PLUGIN).assert_passed();
}

#[test]
fn the_sink_with_a_mistake_does_not() {
    let report = run(Mutant(|view| view % 10 != 0));
    assert_eq!(report.failed(), [Row::Gaps], "{report}");
}
