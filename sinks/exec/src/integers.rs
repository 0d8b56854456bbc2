//! How integers are written.

/// How integers are written that may be beyond 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integers {
    /// As numbers.
    Numbers,
    /// As strings of digits, for readers that round numbers.
    Text,
}
