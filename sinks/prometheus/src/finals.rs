//! Rows that have ended: their last totals stay on the page for whoever has not come yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::Value;

use crate::column::{Distribution, Number};
use crate::row::Row;

/// How long a row stays after its last total was fetched: for a second server, or a person.
const AFTER_SCRAPE: Duration = Duration::from_mins(2);

/// How long it waits for a scrape.
const UNSCRAPED: Duration = Duration::from_mins(10);

/// Room for all in bytes.
const ROOM: usize = 16 << 20;

/// Room for those among them that somebody has fetched.
const FETCHED_ROOM: usize = 1 << 20;

/// What a row takes beside its text and its numbers.
const OVERHEAD: usize = 256;

/// Rows by number, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Finals {
    all: BTreeMap<u64, Final>,
    next: u64,
    bytes: usize,
    /// Of those that somebody has fetched.
    fetched_bytes: usize,
}

/// A row that has ended, and who has had its last totals.
#[derive(Debug)]
pub(crate) struct Final {
    /// The kind's place among all kinds.
    pub(crate) kind: usize,
    /// Pages on their way have it, too.
    pub(crate) last: Arc<Last>,
    /// Words of 64 columns: of which a total waits for a client.
    owed: Box<[u64]>,
    since: Duration,
    /// When a client had had all totals.
    fetched: Option<Duration>,
}

/// The last totals of a row.
#[derive(Debug)]
pub(crate) struct Last {
    pub(crate) row: Row,
    /// Words of 64 columns: which have a total.
    present: Box<[u64]>,
    /// By present column: a counter's total, or a histogram's place in the slab.
    values: Box<[u64]>,
    slab: Box<[u64]>,
}

impl Final {
    /// Of the totals among a row's cells; none if there is no total.
    pub(crate) fn new<'a>(
        kind: usize,
        row: Row,
        cells: impl Iterator<Item = (usize, Value<'a>)>,
        now: Duration,
    ) -> Option<Self> {
        let (mut present, mut values, mut slab) = (Vec::new(), Vec::new(), Vec::new());
        for (column, value) in cells {
            values.push(match value.into() {
                Number::Total(total) => total,
                Number::Level(_) => continue,
                Number::Distribution(Distribution { first, counts, count, sum }) => {
                    let place = slab.len() as u64;
                    slab.extend([first as u64, counts.len() as u64, count, sum]);
                    slab.extend_from_slice(counts);
                    place
                }
            });
            present.resize(present.len().max(column / 64 + 1), 0);
            present[column / 64] |= 1 << (column % 64);
        }
        let (present, values, slab) = (present.into_boxed_slice(), values.into(), slab.into());
        let (owed, last) = (present.clone(), Last { row, present, values, slab });
        (!last.values.is_empty()).then(|| Self { kind, last: Arc::new(last), owed, since: now, fetched: None })
    }

    /// How many totals wait for a client.
    pub(crate) fn owed(&self) -> u64 {
        self.owed.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// A client has had the columns that `takes` says; returns how many totals that waited.
    fn fetch(&mut self, takes: impl Fn(usize, usize) -> bool) -> u64 {
        let mut fetched = 0;
        for (index, word) in self.owed.iter_mut().enumerate() {
            let mut bits = *word;
            while bits != 0 {
                let bit = bits.trailing_zeros();
                bits &= bits - 1;
                if takes(self.kind, index * 64 + bit as usize) {
                    *word &= !(1 << bit);
                    fetched += 1;
                }
            }
        }
        fetched
    }

    fn size(&self) -> usize {
        self.last.size() + self.owed.len() * 8
    }
}

impl Last {
    /// The value in a column, of which it is told whether it is a histogram.
    pub(crate) fn number(&self, column: u32, is_histogram: bool) -> Option<Number<'_>> {
        let (word, bit) = (column as usize / 64, column % 64);
        let present = self.present.get(word).filter(|present| *present >> bit & 1 == 1)?;
        let before = self.present[..word].iter().map(|word| word.count_ones()).sum::<u32>();
        let rank = before + (present & ((1 << bit) - 1)).count_ones();
        let value = *self.values.get(rank as usize)?;
        if !is_histogram {
            return Some(Number::Total(value));
        }
        let small = |word: u64| usize::try_from(word).unwrap_or(usize::MAX);
        let [first, len, count, sum, counts @ ..] = self.slab.get(small(value)..)? else { return None };
        let counts = counts.get(..small(*len))?;
        Some(Number::Distribution(Distribution { first: small(*first), counts, count: *count, sum: *sum }))
    }

    /// The bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        let words = self.present.len() + self.values.len() + self.slab.len();
        OVERHEAD + self.row.labels.len() + self.row.started.len() + words * 8
    }
}

impl Finals {
    /// The number of the next one.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// Keeps a row, and returns its number.
    pub(crate) fn keep(&mut self, it: Final) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bytes += it.size();
        self.all.insert(number, it);
        number
    }

    /// A client has had a page with all rows before this number, but only the columns that `takes` says, by kind and
    /// place. Returns how many totals that waited for one.
    pub(crate) fn fetch(&mut self, before: u64, now: Duration, takes: impl Fn(usize, usize) -> bool) -> u64 {
        let mut fetched = 0;
        for it in self.all.range_mut(..before).map(|(_, it)| it).filter(|it| it.fetched.is_none()) {
            fetched += it.fetch(&takes);
            if it.owed() == 0 {
                it.fetched = Some(now);
                self.fetched_bytes += it.size();
            }
        }
        fetched
    }

    /// Lets go what has been there for long enough, or has no room, and tells of each that goes. Returns how many
    /// totals nobody has fetched.
    pub(crate) fn expire(&mut self, now: Duration, mut gone: impl FnMut(&Final)) -> u64 {
        let mut lost = self
            .drop_if(|it| now >= it.fetched.map_or(it.since + UNSCRAPED, |fetched| fetched + AFTER_SCRAPE), &mut gone);
        // More than necessary go at once, so that this is not done for each.
        let excess = |bytes: usize, room: usize| if bytes > room { bytes - room / 8 * 7 } else { 0 };
        let mut much = excess(self.fetched_bytes, FETCHED_ROOM).max(excess(self.bytes, ROOM));
        for only_fetched in [true, false] {
            if much > 0 {
                let goes = |it: &Final| {
                    let goes = much > 0 && (it.fetched.is_some() || !only_fetched);
                    much = much.saturating_sub(if goes { it.size() } else { 0 });
                    goes
                };
                lost += self.drop_if(goes, &mut gone);
                much = excess(self.bytes, ROOM);
            }
        }
        lost
    }

    /// Another row has its labels now. Returns how many of its totals nobody has fetched.
    pub(crate) fn replace(&mut self, number: u64) -> u64 {
        self.all.remove(&number).map_or(0, |it| self.forget(&it))
    }

    /// Lets go all. Returns how many totals nobody has fetched.
    pub(crate) fn clear(&mut self, gone: impl FnMut(&Final)) -> u64 {
        self.drop_if(|_| true, gone)
    }

    /// Those of a kind, the oldest first.
    pub(crate) fn of(&self, kind: usize) -> impl Iterator<Item = &Arc<Last>> {
        self.all.values().filter(move |it| it.kind == kind).map(|it| &it.last)
    }

    fn drop_if(&mut self, mut goes: impl FnMut(&Final) -> bool, mut gone: impl FnMut(&Final)) -> u64 {
        let mut all = std::mem::take(&mut self.all);
        let mut lost = 0;
        for (_, it) in all.extract_if(.., |_, it| goes(it)) {
            gone(&it);
            lost += self.forget(&it);
        }
        self.all = all;
        lost
    }

    fn forget(&mut self, it: &Final) -> u64 {
        self.bytes -= it.size();
        self.fetched_bytes -= if it.fetched.is_some() { it.size() } else { 0 };
        it.owed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(columns: &[usize]) -> Final {
        let row = Row { labels: "a=\"b\"".into(), started: "12".into() };
        let cells = columns.iter().map(|column| (*column, Value::Counter(7)));
        Final::new(3, row, cells, Duration::ZERO).expect("totals")
    }

    #[test]
    fn a_row_takes_its_text_and_its_words() {
        // Two words of columns that are there, two of those that are owed, three values.
        assert_eq!(ended(&[1, 64, 70]).size(), OVERHEAD + 5 + 2 + (2 + 3) * 8 + 2 * 8);
    }

    #[test]
    fn what_a_client_has_had_is_owed_no_more_and_room_is_given_back() {
        let mut finals = Finals::default();
        let number = finals.keep(ended(&[1, 64, 70]));
        assert_eq!(finals.fetch(number + 1, Duration::ZERO, |kind, column| kind == 3 && column != 70), 2);
        assert_eq!((finals.all[&number].owed(), finals.fetched_bytes), (1, 0));
        assert_eq!(finals.fetch(number + 1, Duration::ZERO, |kind, column| kind == 3 && column == 70), 1);
        assert_eq!((finals.all[&number].owed(), finals.fetched_bytes), (0, finals.bytes));
        assert_eq!(finals.replace(number), 0);
        assert_eq!((finals.bytes, finals.fetched_bytes), (0, 0));
    }
}
