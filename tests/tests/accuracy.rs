//! What docs/accuracy.md says of other tools and of us, on the kernel at hand.

use ebpf_process_tests::cgroup::Cgroup;
use ebpf_process_tests::{accuracy, agent, beside, live};

#[test]
fn bpftrace_proc_and_we_count_the_same_load_alike() {
    let needs = agent::can_run().and_then(|()| beside::has_bpftrace()).and_then(|()| accuracy::has_python());
    live::test("accuracy-load", needs, accuracy::load);
}

#[test]
fn bpftrace_and_we_count_what_a_crew_counts_itself() {
    let needs = agent::can_run().and_then(|()| beside::has_bpftrace()).and_then(|()| Cgroup::new().map(drop));
    live::test("accuracy-crew", needs, accuracy::crew);
}

#[test]
fn taskstats_is_proc_rounded_down_for_each_task() {
    let needs = accuracy::has_python().and_then(|()| accuracy::has_taskstats());
    live::test("accuracy-taskstats", needs, accuracy::taskstats);
}
