//! How fast the agent starts and stops, and that nothing of it stays in the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use ebpf_process_tests::held::{Held, nothing_but_what_reading_takes};
use ebpf_process_tests::kernel_objects;
use ebpf_process_tests::lifetime::{STOP, Started};
use ebpf_process_tests::{Failure, Outcome, agent, live, receivers, wait};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::CapabilitySet;

/// Other tests run at the same time: the best of a few starts shows what the agent can do.
const STARTS: usize = 5;
const FIRST_BATCH: Duration = Duration::from_millis(300);

fn first_batch() -> Outcome<()> {
    let mut all = Vec::new();
    for _ in 0..STARTS {
        let started = Started::new(&[])?;
        all.push(started.first_byte);
        started.end(Signal::TERM)?;
    }
    match all.iter().min() {
        Some(best) if *best < FIRST_BATCH => Ok(()),
        _ => Err(Failure::new(format!("first batches came after {all:?}"))),
    }
}

fn stop() -> Outcome<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let (took, code) = Started::new(&[])?.end(signal)?;
        if took > STOP || code != Some(0) {
            return Err(Failure::new(format!("{signal:?}: took {took:?}, exit code {code:?}")));
        }
    }
    Ok(())
}

fn nothing_stays() -> Outcome<()> {
    for signal in [Signal::TERM, Signal::KILL] {
        let started = Started::new(&[])?;
        // Other tests' agents come and go meanwhile.
        let held = kernel_objects::held_by(started.pid())?;
        let ours: BTreeSet<String> = kernel_objects::all()?.intersection(&held).cloned().collect();
        // One program each on sys_exit and on the start, the exit and the release of a task, and its link.
        if ours.len() < 8 {
            return Err(Failure::new(format!("bpftool sees too little of a running agent: {ours:?}")));
        }
        started.end(signal)?;
        // The kernel frees them a little later.
        wait::until("the kernel to forget the agent", Duration::from_secs(10), || {
            Ok(kernel_objects::all()?.is_disjoint(&ours).then_some(()))
        })?;
    }
    Ok(())
}

fn rights_are_given_up() -> Outcome<()> {
    let started = Started::new(&[])?;
    nothing_but_what_reading_takes(started.pid())?;
    started.end(Signal::TERM)?;
    let started = Started::new(&["capabilities=keep"])?;
    let kept = Held::of_threads(started.pid())?;
    started.end(Signal::TERM)?;
    if kept.iter().all(|held| held.sets[2].contains(CapabilitySet::BPF) && !held.no_new_privileges) {
        return Ok(());
    }
    Err(Failure::new(format!("with capabilities=keep {kept:?}")))
}

/// Who has loaded programs and attached them, from the first instruction to the last.
fn attached_by_the_broker() -> Outcome<()> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    let trace = folder.path().join("trace");
    let mut command = Command::new(receivers::program("strace", "strace")?);
    command.args(["-f", "-qq", "--signal=none", "-e", "trace=execve,bpf", "-o"]).arg(&trace);
    let agent = agent::command()?;
    command.arg(agent.get_program()).args(agent.get_args());
    command.envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["run", "--set", "sinks.out.type=influx", "--set", "sinks.out.options.url=stdout"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.map_err(Failure::at("starting strace"))?;
    let first = child.stdout.as_mut().map(|stdout| stdout.read_exact(&mut [0]));
    let seen = fs::read_to_string(&trace).map_err(Failure::at("the trace"))?;
    // Its first line is the call by which the agent becomes what it is.
    let pid = seen.split_whitespace().next().ok_or_else(|| Failure::new("the trace is empty"))?.to_owned();
    let number = pid.parse().ok().and_then(Pid::from_raw).ok_or_else(|| Failure::new("the trace names no process"))?;
    kill_process(number, Signal::TERM).map_err(Failure::at("stopping the agent"))?;
    child.wait().map_err(Failure::at("its end"))?;
    first.transpose().map_err(Failure::at("the first batch"))?;
    let seen = fs::read_to_string(&trace).map_err(Failure::at("the trace"))?;
    let takes_rights =
        |line: &&str| ["bpf(BPF_PROG_LOAD", "OPEN", "LINK_CREATE"].iter().any(|call| line.contains(call));
    let (own, others): (Vec<&str>, Vec<&str>) =
        seen.lines().filter(takes_rights).partition(|line| line.split_whitespace().next() == Some(&pid));
    // Four programs and their links, what tests them not included.
    if own.is_empty() && others.len() >= 8 {
        return Ok(());
    }
    Err(Failure::new(format!("the agent did {} of {} such calls itself: {own:?}", own.len(), own.len() + others.len())))
}

fn has_bpftool() -> Outcome<()> {
    agent::can_run()?;
    kernel_objects::all().map(drop)
}

#[test]
fn the_first_batch_comes_within_300_milliseconds() {
    live::test("first-batch", agent::can_run(), first_batch);
}

#[test]
fn a_healthy_agent_stops_within_a_second() {
    live::test("stop", agent::can_run(), stop);
}

#[test]
fn nothing_stays_in_the_kernel_after_a_stop_or_a_kill() {
    live::test("nothing-stays", has_bpftool(), nothing_stays);
}

#[test]
fn the_broker_and_nobody_else_loads_and_attaches_at_the_start_too() {
    let has_strace = receivers::program("strace", "strace").map(drop);
    live::test("first-attach", agent::can_run().and(has_strace), attached_by_the_broker);
}

#[test]
fn a_running_agent_holds_no_right_that_it_does_not_need() {
    live::test("rights", agent::can_run(), rights_are_given_up);
}
