//! What becomes of the frames that were sent.

use std::time::Duration;

use ebpf_process_core::Ledger;

use super::Delivery;
use crate::backoff::Backoff;
use crate::frame::Frame;
use crate::hand::Hand;
use crate::note::Noted;
use crate::reason;
use crate::submit::Submit;
use crate::ticket::Answer;
use crate::verdict::Verdict;

/// How often a frame whose content is refused may be sent in pieces. One bad item in any frame
/// takes far fewer; a receiver that refuses everything gets no more than this.
const PIECES: u32 = 256;

/// How long nothing may get through, and be refused by somebody else than the receiver, before a frame is given up.
const DOUBTFUL: Duration = Duration::from_secs(3600);

impl<C: Submit> Delivery<C> {
    /// Enters an answer. One for a frame that was given up meanwhile says nothing any more.
    pub(super) fn enter(&mut self, Answer { place, verdict }: Answer) {
        if !self.window.is_answered(place) {
            return;
        }
        let Some(hand) = self.window.get(place) else { return };
        let samples = hand.pieces.front().map_or(0, Frame::samples);
        let to_blame = hand.to_blame;
        let is_final = match verdict {
            None => {
                self.health.loses(samples, reason::TICKET, self.times.now());
                self.settle(place, Ledger::failed);
                return;
            }
            Some(Verdict::Doubtful { reason, problem }) if to_blame => {
                self.follow(place, samples, Verdict::Rejected { reason, problem })
            }
            Some(verdict) => self.follow(place, samples, verdict),
        };
        // An older one may have failed since.
        if is_final && self.not_before.is_none() {
            self.backoff.succeeded();
            self.health.works();
            self.ledger.works();
        }
    }

    /// Does what a verdict says about the first piece of a frame. Whether it is final.
    fn follow(&mut self, place: u64, samples: u64, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Accepted => {
                self.gets_through();
                self.settle(place, Ledger::written);
            }
            Verdict::Sent => {
                self.gets_through();
                self.settle(place, |_, _| ());
                self.doubt.sent(samples, self.times.now());
            }
            Verdict::Partly { rejected, reason, problem } => {
                self.gets_through();
                self.rejects(rejected, reason, &problem);
                self.settle(place, |ledger, samples| {
                    let rejected = rejected.min(samples);
                    ledger.rejected(rejected, reason);
                    ledger.written(samples - rejected);
                });
            }
            Verdict::Again { pieces, reason, problem } => {
                let again = pieces.samples().min(samples);
                if again < samples {
                    self.gets_through();
                }
                if !pieces.is_empty() && pieces.samples() == again && self.may_split(place) {
                    self.replace(place, pieces);
                } else {
                    self.rejects(again, reason, &problem);
                    self.settle(place, |ledger, samples| {
                        ledger.rejected(again, reason);
                        ledger.written(samples - again);
                    });
                }
            }
            Verdict::Rejected { reason, problem } => {
                if !(self.carrier.overwrites() && self.may_split(place) && self.split(place)) {
                    self.reject(place, reason, &problem);
                }
            }
            Verdict::TooLarge { problem } => {
                if !self.split(place) {
                    self.reject(place, reason::TOO_LARGE, &problem);
                }
            }
            Verdict::Doubtful { reason, problem } => {
                self.doubt(place, reason, &problem);
                self.health.fails(&problem);
                self.ledger.fails(&problem);
                let wait = self.backoff.failed(None);
                return self.put_off(wait);
            }
            Verdict::Retry { after: Some(after), .. } if self.overtakes() => {
                let moment = self.times.now() + after.min(Backoff::LONGEST_WISH);
                self.window.get(place).into_iter().for_each(|hand| hand.not_before = Some(moment));
                return false;
            }
            Verdict::Retry { after, problem } => {
                self.health.fails(&problem);
                self.ledger.fails(&problem);
                let wait = self.backoff.failed(after);
                return self.put_off(wait);
            }
            Verdict::Misconfigured { problem } => {
                self.health.is_misconfigured(&problem);
                self.ledger.fails(&problem);
                let wait = self.backoff.misconfigured();
                return self.put_off(wait);
            }
        }
        true
    }

    /// What cannot be sent now waits, on disk if it can.
    fn put_off(&mut self, wait: Duration) -> bool {
        self.not_before = Some(self.times.now() + wait);
        while self.spill() {}
        false
    }

    /// The receiver takes data: what it refused in doubt is looked at again.
    fn gets_through(&mut self) {
        self.aside.are_passed();
        self.doubted = None;
    }

    /// The first piece was refused in doubt: what is behind it may pass it, to see whether it is to blame. While
    /// nobody takes anything, one frame an hour is given up, the oldest.
    fn doubt(&mut self, place: u64, reason: &'static str, problem: &str) {
        let now = self.times.now();
        if now.saturating_duration_since(*self.doubted.get_or_insert(now)) >= DOUBTFUL {
            self.doubted = Some(now);
            let Some(oldest) = self.aside.pop() else { return self.reject(place, reason, problem) };
            let samples = oldest.noted.frame.samples();
            self.rejects(samples, oldest.reason, problem);
            self.ledger.rejected(samples, oldest.reason);
        }
        // What is in memory takes no more room there. What is on disk does, and a crash would cost it.
        let Some(hand) = self.window.get(place) else { return };
        let more = hand.pieces.front().filter(|_| hand.record.is_some()).map_or(0, |piece| piece.size() as u64);
        if more > 0 && !self.aside.is_empty() && self.aside.size() + more > self.limit / 2 {
            return;
        }
        let note = hand.note;
        if let Some(frame) = self.take_piece(place) {
            self.aside.push(Noted { frame, note }, reason);
        }
    }

    /// The first piece of a frame is settled.
    fn settle(&mut self, place: u64, enter: impl FnOnce(&Ledger, u64)) {
        let samples = self.take_piece(place).map_or(0, |piece| piece.samples());
        enter(&self.ledger, samples);
    }

    /// Takes out the first piece of a frame, whose samples are queued then; the frame goes with its last one.
    pub(super) fn take_piece(&mut self, place: u64) -> Option<Frame> {
        let hand = self.window.get(place)?;
        let piece = hand.pieces.pop_front()?;
        hand.is_split = true;
        let (is_last, record) = (hand.pieces.is_empty(), hand.record);
        if record.is_some() {
            self.ledger.unspool(piece.samples());
        }
        if is_last {
            self.window.remove(place);
            if let Some(record) = record {
                self.acknowledge(record);
            }
        }
        Some(piece)
    }

    /// Whether a frame may be split for its content once more.
    fn may_split(&mut self, place: u64) -> bool {
        let Some(hand) = self.window.get(place).filter(|hand| hand.splits < PIECES) else { return false };
        hand.splits += 1;
        true
    }

    /// Halves the first piece of a frame. False if it is a single item.
    fn split(&mut self, place: u64) -> bool {
        self.window.get(place).is_some_and(Hand::split)
    }

    /// Of the first piece the receiver has all but these.
    fn replace(&mut self, place: u64, pieces: Frame) {
        let Some(hand) = self.window.get(place) else { return };
        hand.is_split = true;
        let (left, spooled) = (pieces.samples(), hand.record.is_some());
        let Some(piece) = hand.pieces.front_mut() else { return };
        let written = std::mem::replace(piece, pieces).samples().saturating_sub(left);
        if spooled {
            self.ledger.unspool(written);
        }
        self.ledger.written(written);
    }

    /// The frame that was taken from the spool need not be there any more.
    pub(super) fn acknowledge(&mut self, record: u64) {
        if let Some(Err(error)) = self.spool.as_mut().map(|spool| spool.acknowledge(record)) {
            self.health.spool_fails(&error);
        }
        // It may be gone with its directory.
        self.book_losses();
    }

    fn reject(&mut self, place: u64, reason: &'static str, problem: &str) {
        let samples = self.window.get(place).and_then(|hand| hand.pieces.front()).map_or(0, Frame::samples);
        self.rejects(samples, reason, problem);
        self.settle(place, |ledger, samples| ledger.rejected(samples, reason));
    }

    /// Samples in memory are given up.
    pub(super) fn drops(&mut self, samples: u64, reason: &'static str) {
        self.ledger.says_itself(reason);
        self.ledger.dropped(samples, reason);
        let now = self.times.now();
        self.health.drops(samples, reason, now);
    }

    /// To be called before the samples are entered.
    fn rejects(&mut self, samples: u64, reason: &'static str, problem: &str) {
        let now = self.times.now();
        self.ledger.says_itself(reason);
        self.health.rejects(samples, reason, problem, now);
    }
}
