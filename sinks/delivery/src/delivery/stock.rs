//! Where frames wait: in memory and on disk.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::Delivery;
use crate::frame::Frame;
use crate::hand::{Hand, Stage};
use crate::note::{Note, Noted};
use crate::numbers::Numbers;
use crate::reason;
use crate::spool::{Released, Spool, Taken};
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
        while let Some(Taken { frame, place, note }) = former.take() {
            // Of another stream.
            let (samples, note) = (frame.samples(), Note { number: 0, ..note });
            if let Some(spool) = &mut self.spool {
                if let Err(error) = spool.append_noted(&frame, note) {
                    self.health.spool_fails(&error);
                    break;
                }
                self.ledger.recovered(samples);
            } else if self.in_memory() + frame.size() as u64 <= self.limit {
                self.ledger.recovered(samples);
                self.ledger.unspool(samples);
                self.memory.push_back(Noted { frame, note });
            } else {
                break;
            }
            if let Err(error) = former.acknowledge(place) {
                self.health.spool_fails(&error);
            }
            self.book_losses();
        }
        let damaged = former.take_losses().damaged;
        self.ledger.recovered(damaged);
        self.ledger.says_itself(reason::DAMAGE);
        self.ledger.dropped_from_spool(damaged, reason::DAMAGE);
        self.health.drops(damaged, reason::DAMAGE, self.times.now());
        if !former.is_empty() {
            self.health.spool_is_left(directory, None);
        }
        self.book_losses();
    }

    /// Opens a spool that could not be used so far, unless it is too early.
    pub(super) fn open_again(&mut self, now: Instant) {
        let Some(storage) = self.storage.as_mut().filter(|it| self.spool.is_none() && it.is_due(now)) else { return };
        let (spool, recovery) = match storage.open(now) {
            Ok(opened) => opened,
            Err(error) => return self.health.spool_missing(&error, now),
        };
        self.health.spool_is_there(storage.directory());
        self.health.spool_opened(recovery);
        self.ledger.recovered(recovery.samples);
        self.numbers = Numbers::of(&spool);
        self.renumber();
        self.spool = Some(spool);
        self.book_losses();
        if self.health.is_failing() {
            while self.spill() {}
        }
    }

    /// What waits in memory, in bytes; what is in the window and also on disk is not counted.
    fn in_memory(&self) -> u64 {
        let held = self.window.iter().filter(|(_, hand)| hand.record.is_none()).map(|(_, hand)| hand.size());
        held.sum::<u64>() + self.aside.size() + self.memory.size()
    }

    /// Frames that have a number of another stream get one of this when they are sent.
    fn renumber(&mut self) {
        let held = self.window.iter_mut().map(|hand| &mut hand.note);
        for note in held.chain(self.aside.notes()).chain(self.memory.notes()) {
            note.number = 0;
        }
    }

    /// Notes the oldest frame in memory in the spool. False if there is none, or it cannot be. What is being delivered
    /// goes on, unless others on disk come first.
    pub(super) fn spill(&mut self) -> bool {
        // What is lost with its directory is known before anything is written to another one.
        if self.spool.as_mut().is_some_and(|spool| spool.hold().is_ok()) {
            self.book_losses();
        }
        let held = self.window.iter().find(|(_, hand)| hand.record.is_none()).map(|(place, _)| place);
        let spilled = match held {
            Some(place) => self.spill_held(place),
            None => self.spill_waiting(),
        };
        match &spilled {
            Ok(true) => self.health.spool_works(),
            Ok(false) => {}
            Err(error) => self.health.spool_fails(error),
        }
        self.book_losses();
        spilled.is_ok_and(|any| any)
    }

    /// A frame of the window.
    fn spill_held(&mut self, place: u64) -> io::Result<bool> {
        let Some((spool, hand)) = self.spool.as_mut().zip(self.window.get(place)) else { return Ok(false) };
        self.numbers.give(&mut hand.note);
        let Some(whole) = hand.joined() else { return Ok(false) };
        let record = spool.append_taken(&whole, hand.note)?;
        if record.is_none() {
            if hand.is_in_flight() {
                return Ok(false);
            }
            spool.append_noted(&whole, hand.note)?;
        }
        let samples = whole.samples();
        drop(whole);
        hand.record = record;
        self.ledger.spool(samples);
        if record.is_none() {
            self.window.remove(place);
        }
        Ok(true)
    }

    /// The oldest frame that is not being delivered.
    fn spill_waiting(&mut self) -> io::Result<bool> {
        let Some((spool, oldest)) = self.spool.as_mut().zip(self.memory.front_mut()) else { return Ok(false) };
        self.numbers.give(&mut oldest.note);
        spool.append_noted(&oldest.frame, oldest.note)?;
        self.ledger.spool(oldest.frame.samples());
        self.memory.pop_front();
        Ok(true)
    }

    /// Takes out the samples that were sent and not answered, and are in memory alone.
    pub(super) fn take_unanswered(&mut self) -> u64 {
        let mut samples = 0;
        let is_lost = |hand: &Hand| hand.stage == Stage::Unanswered && hand.record.is_none();
        let places: Vec<_> = self.window.iter().filter(|(_, hand)| is_lost(hand)).map(|(place, _)| place).collect();
        for place in places {
            samples += self.pop_piece(place).map_or(0, |piece| piece.samples());
        }
        samples
    }

    /// Takes the oldest frame in memory away and returns its samples. What is under way stays.
    pub(super) fn pop_oldest(&mut self) -> Option<u64> {
        let aside = self.aside.pop().map(|oldest| oldest.noted.frame.samples());
        aside.or_else(|| self.pop_next())
    }

    /// Takes the frame in memory away that is next in line.
    fn pop_next(&mut self) -> Option<u64> {
        let is_held = |hand: &Hand| hand.record.is_none() && !hand.is_in_flight();
        let held = self.window.iter().find(|(_, hand)| is_held(hand)).map(|(place, _)| place);
        let piece = held.and_then(|place| self.pop_piece(place));
        piece.or_else(|| self.memory.pop_front().map(|noted| noted.frame)).map(|frame| frame.samples())
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
        for Released { place: record, made_room } in spool.take_released() {
            let found = self.window.iter().find(|(_, hand)| hand.record == Some(record)).map(|(place, _)| place);
            let Some((place, hand)) = found.and_then(|place| Some((place, self.window.get(place)?))) else { continue };
            if made_room && !hand.is_in_flight() {
                full = full.saturating_add(hand.samples());
                self.window.remove(place);
            } else {
                // It outlives the spool's directory, or its record, in memory.
                hand.record = None;
                self.ledger.unspool(hand.samples());
            }
        }
        let now = self.times.now();
        for (samples, reason) in [(full, reason::SPOOL), (losses.damaged, reason::DAMAGE)] {
            self.ledger.says_itself(reason);
            self.ledger.dropped_from_spool(samples, reason);
            self.health.drops(samples, reason, now);
        }
    }
}
