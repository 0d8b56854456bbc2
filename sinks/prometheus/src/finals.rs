//! Series that have ended: their last totals stay on the page for whoever has not come yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a final stays after the first scrape that carried it: for a second server, or a person.
const AFTER_SCRAPE: Duration = Duration::from_mins(2);

/// How long it waits for a scrape.
const UNSCRAPED: Duration = Duration::from_mins(10);

/// Room for finals in bytes, on the page and beside it.
const ROOM: usize = 8 << 20;

/// What a final takes beside its text.
const OVERHEAD: usize = 128;

/// What became of samples that finals hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FinalCounts {
    /// Samples of the page before that wait further, as finals.
    pub(crate) held: u64,
    /// Finals that were on a page that was fetched.
    pub(crate) fetched: u64,
    /// Finals that nobody fetched while there was time and room.
    pub(crate) lost: u64,
}

/// Where a final stands: its family, and its number among all.
pub(crate) type Place = (u32, u64);

/// Finals by their families, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Finals {
    all: BTreeMap<Place, Final>,
    next: u64,
    bytes: usize,
    counts: FinalCounts,
}

/// The last lines of a series.
#[derive(Debug)]
pub(crate) struct Final {
    /// Its identity on the page.
    pub(crate) head: Arc<str>,
    pub(crate) lines: Box<[u8]>,
    /// The number of the first page with the final value.
    page: u64,
    since: Duration,
    /// When a scrape was known that had it.
    fetched: Option<Duration>,
    /// Whether its sample waits in the ledger.
    owed: bool,
}

impl Finals {
    /// Keeps the lines of a series that has ended, and returns where. They have been on the page of this
    /// number, of which it is told whether it was fetched, or still may be.
    pub(crate) fn keep(
        &mut self,
        family: u32,
        (head, lines): (Arc<str>, Vec<u8>),
        page: u64,
        scrape: Scrape,
        now: Duration,
    ) -> Place {
        let place = (family, self.next);
        self.next += 1;
        let owed = scrape == Scrape::Awaited;
        self.counts.held += u64::from(owed);
        let fetched = (scrape == Scrape::Done).then_some(now);
        let lines = lines.into_boxed_slice();
        self.bytes += size(&head, &lines);
        self.all.insert(place, Final { head, lines, page, since: now, fetched, owed });
        place
    }

    /// Learns that all pages up to this number are fetched or replaced, and lets go what has been there
    /// for long enough, or has no room; tells of each that goes.
    pub(crate) fn tick(&mut self, fetched: u64, now: Duration, mut gone: impl FnMut(&Arc<str>)) {
        let Self { all, bytes, counts, .. } = self;
        all.retain(|_, it| {
            if it.fetched.is_none() && it.page <= fetched {
                it.fetched = Some(now);
                counts.fetched += u64::from(std::mem::take(&mut it.owed));
            }
            let until = it.fetched.map_or(it.since + UNSCRAPED, |fetched| fetched + AFTER_SCRAPE);
            let stays = now < until;
            if !stays {
                counts.lost += u64::from(it.owed);
                *bytes -= size(&it.head, &it.lines);
                gone(&it.head);
            }
            stays
        });
        self.make_room(gone);
    }

    /// Those that somebody has fetched go first, then the oldest. More than necessary go at once, so that
    /// this is not done for each.
    fn make_room(&mut self, mut gone: impl FnMut(&Arc<str>)) {
        if self.bytes <= ROOM {
            return;
        }
        let mut order: Vec<_> = self.all.iter().map(|(place, it)| (it.fetched.is_none(), place.1, *place)).collect();
        order.sort_unstable();
        for (_, _, place) in order {
            if self.bytes <= ROOM / 8 * 7 {
                return;
            }
            if let Some(it) = self.take(place) {
                gone(&it.head);
            }
        }
    }

    /// Another series has its name now.
    pub(crate) fn replace(&mut self, place: Place) {
        self.take(place);
    }

    /// Nobody comes any more.
    pub(crate) fn end(&mut self, fetched: u64, now: Duration) {
        self.tick(fetched, now, |_| {});
        while let Some((place, _)) = self.all.first_key_value() {
            self.take(*place);
        }
    }

    fn take(&mut self, place: Place) -> Option<Final> {
        let it = self.all.remove(&place)?;
        self.counts.lost += u64::from(it.owed);
        self.bytes -= size(&it.head, &it.lines);
        Some(it)
    }

    /// The families that have finals, each once.
    pub(crate) fn families(&self) -> impl Iterator<Item = u32> {
        let after = |family: u32| self.all.range((family, 0)..).next().map(|(place, _)| place.0);
        std::iter::successors(after(0), move |family| after(family + 1))
    }

    /// A family's lines.
    pub(crate) fn of(&self, family: u32) -> impl Iterator<Item = &[u8]> {
        self.all.range((family, 0)..(family + 1, 0)).map(|(_, it)| &*it.lines)
    }

    /// What became of samples since this was asked last.
    pub(crate) fn take_counts(&mut self) -> FinalCounts {
        std::mem::take(&mut self.counts)
    }
}

/// What is known of the page that had a series last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scrape {
    /// Somebody has fetched it.
    Done,
    /// It is the newest one, and nobody has fetched it so far.
    Awaited,
    /// It was replaced before.
    Missed,
}

fn size(head: &str, lines: &[u8]) -> usize {
    OVERHEAD + head.len() + lines.len()
}
