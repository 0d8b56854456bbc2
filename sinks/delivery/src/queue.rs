//! Frames that wait in memory.

use std::collections::VecDeque;

use crate::frame::Frame;

/// Frames, oldest first, and the memory that they take.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    frames: VecDeque<Frame>,
    size: u64,
}

impl Queue {
    pub(crate) fn push_back(&mut self, frame: Frame) {
        self.size += frame.size() as u64;
        self.frames.push_back(frame);
    }

    pub(crate) fn push_front(&mut self, frame: Frame) {
        self.size += frame.size() as u64;
        self.frames.push_front(frame);
    }

    pub(crate) fn pop_front(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.size -= frame.size() as u64;
        Some(frame)
    }

    pub(crate) fn front(&self) -> Option<&Frame> {
        self.frames.front()
    }

    /// All of them.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Frame> {
        self.size = 0;
        self.frames.drain(..)
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What they take, in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }
}
