//! Frames that are being delivered.

use std::collections::VecDeque;

use crate::frame::Frame;

/// The frame that is being delivered, in as many pieces as it takes.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    pub(crate) pieces: VecDeque<Frame>,
    /// Whether it is in the spool until all its pieces are settled.
    pub(crate) spooled: bool,
    /// How often it has been split for its content.
    pub(crate) splits: u32,
    /// Whether it is to blame when it is refused in doubt: others got through.
    pub(crate) to_blame: bool,
}

impl Hand {
    pub(crate) fn hold(frame: Frame, spooled: bool) -> Self {
        Self { pieces: [frame].into(), spooled, ..Self::default() }
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

/// A frame that was refused in doubt ([`Verdict::Doubtful`](crate::Verdict::Doubtful)).
#[derive(Debug)]
pub(crate) struct Doubted {
    pub(crate) frame: Frame,
    pub(crate) reason: &'static str,
    /// Whether another frame got through since.
    passed: bool,
}

/// The frames that were refused in doubt, oldest first: the others pass them, until one of those gets through.
#[derive(Debug, Default)]
pub(crate) struct Aside(VecDeque<Doubted>);

impl Aside {
    pub(crate) fn push(&mut self, frame: Frame, reason: &'static str) {
        self.0.push_back(Doubted { frame, reason, passed: false });
    }

    /// The oldest one.
    pub(crate) fn pop(&mut self) -> Option<Doubted> {
        self.0.pop_front()
    }

    /// The oldest one that another frame has passed. The next one waits until something gets through again, a piece
    /// of this one included: should nobody take anything by now, one frame is blamed for it and not all.
    pub(crate) fn pop_passed(&mut self) -> Option<Frame> {
        let oldest = self.0.pop_front_if(|oldest| oldest.passed)?;
        self.0.iter_mut().for_each(|doubted| doubted.passed = false);
        Some(oldest.frame)
    }

    /// Another frame got through.
    pub(crate) fn are_passed(&mut self) {
        self.0.iter_mut().for_each(|doubted| doubted.passed = true);
    }

    /// All of them, oldest first.
    pub(crate) fn drain(&mut self) -> impl DoubleEndedIterator<Item = Frame> {
        self.0.drain(..).map(|doubted| doubted.frame)
    }

    pub(crate) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.0.iter().map(|doubted| &doubted.frame)
    }

    /// The memory that they take, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.frames().map(|frame| frame.size() as u64).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
