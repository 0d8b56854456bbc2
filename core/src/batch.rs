//! One tick's values: columns of numbers that every sink shares.

use std::sync::Arc;
use std::time::Duration;

use crate::series::SeriesTable;

/// One round of collection and its two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Rises by one per batch, from 0.
    pub seq: u64,
    /// Wall-clock time since the Unix epoch, the timestamp of every sample of the batch. Never the same
    /// as the batch before; it goes back where the machine's clock was set back by more than an interval.
    pub wall: Duration,
    /// Time since boot, suspend included: what rates are computed from.
    pub boottime: Duration,
}

/// How many slots a histogram has; slot *k* holds values from 2^k to 2^(k+1)-1, slot 0 also 0.
pub const HISTOGRAM_SLOTS: usize = 64;

/// Words of the slab that one histogram takes: its slots, then its sum.
const HISTOGRAM_WORDS: usize = HISTOGRAM_SLOTS + 1;

/// A histogram as a batch holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram<'a> {
    /// How many values fell into each slot.
    pub slots: &'a [u64],
    /// The sum of all values.
    pub sum: u64,
}

impl Histogram<'_> {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| sum.wrapping_add(*slot))
    }
}

/// The number in a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A total since the baseline.
    Counter(u64),
    /// A finite level.
    Gauge(f64),
    /// A distribution.
    Histogram(Histogram<'a>),
}

/// The samples of one metric.
#[derive(Debug, Default)]
pub(crate) struct Column {
    pub(crate) slots: Vec<u32>,
    /// A counter's total, a gauge's bits, or a histogram's offset into the slab.
    pub(crate) bits: Vec<u64>,
}

/// One tick's samples of all metrics; immutable once shared, recycled when no sink holds it.
///
/// Twelve bytes a sample, plus a slab for histograms. The series' text is not in here but in the
/// shared table.
#[derive(Debug)]
pub struct Batch {
    pub(crate) tick: Tick,
    pub(crate) elapsed: Duration,
    pub(crate) table: Arc<SeriesTable>,
    pub(crate) columns: Vec<Column>,
    pub(crate) slab: Vec<u64>,
    /// The probes whose numbers are missing.
    pub(crate) left_out: Vec<Arc<str>>,
}

impl Batch {
    pub(crate) fn empty() -> Self {
        Self {
            tick: Tick { seq: 0, wall: Duration::ZERO, boottime: Duration::ZERO },
            elapsed: Duration::ZERO,
            table: Arc::default(),
            columns: Vec::new(),
            slab: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// When and as which round the batch was collected.
    pub const fn tick(&self) -> Tick {
        self.tick
    }

    /// Time since the batch before, by the clock that counts suspend; zero for the first.
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// How many samples the batch holds.
    pub fn len(&self) -> usize {
        self.columns.iter().map(|column| column.slots.len()).sum()
    }

    /// Whether the batch holds no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the batch's own columns take, without the table that batches share.
    pub fn memory(&self) -> usize {
        let columns = self.columns.iter().map(|column| column.slots.capacity() * 4 + column.bits.capacity() * 8);
        size_of::<Self>()
            + self.columns.capacity() * size_of::<Column>()
            + columns.sum::<usize>()
            + self.slab.capacity() * 8
    }

    pub(crate) fn clear(&mut self) {
        for column in &mut self.columns {
            column.slots.clear();
            column.bits.clear();
        }
        self.slab.clear();
        self.left_out.clear();
    }

    /// Writes a histogram to the slab and returns its offset.
    pub(crate) fn push_histogram(&mut self, slots: &[u64; HISTOGRAM_SLOTS], sum: u64) -> u64 {
        let offset = self.slab.len();
        self.slab.extend_from_slice(slots);
        self.slab.push(sum);
        offset as u64
    }

    pub(crate) fn overwrite_histogram(&mut self, offset: u64, slots: &[u64; HISTOGRAM_SLOTS], sum: u64) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(words) = start.checked_add(HISTOGRAM_WORDS).and_then(|end| self.slab.get_mut(start..end)) {
            words[..HISTOGRAM_SLOTS].copy_from_slice(slots);
            words[HISTOGRAM_SLOTS] = sum;
        }
    }

    pub(crate) fn histogram(&self, offset: u64) -> Histogram<'_> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match start.checked_add(HISTOGRAM_WORDS).and_then(|end| self.slab.get(start..end)) {
            Some(words) => Histogram { slots: &words[..HISTOGRAM_SLOTS], sum: words[HISTOGRAM_SLOTS] },
            None => Histogram { slots: &[], sum: 0 },
        }
    }
}
