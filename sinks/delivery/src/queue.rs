//! Frames that wait in memory.

use std::collections::VecDeque;

use crate::note::{Note, Noted};

/// Frames, oldest first, and the memory that they take.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    frames: VecDeque<Noted>,
    size: u64,
}

impl Queue {
    pub(crate) fn push_back(&mut self, waiting: Noted) {
        self.size += waiting.frame.size() as u64;
        self.frames.push_back(waiting);
    }

    pub(crate) fn push_front(&mut self, waiting: Noted) {
        self.size += waiting.frame.size() as u64;
        self.frames.push_front(waiting);
    }

    pub(crate) fn pop_front(&mut self) -> Option<Noted> {
        let waiting = self.frames.pop_front()?;
        self.size -= waiting.frame.size() as u64;
        Some(waiting)
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut Noted> {
        self.frames.front_mut()
    }

    /// What is known of them, to be changed.
    pub(crate) fn notes(&mut self) -> impl Iterator<Item = &mut Note> {
        self.frames.iter_mut().map(|noted| &mut noted.note)
    }

    /// All of them.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Noted> {
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
