//! A row's text, made once.

use std::sync::Arc;

use ebpf_process_core::{EntityKind, RowView};

use crate::name;
use crate::number::seconds;

/// What all lines of a row have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowText<'a> {
    pub(crate) labels: &'a str,
    pub(crate) started: &'a str,
}

/// The same, to be kept.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// `key="value"` pairs, separated by commas: no two rows of a kind that are on a page have the same.
    pub(crate) labels: Arc<str>,
    /// When it began; empty where a kind has no start times.
    pub(crate) started: Box<str>,
}

impl Row {
    /// Of a kind with these keys.
    pub(crate) fn new(keys: &Keys, row: &RowView<'_>) -> Self {
        let mut labels = String::new();
        for (key, (_, value)) in keys.keys.iter().zip(row.labels()) {
            let Some(key) = key else { continue };
            if !labels.is_empty() {
                labels.push(',');
            }
            labels.push_str(key);
            labels.push_str("=\"");
            name::push_escaped(value, &mut labels);
            labels.push('"');
        }
        let started = if keys.has_start_times { seconds(row.started()) } else { Box::default() };
        Self { labels: labels.into(), started }
    }
}

impl Row {
    pub(crate) fn text(&self) -> RowText<'_> {
        RowText { labels: &self.labels, started: &self.started }
    }
}

/// The texts of many rows one behind the other, for who reads all of them again and again.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: String,
    /// Where each one's labels and its start end.
    ends: Vec<(usize, usize)>,
}

impl Texts {
    pub(crate) fn push(&mut self, row: &Row) {
        self.bytes.push_str(&row.labels);
        let labels = self.bytes.len();
        self.bytes.push_str(&row.started);
        self.ends.push((labels, self.bytes.len()));
    }

    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<(usize, usize)>()
    }

    /// That of the row that was pushed as this one.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> RowText<'_> {
        let from = index.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let (labels, end) = self.ends[index];
        RowText { labels: &self.bytes[from..labels], started: &self.bytes[labels..end] }
    }
}

/// The label keys of a kind as a page says them.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Of two that are one key the first counts.
    keys: Vec<Option<String>>,
    has_start_times: bool,
}

impl Keys {
    pub(crate) fn new(kind: &EntityKind) -> Self {
        let mut keys: Vec<Option<String>> = Vec::new();
        for key in kind.label_keys() {
            let key = Some(name::label(key)).filter(|key| !keys.iter().flatten().any(|known| known == key));
            keys.push(key);
        }
        Self { keys, has_start_times: kind.has_start_times() }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Labels that come after the rows': of two with one key the first counts.
    pub(crate) fn others<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
        let mut others: Vec<(String, String)> = Vec::new();
        for (key, value) in labels {
            let key = name::label(key);
            let is_known = self.keys.iter().flatten().any(|known| *known == key);
            if !is_known && others.iter().all(|(known, _)| *known != key) {
                others.push((key, value.to_owned()));
            }
        }
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_take_the_room_that_there_is_for_them() {
        let texts = Texts { bytes: String::with_capacity(100), ends: Vec::with_capacity(3) };
        assert_eq!(texts.memory(), 100 + 3 * 16);
    }
}
