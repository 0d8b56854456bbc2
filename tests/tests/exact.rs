//! Every counter to the unit, on the kernel at hand.

use ebpf_process_tests::cgroup::{Cgroup, Version1};
use ebpf_process_tests::exact::{self, Report, Row};
use ebpf_process_tests::expect::Mode;
use ebpf_process_tests::{Outcome, agent, crowd, live};

fn row(name: &str, hooks: &str, mode: Mode, measure: impl FnOnce(&Row) -> Outcome<Report>) {
    row_with(name, agent::can_run(), hooks, mode, measure);
}

fn row_with(name: &str, needs: Outcome<()>, hooks: &str, mode: Mode, measure: impl FnOnce(&Row) -> Outcome<Report>) {
    live::test(name, needs, || measure(&Row { hooks: hooks.into(), mode })?.verdict());
}

#[test]
fn tracepoints_count_the_whole_workload_in_return_mode() {
    row("tracepoint-return", "tracepoint", Mode::Return, exact::whole_workload);
}

#[test]
fn a_number_that_is_given_away_counts_nothing() {
    row("number-given-away", "auto", Mode::Return, exact::a_number_given_away);
    row("number-given-away-floor", "floor-tracepoint", Mode::Return, exact::a_number_given_away);
}

#[test]
fn a_control_group_that_is_made_anew_counts_again() {
    let needs = agent::can_run().and_then(|()| Cgroup::new().map(drop));
    row_with("cgroup-made-anew", needs.clone(), "auto", Mode::Return, exact::a_cgroup_made_anew);
    row_with("cgroup-made-anew-told", needs.clone(), "auto", Mode::Return, exact::a_cgroup_made_anew_and_told);
    let needs = needs.and_then(|()| Version1::mount().map(drop));
    row_with("cgroup-of-version-1", needs, "auto", Mode::Return, exact::a_cgroup_made_anew_beside_version_1);
}

#[test]
fn tracepoints_count_the_whole_workload_in_entry_mode() {
    row("tracepoint-entry", "tracepoint", Mode::Entry, exact::whole_workload);
}

#[test]
fn trace_events_of_the_floor_count_the_whole_workload() {
    for mode in [Mode::Entry, Mode::Return] {
        row(&format!("floor-tracepoint-{mode}"), "floor-tracepoint", mode, exact::whole_workload);
    }
}

#[test]
fn what_auto_chooses_counts_the_whole_workload_in_return_mode() {
    row("auto-return", "auto", Mode::Return, exact::whole_workload);
}

#[test]
fn what_auto_chooses_counts_the_whole_workload_in_entry_mode() {
    row("auto-entry", "auto", Mode::Entry, exact::whole_workload);
}

#[test]
fn two_processes_of_a_cgroup_are_counted_together() {
    let needs = agent::can_run().and_then(|()| Cgroup::new().map(drop));
    row_with("two-processes-in-a-cgroup", needs, "auto", Mode::Return, exact::two_processes_in_a_cgroup);
}

#[test]
fn blocked_readers_hide_no_read() {
    row("reads-beside-blocked-readers", "auto", Mode::Return, exact::reads_beside_blocked_readers);
}

#[test]
fn an_idle_target_shows_zero_everywhere() {
    row("idle-target", "auto", Mode::Return, exact::an_idle_target);
}

#[test]
fn a_crowd_of_readers_is_counted_or_counted_as_missed() {
    let needs = agent::can_run().and_then(|()| Cgroup::new().map(drop));
    for mode in [Mode::Entry, Mode::Return] {
        let row = Row { hooks: "auto".into(), mode };
        live::test(&format!("crowd-{mode}"), needs.clone(), || crowd::spinning_readers(&row).map(drop));
    }
}
