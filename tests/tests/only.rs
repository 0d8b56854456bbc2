//! `only` as it is configured: per probe, and refused where a number means somebody else.

use ebpf_process_tests::agent::{self, Agent};
use ebpf_process_tests::workload::Place;
use ebpf_process_tests::{Failure, Outcome, live};
use std::process::Command;
use std::time::Duration;

/// The batch after the last event is a tick or two away.
const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn an_agent_in_a_pid_namespace_refuses_a_number_with_that_reason() {
    live::test("only-pid-namespace", agent::can_run(), pid_namespace);
}

fn pid_namespace() -> Outcome<()> {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(agent::binary()?);
    // 1 is the agent itself, to itself.
    command.args(["once", "--interval", "100ms", "--set", "probes.only.pid=1"]);
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"EBPF_PROCESS_")) {
        command.env_remove(key);
    }
    let output = command.output().map_err(Failure::at("unshare"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let right = output.status.code() == Some(1) && said.contains("PID namespace of its own");
    if right { Ok(()) } else { Err(Failure::new(format!("{}: {said}", output.status))) }
}

#[test]
fn one_probe_alone_can_be_told_whom_to_count() {
    live::test("only-per-probe", agent::can_run(), per_probe);
}

fn per_probe() -> Outcome<()> {
    const READS: u64 = 100;
    let place = Place::new()?;
    let mut target = place.reads(READS)?;
    let mut agent = Agent::start(&[format!("probes.file.only={{pid={}}}", target.pid())])?;
    agent.wait_for_first_batch()?;
    target.run_to_next_stop()?;
    target.run_to_end()?;
    let mut told = String::new();
    let right = agent.watch(LIMIT, |totals| {
        let reads = totals.get("vfs.calls", Some(("operation", "read")));
        let present = |probe| totals.get("target.present", Some(("probe", probe)));
        let exits = totals.get("task.exits", None);
        told =
            format!("{reads:?} reads, file {:?}, process {:?}, {exits:?} exits", present("file"), present("process"));
        reads == Some(100.0) && present("file") == Some(0.0) && present("process").is_none() && exits >= Some(1.0)
    })?;
    if right { Ok(()) } else { Err(Failure::new(told)) }
}
