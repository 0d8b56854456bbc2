//! What goes out, and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Delivery;
use crate::hand::Hand;
use crate::note::Noted;
use crate::reason;
use crate::spool::{Spool, Taken};
use crate::submit::Submit;
use crate::ticket::Ticket;

/// How often somebody who waits for an answer looks whether the sink is to stop.
const LOOK: Duration = Duration::from_millis(100);

impl<C: Submit> Delivery<C> {
    /// Sends the oldest piece that may go. Whether there was one in time, and nothing has to wait since.
    pub(super) fn attempt(&mut self, end: Option<Instant>) -> bool {
        let limit = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if limit.is_zero() {
            return false;
        }
        let place = self.next_place();
        self.look();
        let Some(place) = place else { return false };
        self.window.goes(place);
        let Some(hand) = self.window.get(place) else { return false };
        let number = self.numbers.give(&mut hand.note);
        if let Some(Err(error)) = self.spool.as_mut().map(|spool| spool.note_sent(number)) {
            self.health.spool_fails(&error);
        }
        let Some(piece) = hand.pieces.front() else { return false };
        (self.not_before, hand.not_before) = (None, None);
        let identity = (self.numbers.stream, number, self.numbers.sends(number));
        let ticket = Ticket::new(place, identity, Arc::clone(&self.desk));
        self.desk.attend();
        self.carrier.submit(ticket, piece, limit);
        self.read_answers();
        self.not_before.is_none()
    }

    /// Sends the oldest piece unless the last attempt failed. Whether it went, and nothing has to wait since.
    pub(super) fn send_if_well(&mut self) -> bool {
        if self.not_before.is_some() || self.health.is_failing() {
            return false;
        }
        let end = self.end();
        self.attempt(end)
    }

    /// Enters what the carrier has learnt. Whether that was anything.
    pub(super) fn read_answers(&mut self) -> bool {
        let answers = self.desk.take();
        let any = !answers.is_empty();
        for answer in answers {
            self.enter(answer);
        }
        any
    }

    /// Waits until something is answered. False if nothing is under way, or there is no more time.
    pub(super) fn wait_for_answer(&mut self) -> bool {
        while self.window.in_flight() > 0 {
            let left = self.end().map_or(LOOK, |end| end.saturating_duration_since(Instant::now()));
            self.desk.wait(left.min(LOOK));
            if self.read_answers() {
                return true;
            }
            if left.is_zero() {
                return false;
            }
        }
        false
    }

    /// Waits until something is answered, unless the last attempt failed.
    pub(super) fn wait_if_well(&mut self) -> bool {
        self.not_before.is_none() && !self.health.is_failing() && self.wait_for_answer()
    }

    /// When there is something to do.
    pub(super) fn next_moment(&self) -> Option<Instant> {
        let now = self.times.now();
        if !self.desk.is_empty() {
            return Some(now);
        }
        if self.window.in_flight() >= self.room() {
            return None;
        }
        let soonest = self.not_before.unwrap_or(now);
        let waiting = self.window.iter().filter(|(_, hand)| !hand.is_in_flight());
        let waiting = waiting.map(|(_, hand)| hand.not_before.map_or(soonest, |moment| moment.max(soonest)));
        waiting.chain(self.has_more().then_some(soonest)).min()
    }

    /// How many frames may be under way.
    fn room(&self) -> usize {
        if self.health.is_failing() { 1 } else { self.places() }
    }

    /// How many places the window has.
    fn places(&self) -> usize {
        if self.carrier.overwrites() { self.carrier.window().clamp(1, Self::WINDOW) } else { 1 }
    }

    /// Whether frames pass one that has to be sent again at a time that it has named.
    pub(super) fn overtakes(&self) -> bool {
        self.carrier.overwrites() && !self.carrier.is_ordered()
    }

    /// The place of the piece that is sent next, if one may be.
    fn next_place(&mut self) -> Option<u64> {
        if self.window.in_flight() >= self.room() {
            return None;
        }
        let now = self.times.now();
        loop {
            let is_ready = |hand: &Hand| !hand.is_in_flight() && hand.not_before.is_none_or(|moment| moment <= now);
            let waiting = self.window.iter().find(|(_, hand)| is_ready(hand)).map(|(place, _)| place);
            let place = waiting.or_else(|| self.refill())?;
            if !self.is_too_old(place) {
                return Some(place);
            }
            while let Some(piece) = self.take_piece(place) {
                self.drops(piece.samples(), reason::AGE);
            }
        }
    }

    /// Whether a frame has waited longer than it may.
    fn is_too_old(&mut self, place: u64) -> bool {
        let Some((limit, hand)) = self.age_limit.zip(self.window.get(place)) else { return false };
        let age = Duration::from_millis(self.times.wall().saturating_sub(hand.note.time));
        hand.note.time > 0 && age > limit
    }

    /// Whether [`refill`](Self::refill) finds something.
    fn has_more(&self) -> bool {
        let waits = match &self.spool {
            Some(spool) if spool.has_more() => !spool.is_blocked(),
            _ => !self.memory.is_empty(),
        };
        let aside = self.aside.is_passed() || (self.window.is_empty() && !self.aside.is_empty());
        self.window.span() < self.places() && (waits || aside)
    }

    /// Takes the next frame into the window: what is on disk is older than what is in memory. A frame that the
    /// others passed is next when one of them got through, or when there are no others.
    fn refill(&mut self) -> Option<u64> {
        if !self.has_more() {
            return None;
        }
        let hand = if let Some(noted) = self.aside.pop_passed() {
            Some(Hand { to_blame: true, ..Hand::hold(noted, None) })
        } else if self.spool.as_ref().is_some_and(Spool::has_more) {
            let taken = self.spool.as_mut().and_then(Spool::take);
            taken.map(|Taken { frame, place, note }| Hand::hold(Noted { frame, note }, Some(place)))
        } else if let Some(noted) = self.memory.pop_front() {
            Some(Hand::hold(noted, None))
        } else {
            self.aside.pop().map(|doubted| Hand::hold(doubted.noted, None))
        };
        let place = hand.map(|hand| self.window.push(hand));
        self.book_losses();
        place
    }

    /// What was handed over without an acknowledgement: is the connection still there?
    pub(super) fn look(&mut self) {
        if !self.doubt.is_empty() {
            let peer = self.carrier.peer();
            self.doubt.look(peer, self.times.now());
        }
    }

    /// When sending has to end: on a stop, so that there is time to spool or to count what is left.
    pub(super) fn end(&mut self) -> Option<Instant> {
        if self.last_moment.is_none() {
            self.last_moment = self.stop.remaining().map(|left| Instant::now() + left.mul_f64(0.75));
        }
        self.last_moment
    }
}
