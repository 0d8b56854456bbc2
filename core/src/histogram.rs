//! Distributions in powers of two.

/// How many slots a histogram can have; slot *k* holds values from 2^k to 2^(k+1)-1, slot 0 also 0.
pub const HISTOGRAM_SLOTS: usize = 64;

/// The largest value that falls into a slot, inclusive: 2^(k+1)-1.
pub const fn slot_bound(slot: usize) -> u64 {
    if slot >= HISTOGRAM_SLOTS - 1 { u64::MAX } else { (2 << slot) - 1 }
}

/// A histogram as a batch holds it: from its first slot that was ever hit to its last one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Histogram<'a> {
    pub(crate) first: usize,
    /// The last slot that it can have, which holds all that is larger as well.
    pub(crate) end: usize,
    pub(crate) counts: &'a [u64],
    pub(crate) sum: u64,
    pub(crate) scale: f64,
}

/// One slot of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bucket {
    /// The slot's number.
    pub slot: usize,
    /// The largest recorded number that falls into it, inclusive: none is too large for the last slot that the histogram can
    /// have.
    pub bound: u64,
    /// How many did, in this slot alone.
    pub count: u64,
}

impl<'a> Histogram<'a> {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, slot| sum.wrapping_add(*slot))
    }

    /// The sum of all recorded numbers, without the [scale](Self::scale).
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// What one of the recorded numbers, of bounds and of the sum, is in the metric's unit.
    pub const fn scale(&self) -> f64 {
        self.scale
    }

    /// The number of the first slot that was ever hit.
    pub const fn first(&self) -> usize {
        self.first
    }

    /// How many values fell into each slot, from the [first](Self::first) that was ever hit to the last one.
    pub const fn counts(&self) -> &'a [u64] {
        self.counts
    }

    /// The slots from the first that was ever hit to the last one, without those around them, which are empty.
    pub fn buckets(&self) -> impl ExactSizeIterator<Item = Bucket> + Clone + use<'a> {
        let (first, end) = (self.first, self.end);
        let counts = self.counts.iter().enumerate();
        counts.map(move |(index, &count)| {
            let slot = first + index;
            Bucket { slot, bound: if slot == end { u64::MAX } else { slot_bound(slot) }, count }
        })
    }
}

/// A histogram's totals: the counts of all its slots, then the sum.
#[derive(Clone, Debug)]
pub(crate) struct Totals(Box<[u64]>);

impl Totals {
    pub(crate) fn new((first, last): (u8, u8)) -> Self {
        Self(vec![0; usize::from(last - first) + 2].into())
    }

    fn split(&mut self) -> (&mut [u64], &mut u64) {
        let (sum, counts) = self.0.split_last_mut().unwrap_or_else(|| unreachable!("a sum at least"));
        (counts, sum)
    }

    /// Takes over what was counted from slot 0 on.
    pub(crate) fn set(&mut self, first: u8, slots: &[u64], total: u64) {
        let (counts, sum) = self.split();
        counts.fill(0);
        fold(counts, first, slots);
        *sum = total;
    }

    /// Adds what was counted from slot 0 on.
    pub(crate) fn grow(&mut self, first: u8, slots: &[u64], growth: u64) {
        let (counts, sum) = self.split();
        fold(counts, first, slots);
        *sum = sum.wrapping_add(growth);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, its)| *mine = mine.wrapping_add(*its));
    }

    pub(crate) fn subtract(&mut self, base: &Self) {
        self.0.iter_mut().zip(&base.0).for_each(|(mine, base)| *mine = mine.saturating_sub(*base));
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Writes them behind a slab and returns where: the first slot that was hit, how many there are to the last,
    /// the sum, the counts.
    pub(crate) fn store(&self, first: u8, slab: &mut Vec<u64>) -> u64 {
        let (sum, counts) = self.0.split_last().unwrap_or((&0, &[]));
        let from = counts.iter().position(|count| *count > 0).unwrap_or(0);
        let to = counts.iter().rposition(|count| *count > 0).map_or(from, |last| last + 1);
        let offset = slab.len();
        slab.extend([u64::from(first) + from as u64, (to - from) as u64, *sum]);
        slab.extend_from_slice(&counts[from..to]);
        offset as u64
    }
}

/// Adds counts from slot 0 on to those from `first` on. What is outside goes into the nearest.
fn fold(counts: &mut [u64], first: u8, slots: &[u64]) {
    let (first, last) = (usize::from(first), counts.len().saturating_sub(1));
    for (slot, count) in slots.iter().enumerate().filter(|(_, count)| **count > 0) {
        let place = &mut counts[slot.saturating_sub(first).min(last)];
        *place = place.wrapping_add(*count);
    }
}

/// Reads what [`Totals::store`] wrote.
pub(crate) fn load(slab: &[u64], offset: u64, end: u8, scale: f64) -> Histogram<'_> {
    let end = usize::from(end);
    let words = usize::try_from(offset).ok().and_then(|offset| slab.get(offset..)).unwrap_or_default();
    let [first, len, sum, rest @ ..] = words else { return Histogram { first: 0, end, counts: &[], sum: 0, scale } };
    let small = |word: u64| usize::try_from(word).unwrap_or(usize::MAX);
    let (first, counts) = (small(*first), rest.get(..small(*len)).unwrap_or_default());
    Histogram { first, end, counts, sum: *sum, scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_the_largest_values_of_their_slots() {
        assert_eq!([0, 1, 10, 62, 63].map(slot_bound), [1, 3, 2047, u64::MAX >> 1, u64::MAX]);
    }

    #[test]
    fn empty_slots_around_the_used_ones_take_no_room() {
        let (range, mut slab) = ((2, 40), vec![7]);
        let mut totals = Totals::new(range);
        let empty = totals.store(2, &mut slab);
        let mut slots = [0; HISTOGRAM_SLOTS];
        (slots[0], slots[5], slots[7], slots[63]) = (1, 3, 4, 2);
        totals.set(2, &slots, 99);
        let whole = totals.store(2, &mut slab);
        totals.set(2, &slots[..8], 55);
        let part = totals.store(2, &mut slab);
        assert_eq!(load(&slab, empty, 40, 1.0), Histogram { first: 2, end: 40, counts: &[], sum: 0, scale: 1.0 });
        let whole = load(&slab, whole, 40, 1.0);
        assert_eq!(whole.buckets().last().map(|last| (last.slot, last.bound)), Some((40, u64::MAX)), "with slot 63");
        assert_eq!((whole.first(), whole.counts().len(), whole.count(), whole.sum()), (2, 39, 10, 99));
        let part: Vec<_> = load(&slab, part, 40, 1.0).buckets().filter(|bucket| bucket.count > 0).collect();
        let bucket = |slot, bound, count| Bucket { slot, bound, count };
        assert_eq!(part, [bucket(2, 7, 1), bucket(5, 63, 3), bucket(7, 255, 4)]);
    }
}
