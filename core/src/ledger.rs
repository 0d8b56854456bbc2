//! What became of every sample that was meant for a sink.

use parking_lot::Mutex;
use tracing::{error, warn};

use crate::condition::{Condition, SharedCondition, State};
use crate::reason::Foreign;
use crate::waker::Waker;

/// Why samples are dropped for which there was no room in the queue.
pub(crate) const QUEUE_FULL: &str = "queue full";

/// Why finals are dropped that no batch of the sink's has had in time.
pub(crate) const FINAL: &str = "final value of an ended series";

/// Why samples are dropped that a sink has not settled when it has ended in order.
pub(crate) const NEVER_SETTLED: &str = "never settled by the sink";

/// Counts by reason.
pub type Reasons = Vec<(&'static str, u64)>;

/// The state of a ledger at one moment. All numbers are samples.
///
/// `offered = written + unconfirmed + superseded + failed + spooled + queued + dropped + rejected`,
/// at every moment, if its sink settles each sample once ([`balances`](Self::balances)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Selected for this sink and handed to its outlet, or found on disk at the start. Those of a row that has ended are
    /// here once it is known what became of them; of a sink that settles itself, whenever it is given them.
    pub offered: u64,
    /// Delivered, as far as the protocol can tell.
    pub written: u64,
    /// Handed over, and perhaps lost on the way: the protocol has no acknowledgement, and the peer
    /// was found gone.
    pub unconfirmed: u64,
    /// Replaced by newer totals before anybody fetched them; no loss, since counters are totals.
    pub superseded: u64,
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
    /// Entered by the sink beyond what it had: a mistake of the sink's. They are in the columns that
    /// it named, so that the columns' sum is so much more than `offered`.
    pub mis_settled: u64,
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

    /// The sum of all columns: what is known of the samples that were offered.
    pub fn accounted(&self) -> u64 {
        let settled = self.written + self.unconfirmed + self.superseded + self.failed;
        settled + self.spooled + self.queued + self.dropped_total() + self.rejected_total()
    }

    /// Adds another sink's numbers, column by column.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { offered, written, unconfirmed, superseded, failed, spooled, queued, mis_settled, .. } = other;
        self.offered += offered;
        self.written += written;
        self.unconfirmed += unconfirmed;
        self.superseded += superseded;
        self.failed += failed;
        self.spooled += spooled;
        self.queued += queued;
        self.mis_settled += mis_settled;
        for (reasons, others) in [(&mut self.dropped, &other.dropped), (&mut self.rejected, &other.rejected)] {
            for (reason, samples) in others {
                add(reasons, reason, *samples);
            }
        }
    }

    /// What is on disk is nobody's in this book any more.
    pub(crate) fn leave_spooled(&mut self) {
        self.offered = self.offered.saturating_sub(std::mem::take(&mut self.spooled));
    }

    /// Whether every offered sample is accounted for, once.
    pub fn balances(&self) -> bool {
        self.offered == self.accounted()
    }
}

/// One sink's book of samples. Every entry moves samples from one column to another under one
/// lock, so that the sum is right whenever it is read.
///
/// An entry of more samples than there are to settle is made all the same, and the surplus is
/// counted in [`Tally::mis_settled`]: whoever settles a sample twice finds a book that does not balance.
#[derive(Debug, Default)]
pub struct Ledger {
    book: Mutex<Book>,
    condition: SharedCondition,
    /// Calls the thread of the sink whose book this is: both have the book.
    waker: Waker,
}

#[derive(Debug, Default)]
struct Book {
    tally: Tally,
    /// How many of those that are queued the sink has in its hands.
    held: u64,
    /// Why whatever comes is dropped: the sink or the run is over. Who settles later is late, and
    /// changes nothing.
    closed: Option<&'static str>,
    told: Told,
    /// The reasons that the sink says in the log itself, or that were said in other words.
    said: Vec<&'static str>,
    /// Those that are text from outside.
    foreign: Foreign,
}

/// Which kinds of losses have been logged; of those with reasons, how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    dropped: usize,
    rejected: usize,
    unconfirmed: bool,
    mis_settled: bool,
}

/// Kinds of losses that are new, with the samples that were lost by then.
#[derive(Debug, PartialEq, Eq)]
struct FirstLosses {
    dropped: Reasons,
    rejected: Reasons,
    unconfirmed: u64,
    mis_settled: u64,
}

impl Ledger {
    pub(crate) const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// How the sink fares, since when and, unless it works, why.
    pub fn condition(&self) -> Condition {
        self.condition.look()
    }

    pub(crate) fn state(&self) -> State {
        self.condition.state()
    }

    /// The sink works, or works again. For a sink that keeps what it cannot deliver and so returns no error from a
    /// failure, like the entry below; for others the outlet makes both.
    pub fn works(&self) {
        self.condition.become_state(State::Working, "");
    }

    /// The sink cannot deliver at the moment: the reason, as the log has it. It stays so until [`works`](Self::works).
    pub fn fails(&self, reason: &str) {
        self.condition.become_state(State::Failing, reason);
    }

    pub(crate) fn is_absent(&self, reason: &str) {
        self.condition.become_state(State::Absent, reason);
    }

    pub(crate) fn is_over(&self, reason: &str) {
        self.condition.become_state(State::Closed, reason);
    }

    /// A copy of the book.
    pub fn tally(&self) -> Tally {
        self.book.lock().tally.clone()
    }

    /// Reads the book without copying it.
    pub fn read<R>(&self, look: impl FnOnce(&Tally) -> R) -> R {
        look(&self.book.lock().tally)
    }

    /// Samples were delivered. For sinks that settle themselves, like the entries below.
    pub fn written(&self, samples: u64) {
        self.settle(samples, |tally| tally.written += samples);
    }

    /// Samples were handed over and may be lost: nothing acknowledges them, and the peer was found gone.
    pub fn unconfirmed(&self, samples: u64) {
        self.settle(samples, |tally| tally.unconfirmed += samples);
    }

    /// Samples were replaced by newer ones of the same series before anybody fetched them.
    pub fn superseded(&self, samples: u64) {
        self.settle(samples, |tally| tally.superseded += samples);
    }

    /// Samples are lost because a write failed.
    pub fn failed(&self, samples: u64) {
        self.settle(samples, |tally| tally.failed += samples);
    }

    /// Samples were refused by the receiver, or cannot be said in its protocol.
    pub fn rejected(&self, samples: u64, reason: &'static str) {
        self.settle(samples, |tally| add(&mut tally.rejected, reason, samples));
    }

    /// A receiver's own words as a reason: without control characters, cut to 80 bytes. A ledger has 16 different ones;
    /// whatever comes beyond is `other`.
    pub fn reason(&self, words: &str) -> &'static str {
        self.book.lock().foreign.reason(words)
    }

    /// Samples were given up.
    pub fn dropped(&self, samples: u64, reason: &'static str) {
        self.settle(samples, |tally| add(&mut tally.dropped, reason, samples));
    }

    /// The sink says itself in the log that samples are dropped or rejected for this reason: its outlet does not
    /// say it again. To be called before the first of them is entered. Of every other reason the outlet logs the
    /// first loss.
    pub fn says_itself(&self, reason: &'static str) {
        let said = &mut self.book.lock().said;
        if !said.contains(&reason) {
            said.push(reason);
        }
    }

    /// Queued samples are now on disk.
    pub fn spool(&self, samples: u64) {
        self.settle(samples, |tally| tally.spooled += samples);
    }

    /// Samples are taken from disk to be settled: by [`written`](Self::written), for example.
    pub fn unspool(&self, samples: u64) {
        self.leave_spool(samples, |tally| tally.queued += samples);
        self.taken(samples);
    }

    /// Samples on disk are given up.
    pub fn dropped_from_spool(&self, samples: u64, reason: &'static str) {
        self.leave_spool(samples, |tally| add(&mut tally.dropped, reason, samples));
    }

    /// Samples of an earlier run were found on disk: this book takes them over.
    pub fn recovered(&self, samples: u64) {
        let tally = &mut self.book.lock().tally;
        tally.offered += samples;
        tally.spooled += samples;
    }

    /// A batch's selected samples enter the queue; in a closed book they are dropped.
    pub(crate) fn offered(&self, samples: u64) {
        let Book { tally, closed, .. } = &mut *self.book.lock();
        tally.offered += samples;
        match closed {
            Some(reason) => add(&mut tally.dropped, reason, samples),
            None => tally.queued += samples,
        }
    }

    /// Samples that were meant for the sink are lost before they came into its queue.
    pub(crate) fn lost(&self, samples: u64, reason: &'static str) {
        let tally = &mut self.book.lock().tally;
        tally.offered += samples;
        add(&mut tally.dropped, reason, samples);
    }

    /// The sink is given so many of the queued samples.
    pub(crate) fn taken(&self, samples: u64) {
        let book = &mut *self.book.lock();
        book.held = (book.held + samples).min(book.tally.queued);
    }

    /// Queued samples are given up that the sink has not seen.
    pub(crate) fn turned_away(&self, samples: u64, reason: &'static str) {
        self.enter(samples, false, |tally| &mut tally.queued, |tally| add(&mut tally.dropped, reason, samples));
    }

    /// Gives up what the sink has in its hands; what is in its queue stays.
    pub(crate) fn give_up_held(&self, reason: &'static str) {
        let held = self.book.lock().held;
        self.dropped(held, reason);
    }

    /// Samples leave this book for a successor's: what the sink had in its hands.
    pub(crate) fn hand_over(&self, samples: u64) {
        self.settle(samples, |tally| tally.offered -= samples);
    }

    /// Samples of a predecessor come into this book, and are in the sink's hands.
    pub(crate) fn take_over(&self, samples: u64) {
        self.offered(samples);
        self.taken(samples);
    }

    /// Logs the first loss of each kind that is not said otherwise.
    pub(crate) fn tell_losses(&self, sink: &str) {
        // Whoever reads the log may be slow: the book is open meanwhile.
        let Some(first) = self.first_losses() else { return };
        for (what, reasons) in [("dropped", first.dropped), ("rejected", first.rejected)] {
            for (reason, samples) in reasons {
                let way_out = way_out(reason);
                warn!(sink, samples, "samples are {what}: {reason}{way_out}; more of them are counted, not logged");
            }
        }
        if let samples @ 1.. = first.unconfirmed {
            warn!(
                sink,
                samples,
                "samples may be lost: nothing acknowledges them, and the receiver was gone. Look why it ends the \
                 connection; more of them are counted, not logged"
            );
        }
        if let samples @ 1.. = first.mis_settled {
            error!(
                sink,
                samples, "the sink settles samples that it was not given: its ledger is wrong. Please report it"
            );
        }
    }

    /// The kinds of losses that were not there when this was asked last.
    fn first_losses(&self) -> Option<FirstLosses> {
        let Book { tally, told, said, .. } = &mut *self.book.lock();
        let known = Told {
            dropped: tally.dropped.len(),
            rejected: tally.rejected.len(),
            unconfirmed: tally.unconfirmed > 0,
            mis_settled: tally.mis_settled > 0,
        };
        let before = std::mem::replace(told, known);
        if before == known {
            return None;
        }
        let news = |reasons: &[(&'static str, u64)]| {
            reasons.iter().filter(|(reason, _)| !said.contains(reason)).copied().collect()
        };
        Some(FirstLosses {
            dropped: news(&tally.dropped[before.dropped..]),
            rejected: news(&tally.rejected[before.rejected..]),
            unconfirmed: if before.unconfirmed { 0 } else { tally.unconfirmed },
            mis_settled: if before.mis_settled { 0 } else { tally.mis_settled },
        })
    }

    /// Gives up whatever is still queued, and closes the book.
    pub(crate) fn close(&self, reason: &'static str) {
        let mut book = self.book.lock();
        book.closed.get_or_insert(reason);
        book.held = 0;
        let rest = std::mem::take(&mut book.tally.queued);
        add(&mut book.tally.dropped, reason, rest);
    }

    /// Moves samples out of the queue.
    fn settle(&self, samples: u64, enter: impl FnOnce(&mut Tally)) {
        self.enter(samples, true, |tally| &mut tally.queued, enter);
    }

    /// Moves samples off the disk.
    fn leave_spool(&self, samples: u64, enter: impl FnOnce(&mut Tally)) {
        self.enter(samples, false, |tally| &mut tally.spooled, enter);
    }

    /// An entry is made as it is told. What the column has not got is told as well. `held` says whether the sink had them
    /// in its hands.
    fn enter(
        &self,
        samples: u64,
        held: bool,
        from: impl FnOnce(&mut Tally) -> &mut u64,
        enter: impl FnOnce(&mut Tally),
    ) {
        let mut book = self.book.lock();
        if samples == 0 || book.closed.is_some() {
            return;
        }
        let column = from(&mut book.tally);
        let surplus = samples.saturating_sub(*column);
        *column -= samples - surplus;
        book.held = book.held.saturating_sub(if held { samples } else { 0 });
        book.tally.mis_settled += surplus;
        enter(&mut book.tally);
    }
}

/// What can be done about a loss of the outlet's own; what the reasons of a sink mean stands in its documentation.
fn way_out(reason: &str) -> &'static str {
    match reason {
        QUEUE_FULL => "; give this sink a larger queue or a larger interval, or a faster receiver",
        FINAL => "; give this sink a smaller interval or a faster receiver, or exclude the metric from it",
        NEVER_SETTLED => "; this is a mistake in the sink, please report it",
        _ => "",
    }
}

fn add(reasons: &mut Reasons, reason: &'static str, samples: u64) {
    if samples == 0 {
        return;
    }
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

    #[test]
    fn a_sample_that_is_settled_twice_unbalances_the_book() {
        let ledger = Ledger::default();
        ledger.offered(30);
        ledger.written(10);
        ledger.written(10);
        assert!(ledger.tally().balances(), "there were so many");
        ledger.unconfirmed(4);
        ledger.superseded(6);
        assert!(ledger.tally().balances());
        ledger.failed(3);
        let tally = ledger.tally();
        assert_eq!((tally.written, tally.unconfirmed, tally.superseded), (20, 4, 6));
        assert_eq!((tally.failed, tally.queued, tally.mis_settled), (3, 0, 3));
        assert_eq!(tally.accounted(), tally.offered + 3);
        assert!(!tally.balances());
    }

    #[test]
    fn each_kind_of_loss_is_news_once() {
        let ledger = Ledger::default();
        let nothing = || FirstLosses { dropped: Vec::new(), rejected: Vec::new(), unconfirmed: 0, mis_settled: 0 };
        ledger.offered(30);
        ledger.written(1);
        assert_eq!(ledger.first_losses(), None);
        ledger.dropped(2, "queue full");
        ledger.dropped(3, "queue full");
        ledger.unconfirmed(4);
        let first = FirstLosses { dropped: vec![("queue full", 5)], unconfirmed: 4, ..nothing() };
        assert_eq!(ledger.first_losses(), Some(first));
        ledger.dropped(1, "queue full");
        ledger.unconfirmed(1);
        assert_eq!(ledger.first_losses(), None);
        ledger.lost(7, "final value");
        ledger.rejected(8, "too long");
        let first = FirstLosses { dropped: vec![("final value", 7)], rejected: vec![("too long", 8)], ..nothing() };
        assert_eq!(ledger.first_losses(), Some(first));
        ledger.written(20);
        assert_eq!(ledger.first_losses(), Some(FirstLosses { mis_settled: 10, ..nothing() }));
        assert_eq!(ledger.first_losses(), None);
    }

    #[test]
    fn what_the_sink_says_itself_is_not_said_again() {
        let ledger = Ledger::default();
        ledger.offered(30);
        ledger.says_itself("memory full");
        ledger.dropped(2, "memory full");
        ledger.rejected(3, "too long");
        let nothing = FirstLosses { dropped: Vec::new(), rejected: Vec::new(), unconfirmed: 0, mis_settled: 0 };
        assert_eq!(ledger.first_losses(), Some(FirstLosses { rejected: vec![("too long", 3)], ..nothing }));
        assert_eq!(ledger.tally().dropped, [("memory full", 2)], "it is counted all the same");
    }

    #[test]
    fn each_loss_of_the_outlets_own_has_a_way_out() {
        for reason in [QUEUE_FULL, FINAL, NEVER_SETTLED] {
            assert!(!way_out(reason).is_empty(), "{reason}");
        }
    }

    #[test]
    fn who_settles_after_the_end_is_late() {
        let ledger = Ledger::default();
        ledger.offered(10);
        ledger.close("agent stopped");
        ledger.written(10);
        let tally = ledger.tally();
        assert_eq!((tally.written, tally.dropped_total(), tally.mis_settled), (0, 10, 0));
        assert!(tally.balances());
    }

    proptest! {
        #[test]
        fn the_book_balances_if_and_only_if_nothing_is_settled_that_is_not_there(
            entries in prop::collection::vec((0..12_u8, 0..100_u64), 0..100),
        ) {
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
                    9 => ledger.unconfirmed(samples),
                    10 => ledger.superseded(samples),
                    _ => ledger.recovered(samples),
                }
                let tally = ledger.tally();
                prop_assert_eq!(tally.accounted(), tally.offered + tally.mis_settled);
                prop_assert_eq!(tally.balances(), tally.mis_settled == 0);
            }
        }
    }
}
