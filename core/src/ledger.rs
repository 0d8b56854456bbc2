//! What became of every sample that was meant for a sink.

use parking_lot::Mutex;

/// Counts by reason.
pub type Reasons = Vec<(&'static str, u64)>;

/// The state of a ledger at one moment. All numbers are samples.
///
/// `offered = written + failed + spooled + queued + dropped + rejected`, at every moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Selected for this sink and handed to its outlet, or found on disk at the start.
    pub offered: u64,
    /// Delivered, as far as the protocol can tell.
    pub written: u64,
    /// Lost because a write failed.
    pub failed: u64,
    /// On disk, waiting for the receiver.
    pub spooled: u64,
    /// In the queue, or in the sink's hands.
    pub queued: u64,
    /// Given up, by reason: a queue was full, the sink was over, the agent stopped.
    pub dropped: Reasons,
    /// Refused by the receiver or not expressible in its protocol, by reason.
    pub rejected: Reasons,
}

impl Tally {
    /// The sum over all reasons for which samples were dropped.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|(_, count)| count).sum()
    }

    /// The sum over all reasons for which samples were rejected.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().map(|(_, count)| count).sum()
    }

    /// Whether every offered sample is accounted for.
    pub fn balances(&self) -> bool {
        let accounted = self.written + self.failed + self.spooled + self.queued;
        self.offered == accounted + self.dropped_total() + self.rejected_total()
    }
}

/// One sink's book of samples. Every entry moves samples from one column to another under one
/// lock, so that the sum is right whenever it is read.
#[derive(Debug, Default)]
pub struct Ledger {
    tally: Mutex<Tally>,
}

impl Ledger {
    /// A copy of the book.
    pub fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// Reads the book without copying it.
    pub fn read<R>(&self, look: impl FnOnce(&Tally) -> R) -> R {
        look(&self.tally.lock())
    }

    /// Samples were delivered. For sinks that settle themselves, like the entries below.
    pub fn written(&self, samples: u64) {
        self.settle(samples, |tally, samples| tally.written += samples);
    }

    /// Samples are lost because a write failed.
    pub fn failed(&self, samples: u64) {
        self.settle(samples, |tally, samples| tally.failed += samples);
    }

    /// Samples were refused by the receiver, or cannot be said in its protocol.
    pub fn rejected(&self, samples: u64, reason: &'static str) {
        self.settle(samples, |tally, samples| add(&mut tally.rejected, reason, samples));
    }

    /// Samples were given up.
    pub fn dropped(&self, samples: u64, reason: &'static str) {
        self.settle(samples, |tally, samples| add(&mut tally.dropped, reason, samples));
    }

    /// Queued samples are now on disk.
    pub fn spool(&self, samples: u64) {
        self.settle(samples, |tally, samples| tally.spooled += samples);
    }

    /// Samples are taken from disk to be settled: by [`written`](Self::written), for example.
    pub fn unspool(&self, samples: u64) {
        self.leave_spool(samples, |tally, samples| tally.queued += samples);
    }

    /// Samples on disk are given up.
    pub fn dropped_from_spool(&self, samples: u64, reason: &'static str) {
        self.leave_spool(samples, |tally, samples| add(&mut tally.dropped, reason, samples));
    }

    /// Samples of an earlier run were found on disk: this book takes them over.
    pub fn recovered(&self, samples: u64) {
        let mut tally = self.tally.lock();
        tally.offered += samples;
        tally.spooled += samples;
    }

    /// A batch's selected samples enter the queue.
    pub(crate) fn offered(&self, samples: u64) {
        let mut tally = self.tally.lock();
        tally.offered += samples;
        tally.queued += samples;
    }

    /// Gives up whatever is still queued: the end of the book.
    pub(crate) fn drop_queued(&self, reason: &'static str) {
        let mut tally = self.tally.lock();
        let rest = std::mem::take(&mut tally.queued);
        if rest > 0 {
            add(&mut tally.dropped, reason, rest);
        }
    }

    /// Moves samples out of the queue. A sink that settles more than it was given would unbalance
    /// the book: the surplus is ignored.
    fn settle(&self, samples: u64, enter: impl FnOnce(&mut Tally, u64)) {
        let mut tally = self.tally.lock();
        let samples = samples.min(tally.queued);
        tally.queued -= samples;
        if samples > 0 {
            enter(&mut tally, samples);
        }
    }

    /// Moves samples off the disk; a surplus is ignored, as above.
    fn leave_spool(&self, samples: u64, enter: impl FnOnce(&mut Tally, u64)) {
        let mut tally = self.tally.lock();
        let samples = samples.min(tally.spooled);
        tally.spooled -= samples;
        if samples > 0 {
            enter(&mut tally, samples);
        }
    }
}

fn add(reasons: &mut Reasons, reason: &'static str, samples: u64) {
    match reasons.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += samples,
        None => reasons.push((reason, samples)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_go_to_disk_and_come_back_without_leaving_the_book() {
        let ledger = Ledger::default();
        ledger.offered(10);
        ledger.spool(10);
        ledger.recovered(5);
        ledger.unspool(12);
        ledger.written(12);
        ledger.dropped_from_spool(2, "spool full");
        let tally = ledger.tally();
        assert_eq!((tally.offered, tally.written, tally.spooled, tally.queued), (15, 12, 1, 0));
        assert_eq!(tally.dropped, [("spool full", 2)]);
        assert!(tally.balances());
    }

    proptest! {
        #[test]
        fn the_book_balances_whatever_is_entered(entries in prop::collection::vec((0..10_u8, 0..100_u64), 0..100)) {
            let ledger = Ledger::default();
            for (entry, samples) in entries {
                match entry {
                    0 | 1 => ledger.offered(samples),
                    2 => ledger.written(samples),
                    3 => ledger.failed(samples),
                    4 => ledger.rejected(samples, "partial write"),
                    5 => ledger.dropped(samples, "queue full"),
                    6 => ledger.spool(samples),
                    7 => ledger.unspool(samples),
                    8 => ledger.dropped_from_spool(samples, "spool full"),
                    _ => ledger.recovered(samples),
                }
                prop_assert!(ledger.tally().balances());
            }
        }
    }
}
