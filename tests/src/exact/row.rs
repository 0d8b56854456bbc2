//! What is put to the test: a tier in a mode.

use crate::expect::Mode;
use crate::rows;
use std::fmt;

/// The trace events of system calls do not show 32-bit calls.
pub(super) const FLOOR_TRACEPOINT: &str = "floor-tracepoint";

/// What is put to the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The configuration's `hooks`: a tier, `auto` or `cheapest`; or `floor`: the object for kernels without type
    /// information, whatever tier that takes; or `floor-tracepoint`: the same object without kprobes.
    pub hooks: String,
    /// The configuration's `mode`.
    pub mode: Mode,
}

impl Row {
    /// The settings that make an agent count this way, by every probe.
    pub fn settings(&self) -> Vec<String> {
        let (object, hooks) = match self.hooks.as_str() {
            "floor" => ("floor", "auto"),
            FLOOR_TRACEPOINT => ("floor", "tracepoint"),
            hooks => ("auto", hooks),
        };
        let row =
            [format!("probes.mode={}", self.mode), format!("probes.object={object}"), format!("probes.hooks={hooks}")];
        row.into_iter().chain(rows::switched_on()).collect()
    }

    pub(super) fn is_floor(&self) -> bool {
        self.hooks.starts_with("floor")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.hooks, self.mode)
    }
}
