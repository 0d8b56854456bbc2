//! One row as netdata knows it.

use crate::words;

/// What is told of a row: what stands before its values, and then `DIMENSION id 'name' `.
#[derive(Debug, Default)]
pub(crate) struct Name {
    text: Box<str>,
    split: usize,
    /// Of the row's labels, whatever became of them in the text.
    pub(crate) labels: u64,
    /// Whether the row is gone.
    pub(crate) gone: bool,
}

impl Name {
    pub(crate) fn new(id: &str, name: &str, labels: u64) -> Self {
        let set = words::set(id);
        let text = format!("{set}DIMENSION {id} {} ", words::quoted(name)).into_boxed_str();
        Self { text, split: set.len(), labels, gone: false }
    }

    /// What stands before a value.
    pub(crate) fn set(&self) -> &[u8] {
        &self.text.as_bytes()[..self.split]
    }

    /// The DIMENSION line before the algorithm.
    pub(crate) fn definition(&self) -> &[u8] {
        &self.text.as_bytes()[self.split..]
    }

    /// The dimension's id.
    pub(crate) fn id(&self) -> &str {
        let definition = self.text[self.split..].strip_prefix("DIMENSION ").unwrap_or_default();
        definition.split_once(' ').map_or("", |(id, _)| id)
    }
}
