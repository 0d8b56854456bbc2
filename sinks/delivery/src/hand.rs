//! Frames that are being delivered.

use std::collections::VecDeque;
use std::time::Instant;

use crate::frame::Frame;

/// A frame that is being delivered, in as many pieces as it takes.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    pub(crate) pieces: VecDeque<Frame>,
    /// Whether it is in the spool until all its pieces are settled.
    pub(crate) spooled: bool,
    /// How often it has been split for its content.
    pub(crate) splits: u32,
    /// Whether it is to blame when it is refused in doubt: others got through.
    pub(crate) to_blame: bool,
    /// By what the receiver knows it.
    pub(crate) number: u64,
    /// Where its first piece is.
    pub(crate) stage: Stage,
    /// Others pass it until then.
    pub(crate) not_before: Option<Instant>,
}

/// How far a frame, or a piece of one, has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing of the frame has been sent.
    #[default]
    Unsent,
    /// It is with the receiver, which has not answered.
    InFlight,
    /// The receiver has answered for the frame before, or for a piece before this one.
    Answered,
    /// It was with the receiver, whose answer is not waited for any more.
    Unanswered,
}

impl Hand {
    /// Whether the receiver has it and has not answered.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.stage == Stage::InFlight
    }

    pub(crate) fn hold(frame: Frame, spooled: bool) -> Self {
        Self { pieces: [frame].into(), spooled, ..Self::default() }
    }

    /// The memory that it takes, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.size() as u64).sum()
    }

    pub(crate) fn samples(&self) -> u64 {
        self.pieces.iter().map(Frame::samples).sum()
    }

    /// Halves the first piece. False if it is a single item.
    pub(crate) fn split(&mut self) -> bool {
        let Some(piece) = self.pieces.pop_front_if(|piece| piece.len() > 1) else { return false };
        let (first, second) = piece.split();
        self.pieces.push_front(second);
        self.pieces.push_front(first);
        true
    }
}
