//! Frames that are being delivered.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Instant;

use crate::frame::Frame;
use crate::front::pop_if;
use crate::note::{Note, Noted};

/// A frame that is being delivered, in as many pieces as it takes.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    pub(crate) pieces: VecDeque<Frame>,
    /// Its number and age.
    pub(crate) note: Note,
    /// Its place in the spool, where it is until all its pieces are settled.
    pub(crate) record: Option<u64>,
    /// Whether it has been split, or a part of it is settled.
    pub(crate) is_split: bool,
    /// How often it has been split for its content.
    pub(crate) splits: u32,
    /// Whether it is to blame when it is refused in doubt: others got through.
    pub(crate) to_blame: bool,
    /// Where its first piece is.
    pub(crate) stage: Stage,
    /// Others pass it until then.
    pub(crate) not_before: Option<Instant>,
}

/// How far a frame, or a piece of one, has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits to be sent, perhaps not for the first time.
    #[default]
    Waiting,
    /// It is with the receiver, which has not answered.
    InFlight,
    /// It was with the receiver, whose answer is not waited for any more.
    Unanswered,
}

impl Hand {
    /// Whether the receiver has it and has not answered.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.stage == Stage::InFlight
    }

    pub(crate) fn hold(Noted { frame, note }: Noted, record: Option<u64>) -> Self {
        Self { pieces: [frame].into(), note, record, ..Self::default() }
    }

    /// What is left of it, as one frame.
    pub(crate) fn joined(&self) -> Option<Cow<'_, Frame>> {
        let first = self.pieces.front()?;
        if self.pieces.len() == 1 {
            return Some(Cow::Borrowed(first));
        }
        let mut whole = Frame::default();
        for (item, samples) in self.pieces.iter().flat_map(Frame::items) {
            whole.push(item, samples);
        }
        Some(Cow::Owned(whole))
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
        let Some(piece) = pop_if(&mut self.pieces, |piece| piece.len() > 1) else { return false };
        self.is_split = true;
        let (first, second) = piece.split();
        self.pieces.push_front(second);
        self.pieces.push_front(first);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_frame_in_pieces_is_all_of_them() {
        let mut frame = Frame::default();
        for item in [b"a", b"b", b"c"] {
            frame.push(item, 2);
        }
        let mut hand = Hand::hold(Noted { frame: frame.clone(), note: Note::default() }, None);
        assert_eq!((hand.size(), hand.samples()), (frame.size() as u64, 6));
        assert!(matches!(hand.joined(), Some(Cow::Borrowed(whole)) if *whole == frame));
        assert!(hand.split());
        assert_eq!((hand.pieces.len(), hand.size(), hand.samples()), (2, frame.size() as u64, 6));
        assert_eq!(hand.joined().as_deref(), Some(&frame));
        hand.pieces.clear();
        assert_eq!((hand.joined(), hand.size()), (None, 0));
    }
}
