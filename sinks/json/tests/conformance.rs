//! The sink through the conformance kit: what it writes is read from its file.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod flat;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use ebpf_process_core::Options;
use ebpf_process_core::testkit::conformance::{Kit, Number, Reading};
use ebpf_process_sink_json::PLUGIN;
use flat::flat;
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

#[test]
fn the_sink_does_what_it_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("batches.json");
    let options = Options::from_value(BTreeMap::from([("path", path.display().to_string())]));
    let mut lines = Lines { file: None, readings: Vec::new() };
    let report = Kit::new(PLUGIN, options).read_back(move || lines.read(&path)).seed(7).run();
    report.assert_passed();
}
