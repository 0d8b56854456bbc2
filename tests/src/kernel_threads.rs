//! Threads of the kernel count as processes that `kthreadd` starts.
//!
//! Switching transparent huge pages on starts one, switching them off ends it. That is the whole machine's setting: for
//! a virtual machine only. The kernel starts threads for its own purposes at the same time, so a count may be higher.

use crate::agent::Agent;
use crate::{Failure, Outcome, wait};
use std::fs;

const SWITCH: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const THREAD: &str = "khugepaged";
const TIMES: u32 = 5;

/// Starts some under a filter for `kthreadd`.
///
/// # Errors
/// They were not counted as processes, or one was counted as a thread.
pub fn count() -> Outcome<String> {
    let mut agent = Agent::start(&["probes.only={pid=2}".to_owned()])?;
    agent.wait_for_first_batch()?;
    for _ in 0..TIMES {
        for (word, there) in [("never", false), ("always", true)] {
            fs::write(SWITCH, word).map_err(Failure::at(SWITCH))?;
            wait::until(THREAD, wait::LIMIT, || Ok((is_there()? == there).then_some(())))?;
        }
    }
    let started = |kind: &'static str| Some(("kind", kind));
    let counted = agent.watch(wait::LIMIT, |totals| {
        totals.get("task.started", started("process")).is_some_and(|count| count >= f64::from(TIMES))
    })?;
    let (_, totals) = agent.stop()?;
    let [processes, threads] = ["process", "thread"].map(|kind| totals.get("task.started", started(kind)));
    let details = format!("{TIMES} started, counted are {processes:?} processes and {threads:?} threads");
    if counted && threads == Some(0.0) { Ok(details) } else { Err(Failure::new(details)) }
}

fn is_there() -> Outcome<bool> {
    let processes = fs::read_dir("/proc").map_err(Failure::at("/proc"))?;
    let names = processes.flatten().map(|entry| fs::read_to_string(entry.path().join("comm")).unwrap_or_default());
    Ok(names.into_iter().any(|name| name.trim_end() == THREAD))
}
