//! Very many processes beside the agent: `cargo xtask churn`. Some come and go, each with a row of its own, some live at
//! the same time and are read at every tick.

mod crowds;
mod living;
mod order;

use std::io::{self, Write as _};

use ebpf_process_tests::{Failure, Outcome, agent, cgroup::Cgroup};

use order::Order;

/// What is said, and what is wrong.
#[derive(Debug, Default)]
struct Report {
    wrong: Vec<String>,
}

impl Report {
    /// Says a line at once: a run takes minutes.
    fn say(&self, line: &str) {
        let mut out = io::stdout().lock();
        // Without a reader the exit code still speaks.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Says a figure that must not be more than its bound.
    fn bind(&mut self, what: &str, measured: f64, bound: f64, unit: &str) {
        self.say(&format!("{what:<58}{measured:>10.2} {unit} (bound {bound})"));
        if measured > bound {
            self.wrong.push(format!("{what}: {measured:.2} {unit}, more than {bound}"));
        }
    }
}

/// Runs all parts; whether every bound was kept.
pub(crate) fn run(arguments: &[String]) -> Outcome<bool> {
    let order = Order::read(arguments)?;
    agent::can_run()?;
    Cgroup::new().map(drop)?;
    let mut report = Report::default();
    crowds::run(&order, &mut report)?;
    living::run(&order, &mut report)?;
    report.wrong.iter().for_each(|wrong| report.say(&format!("WRONG {wrong}")));
    Ok(report.wrong.is_empty())
}

/// A count for a person to read.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}

/// A failure in our words.
fn failure(what: &str) -> Failure {
    Failure::new(what)
}
