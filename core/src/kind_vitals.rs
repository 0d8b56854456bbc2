//! How many rows a kind has and had.

/// What is known of the rows of one kind, as of the newest batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindVitals {
    /// The kind's name.
    pub kind: String,
    /// Rows that live, `other` not among them.
    pub rows: usize,
    /// The most that there may be.
    pub limit: usize,
    /// Rows that have begun since the start.
    pub began: u64,
    /// Rows that have ended since the start.
    pub ended: u64,
    /// Entities for which there was no place, each once: they are counted in the row `other`.
    pub refused: u64,
    /// Cells of living rows that ever had a value.
    pub series: usize,
}
