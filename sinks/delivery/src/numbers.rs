//! How frames are numbered.

use crate::cursor::draw_stream;
use crate::note::Note;
use crate::spool::Spool;

/// The numbers of a stream: they rise by one from frame to frame, and none is given twice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) stream: u128,
    next: u64,
    /// The highest that was sent.
    sent: u64,
}

impl Numbers {
    /// Another stream.
    pub(crate) fn new() -> Self {
        Self { stream: draw_stream(), next: 1, sent: 0 }
    }

    /// The stream of a spool, which goes on.
    pub(crate) fn of(spool: &Spool) -> Self {
        let (sent, highest) = spool.numbers();
        Self { stream: spool.stream(), next: highest.saturating_add(1), sent }
    }

    /// Whether none has been given.
    pub(crate) const fn is_new(&self) -> bool {
        self.next == 1
    }

    /// Gives a frame its number, unless it has one.
    pub(crate) const fn give(&mut self, note: &mut Note) -> u64 {
        if note.number == 0 {
            note.number = self.next;
            self.next = self.next.saturating_add(1);
        }
        note.number
    }

    /// The frame with this number is sent. Whether it was before: frames are sent the first time in the order of their
    /// numbers.
    pub(crate) fn sends(&mut self, number: u64) -> bool {
        let before = number <= self.sent;
        self.sent = self.sent.max(number);
        before
    }
}
