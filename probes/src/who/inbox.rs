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
    doers: Vec<Gained>,
    by_word: Vec<(usize, u64)>,
}

/// Whose gains begin here.
#[derive(Clone, Copy, Debug)]
struct Gained {
    doer: Doer,
    /// Where its element is.
    place: usize,
    start: usize,
}

/// What somebody has gained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gain<'a> {
    pub(super) source: Source,
    pub(super) doer: &'a Doer,
    /// Where its element is.
    pub(super) place: usize,
    /// The words that have grown, and by how much.
    pub(super) words: &'a [(usize, u64)],
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
    fn add(&mut self, doer: Doer, place: usize, gains: &[(usize, u64)]) {
        if self.doers.last().is_none_or(|last| last.doer != doer) {
            self.doers.push(Gained { doer, place, start: self.by_word.len() });
        }
        self.by_word.extend_from_slice(gains);
    }

    /// Each doer's.
    fn iter(&self, source: Source) -> impl Iterator<Item = Gain<'_>> {
        let ends = self.doers.iter().skip(1).map(|next| next.start).chain([self.by_word.len()]);
        self.doers.iter().zip(ends).map(move |(gained, end)| {
            let words = &self.by_word[gained.start..end];
            Gain { source, doer: &gained.doer, place: gained.place, words }
        })
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
    pub(super) fn gain(&mut self, source: Source, doer: Doer, place: usize, gains: &[(usize, u64)]) {
        match source {
            Source::Told => self.told.add(doer, place, gains),
            Source::Seen => self.seen.add(doer, place, gains),
        }
    }

    pub(super) fn over(&mut self, doer: Doer) {
        self.over.push(doer);
    }

    /// In the order in which they happened: what was told is older than what is in the elements.
    pub(super) fn gains(&self) -> impl Iterator<Item = Gain<'_>> {
        self.told.iter(Source::Told).chain(self.seen.iter(Source::Seen))
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
        inbox.gain(Source::Seen, b, 5, &[(3, 30)]);
        inbox.gain(Source::Seen, b, 5, &[(4, 40)]);
        inbox.gain(Source::Told, a, 6, &[(1, 10)]);
        inbox.gain(Source::Seen, a, 6, &[(1, 11)]);
        let gains: Vec<_> =
            inbox.gains().map(|gain| (gain.source, *gain.doer, gain.place, gain.words.to_vec())).collect();
        let expected = [
            (Source::Told, a, 6, vec![(1, 10)]),
            (Source::Seen, b, 5, vec![(3, 30), (4, 40)]),
            (Source::Seen, a, 6, vec![(1, 11)]),
        ];
        assert_eq!(gains, expected);
        inbox.clear();
        assert_eq!(inbox.gains().count(), 0);
    }
}
