//! Very many processes beside the agent: `cargo xtask churn`. Some come and go, each with a row of its own, some live at
//! the same time and are read at every tick.

mod crowds;
mod living;
mod order;
mod report;

use ebpf_process_tests::{Outcome, agent, cgroup::Cgroup};

use order::Order;
use report::{Report, say};

/// Runs all parts; whether every bound was kept.
pub(crate) fn run(arguments: &[String]) -> Outcome<bool> {
    let order = Order::read(arguments)?;
    agent::can_run()?;
    Cgroup::new().map(drop)?;
    let mut report = Report::default();
    crowds::run(&order, &mut report)?;
    living::run(&order, &mut report)?;
    report.wrong.iter().for_each(|wrong| say(&format!("WRONG {wrong}")));
    Ok(report.wrong.is_empty())
}
