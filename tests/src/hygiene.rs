//! What an agent leaves behind in the kernel's list of kprobe events.
//!
//! Programs and links go with the process that held them. A line in `kprobe_events` does not: a clean stop removes
//! ours, a killed agent's are swept by the next one, and nobody else's are ever touched. The list of live breakpoints
//! in debugfs shows what the lines stand for. Both are the whole machine's: for a virtual machine only.

use crate::agent::Agent;
use crate::{Failure, Outcome, wait};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::Duration;

const EVENTS: &str = "/sys/kernel/tracing/kprobe_events";
const BREAKPOINTS: &str = "/sys/kernel/debug/kprobes/list";
/// The group of the agent's events, in front of the name of each.
const OURS: &str = ":ebpf_process/";
/// An event of somebody else, whose name looks like ours from afar.
const FOREIGN: &str = "somebody/r_vfs_read_1_1";
const FREED: Duration = Duration::from_secs(10);

/// Nothing of ours is left after a clean stop.
///
/// # Errors
/// Something is, or the agent did not use kprobes at all.
pub fn after_a_stop() -> Outcome<String> {
    let _foreign = Foreign::new()?;
    let agent = start()?;
    let (lines, live) = (ours()?.len(), breakpoints()?);
    if lines == 0 || live < 2 {
        return Err(Failure::new(format!("an agent by kprobes shows {lines} lines and {live} breakpoints")));
    }
    let (status, _) = agent.stop()?;
    if status.code() != Some(0) {
        return Err(Failure::new(format!("the agent ended with {status}")));
    }
    nothing_left()?;
    Ok(format!("{lines} lines and {live} breakpoints came and went"))
}

/// What a killed agent leaves is swept by the next one, and only that.
///
/// # Errors
/// Something of the killed agent is left, or something of somebody else is gone.
pub fn after_a_kill() -> Outcome<String> {
    let _foreign = Foreign::new()?;
    // Killed when dropped.
    drop(start()?);
    let left = ours()?;
    if left.is_empty() {
        return Err(Failure::new("a killed agent by kprobes leaves no line, so there was nothing to sweep"));
    }
    let next = start()?;
    let still: Vec<String> = ours()?.into_iter().filter(|line| left.contains(line)).collect();
    if !still.is_empty() {
        return Err(Failure::new(format!("the next agent did not sweep {}", still.join(", "))));
    }
    next.stop()?;
    nothing_left()?;
    Ok(format!("{} lines of a killed agent were swept", left.len()))
}

fn start() -> Outcome<Agent> {
    let mut agent = Agent::start(&["probes.mode=return".to_owned(), "probes.hooks=kprobe".to_owned()])?;
    agent.wait_for_first_batch()?;
    Ok(agent)
}

fn nothing_left() -> Outcome<()> {
    let left = ours()?;
    if !left.is_empty() {
        return Err(Failure::new(format!("left behind: {}", left.join(", "))));
    }
    if !events()?.contains(FOREIGN) {
        return Err(Failure::new(format!("somebody else's event {FOREIGN} is gone")));
    }
    // The kernel frees them a little later; the foreign one stays.
    wait::until("the breakpoints' end", FREED, || Ok((breakpoints()? <= 1).then_some(())))
}

fn ours() -> Outcome<Vec<String>> {
    Ok(events()?.lines().filter(|line| line.contains(OURS)).map(str::to_owned).collect())
}

fn events() -> Outcome<String> {
    fs::read_to_string(EVENTS).map_err(Failure::at(EVENTS))
}

fn breakpoints() -> Outcome<usize> {
    fs::read_to_string(BREAKPOINTS).map(|list| list.lines().count()).map_err(Failure::at(BREAKPOINTS))
}

/// Somebody else's event; removed when it is dropped.
struct Foreign;

impl Foreign {
    fn new() -> Outcome<Self> {
        append(&format!("r:{FOREIGN} vfs_read\n"))?;
        Ok(Self)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // If the agent took it away, the row says so.
        let _ = append(&format!("-:{FOREIGN}\n"));
    }
}

/// Writing without appending would remove the events of everybody.
fn append(line: &str) -> Outcome<()> {
    let opened = OpenOptions::new().append(true).open(EVENTS);
    opened.and_then(|mut file| file.write_all(line.as_bytes())).map_err(Failure::at(format!("{line:?} to {EVENTS}")))
}
