//! Rows of the kernel's history: the functions, tracepoints and events at which a counter can look.

use crate::abi::Slot;
use crate::release::Version;

/// How a function's result says that the call failed. It names the programs, so that the row and the C side agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    /// An `int` below zero.
    Status,
    /// NULL.
    Pointer,
    /// A number of bytes below zero; else so many bytes were moved.
    Size,
}

impl Fails {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Pointer => "pointer",
            Self::Size => "size",
        }
    }
}

/// What the programs of a breakpoint do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One program at its start, or one at its return.
    Plain,
    /// To count at its return takes what it was told at its start: two programs.
    Pair,
    /// As `Pair`, also where only calls are asked for.
    PairAlways,
}

/// A kernel function, in one range of kernels.
///
/// Its programs are called by it: `NAME__fentry` and `NAME__kprobe` at its start, `NAME__fexit_FAILSARITY` (as in
/// `vfs_read__fexit_size4`) and `NAME__kretprobe_FAILS` at its end; the macro `function()` of `probe.h` makes them.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    pub(crate) symbol: &'static str,
    pub(crate) program: &'static str,
    /// Of what its end is looked at: how many arguments it takes, and how it fails.
    pub(crate) end: Option<(usize, Fails)>,
    /// The record of each part of the counter.
    pub(crate) slots: &'static [Slot],
    pub(crate) shape: Shape,
    pub(crate) has_trampoline: bool,
    pub(crate) is_32_bit: bool,
    pub(crate) since: Option<(Version, &'static str)>,
    pub(crate) until: Option<(Version, &'static str)>,
}

impl Function {
    /// A function of that many arguments; of a counter with several parts `slots` has the record of each.
    pub const fn new(symbol: &'static str, arity: usize, fails: Fails, slots: &'static [Slot]) -> Self {
        Self { end: Some((arity, fails)), ..Self::at_start(symbol, slots) }
    }

    /// One whose end says nothing: it is counted when it begins, in either mode.
    pub const fn at_start(symbol: &'static str, slots: &'static [Slot]) -> Self {
        Self {
            symbol,
            program: symbol,
            end: None,
            slots,
            shape: Shape::Plain,
            has_trampoline: true,
            is_32_bit: false,
            since: None,
            until: None,
        }
    }

    /// Its programs have another name than it has.
    #[must_use]
    pub const fn program(self, program: &'static str) -> Self {
        Self { program, ..self }
    }

    /// At its return a breakpoint's program needs what another one, `NAME_enter__kprobe`, kept at its start.
    #[must_use]
    pub const fn keeps_an_argument(self) -> Self {
        Self { shape: Shape::Pair, ..self }
    }

    /// The same in both modes: only its result says whether there is something to count.
    #[must_use]
    pub const fn counted_by_result(self) -> Self {
        Self { shape: Shape::PairAlways, ..self }
    }

    /// It has no programs for trampolines.
    #[must_use]
    pub const fn by_breakpoint(self) -> Self {
        Self { has_trampoline: false, ..self }
    }

    /// Only 32-bit programs come there: where it cannot be hooked the others serve without it, in doubt. The self-test
    /// makes no such call, so that its hook proves nothing.
    #[must_use]
    pub const fn of_32_bit_calls(self) -> Self {
        Self { is_32_bit: true, ..self }
    }

    /// The first kernel that has it, by the commit that brought it. Tried on older ones all the same: distributions
    /// carry changes back.
    #[must_use]
    pub const fn since(self, version: Version, commit: &'static str) -> Self {
        Self { since: Some((version, commit)), ..self }
    }

    /// The first kernel that does not go by it any more, by the commit that changed that. Not tried from there on.
    #[must_use]
    pub const fn until(self, version: Version, commit: &'static str) -> Self {
        Self { until: Some((version, commit)), ..self }
    }

    pub(crate) fn gone_from(&self) -> Option<Version> {
        self.until.map(|(version, _)| version)
    }
}

/// One way to see what a counter counts: all of it.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// By these functions, all of them together. Fentry and kprobe tiers, in both modes.
    Functions(&'static [Function]),
    /// By a raw tracepoint, with a program of its name; the record of each part.
    Tracepoint(&'static str, &'static [Slot]),
    /// By a trace event (`category/name`), with a program `name__event`; the record of each part. For kernels without
    /// type information and kprobes.
    Event(&'static str, &'static [Slot]),
}
