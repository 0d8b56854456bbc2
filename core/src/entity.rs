//! What rows are about: kinds of entity, and the ids of what a recorder knows.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::metric::{Column, clean_key, clean_with};

/// What rows are about: the host, processes, disks, or whatever a plugin counts by.
///
/// A kind has label keys, for which each row has values, and a limit on its rows. The kind's name stands in
/// front of its metrics' names, so that a sum over a metric's series never counts an event twice; of a kind whose rows are
/// parts of others ([`nested`](Self::nested)) it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityKind {
    name: Cow<'static, str>,
    keys: Vec<Cow<'static, str>>,
    limit: usize,
    names_as_they_are: bool,
    nested: bool,
}

impl EntityKind {
    /// Rows that a kind may have unless [`limit`](Self::limit) says otherwise.
    pub const DEFAULT_LIMIT: usize = 1024;

    /// The name of the kind that each recorder has from the start: one row, no labels.
    pub const HOST: &str = "host";

    /// The name of the kind whose rows are processes. A sink gets it only when its selection says so, unless it
    /// [takes every kind](crate::SinkPlugin::takes_every_kind).
    pub const PROCESS: &str = "process";

    /// A kind without label keys. Its name is one lower-case word; what does not fit is cleaned.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        Self {
            name: clean_with(name.into(), is_name),
            keys: Vec::new(),
            limit: Self::DEFAULT_LIMIT,
            names_as_they_are: false,
            nested: false,
        }
    }

    /// The kind of what concerns the whole host.
    pub const fn host() -> Self {
        Self { name: Cow::Borrowed(Self::HOST), keys: Vec::new(), limit: 1, names_as_they_are: true, nested: false }
    }

    /// Sets the label keys; each row gives one value per key, in this order.
    #[must_use]
    pub fn keys<K: Into<Cow<'static, str>>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys = keys.into_iter().map(|key| clean_key(key.into())).collect();
        self
    }

    /// Sets how many rows there may be at once. What is beyond is counted in one row more, whose label values
    /// are all `other`.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Leaves the kind's name away from its metrics' names: for metrics that have no namesake on another kind.
    #[must_use]
    pub const fn names_as_they_are(mut self) -> Self {
        self.names_as_they_are = true;
        self
    }

    /// Says that rows are parts of others, as a directory is of the one above it: a sum over them counts an event more
    /// than once, and whoever shows rows shows no such sum.
    #[must_use]
    pub const fn nested(mut self) -> Self {
        self.nested = true;
        self
    }

    /// The kind's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether rows are parts of others.
    pub const fn is_nested(&self) -> bool {
        self.nested
    }

    /// The label keys, in the order in which values are given.
    pub fn label_keys(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.keys.iter().map(AsRef::as_ref)
    }

    /// The most rows at once, `other` not among them.
    pub const fn row_limit(&self) -> usize {
        self.limit
    }

    /// Whether its metrics have a start time: all but the host's and those without the kind's name, which live as
    /// long as the agent.
    pub const fn has_start_times(&self) -> bool {
        !self.names_as_they_are
    }

    /// The name of a column's metric on this kind: `process.vfs.calls`.
    pub fn metric_name(&self, column: &Column) -> String {
        if self.names_as_they_are { column.name().to_owned() } else { format!("{}.{}", self.name, column.name()) }
    }
}

/// A column on its kind, for a probe's catalog.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Declared {
    /// What has a row of its own.
    pub kind: EntityKind,
    /// What is counted for each.
    pub column: Column,
}

impl Declared {
    /// A column on this kind.
    pub const fn new(kind: EntityKind, column: Column) -> Self {
        Self { kind, column }
    }

    /// A column that concerns the whole host.
    pub const fn host(column: Column) -> Self {
        Self { kind: EntityKind::host(), column }
    }

    /// The metric's name.
    pub fn metric_name(&self) -> String {
        self.kind.metric_name(&self.column)
    }

    /// The keys of all labels of a series: the row's, then the column's.
    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        self.kind.label_keys().chain(self.column.own_labels().map(|(key, _)| key))
    }
}

static BIRTHS: AtomicU64 = AtomicU64::new(1);

/// Made once: no two kinds, columns or rows of any recorder have the same.
pub(crate) fn birth() -> u64 {
    // 2^64 births take longer than any agent runs.
    BIRTHS.fetch_add(1, Ordering::Relaxed)
}

/// Lets so many births have been, at least.
#[cfg(test)]
pub(crate) fn births_were(count: u64) {
    BIRTHS.fetch_max(count, Ordering::Relaxed);
}

/// A kind of one recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KindId {
    pub(crate) index: u32,
    pub(crate) birth: u64,
}

/// A column of one kind of one recorder. It is valid as long as the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ColumnId {
    pub(crate) kind: u32,
    pub(crate) index: u32,
    pub(crate) birth: u64,
}

/// A row of one kind of one recorder, until it ends. That of a former row, or of another recorder, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowId {
    pub(crate) kind: u32,
    pub(crate) slot: u32,
    pub(crate) birth: u64,
}

/// A row as batches know it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: RowId,
    /// The values, cleaned, with a [`SEPARATOR`] between two.
    pub(crate) text: Arc<str>,
    /// Wall-clock time since the epoch of the batch before its first one.
    pub(crate) started: Duration,
}

/// What is in no cleaned label.
pub(crate) const SEPARATOR: char = '\0';

impl Row {
    /// The label values, one for each key of the kind.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> + Clone {
        self.text.split(SEPARATOR)
    }

    /// Bytes that it takes, its text included.
    pub(crate) fn memory(&self) -> usize {
        // Both have two counts.
        size_of::<Self>() + self.text.len() + 4 * size_of::<usize>()
    }
}

/// Why a kind, a column or a row was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// Another probe has declared a kind of this name. To add columns and rows to that one, ask for it:
    /// [`Recorder::existing_kind`](crate::Recorder::existing_kind).
    KindTaken {
        /// The kind's name.
        kind: String,
    },
    /// A column has a label under a key that belongs to its kind's rows.
    KeyTaken {
        /// The metric's name.
        metric: String,
        /// The key.
        key: String,
    },
    /// A kind or a column has two labels under one key.
    KeyTwice {
        /// The kind's or the metric's name.
        name: String,
        /// The key.
        key: String,
    },
    /// Another kind has a metric of this name.
    NameTaken {
        /// The metric's name, the kind in front included.
        metric: String,
        /// The other kind's name.
        kind: String,
    },
    /// A kind without label keys has one row at a time, and another entity has it.
    OneRow {
        /// The kind's name.
        kind: String,
    },
    /// A column of the same name on the same kind has another kind of numbers.
    MetricKind {
        /// The metric's name.
        metric: String,
        /// What the other column has.
        has: crate::MetricKind,
    },
    /// The same column is there with another scale, or with other slots: numbers of the one are none of the other. It stays
    /// for as long as the agent runs, whoever asks for it.
    Numbers {
        /// The metric's name.
        metric: String,
        /// The unit that the column has.
        unit: String,
    },
    /// Another number of values was given than the kind has label keys.
    Labels {
        /// The kind's name.
        kind: String,
        /// How many keys it has.
        expected: usize,
        /// How many values were given.
        given: usize,
    },
    /// The id is of another recorder.
    Foreign,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KindTaken { kind } => {
                write!(f, "another probe has declared the kind {kind}: take another name, or ask for the existing kind")
            }
            Self::KeyTaken { metric, key } => {
                write!(f, "metric {metric}: the label {key} belongs to the rows of its kind, a column may not have it")
            }
            Self::KeyTwice { name, key } => write!(f, "{name} has two labels under the key {key}"),
            Self::NameTaken { metric, kind } => {
                write!(f, "the kind {kind} has a metric {metric} already: their series could not be told apart")
            }
            Self::OneRow { kind } => {
                write!(f, "kind {kind} has no label keys by which two rows could be told apart, and one row already")
            }
            Self::MetricKind { metric, has } => write!(f, "metric {metric} is a {has} already"),
            Self::Numbers { metric, unit } => write!(
                f,
                "metric {metric} is counted in {unit} already, by another scale or in other slots: give it another name, or \
                 start the agent again"
            ),
            Self::Labels { kind, expected, given } => {
                write!(f, "kind {kind} has {expected} label keys, {given} values were given")
            }
            Self::Foreign => f.write_str("the id belongs to another recorder"),
        }
    }
}

impl std::error::Error for Refused {}

/// An identity for a row that has none but its text: rows of equal text are one row.
pub fn identity_of(text: &str) -> u64 {
    // FNV-1a: the same in every run.
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
