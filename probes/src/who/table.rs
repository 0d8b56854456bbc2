//! Reading the elements of all processes, by memory alone.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use parking_lot::{Mutex, MutexGuard};

use super::abi::{Doer, FIRST_PLACE, GROUP_HEAD, GROUP_PATH, HEAD_WORDS, Head, LOST, OTHER, TAKEN_WORDS, is_whole};
use super::groups;
use super::inbox::{Inbox, SharedInbox, Source};
use crate::abi::{Record, Slot};
use crate::memory;
use crate::object::Object;
use crate::object_maps::ObjectMaps;
use crate::sys::Mapping;

pub(crate) const ELEMENTS: &str = "elements";
const PLACES: &str = "places";
const VACANT: &str = "vacant";
const ENDS: &str = "ends";
const GROUPS: &str = "groups";

/// The ring has room for at least the ends of this part of the processes, in a tick that is as long as a machine without
/// time makes it.
const ENDS_PER_PLACE: usize = 2;

/// And this many bytes are enough.
const LARGEST_RING: u64 = 16 << 20;

/// Keys of places that are claimed, beside those of processes.
const CLAIMS: u32 = 1024;

/// How large the maps of an object are for so many processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// By name, the number of elements, of a ring its bytes.
    pub(crate) maps: [(&'static str, u32); 4],
}

impl Sizes {
    /// Of an object that tells by whom; of another one nothing is.
    pub(crate) fn if_by_whom(object: Object, bytes: &[u8], processes: u32) -> Vec<(&'static str, u32)> {
        if object == Object::Who { Self::of(bytes, processes).maps.to_vec() } else { Vec::new() }
    }

    /// Of an object with elements of so many bytes.
    pub(crate) fn of(object: &[u8], processes: u32) -> Self {
        let [element] = memory::value_sizes(object, [ELEMENTS]);
        let places = FIRST_PLACE as u64 + u64::from(processes);
        // A ring's size is a power of two.
        let ring = (element as u64 * u64::from(processes) / ENDS_PER_PLACE as u64).clamp(1 << 16, LARGEST_RING);
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            maps: [
                (ELEMENTS, number(places)),
                (PLACES, processes.saturating_add(CLAIMS)),
                (VACANT, processes),
                (ENDS, number(ring.next_power_of_two())),
            ],
        }
    }
}

/// The elements of an object's processes.
pub(crate) struct Table {
    mapping: Mapping,
    words_per_element: usize,
    ends: RingBuf<MapData>,
    groups: RingBuf<MapData>,
    states: Vec<State>,
    /// Behind it no place was ever anybody's, as of the last look.
    end: usize,
    /// The words that somebody asks for.
    read: Vec<Range<usize>>,
    /// What was read last of each place, as long as its turn lasts.
    last: Vec<u64>,
    /// What was read of turns that have ended and of which the ring has not told yet.
    pending: HashMap<(usize, u64), Pending>,
    /// All gains since the object was loaded, by word.
    totals: Vec<u64>,
    /// Of what was lost on its way: what was added to it, and what of that had been read before.
    lost: Vec<u64>,
    known: Vec<u64>,
    /// How many ends were lost when it was settled last, and for how many looks there may be something to settle.
    ends_lost: u32,
    unsettled: u32,
    /// Of the element that is looked at: words that have grown, and by how much.
    found: Vec<(usize, u64)>,
    readers: Vec<Weak<Mutex<Inbox>>>,
}

/// Of one place.
#[derive(Clone, Copy, Debug)]
struct State {
    /// 0: nothing was read of it.
    turn: u64,
    /// Whose numbers were read of it.
    doer: Doer,
}

struct Pending {
    words: Box<[u64]>,
    looks: u32,
    doer: Doer,
}

/// How many records an element has, of an object that tells by whom.
pub(crate) fn records(object: &[u8]) -> usize {
    let [bytes] = memory::value_sizes(object, [ELEMENTS]);
    bytes.div_ceil(size_of::<u64>()).saturating_sub(HEAD_WORDS) / Record::WORDS
}

/// Makes all places of an object that was just loaded nobody's, where it is one that tells by whom.
pub(crate) fn vacate(maps: &ObjectMaps) -> io::Result<()> {
    if maps.descriptor(VACANT).is_none() {
        return Ok(());
    }
    let vacant = maps.elements(VACANT, None)?;
    // The first ones are given away first: what is in use stays close together.
    (FIRST_PLACE..maps.entries(ELEMENTS)?)
        .rev()
        .try_for_each(|place| vacant.update(&[], &u32::try_from(place).unwrap_or(u32::MAX).to_ne_bytes()))
}

/// Those to whom gains go.
struct Gained<'a> {
    inboxes: Vec<MutexGuard<'a, Inbox>>,
    /// Who began before, in nanoseconds since the boot, waits for its name no longer.
    grown_up: u64,
}

/// After so many looks what the ring has not told of was lost, if anything was.
const LOOKS: u32 = 2;

impl Table {
    /// Of the maps of an object, where it is one that tells by whom.
    pub(crate) fn of(maps: &ObjectMaps, object: &[u8]) -> io::Result<Option<Self>> {
        let Some(elements) = maps.descriptor(ELEMENTS) else { return Ok(None) };
        let [bytes] = memory::value_sizes(object, [ELEMENTS]);
        let words_per_element = bytes.div_ceil(size_of::<u64>());
        let count = maps.entries(ELEMENTS)?;
        let mapping = Mapping::new(elements, words_per_element * count)?;
        let (ends, groups) = (maps.ring(ENDS)?, maps.ring(GROUPS)?);
        let words = words_per_element - HEAD_WORDS;
        Ok(Some(Self {
            mapping,
            words_per_element,
            ends,
            groups,
            states: vec![State { turn: 0, doer: Doer::Other }; count],
            end: FIRST_PLACE,
            read: std::iter::once(0..words).collect(),
            last: vec![0; words * count],
            pending: HashMap::new(),
            totals: vec![0; words],
            lost: vec![0; words],
            known: vec![0; words],
            ends_lost: 0,
            unsettled: 0,
            found: Vec::with_capacity(AT_ONCE),
            readers: Vec::new(),
        }))
    }

    /// A reader of what is gained from now on.
    pub(crate) fn subscribe(&mut self) -> SharedInbox {
        let inbox = SharedInbox::default();
        self.readers.push(Arc::downgrade(&inbox));
        inbox
    }

    /// The sum over all processes of these records, as of the last refresh.
    pub(crate) fn sum(&self, slots: &[Slot]) -> Record {
        let record = |slot: &Slot| {
            let first = *slot as usize * Record::WORDS;
            Record::of_words(|index| self.totals.get(first + index).copied().unwrap_or(0))
        };
        slots.iter().map(record).fold(Record::default(), Record::plus)
    }

    /// Reads these records alone: nobody asks for the others.
    pub(crate) fn read_only(&mut self, slots: &[Slot]) {
        self.read.clear();
        for slot in slots {
            let first = *slot as usize * Record::WORDS;
            match self.read.last_mut().filter(|last| last.end == first) {
                Some(last) => last.end += Record::WORDS,
                None => self.read.push(first..first + Record::WORDS),
            }
        }
    }

    /// Looks at all elements, then at what the ring tells: whatever is gone from an element by then is in it. A new process
    /// waits for its name for so long.
    pub(crate) fn refresh(&mut self, patience: Duration) {
        self.readers.retain(|reader| reader.strong_count() > 0);
        let readers: Vec<SharedInbox> = self.readers.iter().filter_map(Weak::upgrade).collect();
        let inboxes = readers.iter().map(|reader| reader.lock()).collect();
        let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let mut gained = Gained { inboxes, grown_up: since_boot().saturating_sub(patience) };
        self.read_groups();
        self.look_at(OTHER, &mut gained);
        let mut unused = 0;
        self.end = FIRST_PLACE;
        for place in FIRST_PLACE..self.states.len() {
            if self.turn_of(place) == 0 {
                // Places are given away in order. Of those that are just being given away more than this many at once are
                // seen at the next look.
                unused += 1;
                if unused > SPARE {
                    break;
                }
            } else {
                (unused, self.end) = (0, place + 1);
                self.look_at(place, &mut gained);
            }
        }
        self.read_ends(&mut gained);
        self.settle(&mut gained);
    }

    fn words(&self) -> usize {
        self.words_per_element - HEAD_WORDS
    }

    fn turn_of(&self, place: usize) -> u64 {
        self.mapping.words()[place * self.words_per_element].load(Ordering::Acquire)
    }

    fn look_at(&mut self, place: usize, gained: &mut Gained<'_>) {
        let words = self.words();
        let Self { mapping, states, last, pending, totals, read, found, .. } = self;
        let element = &mapping.words()[place * self.words_per_element..][..self.words_per_element];
        let word = |index: usize| element[index].load(Ordering::Acquire);
        let state = &mut states[place];
        let last = &mut last[place * words..][..words];
        let turn = if place == OTHER { NOBODYS } else { word(0) };
        // It is changing, or nobody's: what becomes of it is told by the ring, or seen at the next look.
        if !is_whole(turn) {
            return;
        }
        if state.turn != turn {
            if state.turn != 0 {
                let words = last.to_vec().into_boxed_slice();
                pending.insert((place, state.turn), Pending { words, looks: 0, doer: state.doer });
                last.fill(0);
            } else if place != OTHER && Head::of_words(word).is_new(gained.grown_up) {
                return;
            }
            // What could not be told goes on.
            if let Some(before) = (!pending.is_empty()).then(|| pending.remove(&(place, turn))).flatten() {
                last.copy_from_slice(&before.words);
            }
            state.turn = turn;
        }
        // Until nothing of it has changed hands meanwhile nothing is taken for read.
        found.clear();
        let mut take = |gains: &[(usize, u64)], last: &mut [u64]| {
            let head = Head::of_words(word);
            if place != OTHER && head.turn != turn || gains.is_empty() {
                return;
            }
            state.doer = if place == OTHER { Doer::Other } else { head.doer };
            for (index, by) in gains {
                last[*index] += by;
                totals[*index] = totals[*index].wrapping_add(*by);
            }
            gained.give(Source::Seen, state.doer, place, gains);
        };
        for index in read.iter().flat_map(Clone::clone) {
            let now = element[HEAD_WORDS + index].load(Ordering::Acquire);
            if now > last[index] {
                found.push((index, now - last[index]));
                if found.len() == AT_ONCE {
                    take(found, last);
                    found.clear();
                }
            }
        }
        take(found, last);
    }

    fn read_ends(&mut self, gained: &mut Gained<'_>) {
        let words = self.words();
        let Self { ends, states, last, pending, totals, .. } = self;
        let mut gains = Vec::new();
        while let Some(item) = ends.next() {
            let word = |index: usize| {
                let bytes = item.get(index * 8..index * 8 + 8).and_then(|bytes| bytes.try_into().ok());
                bytes.map_or(0, u64::from_ne_bytes)
            };
            let (place, is_over) = (word(0) & u64::from(u32::MAX), word(0) >> 32 != 0);
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            let head = Head::of_words(|index| word(TAKEN_WORDS + index));
            let mut gain = |index: usize, before: u64| {
                let by = word(TAKEN_WORDS + HEAD_WORDS + index).saturating_sub(before);
                if by > 0 {
                    totals[index] = totals[index].wrapping_add(by);
                    gains.push((index, by));
                }
            };
            match states.get_mut(place) {
                Some(state) if state.turn == head.turn => {
                    state.turn = 0;
                    let last = &mut last[place * words..][..words];
                    last.iter().enumerate().for_each(|(index, before)| gain(index, *before));
                    last.fill(0);
                }
                _ => match pending.remove(&(place, head.turn)) {
                    Some(before) => before.words.iter().enumerate().for_each(|(index, before)| gain(index, *before)),
                    None => (0..words).for_each(|index| gain(index, 0)),
                },
            }
            gained.give(Source::Told, head.doer, place, &gains);
            gains.clear();
            if is_over {
                gained.over(head.doer);
            }
        }
    }

    /// What was read of an element that is nobody's by now waits for the ring.
    fn give_up(&mut self, place: usize) {
        let (words, turn) = (self.words(), self.turn_of(place));
        let state = &mut self.states[place];
        if state.turn != 0 && turn == state.turn + 1 {
            let last = &mut self.last[place * words..][..words];
            self.pending.insert((place, state.turn), Pending { words: (&*last).into(), looks: 0, doer: state.doer });
            last.fill(0);
            state.turn = 0;
        }
    }

    fn lost_word(&self, index: usize) -> u64 {
        self.mapping.words()[LOST * self.words_per_element + index].load(Ordering::Acquire)
    }

    /// What was lost on its way, without what had been read of it before, is nobody's; and whose end was lost is over.
    fn settle(&mut self, gained: &mut Gained<'_>) {
        let ends_lost = Head::of_words(|index| self.lost_word(index)).lost;
        if ends_lost != self.ends_lost {
            (self.ends_lost, self.unsettled) = (ends_lost, LOOKS + 1);
        }
        if self.unsettled == 0 {
            return;
        }
        self.unsettled -= 1;
        for place in FIRST_PLACE..self.end {
            self.give_up(place);
        }
        let (pending, known) = (&mut self.pending, &mut self.known);
        pending.retain(|_, pending| {
            pending.looks += 1;
            let is_lost = pending.looks > LOOKS;
            if is_lost {
                known.iter_mut().zip(&pending.words).for_each(|(known, word)| *known = known.wrapping_add(*word));
                gained.over(pending.doer);
            }
            !is_lost
        });
        if !pending.is_empty() {
            self.unsettled = self.unsettled.max(1);
            return;
        }
        let mut gains = Vec::new();
        for index in 0..self.lost.len() {
            let now = self.lost_word(HEAD_WORDS + index);
            let (lost, known) = (&mut self.lost[index], &mut self.known[index]);
            let by = now.saturating_sub(*lost).saturating_sub(*known);
            if by > 0 {
                *lost += *known + by;
                *known = 0;
                self.totals[index] = self.totals[index].wrapping_add(by);
                gains.push((index, by));
            }
        }
        gained.give(Source::Told, Doer::Other, OTHER, &gains);
    }

    /// Those that there are already are known from the first look on, even if they are gone before anybody asks.
    fn read_groups(&mut self) {
        groups::with(|groups| {
            while let Some(item) = self.groups.next() {
                if let Some((id, path)) = group_of(&item) {
                    groups.made(id, path);
                }
            }
        });
    }
}

/// Id and path of a group that was made. One whose path may be longer than what is told of it is looked for.
fn group_of(item: &[u8]) -> Option<(u64, &[u8])> {
    let (head, path) = item.split_at_checked(GROUP_HEAD)?;
    let word = |index: usize| head.get(index..index + 8)?.try_into().ok();
    let (id, length) = (u64::from_ne_bytes(word(0)?), i64::from_ne_bytes(word(8)?));
    // With its zero.
    let length = usize::try_from(length).ok().filter(|length| (1..GROUP_PATH).contains(length))?;
    Some((id, path.get(..length - 1)?))
}

/// Words that are compared before it is looked whether they are still one process's.
const AT_ONCE: usize = 64;

/// Places that were nobody's ever behind which none is looked for.
const SPARE: usize = 1024;

/// The turn of what found no place.
const NOBODYS: u64 = 2;

/// Of the clock that a process's start is taken from, in nanoseconds.
fn since_boot() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanoseconds = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

impl Gained<'_> {
    fn give(&mut self, source: Source, doer: Doer, place: usize, gains: &[(usize, u64)]) {
        if !gains.is_empty() {
            self.inboxes.iter_mut().for_each(|inbox| inbox.gain(source, doer, place, gains));
        }
    }

    fn over(&mut self, doer: Doer) {
        self.inboxes.iter_mut().for_each(|inbox| inbox.over(doer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_told_in_as_many_bytes_as_it_takes() {
        let item = |length: i64, path: &[u8]| [&7_u64.to_ne_bytes(), &length.to_ne_bytes()[..], path].concat();
        assert_eq!(group_of(&item(5, b"/a/b\0")), Some((7, &b"/a/b"[..])));
        assert_eq!(group_of(&item(1, b"\0")), Some((7, &b""[..])));
        let long = [b'x'; GROUP_PATH];
        assert_eq!(group_of(&item(495, &long)), Some((7, &long[..494])));
        // It may be longer, could not be read, or is no group.
        for none in [item(496, &long), item(-14, &long), item(0, b""), item(9, b"/a"), vec![0; 15]] {
            assert_eq!(group_of(&none), None);
        }
    }

    #[test]
    fn rings_are_whole_pages_and_bounded() {
        for processes in [1, 100, 8192, 65_536, u32::MAX] {
            let sizes = Sizes::of(crate::calls::SYSCALLS.who.expect("an object"), processes);
            let [(_, elements), .., (_, ring)] = sizes.maps;
            assert!(ring.is_power_of_two() && (65_536..=16 << 20).contains(&ring), "{ring}");
            assert_eq!(u64::from(elements), (u64::from(processes) + 2).min(u64::from(u32::MAX)));
        }
    }
}
