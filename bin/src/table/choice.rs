//! Which of an interval's rows a table shows.

/// Which rows a table shows, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The kind's name.
    pub(crate) kind: &'static str,
    /// The title of the column that sorts them.
    pub(crate) sort: Option<String>,
    /// The most rows.
    pub(crate) limit: usize,
}
