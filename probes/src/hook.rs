//! The vocabulary of hooks: programs and their places, and what became of each counter.

use serde::{Deserialize, Serialize};

use crate::abi::Slot;
use crate::doubt::Doubt;
use crate::options::Tier;

/// A program and where it is attached.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) program: String,
    pub(crate) attach: Attach,
    /// Any of these records must move when the self-test does the operation; empty for a helper
    /// program that counts nothing itself.
    pub(crate) proof: Vec<Slot>,
    /// Whether its place may be missing as long as another one of the same counter is there: newer system calls.
    pub(crate) may_lack: bool,
}

/// What tells a hook's link from others: two counters may want one program at two places.
pub(crate) type Place = (String, Attach);

impl Hook {
    pub(crate) fn place(&self) -> Place {
        (self.program.clone(), self.attach.clone())
    }
}

/// A point of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// This trace event of tracefs (`category/name`), by perf. For kernels without type information and kprobes: each
    /// event costs several times a raw tracepoint.
    Event(String),
}

/// A place in a message. What it means is known from the hooks of the probe that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlaceText {
    program: String,
    attach: String,
}

impl PlaceText {
    pub(crate) fn of((program, attach): &Place) -> Self {
        Self { program: program.clone(), attach: format!("{attach:?}") }
    }

    /// The hook at this place.
    pub(crate) fn find<'a>(&self, hooks: &'a [Hook]) -> Result<&'a Hook, String> {
        let is_here = |hook: &&Hook| hook.program == self.program && format!("{:?}", hook.attach) == self.attach;
        hooks.iter().find(is_here).ok_or_else(|| format!("there is no hook {} at {}", self.program, self.attach))
    }
}

impl Attach {
    /// The function or tracepoint.
    pub(crate) fn target(&self) -> &str {
        match self {
            Self::Fentry(name)
            | Self::Fexit(name, _)
            | Self::Kprobe(name)
            | Self::Kretprobe(name)
            | Self::Tracepoint(name) => name,
            // The event of all system calls, not that of one.
            Self::Event(event) if event == "raw_syscalls/sys_exit" => "raw_sys_exit",
            Self::Event(event) => event.split_once('/').map_or(event, |(_, name)| name),
        }
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

/// What was chosen for one counter, or why nothing was.
#[derive(Clone, Debug, Serialize)]
pub struct CounterReport {
    /// The counter's name.
    pub counter: &'static str,
    /// The hook in use, if there is one.
    pub hook: Option<HookReport>,
    /// What was tried before and why it was not taken, in order.
    pub tried: Vec<Attempt>,
    /// Whether nothing is missing without a hook: this kernel has no such system call.
    pub absent: bool,
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
}
