//! Frames that were refused in doubt.

use std::collections::VecDeque;

use crate::note::{Note, Noted};

/// A frame that was refused in doubt ([`Verdict::Doubtful`](crate::Verdict::Doubtful)).
#[derive(Debug)]
pub(crate) struct Doubted {
    pub(crate) noted: Noted,
    pub(crate) reason: &'static str,
    /// Whether another frame got through since.
    passed: bool,
}

/// The frames that were refused in doubt, oldest first: the others pass them, until one of those gets through.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    frames: VecDeque<Doubted>,
    size: u64,
}

impl Aside {
    pub(crate) fn push(&mut self, noted: Noted, reason: &'static str) {
        self.size += noted.frame.size() as u64;
        self.frames.push_back(Doubted { noted, reason, passed: false });
    }

    /// The oldest one.
    pub(crate) fn pop(&mut self) -> Option<Doubted> {
        let oldest = self.frames.pop_front()?;
        self.size -= oldest.noted.frame.size() as u64;
        Some(oldest)
    }

    /// The oldest one that another frame has passed. The next one waits until something gets through again, a piece
    /// of this one included: should nobody take anything by now, one frame is blamed for it and not all.
    pub(crate) fn pop_passed(&mut self) -> Option<Noted> {
        if !self.is_passed() {
            return None;
        }
        let oldest = self.pop()?;
        self.frames.iter_mut().for_each(|doubted| doubted.passed = false);
        Some(oldest.noted)
    }

    /// Whether another frame has passed the oldest one.
    pub(crate) fn is_passed(&self) -> bool {
        self.frames.front().is_some_and(|oldest| oldest.passed)
    }

    /// Another frame got through.
    pub(crate) fn are_passed(&mut self) {
        self.frames.iter_mut().for_each(|doubted| doubted.passed = true);
    }

    /// All of them, oldest first.
    pub(crate) fn drain(&mut self) -> impl DoubleEndedIterator<Item = Noted> {
        self.size = 0;
        self.frames.drain(..).map(|doubted| doubted.noted)
    }

    /// What is known of them, to be changed.
    pub(crate) fn notes(&mut self) -> impl Iterator<Item = &mut Note> {
        self.frames.iter_mut().map(|doubted| &mut doubted.noted.note)
    }

    /// The memory that they take, in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    #[test]
    fn what_is_taken_out_takes_no_memory_any_more() {
        let mut frame = Frame::default();
        frame.push(b"line", 1);
        let size = frame.size() as u64;
        let mut aside = Aside::default();
        for _ in 0..3 {
            aside.push(Noted { frame: frame.clone(), note: Note::default() }, "doubtful");
        }
        assert_eq!((aside.size(), aside.len()), (3 * size, 3));
        assert!(aside.pop().is_some());
        assert_eq!((aside.size(), aside.len()), (2 * size, 2));
        assert_eq!(aside.drain().count(), 2);
        assert_eq!((aside.size(), aside.is_empty()), (0, true));
    }
}
