//! What becomes of a view.

use ebpf_process_delivery::Frame;

/// The batches of a view, and what is in none.
#[derive(Debug, Default)]
pub struct Encoded {
    /// The batches, in order: each a mark of its encoding, and what is sent behind its [head](crate::head).
    pub frames: Vec<Frame>,
    /// Values that have nothing to tell since a batch before: as good as written.
    pub unchanged: u64,
    /// Values that are worth nothing by what is in the batches.
    pub superseded: u64,
    /// Values that cannot be said, and why.
    pub rejected: Vec<(u64, &'static str)>,
}
