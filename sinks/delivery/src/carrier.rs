//! The way to one receiver.

use std::time::Duration;

use crate::frame::Frame;
use crate::verdict::Verdict;

/// Takes frames to a receiver: the part of a sink that does the I/O.
pub trait Carrier: Send {
    /// Sends one frame and waits for what becomes of it, no longer than `limit` (nor than the
    /// carrier's own time limit); it is longer than nothing. Called on the sink's thread, one frame at a time, oldest first.
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict;

    /// Whether a frame that is sent again overwrites itself at the receiver, so that nothing is
    /// counted twice.
    fn overwrites(&self) -> bool {
        false
    }
}

impl<C: Carrier + ?Sized> Carrier for Box<C> {
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict {
        (**self).send(frame, limit)
    }

    fn overwrites(&self) -> bool {
        (**self).overwrites()
    }
}
