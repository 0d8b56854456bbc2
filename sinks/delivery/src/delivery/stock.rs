//! Where frames wait: in memory and on disk.

use std::path::Path;
use std::time::Instant;

use super::Delivery;
use crate::frame::Frame;
use crate::hand::{Hand, Stage};
use crate::reason;
use crate::spool::Spool;
use crate::submit::Submit;

impl<C: Submit> Delivery<C> {
    /// What has no room in memory goes to the spool, to the receiver if it takes data, or is dropped.
    pub(super) fn make_room(&mut self) {
        while self.in_memory() > self.limit {
            if self.spill() || self.send_if_well() || self.wait_if_well() {
                continue;
            }
            // What is under way is the receiver's as well: no more is left.
            let Some(samples) = self.pop_oldest() else { break };
            // Nothing is sent any more near the end of a stop: then it is that which fills the memory.
            let over = self.last_moment.is_some_and(|moment| moment <= Instant::now());
            self.drops(samples, if over { reason::STOPPED } else { reason::MEMORY });
        }
    }

    /// Takes over what is in the spool of a predecessor.
    pub(super) fn move_from(&mut self, mut former: Spool, directory: &Path) {
        while let Some(frame) = former.take() {
            let samples = frame.samples();
            if let Some(spool) = &mut self.spool {
                if let Err(error) = spool.append(&frame) {
                    self.health.spool_fails(&error);
                    break;
                }
                self.ledger.recovered(samples);
            } else if self.in_memory() + frame.size() as u64 <= self.limit {
                self.ledger.recovered(samples);
                self.ledger.unspool(samples);
                self.memory.push_back(frame);
            } else {
                break;
            }
            if let Err(error) = former.acknowledge() {
                self.health.spool_fails(&error);
            }
            self.book_losses();
        }
        let damaged = former.take_losses().damaged;
        self.ledger.recovered(damaged);
        self.ledger.says_itself(reason::DAMAGE);
        self.ledger.dropped_from_spool(damaged, reason::DAMAGE);
        self.health.drops(damaged, reason::DAMAGE, (self.now)());
        if !former.is_empty() {
            self.health.spool_is_left(directory, None);
        }
        self.book_losses();
    }

    /// Opens a spool that could not be used so far, unless it is too early.
    pub(super) fn open_again(&mut self, now: Instant) {
        let Some(storage) = self.storage.as_mut().filter(|it| self.spool.is_none() && it.is_due(now)) else { return };
        if let Ok((spool, recovery)) = storage.open(now) {
            self.health.spool_is_there(storage.directory());
            self.health.spool_opened(recovery);
            self.ledger.recovered(recovery.samples);
            self.spool = Some(spool);
            self.book_losses();
            if self.health.is_failing() {
                while self.spill() {}
            }
        }
    }

    /// What waits in memory, in bytes; what is in the window and also on disk is not counted.
    fn in_memory(&self) -> u64 {
        let held = self.window.iter().filter(|(_, hand)| !hand.spooled).map(|(_, hand)| hand.size());
        held.sum::<u64>() + self.aside.size() + self.memory.size()
    }

    /// Moves the oldest frame in memory to the spool. False if there is none, or it cannot be: what is behind a frame that
    /// is under way stays behind it.
    pub(super) fn spill(&mut self) -> bool {
        let held = self.window.iter().find(|(_, hand)| !hand.spooled).map(|(_, hand)| hand);
        let oldest = match held {
            Some(hand) if hand.is_in_flight() => None,
            Some(hand) => hand.pieces.front(),
            None => self.memory.front(),
        };
        let Some((spool, oldest)) = self.spool.as_mut().zip(oldest) else { return false };
        let appended = spool.append(oldest);
        if let Err(error) = &appended {
            self.health.spool_fails(error);
        } else {
            self.health.spool_works();
            self.ledger.spool(oldest.samples());
            self.pop_next();
        }
        self.book_losses();
        appended.is_ok()
    }

    /// Takes out the samples that were sent and not answered, and are in memory alone.
    pub(super) fn take_unanswered(&mut self) -> u64 {
        let mut samples = 0;
        let is_lost = |hand: &Hand| hand.stage == Stage::Unanswered && !hand.spooled;
        let places: Vec<_> = self.window.iter().filter(|(_, hand)| is_lost(hand)).map(|(place, _)| place).collect();
        for place in places {
            samples += self.pop_piece(place).map_or(0, |piece| piece.samples());
        }
        samples
    }

    /// Takes the oldest frame in memory away and returns its samples. What is under way stays.
    pub(super) fn pop_oldest(&mut self) -> Option<u64> {
        let aside = self.aside.pop().map(|oldest| oldest.frame.samples());
        aside.or_else(|| self.pop_next())
    }

    /// Takes the frame in memory away that is next in line.
    fn pop_next(&mut self) -> Option<u64> {
        let held = self.window.iter().find(|(_, hand)| !hand.spooled && !hand.is_in_flight()).map(|(place, _)| place);
        let piece = held.and_then(|place| self.pop_piece(place));
        piece.or_else(|| self.memory.pop_front()).map(|frame| frame.samples())
    }

    /// Takes the first piece of a frame in memory away, and the frame with the last one.
    fn pop_piece(&mut self, place: u64) -> Option<Frame> {
        let hand = self.window.get(place)?;
        let piece = hand.pieces.pop_front()?;
        if hand.pieces.is_empty() {
            self.window.remove(place);
        }
        Some(piece)
    }

    /// Enters what the spool gave up. It may have given up what is in the window, which is older still.
    pub(super) fn book_losses(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        self.ledger.recovered(spool.take_found());
        let losses = spool.take_losses();
        let mut full = losses.full;
        let taken = self.window.iter().find(|(_, hand)| hand.spooled).map(|(place, _)| place);
        if let Some(place) = taken
            && let Some(hand) = self.window.get(place)
        {
            if spool.disowns_taken() || (!spool.is_taken() && hand.is_in_flight()) {
                // It outlives the spool's directory, or its record, in memory.
                hand.spooled = false;
                self.ledger.unspool(hand.samples());
            } else if !spool.is_taken() {
                full = full.saturating_add(hand.samples());
                self.window.remove(place);
            }
        }
        let now = (self.now)();
        for (samples, reason) in [(full, reason::SPOOL), (losses.damaged, reason::DAMAGE)] {
            self.ledger.says_itself(reason);
            self.ledger.dropped_from_spool(samples, reason);
            self.health.drops(samples, reason, now);
        }
    }
}
