//! What a delivery leaves to the one that takes its place.

use crate::note::Noted;
use crate::numbers::Numbers;
use crate::storage::Storage;

/// What was not delivered: frames from memory, and where others are on disk.
#[derive(Debug, Default)]
pub struct Undelivered {
    /// Oldest first.
    pub(crate) frames: Vec<Noted>,
    /// How the frames are numbered that have been sent.
    pub(crate) numbers: Option<Numbers>,
    /// A spool, which nobody holds any more.
    pub(crate) spool: Option<Storage>,
}

impl Undelivered {
    /// The samples of the frames from memory: those on disk are found there.
    pub fn samples(&self) -> u64 {
        self.frames.iter().map(|noted| noted.frame.samples()).sum()
    }
}
