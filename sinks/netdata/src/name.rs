//! One row as netdata knows it.

use crate::words;

/// What is told of a row: `SET id = ` and then `DIMENSION id 'name' `.
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
        let set = format!("SET {id} = ");
        let text = format!("{set}DIMENSION {id} {} ", words::quoted(name)).into_boxed_str();
        Self { text, split: set.len(), labels, gone: false }
    }

    /// The SET line before its value.
    pub(crate) fn set(&self) -> &[u8] {
        &self.text.as_bytes()[..self.split]
    }

    /// The DIMENSION line before the algorithm.
    pub(crate) fn definition(&self) -> &[u8] {
        &self.text.as_bytes()[self.split..]
    }

    /// The dimension's id.
    pub(crate) fn id(&self) -> &str {
        self.text[..self.split].strip_prefix("SET ").and_then(|id| id.strip_suffix(" = ")).unwrap_or_default()
    }
}
