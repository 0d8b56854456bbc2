//! Somebody else on the same hooks at the same time changes no number, on the kernel at hand.

use ebpf_process_tests::{agent, beside, live};

#[test]
fn two_agents_count_the_same_workload() {
    live::test("beside-second-instance", agent::can_run(), || {
        beside::second_instance("tracepoint", "tracepoint").map(drop)
    });
}

#[test]
fn bpftrace_on_the_same_tracepoint_changes_no_number() {
    let needs = agent::can_run().and_then(|()| beside::has_bpftrace());
    live::test("beside-bpftrace", needs, || beside::bpftrace().map(drop));
}
