//! What the tests can say of a probe, in the words of its file in [`rows`](crate::rows).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::ops::AddAssign;
use std::sync::LazyLock;

/// What the tests know of a probe.
#[derive(Debug)]
pub struct Rows {
    /// Its name.
    pub probe: &'static str,
    /// Whether it runs unless the configuration says otherwise.
    pub is_default: bool,
    /// What operations do to its metrics.
    pub groups: &'static [Group],
    /// What its metrics must show when that was done.
    pub expected: fn(Done) -> Vec<Expected>,
    /// The functions by which the kernel's own tracer sees the same.
    pub traced: &'static [Traced],
    /// The system calls by which strace sees the same.
    pub straced: &'static [Straced],
}

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

/// What a process has done, and everybody else nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Nothing.
    Nothing,
    /// The whole workload, its end included.
    Whole,
    /// The whole workload up to its second stop: its threads have ended, its leader has not.
    BeforeItsEnd,
    /// Several processes read so many bytes each, one at a time, and have ended.
    Reads {
        /// How many processes.
        processes: u64,
        /// How many bytes each.
        count: u64,
    },
    /// Processes that have ended say what they have done.
    Counted(Counted),
}

/// What a process says that it has done, in its own words: `workload/crew.h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Opens, those that failed among them.
    pub opens: u64,
    /// Opens that failed.
    pub open_errors: u64,
    /// Closes by a call, those that failed among them.
    pub closes: u64,
    /// Closes that failed.
    pub close_errors: u64,
    /// Reads, those that failed among them, but for bad ones.
    pub reads: u64,
    /// Reads that failed, but for bad ones.
    pub read_errors: u64,
    /// What they moved.
    pub read_bytes: u64,
    /// Reads of a descriptor that is not open.
    pub bad_reads: u64,
    /// Writes, those that failed among them, but for bad ones.
    pub writes: u64,
    /// Writes that failed, but for bad ones.
    pub write_errors: u64,
    /// What they moved.
    pub write_bytes: u64,
    /// Writes to a descriptor that is not open.
    pub bad_writes: u64,
    /// Deletions, those that failed among them, but for names that are missing.
    pub deletes: u64,
    /// Deletions that failed, but for names that are missing.
    pub delete_errors: u64,
    /// Deletions of names that are missing.
    pub missing_deletes: u64,
    /// Calls of fsync, those that failed among them.
    pub fsyncs: u64,
    /// Calls of fsync that failed.
    pub fsync_errors: u64,
    /// Processes started.
    pub processes: u64,
    /// Threads started.
    pub threads: u64,
    /// Starts of processes that failed.
    pub start_errors: u64,
    /// Tasks that have ended.
    pub exits: u64,
}

/// A number of [`Counted`].
type Field = fn(&mut Counted) -> &mut u64;

impl Counted {
    /// All numbers with their names.
    const FIELDS: [(&str, Field); 21] = [
        ("opens", |c| &mut c.opens),
        ("open_errors", |c| &mut c.open_errors),
        ("closes", |c| &mut c.closes),
        ("close_errors", |c| &mut c.close_errors),
        ("reads", |c| &mut c.reads),
        ("read_errors", |c| &mut c.read_errors),
        ("read_bytes", |c| &mut c.read_bytes),
        ("bad_reads", |c| &mut c.bad_reads),
        ("writes", |c| &mut c.writes),
        ("write_errors", |c| &mut c.write_errors),
        ("write_bytes", |c| &mut c.write_bytes),
        ("bad_writes", |c| &mut c.bad_writes),
        ("deletes", |c| &mut c.deletes),
        ("delete_errors", |c| &mut c.delete_errors),
        ("missing_deletes", |c| &mut c.missing_deletes),
        ("fsyncs", |c| &mut c.fsyncs),
        ("fsync_errors", |c| &mut c.fsync_errors),
        ("processes", |c| &mut c.processes),
        ("threads", |c| &mut c.threads),
        ("start_errors", |c| &mut c.start_errors),
        ("exits", |c| &mut c.exits),
    ];

    /// From what gives a number for each name; nothing if one is missing.
    pub fn read(number: impl Fn(&str) -> Option<u64>) -> Option<Self> {
        let mut counted = Self::default();
        for (name, field) in Self::FIELDS {
            *field(&mut counted) = number(name)?;
        }
        Some(counted)
    }
}

impl AddAssign for Counted {
    fn add_assign(&mut self, mut other: Self) {
        for (_, field) in Self::FIELDS {
            *field(self) += *field(&mut other);
        }
    }
}

/// Something a process can do.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Its name in the workload.
    pub name: &'static str,
    /// What it is, for people.
    pub text: &'static str,
    /// What it adds to the metrics.
    pub effects: &'static [Effect],
    /// What a kernel may lack; where it does, the row cannot be tried.
    pub needs: Need,
    /// Whether the process can do it only once.
    pub once: bool,
}

/// What one operation adds to one metric.
#[derive(Debug, Clone, Copy)]
pub struct Effect {
    /// The metric's public name.
    pub metric: &'static str,
    /// The value of its label; empty when it has none.
    pub label: &'static str,
    /// Added to a counter at the system call.
    pub syscall: u64,
    /// Added to a counter in the kernel function, or at the event in a task's life.
    pub kernel: u64,
}

impl Effect {
    /// What it adds at one layer.
    pub fn at(&self, layer: Layer) -> u64 {
        match layer {
            Layer::Syscall => self.syscall,
            Layer::Kernel => self.kernel,
        }
    }
}

/// Whether this kernel has a system call, by the name of its function.
pub fn has_call(name: &str) -> bool {
    static CALLS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        let symbols = symbols.lines().filter_map(|line| line.split_whitespace().nth(2));
        let name =
            |symbol: &str| Some(symbol.strip_prefix("__x64_").unwrap_or(symbol).strip_prefix("sys_")?.to_owned());
        symbols.filter_map(name).collect()
    });
    CALLS.contains(name)
}

/// What an operation needs that not every kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: every kernel that the agent supports has it.
    Nothing,
    /// 32-bit system calls from a 64-bit process.
    Int80,
    /// `io_uring`, with this operation.
    Uring,
    /// Asynchronous I/O (`io_submit`).
    Aio,
    /// A process that may trace its parent.
    Ptrace,
    /// A stacked file system (overlayfs).
    Stacked,
    /// A process that may mount.
    Mounts,
    /// A system call of later kernels; on others the row is none.
    Call(&'static str),
}

/// Rows that one process does in one go, because some of them change what the process is.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Its name in a message.
    pub name: &'static str,
    /// The rows, in the order in which they are done.
    pub operations: &'static [Operation],
}

pub(crate) const fn row(name: &'static str, text: &'static str, effects: &'static [Effect]) -> Operation {
    Operation { name, text, effects, needs: Need::Nothing, once: false }
}

pub(crate) const fn with(needs: Need, row: Operation) -> Operation {
    Operation { needs, ..row }
}

pub(crate) const fn once(row: Operation) -> Operation {
    Operation { once: true, ..row }
}

pub(crate) const fn effect(metric: &'static str, label: &'static str, syscall: u64, kernel: u64) -> Effect {
    Effect { metric, label, syscall, kernel }
}

/// Functions that do the same, and the metrics that their calls make.
#[derive(Debug)]
pub struct Traced {
    /// Their names, with the type of what they return.
    pub functions: &'static [(&'static str, &'static str)],
    /// The metrics; an empty label means all series of a metric.
    pub adds_up: &'static [Sum],
}

/// A metric by its name and the value of its label, and what adds up to it.
pub type Sum = (&'static str, &'static str, fn(&Seen) -> u64);

/// What became of calls, by their results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// All of them.
    pub calls: u64,
    /// Those that failed.
    pub errors: u64,
    /// Those that a signal interrupted.
    pub interrupted: u64,
    /// What they returned in sum, failures aside.
    pub bytes: u64,
}

/// A metric and the value of its label, empty when it has none.
pub type Series = (&'static str, &'static str);

/// System calls of which strace must count as many as there are in these metrics.
#[derive(Debug)]
pub struct Straced {
    /// Their names.
    pub names: &'static [&'static str],
    /// Whose sum they are.
    pub calls: &'static [Series],
    /// Whose sum those are that did not succeed: strace calls an interruption an error.
    pub failed: &'static [Series],
    /// How many are in no metric.
    pub uncounted: u64,
}

/// One metric of a probe: its name, its label, the counters that may serve it, whether it is there in return mode only,
/// and where it stands in what was done.
pub(crate) type Row<T> =
    (&'static str, Option<(&'static str, &'static str)>, &'static [&'static str], bool, fn(&T) -> u64);

/// The metrics with the values that follow from what was done, as it is seen at each layer.
pub(crate) fn expected<T>(rows: impl IntoIterator<Item = Row<T>>, totals: impl Fn(Layer) -> T) -> Vec<Expected> {
    let (syscall, kernel) = (totals(Layer::Syscall), totals(Layer::Kernel));
    let expect = |(name, label, counters, return_only, field): Row<T>| Expected {
        metric: Metric { name, label, counters, return_only },
        syscall: field(&syscall),
        kernel: field(&kernel),
    };
    rows.into_iter().map(expect).collect()
}
