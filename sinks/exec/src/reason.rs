//! Why values are rejected here.

pub(crate) const FORMAT: &str = "the program wants another format";
pub(crate) const REJECTED: &str = "rejected by the program";
pub(crate) const LINES_TOO_LARGE: &str = "lines larger than a batch";
pub(crate) const TOO_LARGE: &str = "row larger than a batch";
