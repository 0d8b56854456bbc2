//! Rows by process, app and control group, to the unit, on the kernel at hand.

use ebpf_process_tests::cgroup::Cgroup;
use ebpf_process_tests::exact::Row;
use ebpf_process_tests::expect::Mode;
use ebpf_process_tests::{agent, live, who};

fn row(hooks: &str, mode: Mode) {
    let needs = agent::can_run().and_then(|()| Cgroup::new().map(drop));
    live::test(&format!("who-{hooks}-{mode}"), needs, || {
        who::crew_at_work(&Row { hooks: hooks.into(), mode }).map(drop)
    });
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
fn tracepoints_tell_who_did_what_to_the_unit() {
    row("tracepoint", Mode::Return);
}
