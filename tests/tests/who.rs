//! Rows by process, app and control group, to the unit, on the kernel at hand.

use ebpf_process_tests::cgroup::Cgroup;
use ebpf_process_tests::exact::Row;
use ebpf_process_tests::expect::Mode;
use ebpf_process_tests::{Outcome, agent, live, who};

fn row(hooks: &str, mode: Mode) {
    test(&format!("who-{hooks}-{mode}"), || who::crew_at_work(&Row { hooks: hooks.into(), mode }));
}

fn test(name: &str, act: impl FnOnce() -> Outcome<String>) {
    let needs = agent::can_run().and_then(|()| Cgroup::new().map(drop));
    live::test(name, needs, || act().map(drop));
}

#[test]
fn what_auto_chooses_tells_who_did_what_to_the_unit() {
    row("auto", Mode::Return);
}

#[test]
fn calls_alone_are_told_by_whom_as_well() {
    row("auto", Mode::Entry);
}

#[test]
fn the_hosts_numbers_are_the_crews_where_nobody_else_counts() {
    test("who-alone", || who::crew_alone(&Row { hooks: "auto".into(), mode: Mode::Return }));
}

#[test]
fn tracepoints_tell_who_did_what_to_the_unit() {
    row("tracepoint", Mode::Return);
}
