//! What becomes of a frame, said by whoever learns it, when he does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::Waker;
use parking_lot::{Condvar, Mutex};

use crate::verdict::Verdict;

/// Stands for a frame, or a piece of one, that a receiver has not answered yet
/// ([`Submit::submit`](crate::Submit::submit)). It is settled once, from any thread. Whoever drops it without a word loses
/// the frame: its samples are counted as failed.
#[must_use = "a ticket that is dropped loses its frame"]
pub struct Ticket {
    place: u64,
    stream: u128,
    number: u64,
    is_resent: bool,
    /// Until it is settled.
    desk: Option<Arc<Desk>>,
}

impl Ticket {
    pub(crate) const fn new(place: u64, (stream, number, is_resent): (u128, u64, bool), desk: Arc<Desk>) -> Self {
        Self { place, stream, number, is_resent, desk: Some(desk) }
    }

    /// In which frames the numbers rise: 128 bits that were drawn when the spool was made, and without one when the delivery
    /// was. Another stream begins at 1; a frame may come again in another stream, where a spool is used later than from the
    /// start, or is lost.
    pub const fn stream(&self) -> u128 {
        self.stream
    }

    /// The frame's number. Numbers rise by one from frame to frame, with a spool also over restarts; a frame that is sent
    /// again keeps its own, and the pieces of a frame that was split have the frame's.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whether the frame was sent before, perhaps by an earlier process, so that the receiver may have it.
    pub const fn is_resent(&self) -> bool {
        self.is_resent
    }

    /// Says what became of the frame. The delivery enters it on its own thread, which is called for that.
    pub fn settle(mut self, verdict: Verdict) {
        self.answer(Some(verdict));
    }

    fn answer(&mut self, verdict: Option<Verdict>) {
        if let Some(desk) = self.desk.take() {
            desk.put(Answer { place: self.place, verdict });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.answer(None);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("number", &self.number)
            .field("is_resent", &self.is_resent)
            .finish_non_exhaustive()
    }
}

/// What a ticket's holder said.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The frame's place in the window.
    pub(crate) place: u64,
    /// None where the ticket was dropped.
    pub(crate) verdict: Option<Verdict>,
}

/// Where answers wait for the delivery's thread.
#[derive(Debug)]
pub(crate) struct Desk {
    pile: Mutex<Pile>,
    arrived: Condvar,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Pile {
    answers: Vec<Answer>,
    /// Whether the delivery looks by itself next, and need not be called.
    is_attended: bool,
}

impl Desk {
    pub(crate) fn new(waker: Waker) -> Self {
        Self { pile: Mutex::default(), arrived: Condvar::new(), waker }
    }

    fn put(&self, answer: Answer) {
        let mut pile = self.pile.lock();
        pile.answers.push(answer);
        let is_attended = pile.is_attended;
        drop(pile);
        self.arrived.notify_one();
        if !is_attended {
            self.waker.wake();
        }
    }

    /// The next [`take`](Self::take) follows at once: nobody has to be called until then.
    pub(crate) fn attend(&self) {
        self.pile.lock().is_attended = true;
    }

    /// The answers that have arrived, in the order in which they did.
    pub(crate) fn take(&self) -> Vec<Answer> {
        let mut pile = self.pile.lock();
        pile.is_attended = false;
        std::mem::take(&mut pile.answers)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pile.lock().answers.is_empty()
    }

    /// Waits for an answer, no longer than this.
    pub(crate) fn wait(&self, limit: Duration) {
        let mut pile = self.pile.lock();
        if pile.answers.is_empty() {
            let _ = self.arrived.wait_for(&mut pile, limit);
        }
    }
}
