//! What each counter must show after the workload, to the unit.
//!
//! The answer depends on where a counter looks. At the **system call** everything that enters counts: a bad descriptor
//! and a missing name are failed calls. In the **kernel** a counter sees what reaches the function it hooks, and some
//! failures end before: a read of a bad descriptor never reaches `vfs_read`, an unlink of a missing name never reaches
//! `vfs_unlink`, and `clone3` refuses some arguments before `kernel_clone`. The agent says in `hook.info` which layer
//! each of its counters looks at.
//!
//! Semantics: a fork counts for the parent's thread group, an exit for the exiting task's, a release for the released
//! task's; children are other groups. A read that a signal interrupts is an
//! interrupted call and no error; where the kernel restarts it, another call follows.

pub use crate::known::{Done, Expected, Layer, Metric, Mode, RELEASES};
use crate::rows::ROWS;

/// What every metric of every probe must show then.
pub fn after(done: Done) -> Vec<Expected> {
    ROWS.iter().flat_map(|rows| (rows.expected)(done)).collect()
}

/// After the whole workload, when its leader has ended and was reaped.
pub fn whole_workload() -> Vec<Expected> {
    after(Done::Whole)
}

/// After the whole workload, at its second stop: its threads have ended, its leader has not.
pub fn whole_workload_before_its_end() -> Vec<Expected> {
    after(Done::BeforeItsEnd)
}

/// After `processes` readers of `count` bytes each have ended and were reaped.
pub fn reads(processes: u64, count: u64) -> Vec<Expected> {
    after(Done::Reads { processes, count })
}

/// While a process does nothing.
pub fn nothing() -> Vec<Expected> {
    after(Done::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn no_two_metrics_of_the_workload_share_a_value_by_accident() {
        for layer in [Layer::Syscall, Layer::Kernel] {
            let mut seen = BTreeMap::new();
            for e in whole_workload() {
                let value = e.at(layer);
                // Every task that exits is released, and every missing file that is not opened fails.
                let area = |metric: &Metric| metric.name.split('.').next();
                if let Some(other) = seen.insert(value, e.metric)
                    && !(e.metric.name == RELEASES || value == 0)
                    // Every call of an operation may fail.
                    && !(other.label == e.metric.label && area(&other) == area(&e.metric))
                {
                    panic!("{} and {other} both expect {value}", e.metric);
                }
            }
        }
    }

    #[test]
    fn what_fails_before_the_kernel_function_is_seen_at_the_system_call_only() {
        let differing: Vec<String> =
            whole_workload().iter().filter(|e| e.syscall != e.kernel).map(|e| e.metric.to_string()).collect();
        assert_eq!(
            differing,
            [
                "vfs.calls{operation=read}",
                "vfs.calls{operation=delete}",
                "vfs.errors{operation=read}",
                "vfs.errors{operation=delete}",
                "task.start_errors{kind=process}",
            ]
        );
    }
}
