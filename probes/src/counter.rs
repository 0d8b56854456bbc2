//! What is counted: the declaration of one counter.

use std::io;

use ebpf_process_core::{Column, Unit};

use crate::abi::Record;
use crate::call::Call;
use crate::hook::Layer;
use crate::options::Mode;
use crate::way::Way;

/// One logical counter, with what can count it.
///
/// The candidates of all tiers and modes follow from its rows. A counter may have several parts, which the kernel tells
/// apart (processes and threads): each row names a record for each.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// `area.operation`: the label `counter` of `hook.info` and `hook.missed`.
    pub(crate) name: &'static str,
    /// Whether it exists in return mode only.
    pub(crate) return_only: bool,
    /// Whose event it is, which decides which filters can be honoured.
    pub(crate) subject: Subject,
    /// Where its ways look. System calls are a layer of their own.
    pub(crate) layer: Layer,
    pub(crate) ways: &'static [Way],
    pub(crate) calls: &'static [Call],
    pub(crate) exercise: Exercise,
    /// Who proves it where its own operation is impossible.
    pub(crate) proven_by: Option<&'static str>,
    /// The series it feeds.
    pub(crate) outputs: &'static [Output],
}

/// Does a counter's operation once; given what lets the events of a child through the filter, by its id.
///
/// An error means that the operation is impossible here, which proves nothing; `ENOSYS` that this kernel has no such
/// system call, and then a counter of system calls has nothing to count.
pub type Exercise = fn(&mut dyn FnMut(u32) -> io::Result<()>) -> io::Result<()>;

/// How many operations of ours each hook must count in a test.
pub(crate) const OPERATIONS: u64 = 3;

/// Whose event a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The current task's: helpers know its thread group and its control group.
    Current,
    /// Another task's: its thread group is read from its structure, its control group is not known.
    Other,
}

impl Counter {
    /// A counter of this name (`area.operation`) whose operation `exercise` does.
    pub const fn new(name: &'static str, layer: Layer, exercise: Exercise) -> Self {
        Self {
            name,
            return_only: false,
            subject: Subject::Current,
            layer,
            ways: &[],
            calls: &[],
            exercise,
            proven_by: None,
            outputs: &[],
        }
    }

    /// The rows by which it can be seen; among equally cheap ones the first is tried first.
    #[must_use]
    pub const fn ways(self, ways: &'static [Way]) -> Self {
        Self { ways, ..self }
    }

    /// The system calls that are its events, where it is not seen by a cheaper way. They need no program of the probe's.
    #[must_use]
    pub const fn calls(self, calls: &'static [Call]) -> Self {
        Self { calls, ..self }
    }

    /// What it feeds.
    #[must_use]
    pub const fn outputs(self, outputs: &'static [Output]) -> Self {
        Self { outputs, ..self }
    }

    /// It exists in return mode only.
    #[must_use]
    pub const fn in_return_mode(self) -> Self {
        Self { return_only: true, ..self }
    }

    /// Its events are not the current task's.
    #[must_use]
    pub const fn of_others(self) -> Self {
        Self { subject: Subject::Other, ..self }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Where its own operation is impossible it is proven by a counter before it, of a hook in the same tier: for functions
    /// that cannot be there and not be called, as a system call's own.
    #[must_use]
    pub const fn proven_by(self, other: &'static str) -> Self {
        Self { proven_by: Some(other), ..self }
    }

    pub(crate) fn outputs_in(&self, mode: Mode) -> impl Iterator<Item = &'static Output> {
        self.outputs.iter().filter(move |output| mode == Mode::Return || !output.return_only)
    }
}

/// A metric of the host that counters feed: of one series, or of several that one label tells apart.
#[derive(Clone, Debug)]
pub struct Metric {
    name: &'static str,
    unit: Unit,
    help: &'static str,
    label: Option<&'static str>,
}

impl Metric {
    /// A counting metric; `label` is the key of the label that tells its series apart.
    pub const fn new(name: &'static str, unit: Unit, help: &'static str, label: &'static str) -> Self {
        Self { name, unit, help, label: Some(label) }
    }

    /// A counting metric of one series, which [`Output::unlabelled`] feeds.
    pub const fn unlabelled(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self { name, unit, help, label: None }
    }

    /// The host's column of this metric; `value` is the value of its label, if it has one.
    pub(crate) fn column(&self, value: Option<&'static str>) -> Column {
        Column::counter(self.name, self.unit.clone(), self.help).labels(self.label.zip(value))
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) const fn has_label(&self) -> bool {
        self.label.is_some()
    }
}

/// A series that a counter feeds.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub(crate) metric: &'static Metric,
    /// The value of the metric's label, if it has one.
    pub(crate) label: Option<&'static str>,
    pub(crate) field: Field,
    /// Which part of the counter: some tell two kinds apart in the kernel.
    pub(crate) part: usize,
    /// Whether it exists in return mode only.
    pub(crate) return_only: bool,
}

impl Output {
    /// The series of a metric that has this value of its label, from the counter's first part.
    pub const fn new(metric: &'static Metric, label: &'static str, field: Field) -> Self {
        Self { label: Some(label), ..Self::unlabelled(metric, field) }
    }

    /// The metric's only series.
    pub const fn unlabelled(metric: &'static Metric, field: Field) -> Self {
        let return_only = !matches!(field, Field::Calls);
        Self { metric, label: None, field, part: 0, return_only }
    }

    /// From another part of the counter.
    #[must_use]
    pub const fn of_part(self, part: usize) -> Self {
        Self { part, ..self }
    }
}

/// A number of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Calls, whatever became of them.
    Calls,
    /// Those that failed. In return mode only.
    Errors,
    /// Those that a signal interrupted. In return mode only.
    Interrupted,
    /// What successful ones moved. In return mode only.
    Bytes,
}

impl Field {
    /// Which word of a record it is.
    pub(crate) const fn word(self) -> usize {
        match self {
            Self::Calls => 0,
            Self::Errors => 1,
            Self::Interrupted => 2,
            Self::Bytes => 3,
        }
    }

    pub(crate) const fn of(self, record: Record) -> u64 {
        match self {
            Self::Calls => record.calls,
            Self::Errors => record.errors,
            Self::Interrupted => record.interrupted,
            Self::Bytes => record.bytes,
        }
    }
}
