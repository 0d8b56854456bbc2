//! A chart's lines without its dimensions.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use crate::words;

/// The plugin field of every chart.
const PLUGIN: &str = "ebpf_process.plugin";

/// What a chart is, before it has dimensions.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The id behind `ebpf.`, a plain word.
    pub(crate) id: String,
    /// What charts of the same numbers have in common, behind `ebpf.`: the id of the first of them.
    pub(crate) context: String,
    pub(crate) title: String,
    pub(crate) units: String,
    pub(crate) family: String,
    /// `line` or `heatmap`.
    pub(crate) style: &'static str,
    pub(crate) priority: u32,
    /// The metric's area.
    pub(crate) module: String,
}

/// The lines that give a chart these labels.
pub(crate) fn labels<'a>(tags: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut labels = String::new();
    let mut keys: Vec<String> = Vec::new();
    for (key, value) in tags {
        // Cleaning may have made two keys equal, and netdata would keep one of them.
        let key = words::unique(words::key(key), |key| keys.iter().any(|known| known == key));
        // A label without its source crashes netdata 1.37; 2 says that a person set it.
        let _ = writeln!(labels, "CLABEL {} {} 2", words::quoted(&key), words::quoted(value));
        keys.push(key);
    }
    if !labels.is_empty() {
        labels.push_str("CLABEL_COMMIT\n");
    }
    labels
}

/// What netdata knows of a chart besides its dimensions.
#[derive(Debug)]
pub(crate) struct Head {
    id: String,
    /// The CHART line before and after its field of options.
    definition: (String, String),
    labels: String,
    /// Whether netdata knows of the chart.
    declared: bool,
    /// Time since boot at its last BEGIN.
    began: Option<Duration>,
}

impl Head {
    pub(crate) fn new(spec: &Spec, update_every: u64, labels: String) -> Self {
        let id = format!("ebpf.{}", spec.id);
        let head = format!(
            "CHART {id} '' {} {} {} ebpf.{} {} {} {update_every} '",
            words::title(&spec.title),
            words::quoted(&spec.units),
            words::quoted(&spec.family),
            spec.context,
            spec.style,
            spec.priority,
        );
        let tail = format!("' {PLUGIN} {}\n", words::id(&spec.module));
        Self { id, definition: (head, tail), labels, declared: false, began: None }
    }

    /// The id behind `ebpf.`.
    pub(crate) fn id(&self) -> &str {
        self.id.strip_prefix("ebpf.").unwrap_or(&self.id)
    }

    /// Says to which chart the dimensions belong whose lines follow. Those that netdata knows already it keeps.
    pub(crate) fn declare(&mut self, bytes: &mut Vec<u8>) {
        self.write_definition(bytes, "");
        if !std::mem::replace(&mut self.declared, true) {
            bytes.extend_from_slice(self.labels.as_bytes());
        }
    }

    /// Begins a block of values, each of which [starts a line](words::set).
    pub(crate) fn begin(&mut self, bytes: &mut Vec<u8>, boottime: Duration, digits: &mut itoa::Buffer) {
        bytes.extend_from_slice(b"BEGIN ");
        bytes.extend_from_slice(self.id.as_bytes());
        if let Some(began) = self.began.replace(boottime) {
            // Views may be dropped: what counts is the time since this chart's own last one.
            let elapsed = boottime.saturating_sub(began).as_micros().max(1);
            bytes.push(b' ');
            bytes.extend_from_slice(digits.format(elapsed).as_bytes());
        }
    }

    /// Ends a block of values.
    pub(crate) fn end(bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(b"\nEND\n");
    }

    /// Takes the chart from the dashboard, if it is there.
    pub(crate) fn retire(&self, bytes: &mut Vec<u8>) {
        if self.declared {
            self.write_definition(bytes, "obsolete");
        }
    }

    fn write_definition(&self, bytes: &mut Vec<u8>, options: &str) {
        // Writing to memory does not fail.
        let _ = write!(bytes, "{}{options}{}", self.definition.0, self.definition.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_netdata_refuses_are_cleaned_and_stay_apart() {
        let tags = [("rack", "7"), ("1", "a"), ("é", "b"), ("ü", "c")];
        let expected =
            "CLABEL 'rack' '7' 2\nCLABEL 'tag_1' 'a' 2\nCLABEL 'tag__' 'b' 2\nCLABEL 'tag___2' 'c' 2\nCLABEL_COMMIT\n";
        assert_eq!(labels(tags.into_iter()), expected);
        assert_eq!(labels(std::iter::empty()), "");
    }
}
