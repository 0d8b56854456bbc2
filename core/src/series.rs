//! Series: a descriptor with label values, and the table that gives each a small number.

use std::fmt;
use std::sync::Arc;

use crate::metric::Descriptor;

/// Identity of a series for the whole run of the agent.
///
/// The slot is a small index that is used again after a series has ended; the birth number tells
/// the users of one slot apart. Equal ids mean the same series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesId {
    pub(crate) slot: u32,
    pub(crate) birth: u32,
}

impl SeriesId {
    /// Index into a table as large as the most series alive at once.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// A descriptor with label values, made once per label set.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) id: SeriesId,
    pub(crate) descriptor: usize,
    pub(crate) labels: Box<[Box<str>]>,
}

/// All series that a batch may mention: an immutable snapshot, shared by batches until it changes.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    /// Rises by one whenever a series or a descriptor comes or goes.
    pub(crate) generation: u64,
    pub(crate) descriptors: Vec<Arc<Descriptor>>,
    pub(crate) series: Vec<Option<Arc<Series>>>,
}

impl SeriesTable {
    /// Whether this very series still exists.
    pub(crate) fn contains(&self, id: SeriesId) -> bool {
        matches!(self.series.get(id.slot()), Some(Some(series)) if series.id == id)
    }

    pub(crate) fn slot(&self, slot: u32) -> Option<&Arc<Series>> {
        self.series.get(slot as usize).and_then(Option::as_ref)
    }
}

/// Why a series was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeriesRefused {
    /// The metric has as many series as its descriptor allows; the refusal is counted in
    /// `agent.series_refused`.
    Limit {
        /// The metric's name.
        metric: String,
        /// What its descriptor allows.
        limit: usize,
    },
    /// Another number of values was given than the descriptor has keys.
    Labels {
        /// The metric's name.
        metric: String,
        /// How many keys the descriptor has.
        expected: usize,
        /// How many values were given.
        given: usize,
    },
}

impl fmt::Display for SeriesRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { metric, limit } => write!(f, "metric {metric} already has its {limit} series"),
            Self::Labels { metric, expected, given } => {
                write!(f, "metric {metric} has {expected} label keys, {given} values were given")
            }
        }
    }
}

impl std::error::Error for SeriesRefused {}

/// The longest label value that is kept, in bytes.
pub const LABEL_VALUE_LIMIT: usize = 200;

/// Makes a label value safe to keep: no control characters or line separators, no more than
/// [`LABEL_VALUE_LIMIT`] bytes, never empty.
///
/// Process, cgroup and file system names are chosen by whoever runs a process. What a protocol
/// gives a meaning beyond this (quotes, commas, colons) is its sink's to clean.
pub fn clean_label(value: &str) -> Box<str> {
    let mut cleaned = String::with_capacity(value.len().min(LABEL_VALUE_LIMIT));
    for c in value.chars() {
        let c = if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { '_' } else { c };
        if cleaned.len() + c.len_utf8() > LABEL_VALUE_LIMIT {
            break;
        }
        cleaned.push(c);
    }
    if cleaned.is_empty() {
        cleaned.push('_');
    }
    cleaned.into_boxed_str()
}

/// A cleaned label value with a suffix for what it was before.
pub(crate) fn told_apart(cleaned: &str, given: u64) -> Box<str> {
    let suffix = format!("~{given:016x}");
    let mut end = cleaned.len().min(LABEL_VALUE_LIMIT - suffix.len());
    while !cleaned.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &cleaned[..end]).into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_label_value_becomes_one_bounded_line() {
        assert_eq!(&*clean_label("plain"), "plain");
        assert_eq!(&*clean_label("a\nb\0c\u{85}d\u{2028}e"), "a_b_c_d_e");
        assert_eq!(&*clean_label(""), "_");
        let long = clean_label(&"é".repeat(4096));
        assert_eq!(long.len(), LABEL_VALUE_LIMIT);
        assert!(long.chars().all(|c| c == 'é'));
    }
}
