//! The kernel's switches that silence hooks which stay attached: off before the agent starts, and while it runs.
//!
//! They are the whole machine's: for a virtual machine only.

use crate::agent::Agent;
use crate::exact::{self, Row};
use crate::expect::Mode;
use crate::totals::Totals;
use crate::{Failure, Outcome, wait};
use std::fs;
use std::path::Path;

const FTRACE: &str = "/proc/sys/kernel/ftrace_enabled";
const KPROBES: &str = "/sys/kernel/debug/kprobes/enabled";

/// A switch that is off until this is dropped.
struct Off(&'static str);

impl Off {
    fn new(switch: &'static str) -> Outcome<Self> {
        fs::write(switch, "0").map_err(Failure::at(switch))?;
        Ok(Self(switch))
    }
}

impl Drop for Off {
    fn drop(&mut self) {
        // The machine is ours and ends soon.
        let _ = fs::write(self.0, "1");
    }
}

/// Trampolines attach and never fire: every counter is served by another tier, and is right to the unit.
///
/// # Errors
/// A number is wrong, or a tier is taken that does not fire.
pub fn off_before_the_start() -> Outcome<String> {
    let _off = Off::new(FTRACE)?;
    let mut details = Vec::new();
    for mode in [Mode::Entry, Mode::Return] {
        let report = exact::whole_workload(&Row { hooks: "auto".into(), mode })?;
        report.verdict()?;
        details.push(report.to_string());
    }
    Ok(details.join("; "))
}

/// The hooks of a tier stop firing while they count: it is said within a tick or two, and taken back when they fire
/// again, while the finding that events are lacking stays.
///
/// # Errors
/// It is not said, or a series has changed its name.
pub fn off_while_it_runs() -> Outcome<String> {
    let mut details = Vec::new();
    for (tier, switch) in [("fentry", FTRACE), ("kprobe", KPROBES)] {
        let said = switched_off(tier, switch).map_err(Failure::at(tier))?;
        details.push(format!("{tier}: {said}"));
    }
    Ok(details.join("; "))
}

fn switched_off(tier: &str, switch: &'static str) -> Outcome<String> {
    if !Path::new(switch).exists() {
        return Err(Failure::new(format!("there is no {switch}")));
    }
    let mut agent = Agent::start(&[format!("probes.hooks={tier}")])?;
    agent.wait_for_whole_batch()?;
    let before = standing(agent.totals()?);
    let off = Off::new(switch)?;
    let silent = agent.watch(wait::LIMIT, |totals| standing(totals) == (Some(0.0), Some(0.0), Some(1.0)))?;
    drop(off);
    let back = agent.watch(wait::LIMIT, |totals| standing(totals) == (Some(1.0), Some(0.0), Some(1.0)))?;
    let names = infos(agent.totals()?);
    let (status, _) = agent.stop()?;
    let details =
        format!("{before:?} before, silent {silent}, back {back}, {names} names of its hook, ended with {status}");
    if before.0 == Some(1.0) && silent && back && names == 1 && status.code() == Some(0) {
        Ok(details)
    } else {
        Err(Failure::new(details))
    }
}

/// Whether reads fire, are exact, and were found silent.
fn standing(totals: &Totals) -> (Option<f64>, Option<f64>, Option<f64>) {
    let reads = ("counter", "vfs.read");
    (
        totals.get("hook.firing", Some(reads)),
        totals.get("hook.exact", Some(reads)),
        totals.get_with("hook.doubt", &[reads, ("reason", "silent")]),
    )
}

fn infos(totals: &Totals) -> usize {
    let named =
        |labels: &std::collections::BTreeMap<String, String>| labels.get("counter").is_some_and(|c| c == "vfs.read");
    totals.series().filter(|(name, labels, _)| *name == "hook.info" && named(labels)).count()
}
