//! What an agent leaves behind in the kernel's list of kprobe events.
//!
//! Programs and links go with the process that held them. A line in `kprobe_events` does not: a clean stop removes
//! ours, a killed agent's are swept by the next one, and nobody else's are ever touched. The list of live breakpoints
//! in debugfs shows what the lines stand for. Both are the whole machine's: for a virtual machine only.

use crate::agent::{self, Agent};
use crate::{Failure, Outcome, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

const EVENTS: &str = "/sys/kernel/tracing/kprobe_events";
const BREAKPOINTS: &str = "/sys/kernel/debug/kprobes/list";
/// The group of the agent's events, in front of the name of each.
const OURS: &str = ":ebpf_process/";
/// An event of somebody else, whose name looks like ours from afar.
const FOREIGN: &str = "somebody/r_vfs_read_1_1";

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

/// What a killed agent leaves is swept although one that cannot be seen from here, in a PID namespace of its own, still
/// uses its events: they stay, and the sweep goes on behind them.
///
/// # Errors
/// Something of the killed agent is left, or something of the living one is gone.
pub fn beside_a_container() -> Outcome<String> {
    let _foreign = Foreign::new()?;
    let contained = Contained::start()?;
    // Later they would be taken for the dead one's.
    wait::until("the end of its self-test's lines", wait::LIMIT, || Ok((lasting()? == ours()?).then_some(())))?;
    let living = lasting()?;
    if living.is_empty() {
        return Err(Failure::new("an agent in a PID namespace of its own shows no line"));
    }
    // Killed when dropped.
    drop(start()?);
    let dead: Vec<String> = ours()?.into_iter().filter(|line| !living.contains(line)).collect();
    if dead.is_empty() {
        return Err(Failure::new("a killed agent by kprobes leaves no line, so there was nothing to sweep"));
    }
    let next = start()?;
    let now = ours()?;
    let still = dead.iter().filter(|line| now.contains(line)).count();
    let lost = living.iter().filter(|line| !now.contains(line)).count();
    if still + lost > 0 {
        let (dead, living) = (dead.len(), living.len());
        return Err(Failure::new(format!("{still} of {dead} dead lines are left, {lost} of {living} living are gone")));
    }
    next.stop()?;
    contained.stop()?;
    nothing_left()?;
    Ok(format!("{} dead lines were swept beside {} living ones", dead.len(), living.len()))
}

/// An agent in a PID namespace of its own, as in a container.
struct Contained(Child);

impl Contained {
    fn start() -> Outcome<Self> {
        let mut command = Command::new("unshare");
        command.args(["-p", "-f", "-m", "--mount-proc"]).arg(agent::binary()?).arg("run");
        let settings = ["probes.mode=return", "probes.hooks=kprobe", "sinks.out.type=json", "status.socket="];
        for setting in settings {
            command.args(["--set", setting]);
        }
        let child = command.stdout(Stdio::piped()).spawn().map_err(Failure::at("an agent in a PID namespace"))?;
        let mut contained = Self(child);
        let pipe = contained.0.stdout.as_mut().ok_or_else(|| Failure::new("no pipe"))?;
        pipe.read_exact(&mut [0]).map_err(Failure::at("its first batch"))?;
        Ok(contained)
    }

    /// Asks the agent to end: the one child of `unshare`, which waits for it.
    fn stop(mut self) -> Outcome<()> {
        let pid = self.0.id();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let agent = fs::read_to_string(&children).map_err(Failure::at(&children))?;
        let agent = agent.trim().parse().ok().and_then(Pid::from_raw);
        let agent = agent.ok_or_else(|| Failure::new("unshare has no child any more"))?;
        kill_process(agent, Signal::TERM).map_err(Failure::at("asking the agent in a PID namespace to end"))?;
        // Nobody reads what it still says.
        drop(self.0.stdout.take());
        self.0.wait().map(drop).map_err(Failure::at("the end of the agent in a PID namespace"))
    }
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
    wait::until("the breakpoints' end", wait::LIMIT, || Ok((breakpoints()? <= 1).then_some(())))
}

fn ours() -> Outcome<Vec<String>> {
    Ok(events()?.lines().filter(|line| line.contains(OURS)).map(str::to_owned).collect())
}

/// The lines that an agent keeps: those of its self-test go soon.
fn lasting() -> Outcome<Vec<String>> {
    Ok(ours()?.into_iter().filter(|line| !line.contains("/test_")).collect())
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
