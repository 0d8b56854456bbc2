//! How a batch is said in JSON.

use crate::integers::Integers;

/// How a program wants its batches in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// How values are arranged.
    pub format: Format,
    /// How integers are written.
    pub integers: Integers,
}

/// How values are arranged in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A table for each kind.
    Rows,
    /// An object for each value.
    Samples,
}
