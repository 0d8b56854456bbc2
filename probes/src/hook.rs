//! The vocabulary of hooks: counters, their candidates, and what became of each.

use std::io;

use serde::Serialize;

use crate::abi::{Record, Slot};
use crate::catalog::Metric;
use crate::doubt::Doubt;
use crate::options::Tier;
use crate::release::Version;

/// One logical counter, with the ways to count it from the cheapest to the dearest.
#[derive(Debug)]
pub(crate) struct Counter {
    /// `area.operation`: the label `counter` of `hook.info` and `hook.missed`.
    pub(crate) name: &'static str,
    /// Whether it exists in return mode only.
    pub(crate) return_only: bool,
    /// Whose event it is, which decides which filters can be honoured.
    pub(crate) subject: Subject,
    /// In entry mode, what may count it.
    pub(crate) entry: &'static [Candidate],
    /// In return mode, what may count it.
    pub(crate) results: &'static [Candidate],
    /// Does the operation once; given the id of a child whose events the filter must let through.
    /// An error means that the operation is impossible here, which proves nothing.
    pub(crate) exercise: fn(&mut dyn FnMut(u32) -> io::Result<()>) -> io::Result<()>,
    /// The series it feeds.
    pub(crate) outputs: &'static [Output],
}

/// How many operations of ours each hook must count in a test.
pub(crate) const OPERATIONS: u64 = 3;

/// Whose event a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The current task's: helpers know its thread group and its control group.
    Current,
    /// Another task's: its thread group is read from its structure, its control group is not known.
    Other,
}

/// One way to count a counter. All of its hooks must attach and prove themselves.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) tier: Tier,
    pub(crate) layer: Layer,
    pub(crate) hooks: &'static [Hook],
    /// By part of the counter (see [`Output::part`]): the records whose sum it is.
    pub(crate) parts: &'static [&'static [Slot]],
}

impl Candidate {
    /// Whether one program at one place serves both.
    pub(crate) fn shares_a_hook_with(&self, other: &Self) -> bool {
        self.hooks.iter().any(|hook| other.hooks.iter().any(|theirs| hook.place() == theirs.place()))
    }
}

/// A program and where it is attached.
#[derive(Debug)]
pub(crate) struct Hook {
    pub(crate) program: &'static str,
    pub(crate) attach: Attach,
    /// Any of these records must move when the self-test does the operation; empty for a helper
    /// program that counts nothing itself.
    pub(crate) proof: &'static [Slot],
}

impl Hook {
    /// What tells its link from others: two counters may want one program at two places.
    pub(crate) const fn place(&self) -> (&'static str, Attach) {
        (self.program, self.attach)
    }
}

/// A point of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attach {
    /// At the start of this function, by trampoline.
    Fentry(&'static str),
    /// At the end of this function, by trampoline. The result stands behind that many arguments,
    /// so a function of another arity must be refused.
    Fexit(&'static str, usize),
    /// At the start of this function, by breakpoint.
    Kprobe(&'static str),
    /// At the end of this function, by breakpoint.
    Kretprobe(&'static str),
    /// This raw tracepoint, with its arguments typed by BTF.
    Tracepoint(&'static str),
    /// These trace events of tracefs (`category/name`), by perf, as many as the kernel has; and what they are called
    /// together. For kernels without type information and kprobes: each event costs several times a raw tracepoint.
    Events(&'static str, &'static [&'static str]),
}

impl Attach {
    /// The function or tracepoint.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::Fentry(name)
            | Self::Fexit(name, _)
            | Self::Kprobe(name)
            | Self::Kretprobe(name)
            | Self::Tracepoint(name)
            | Self::Events(name, _) => name,
        }
    }

    /// The version from which on it is not tried: its function is gone, or another way serves.
    pub(crate) fn until(self) -> Option<Version> {
        match self.target() {
            // 5f764d624a89 "fs: remove the compat readv/writev syscalls"
            "compat_readv" | "compat_writev" => Some(Version(5, 10)),
            // abbb65899aec "fs: implement vfs_iter_read using do_iter_read" and those around it
            "do_readv_writev" | "compat_do_readv_writev" => Some(Version(4, 13)),
            // cf5f5cea2706 "bpf: add support for sys_enter_* and sys_exit_* tracepoints": those of single calls serve.
            "raw_sys_exit" => Some(Version(4, 14)),
            _ => None,
        }
    }

    /// Whether only 32-bit programs come there.
    pub(crate) fn is_32_bit(self) -> bool {
        self.target().starts_with("compat_")
    }
}

/// Where in the kernel a counter looks, which decides what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// At the system call: everything a program asks for, also what fails early; not what the
    /// kernel does by itself.
    Syscall,
    /// At the function that does the work, below the checks of the system call.
    Function,
    /// At the event in the scheduler's life of a task.
    Task,
}

impl Layer {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syscall => "syscall",
            Self::Function => "function",
            Self::Task => "task",
        }
    }
}

/// What an event costs by the way it is counted; docs/cost.md has the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cost {
    /// A trampoline or a typed tracepoint.
    Low,
    /// A breakpoint at a function's start, or a trace event by perf.
    Medium,
    /// A breakpoint at a function's return.
    High,
    /// Every system call of the machine pays a little, the watched ones more.
    EverySystemCall,
}

impl Cost {
    pub(crate) fn of(candidate: &Candidate) -> Self {
        let has = |is: fn(Attach) -> bool| candidate.hooks.iter().any(|hook| is(hook.attach));
        if candidate.layer == Layer::Syscall {
            Self::EverySystemCall
        } else if has(|attach| matches!(attach, Attach::Kretprobe(_))) {
            Self::High
        } else if has(|attach| matches!(attach, Attach::Kprobe(_) | Attach::Events(..))) {
            Self::Medium
        } else {
            Self::Low
        }
    }

    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::EverySystemCall => "every system call",
        }
    }
}

/// A series that a counter feeds.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) metric: Metric,
    /// The value of the metric's one label, if it has one.
    pub(crate) label: Option<&'static str>,
    pub(crate) field: Field,
    /// Which part of the counter: some tell two kinds apart in the kernel.
    pub(crate) part: usize,
    /// Whether it exists in return mode only.
    pub(crate) return_only: bool,
}

/// A number of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    Calls,
    Errors,
    Interrupted,
    Bytes,
}

impl Field {
    pub(crate) const fn of(self, record: Record) -> u64 {
        match self {
            Self::Calls => record.calls,
            Self::Errors => record.errors,
            Self::Interrupted => record.interrupted,
            Self::Bytes => record.bytes,
        }
    }
}

/// What was chosen for one counter, or why nothing was.
#[derive(Clone, Debug, Serialize)]
pub struct CounterReport {
    /// The counter's name.
    pub counter: &'static str,
    /// The hook in use, if there is one.
    pub hook: Option<HookReport>,
    /// What was tried before and why it was not taken, in order.
    pub tried: Vec<Attempt>,
}

/// A hook in use.
#[derive(Clone, Debug, Serialize)]
pub struct HookReport {
    /// How it is attached.
    pub tier: Tier,
    /// What it sees.
    pub layer: Layer,
    /// What an event costs.
    pub cost: Cost,
    /// The functions or tracepoints, joined by `+`.
    pub function: String,
    /// Whether it counts every event on this kernel: nothing that is known speaks against it.
    pub exact: bool,
    /// What speaks against it.
    pub doubts: Vec<Doubt>,
    /// Whether the self-test saw it count. An operation that is impossible here proves nothing.
    pub proven: bool,
}

impl HookReport {
    /// Something more speaks against it.
    pub(crate) fn add_doubt(&mut self, doubt: Doubt) {
        self.exact = false;
        if !self.doubts.contains(&doubt) {
            self.doubts.push(doubt);
        }
    }
}

/// A hook that was not taken.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// How it would have been attached.
    pub tier: Tier,
    /// The function or tracepoint.
    pub function: String,
    /// Why it was not taken.
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_takes_exactness_away_and_is_told_once() {
        let mut report = HookReport {
            tier: Tier::Tracepoint,
            layer: Layer::Task,
            cost: Cost::Low,
            function: "task_newtask".to_owned(),
            exact: true,
            doubts: Vec::new(),
            proven: true,
        };
        for _ in 0..2 {
            report.add_doubt(Doubt::Unguarded);
        }
        assert_eq!((report.exact, report.doubts), (false, vec![Doubt::Unguarded]));
    }

    #[test]
    fn who_stands_on_one_program_at_one_place_shares_a_hook() {
        let candidate = |counter: &str, target: &str| {
            let known = crate::FILE.counters.iter().find(|known| known.name == counter).expect("a counter");
            let all = known.entry.iter().chain(known.results);
            all.into_iter().find(|candidate| candidate.hooks[0].attach.target() == target).expect("a candidate")
        };
        let open = candidate("file.open", "sys_exit");
        assert!(open.shares_a_hook_with(candidate("vfs.read", "sys_exit")));
        assert!(!open.shares_a_hook_with(candidate("vfs.read", "vfs_read")));
    }
}
