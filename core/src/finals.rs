//! Final values that were given up while a batch with them was still on its way to a sink.

use std::collections::VecDeque;

/// What one sink may still have of the finals that are repeated no more. One is lost when the last batch
/// that holds it is done with, or was dropped from the queue, and the sink took none of them.
#[derive(Debug, Default)]
pub(crate) struct Finals {
    /// The batches that are in the sink's queue or its hands, by number: as many as these have room for.
    on_their_way: VecDeque<u64>,
    /// In the order in which they were given up. Each is in a batch that is on its way.
    held: Vec<Held>,
}

/// Finals that the batches of these numbers hold, and no other.
#[derive(Debug)]
struct Held {
    since: u64,
    upto: u64,
    finals: u64,
}

impl Finals {
    /// A batch went into the queue.
    pub(crate) fn sent(&mut self, batch: u64) {
        self.on_their_way.push_back(batch);
    }

    /// A batch was taken out of the queue again.
    pub(crate) fn dropped(&mut self, batch: u64) {
        self.on_their_way.retain(|other| *other != batch);
    }

    /// Whether a batch of this number or a later one is on its way.
    pub(crate) fn may_come(&self, since: u64) -> bool {
        self.on_their_way.back().is_some_and(|newest| *newest >= since)
    }

    /// A final is given up that the batches of these numbers hold. To be asked for only if it
    /// [may come](Self::may_come).
    pub(crate) fn give_up(&mut self, since: u64, upto: u64) {
        match self.held.last_mut() {
            Some(last) if last.since == since && last.upto == upto => last.finals += 1,
            _ => self.held.push(Held { since, upto, finals: 1 }),
        }
    }

    /// The sink is done with all batches before `done`, and has taken these. Returns how many finals are lost.
    pub(crate) fn settle(&mut self, done: u64, taken: &[u64]) -> u64 {
        let Self { on_their_way, held } = self;
        while on_their_way.front().is_some_and(|oldest| *oldest < done) {
            on_their_way.pop_front();
        }
        let mut lost = 0;
        held.retain(|Held { since, upto, finals }| {
            let holds = |batch: &u64| (since..=upto).contains(&batch);
            let had = taken.iter().any(holds);
            let open = !had && on_their_way.iter().any(holds);
            lost += if had || open { 0 } else { *finals };
            open
        });
        lost
    }

    /// The run is over, and nothing more comes. Returns how many finals are lost.
    pub(crate) fn end(&mut self, taken: &[u64]) -> u64 {
        self.on_their_way.clear();
        self.settle(u64::MAX, taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_is_lost_with_the_last_batch_that_holds_it_and_not_before() {
        let mut finals = Finals::default();
        for batch in 0..4 {
            finals.sent(batch);
        }
        assert!(finals.may_come(3) && !finals.may_come(4));
        for since in [1, 1, 3] {
            finals.give_up(since, 3);
        }
        finals.sent(4);
        assert_eq!(finals.settle(1, &[0]), 0);
        finals.dropped(2);
        // It fails with batch 1, and batch 3 is in the queue.
        assert_eq!(finals.settle(2, &[]), 0);
        finals.dropped(3);
        assert_eq!(finals.settle(2, &[]), 3, "batch 4 has them no more");
        assert_eq!(finals.settle(5, &[4]), 0, "each is lost once");
        finals.sent(5);
        finals.give_up(5, 5);
        assert_eq!(finals.settle(6, &[5]), 0, "it was taken");
        finals.sent(6);
        finals.give_up(6, 6);
        assert_eq!(finals.end(&[]), 1);
    }
}
