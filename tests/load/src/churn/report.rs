//! What is said of a run, and what is wrong with it.

use std::io::{self, Write as _};

use ebpf_process_tests::Failure;

/// Says a line at once: a run takes minutes.
pub(super) fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Without a reader the exit code still speaks.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What is wrong.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) wrong: Vec<String>,
}

impl Report {
    /// Says a figure that must not be more than its bound.
    pub(super) fn bind(&mut self, what: &str, measured: f64, bound: f64, unit: &str) {
        say(&format!("{what:<58}{measured:>10.2} {unit} (bound {bound})"));
        if measured > bound {
            self.wrong.push(format!("{what}: {measured:.2} {unit}, more than {bound}"));
        }
    }
}

/// A count for a person to read.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

/// A failure in our words.
pub(super) fn failure(what: &str) -> Failure {
    Failure::new(what)
}
