//! Probes that one process builds and another one reads: each scenario is a process, `examples/assisted.rs`.

use std::process::Command;

use ebpf_process_tests::cgroup::Cgroup;
use ebpf_process_tests::{Failure, Outcome, agent, built, live};

/// Runs one scenario by each of these objects.
fn play(name: &str, objects: &[&str]) {
    for object in objects {
        let name = format!("{name}-{object}");
        live::test(&name, agent::can_run(), || run(&name));
    }
}

fn run(name: &str) -> Outcome<()> {
    let program = built::find("examples/assisted", "cargo build -p ebpf-process-tests --examples")?;
    let output = Command::new(program).env("ASSISTANT_TEST_ROLE", name).output().map_err(Failure::at(name))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))))
}

#[test]
fn what_a_process_does_is_counted_to_the_unit() {
    play("assisted-counts-what-a-process-does", &["core", "floor"]);
}

#[test]
fn by_process_it_is_counted_to_the_unit() {
    play("assisted-counts-by-process", &["core"]);
}

#[test]
fn a_control_group_that_is_made_anew_counts_again() {
    let needs = agent::can_run().and_then(|()| Cgroup::new().map(drop));
    for object in ["core", "floor"] {
        let name = format!("assisted-counts-a-control-group-{object}");
        live::test(&name, needs.clone(), || run(&name));
    }
}

#[test]
fn beside_a_probe_of_its_own_nothing_is_lost_under_load() {
    play("assisted-beside-its-own-under-load", &["core", "floor"]);
}

#[test]
fn probes_of_strangers_need_no_change() {
    play("assisted-strangers-probes", &["core"]);
}

#[test]
fn what_is_wrong_is_refused() {
    play("assisted-refuses-what-is-wrong", &["core"]);
}
