//! The kernel memory that `check` states is what the kernel says that the maps take, and the agent's own is little.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use ebpf_process_tests::agent::Agent;
use ebpf_process_tests::lifetime::Started;
use ebpf_process_tests::{Failure, Outcome, agent, held, lifetime, live, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The limit with two processors.
const LIMIT: u64 = 1 << 20;
/// What an agent and its broker may hold together more than an agent without one, in KiB.
const MORE: u64 = 2 * 1024;

#[test]
fn the_memory_that_check_states_is_the_maps() {
    live::test("map-memory", agent::can_run(), || {
        let (fixed, per_cpu, possible) = stated()?;
        let stated = fixed + per_cpu * possible;
        let mut agent = Agent::start(&["probes.mode=return".to_owned()])?;
        agent.wait_for_first_batch()?;
        // The maps of its self-test are let go by a thread that the first batch does not wait for.
        let held = wait::until(&format!("at most {stated} bytes of maps"), Duration::from_secs(30), || {
            Ok(Some(maps_of(agent.pid())?).filter(|held| *held <= stated))
        })?;
        agent.stop()?;
        // What a hash takes beside its elements differs from kernel to kernel; two small maps are held by programs alone.
        if held < stated * 3 / 4 {
            return Err(Failure::new(format!("check states {stated} bytes, the kernel {held}")));
        }
        if fixed + 2 * per_cpu >= LIMIT {
            return Err(Failure::new(format!("{fixed} + 2 * {per_cpu} bytes are not under {LIMIT}")));
        }
        Ok(())
    });
}

/// Reading the kernel's type information is the most of it, and over before the first batch.
#[test]
fn the_agent_holds_24_mebibytes_at_its_start_and_10_later() {
    live::test("process-memory", agent::can_run(), || lifetime::holds_little(&[]).map(drop));
}

/// Memory of their own, which is the same of any build: the program's pages they share with each other.
#[test]
fn an_agent_and_its_broker_hold_at_most_2_mebibytes_more_than_an_agent_alone() {
    live::test("broker-memory", agent::can_run(), || {
        let (with, alone) = (Started::new(&[])?, Started::new(&["capabilities=keep"])?);
        with.settle()?;
        alone.settle()?;
        let broker = held::broker_of(with.pid())?.ok_or_else(|| Failure::new("it has no broker"))?;
        let (together, single) = (share(with.pid())? + share(broker)?, share(alone.pid())?);
        for started in [with, alone] {
            started.end(Signal::TERM)?;
        }
        if together <= single + MORE {
            return Ok(());
        }
        Err(Failure::new(format!("together {together} KiB, alone {single} KiB")))
    });
}

/// With many sinks, each with a socket or a file, it does not end at a soft limit on descriptors.
#[test]
fn the_soft_limit_on_descriptors_is_raised_to_the_hard_one() {
    live::test("descriptors", agent::can_run(), || {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -S -n 24 && exec \"$0\" \"$@\""]).arg(agent::binary()?);
        command.args(["run", "--set", "sinks.out.type=influx", "--set", "sinks.out.options.url=stdout"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let child = child.as_mut().map_err(|error| Failure::new(format!("starting the agent: {error}")))?;
        let first = child.stdout.as_mut().map(|pipe| pipe.read_exact(&mut [0]));
        let limits = fs::read_to_string(format!("/proc/{}/limits", child.id()));
        kill_process(Pid::from_child(child), Signal::TERM).map_err(Failure::at("stopping the agent"))?;
        child.wait().map_err(Failure::at("the agent's end"))?;
        first.ok_or_else(|| Failure::new("no pipe"))?.map_err(Failure::at("the first batch"))?;
        let limits = limits.map_err(Failure::at("its limits"))?;
        let open = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let words: Vec<&str> = open.unwrap_or_default().split_whitespace().collect();
        match words.as_slice() {
            [soft, hard, ..] if soft == hard => Ok(()),
            _ => Err(Failure::new(format!("soft and hard limit: {words:?}"))),
        }
    });
}

/// The anonymous memory of a process, shared pages in proportion, in KiB.
fn share(pid: u32) -> Outcome<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).map_err(Failure::at("its memory"))?;
    let share =
        rollup.lines().find_map(|line| line.strip_prefix("Pss_Anon:")?.trim().strip_suffix(" kB")?.parse().ok());
    share.ok_or_else(|| Failure::new("the kernel does not say how much memory it has"))
}

/// The sums over the probes: fixed, for each processor, processors.
fn stated() -> Outcome<(u64, u64, u64)> {
    let output = agent::command()?.args(["check", "--format", "json"]).output().map_err(Failure::at("check"))?;
    let report: Value = serde_json::from_slice(&output.stdout).map_err(Failure::at("check's report"))?;
    let probes = report["probes"].as_array().ok_or_else(|| Failure::new("no probes in the report"))?;
    let of = |key: &str| probes.iter().filter_map(|probe| probe["memory"][key].as_u64()).collect::<Vec<u64>>();
    let possible = of("possible_cpus").into_iter().max().unwrap_or(0);
    Ok((of("fixed").iter().sum(), of("per_cpu").iter().sum(), possible))
}

/// What the kernel says of the maps whose descriptors a process holds.
fn maps_of(pid: u32) -> Outcome<u64> {
    let folder = PathBuf::from("/proc").join(pid.to_string()).join("fdinfo");
    let mut maps = std::collections::BTreeMap::new();
    for entry in fs::read_dir(&folder).map_err(Failure::at(folder.display()))? {
        let path = entry.map_err(Failure::at("a descriptor"))?.path();
        // A descriptor may be closed meanwhile.
        let text = fs::read_to_string(&path).unwrap_or_default();
        let number = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key))?;
            value.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(bytes)) = (number("map_id:"), number("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps.values().sum())
}
