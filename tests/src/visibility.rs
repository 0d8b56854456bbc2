//! Which operation moves which counter, by layer: one table for the tests and for `docs/metrics.md`.
//!
//! An operation is one thing a process can do (`workload/` does it); its effects are what one of them adds
//! to each metric, once for a counter at the system call and once for one in the kernel function. **Every metric that
//! is not named stays where it is**: a row promises that too. The rows of a
//! probe are in its file below [`rows`](crate::rows); [`measure`](mod@measure) puts them to the test.

pub mod measure;

use crate::known::Layer;
pub use crate::known::{Effect, Group, Need, Operation};
use crate::rows::ROWS;
use std::fmt::Write as _;

/// All rows, of every probe.
pub fn groups() -> impl Iterator<Item = &'static Group> {
    ROWS.iter().flat_map(|rows| rows.groups)
}

/// The table of `docs/metrics.md`: a line per operation and metric that it should move.
pub fn markdown() -> String {
    let mut text = String::from("| operation | counter | at the system call | in the kernel |\n|---|---|---|---|\n");
    for operation in groups().flat_map(|group| group.operations) {
        for effect in operation.effects.iter().filter(|effect| !is_detail(operation, effect)) {
            let label = if effect.label.is_empty() { String::new() } else { format!(" {}", effect.label) };
            let [syscall, kernel] = [Layer::Syscall, Layer::Kernel].map(|layer| cell(operation, effect, layer));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {} | `{}`{label} | {syscall} | {kernel} |", operation.text, effect.metric);
        }
    }
    text
}

/// Errors and bytes are told by the line of the calls they belong to.
fn is_detail(operation: &Operation, effect: &Effect) -> bool {
    operation.effects.iter().any(|calls| what(calls) == Some("calls") && belongs(effect, calls))
}

/// The last part of a metric's name.
fn what(effect: &Effect) -> Option<&str> {
    effect.metric.split('.').next_back()
}

fn belongs(detail: &Effect, calls: &Effect) -> bool {
    let area = |effect: &Effect| effect.metric.split('.').next();
    detail.metric != calls.metric && detail.label == calls.label && area(detail) == area(calls)
}

fn cell(operation: &Operation, effect: &Effect, layer: Layer) -> String {
    let failed = operation
        .effects
        .iter()
        .any(|detail| what(detail) == Some("errors") && belongs(detail, effect) && detail.at(layer) > 0);
    let seen = match effect.at(layer) {
        0 => "not seen".to_owned(),
        1 => "seen".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    };
    let interrupted = operation
        .effects
        .iter()
        .any(|detail| what(detail) == Some("interrupted") && belongs(detail, effect) && detail.at(layer) > 0);
    match (failed, interrupted) {
        (true, _) => format!("{seen}, as an error"),
        (_, true) if effect.at(layer) > 1 => format!("{seen}, once as interrupted"),
        (_, true) => format!("{seen}, as interrupted"),
        _ => seen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect;
    use std::collections::BTreeSet;
    use std::fs;

    #[test]
    fn every_effect_is_on_a_metric_that_exists() {
        let known: BTreeSet<(&str, &str)> =
            expect::nothing().iter().map(|e| (e.metric.name, e.metric.label.map_or("", |(_, value)| value))).collect();
        for operation in groups().flat_map(|group| group.operations) {
            assert!(!operation.effects.is_empty(), "{}", operation.name);
            for effect in operation.effects {
                assert!(known.contains(&(effect.metric, effect.label)), "{}: {effect:?}", operation.name);
            }
        }
    }

    #[test]
    fn every_operation_of_the_workload_is_a_row_and_the_other_way_round() {
        let sources = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/workload")).expect("the workload");
        let sources: String =
            sources.map(|source| fs::read_to_string(source.expect("a file").path()).expect("a text")).collect();
        let done: BTreeSet<&str> =
            sources.lines().filter_map(|line| line.strip_prefix("\t{ \"")?.split('"').next()).collect();
        let rows: Vec<&str> = groups().flat_map(|group| group.operations).map(|row| row.name).collect();
        assert_eq!(rows.iter().copied().collect::<BTreeSet<_>>(), done);
        assert_eq!(rows.len(), done.len(), "a row is there twice");
    }

    #[test]
    fn a_line_says_what_each_layer_sees() {
        let table = markdown();
        for line in [
            "| `unlink` on overlayfs: once per layer | `vfs.calls` delete | seen | twice |",
            "| `read` of a bad descriptor | `vfs.calls` read | seen, as an error | not seen |",
            "| `read` that a signal interrupts and the kernel restarts: no error | `vfs.calls` read | twice, once as interrupted |",
            "| `sendfile` | `vfs.calls` write | not seen | not seen |",
        ] {
            assert!(table.contains(line), "{table}");
        }
    }
}
