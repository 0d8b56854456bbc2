//! What a table has gained since one of its readers looked last.

use std::sync::Arc;

use parking_lot::Mutex;

use super::abi::Doer;

/// A reader's gains, until he takes them.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Of those who go on under another name or elsewhere, and of those that are over: what happened before.
    told: Gains,
    /// Of everybody else.
    seen: Gains,
    over: Vec<Doer>,
}

/// Gains in the order in which they were found.
#[derive(Debug, Default)]
pub(crate) struct Gains {
    doers: Vec<(Doer, usize)>,
    by_word: Vec<(usize, u64)>,
}

/// Where a gain was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the ring.
    Told,
    /// In the element.
    Seen,
}

/// The table fills it, the reader empties it.
pub(crate) type SharedInbox = Arc<Mutex<Inbox>>;

impl Gains {
    fn add(&mut self, doer: Doer, gains: &[(usize, u64)]) {
        if self.doers.last().is_none_or(|(last, _)| *last != doer) {
            self.doers.push((doer, self.by_word.len()));
        }
        self.by_word.extend_from_slice(gains);
    }

    /// Each doer with the words that have grown, and by how much.
    fn iter(&self) -> impl Iterator<Item = (&Doer, &[(usize, u64)])> {
        let ends = self.doers.iter().skip(1).map(|(_, start)| *start).chain([self.by_word.len()]);
        self.doers.iter().zip(ends).map(|((doer, start), end)| (doer, &self.by_word[*start..end]))
    }

    fn clear(&mut self) {
        empty(&mut self.doers);
        empty(&mut self.by_word);
    }
}

/// Room that is never given up.
const FEW: usize = 256;

/// Empties a list. Room for four times as many as were in it is given up, or what one crowd took would stay for ever.
fn empty<T>(list: &mut Vec<T>) {
    if list.capacity() > 4 * list.len().max(FEW) {
        *list = Vec::with_capacity(2 * list.len());
    }
    list.clear();
}

impl Inbox {
    pub(super) fn gain(&mut self, source: Source, doer: Doer, gains: &[(usize, u64)]) {
        match source {
            Source::Told => self.told.add(doer, gains),
            Source::Seen => self.seen.add(doer, gains),
        }
    }

    pub(super) fn over(&mut self, doer: Doer) {
        self.over.push(doer);
    }

    /// In the order in which they happened: what was told is older than what is in the elements.
    pub(super) fn gains(&self) -> impl Iterator<Item = (Source, &Doer, &[(usize, u64)])> {
        let told = self.told.iter().map(|(doer, gains)| (Source::Told, doer, gains));
        told.chain(self.seen.iter().map(|(doer, gains)| (Source::Seen, doer, gains)))
    }

    /// Whose process is over.
    pub(super) fn ended(&self) -> &[Doer] {
        &self.over
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.told.clear();
        self.seen.clear();
        empty(&mut self.over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_a_crowd_is_given_up_when_it_is_gone() {
        let mut list: Vec<u8> = vec![0; 100_000];
        empty(&mut list);
        assert!(list.capacity() >= 100_000, "the next one may be as large");
        list.push(1);
        empty(&mut list);
        assert!(list.is_empty() && list.capacity() < FEW);
    }

    #[test]
    fn what_was_told_comes_before_what_is_seen() {
        let mut inbox = Inbox::default();
        let (a, b) = (Doer::Kernel { cgroup: 1 }, Doer::Other);
        inbox.gain(Source::Seen, b, &[(3, 30)]);
        inbox.gain(Source::Seen, b, &[(4, 40)]);
        inbox.gain(Source::Told, a, &[(1, 10)]);
        inbox.gain(Source::Seen, a, &[(1, 11)]);
        let gains: Vec<_> = inbox.gains().map(|(source, doer, gains)| (source, *doer, gains.to_vec())).collect();
        let expected = [
            (Source::Told, a, vec![(1, 10)]),
            (Source::Seen, b, vec![(3, 30), (4, 40)]),
            (Source::Seen, a, vec![(1, 11)]),
        ];
        assert_eq!(gains, expected);
        inbox.clear();
        assert_eq!(inbox.gains().count(), 0);
    }
}
