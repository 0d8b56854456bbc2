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

use crate::workload::counts as n;
use std::fmt;

/// Where a counter looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// At the entry or exit of system calls.
    Syscall,
    /// At a function inside the kernel.
    Kernel,
}

/// How much the agent measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Calls only.
    Entry,
    /// Errors and bytes as well.
    Return,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entry => "entry",
            Self::Return => "return",
        })
    }
}

/// One number the agent reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its public name.
    pub name: &'static str,
    /// Its label, when it has one: key and value.
    pub label: Option<(&'static str, &'static str)>,
    /// The records of `hook.info` that may say where it looks; the first one that exists does.
    pub counters: &'static [&'static str],
    /// Whether it exists in return mode only.
    pub return_only: bool,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.label {
            Some((key, value)) => write!(f, "{{{key}={value}}}"),
            None => Ok(()),
        }
    }
}

/// A metric with the value it must have, by layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The number in question.
    pub metric: Metric,
    /// Its value when counted at the system call.
    pub syscall: u64,
    /// Its value when counted in the kernel.
    pub kernel: u64,
}

impl Expected {
    /// The value at one layer.
    pub fn at(&self, layer: Layer) -> u64 {
        match layer {
            Layer::Syscall => self.syscall,
            Layer::Kernel => self.kernel,
        }
    }
}

/// The metric of released tasks.
pub const RELEASES: &str = "task.releases";

/// What a process does, in the words of the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    open: u64,
    open_errors: u64,
    close: u64,
    close_errors: u64,
    read: u64,
    read_errors: u64,
    read_interrupted: u64,
    read_bytes: u64,
    write: u64,
    write_errors: u64,
    write_bytes: u64,
    delete: u64,
    delete_errors: u64,
    processes: u64,
    process_errors: u64,
    threads: u64,
    thread_errors: u64,
    exits: u64,
    releases: u64,
}

/// After the whole workload, when its leader has ended and was reaped.
pub fn whole_workload() -> Vec<Expected> {
    expected(&workload_totals(Layer::Syscall), &workload_totals(Layer::Kernel))
}

/// After the whole workload, at its second stop: its threads have ended, its leader has not.
pub fn whole_workload_before_its_end() -> Vec<Expected> {
    let before = |layer| Totals { exits: n::THREADS, releases: n::THREADS, ..workload_totals(layer) };
    expected(&before(Layer::Syscall), &before(Layer::Kernel))
}

/// After `processes` readers of `count` bytes each have ended and were reaped.
pub fn reads(processes: u64, count: u64) -> Vec<Expected> {
    let totals = Totals {
        read: processes * count,
        read_bytes: processes * count,
        exits: processes,
        releases: processes,
        ..Totals::default()
    };
    expected(&totals, &totals)
}

/// While a process does nothing.
pub fn nothing() -> Vec<Expected> {
    expected(&Totals::default(), &Totals::default())
}

fn workload_totals(layer: Layer) -> Totals {
    let syscall = |count| if layer == Layer::Syscall { count } else { 0 };

    let opened = n::OPENS + n::OPENATS + n::OPENAT2S + n::CREATS + n::HELD_OPENS + n::INT80_CLOSES;
    let pipe_ends = 2;

    let written = n::WRITES + n::PWRITES + n::WRITEVS + n::PWRITEVS + n::PWRITEV2S;
    let write_bytes = n::WRITES * n::WRITE_SIZE
        + n::PWRITES * n::PWRITE_SIZE
        + n::WRITEVS * (n::WRITEV_FIRST + n::WRITEV_SECOND)
        + (n::PWRITEVS + n::PWRITEV2S) * (n::PWRITEV_FIRST + n::PWRITEV_SECOND);

    let read = n::READS
        + n::SHORT_READS
        + n::END_READS
        + n::PREADS
        + n::READVS
        + n::PREADVS
        + n::PREADV2S
        + n::INT80_READS
        + 2 * n::RESTARTED_READS
        + n::INTERRUPTED_READS;
    let read_errors = n::DIRECTORY_READS + syscall(n::BAD_READS);
    let read_bytes = n::READS * n::READ_SIZE
        + n::SHORT_READS * n::SHORT_SIZE
        + n::PREADS * n::PREAD_SIZE
        + n::READVS * (n::READV_FIRST + n::READV_SECOND)
        + (n::PREADVS + n::PREADV2S) * (n::PREADV_FIRST + n::PREADV_SECOND)
        + n::INT80_READS * n::INT80_READ_SIZE
        + n::RESTARTED_READS;

    let delete_errors = syscall(n::MISSING_UNLINKS);

    Totals {
        open: opened + n::MISSING_OPENS,
        open_errors: n::MISSING_OPENS,
        close: opened + pipe_ends + n::BAD_CLOSES,
        close_errors: n::BAD_CLOSES,
        read: read + read_errors,
        read_errors,
        read_interrupted: n::RESTARTED_READS + n::INTERRUPTED_READS,
        read_bytes,
        write: written + n::FULL_WRITES,
        write_errors: n::FULL_WRITES,
        write_bytes,
        delete: n::UNLINKS + n::UNLINKATS + delete_errors,
        delete_errors,
        processes: n::CLONE_FORKS + n::FORKS + n::VFORKS + n::CLONE3_FORKS + n::EXECS + n::SIGNALLERS,
        process_errors: n::BAD_PROCESS_CLONES + n::BAD_PROCESS_CLONE3S + syscall(n::REJECTED_CLONE3S),
        threads: n::THREADS,
        thread_errors: n::BAD_THREAD_CLONES + n::BAD_THREAD_CLONE3S,
        exits: n::THREADS + 1,
        releases: n::THREADS + 1,
    }
}

const OPEN: Option<(&str, &str)> = Some(("operation", "open"));
const CLOSE: Option<(&str, &str)> = Some(("operation", "close"));
const READ: Option<(&str, &str)> = Some(("operation", "read"));
const WRITE: Option<(&str, &str)> = Some(("operation", "write"));
const DELETE: Option<(&str, &str)> = Some(("operation", "delete"));
const PROCESS: Option<(&str, &str)> = Some(("kind", "process"));
const THREAD: Option<(&str, &str)> = Some(("kind", "thread"));
const STARTS: &[&str] = &["task.start"];
const START_ERRORS: &[&str] = &["task.fork"];

fn expected(syscall: &Totals, kernel: &Totals) -> Vec<Expected> {
    type Field = fn(&Totals) -> u64;
    type Label = Option<(&'static str, &'static str)>;
    type Row = (&'static str, Label, &'static [&'static str], bool, Field);
    let rows: [Row; 25] = [
        ("file.calls", OPEN, &["file.open"], false, |t| t.open),
        ("file.calls", CLOSE, &["file.close"], false, |t| t.close),
        ("file.errors", OPEN, &["file.open"], true, |t| t.open_errors),
        ("file.errors", CLOSE, &["file.close"], true, |t| t.close_errors),
        ("file.interrupted", OPEN, &["file.open"], true, |_| 0),
        ("file.interrupted", CLOSE, &["file.close"], true, |_| 0),
        ("vfs.calls", READ, &["vfs.read"], false, |t| t.read),
        ("vfs.calls", WRITE, &["vfs.write"], false, |t| t.write),
        ("vfs.calls", DELETE, &["vfs.delete"], false, |t| t.delete),
        ("vfs.errors", READ, &["vfs.read"], true, |t| t.read_errors),
        ("vfs.errors", WRITE, &["vfs.write"], true, |t| t.write_errors),
        ("vfs.errors", DELETE, &["vfs.delete"], true, |t| t.delete_errors),
        ("vfs.interrupted", READ, &["vfs.read"], true, |t| t.read_interrupted),
        ("vfs.interrupted", WRITE, &["vfs.write"], true, |_| 0),
        ("vfs.interrupted", DELETE, &["vfs.delete"], true, |_| 0),
        ("vfs.bytes", READ, &["vfs.read"], true, |t| t.read_bytes),
        ("vfs.bytes", WRITE, &["vfs.write"], true, |t| t.write_bytes),
        ("task.started", PROCESS, STARTS, false, |t| t.processes),
        ("task.started", THREAD, STARTS, false, |t| t.threads),
        ("task.start_errors", PROCESS, START_ERRORS, true, |t| t.process_errors),
        ("task.start_errors", THREAD, START_ERRORS, true, |t| t.thread_errors),
        ("task.start_interrupted", PROCESS, START_ERRORS, true, |_| 0),
        ("task.start_interrupted", THREAD, START_ERRORS, true, |_| 0),
        ("task.exits", None, &["task.exit"], false, |t| t.exits),
        (RELEASES, None, &["task.release"], false, |t| t.releases),
    ];
    rows.into_iter()
        .map(|(name, label, counters, return_only, field)| Expected {
            metric: Metric { name, label, counters, return_only },
            syscall: field(syscall),
            kernel: field(kernel),
        })
        .collect()
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
                let twins = e.metric.name == RELEASES || value == 0;
                if let Some(other) = seen.insert(value, e.metric)
                    && !twins
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
