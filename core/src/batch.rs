//! One tick's numbers: a matrix for each kind of entity, which every sink shares.

use std::sync::Arc;
use std::time::Duration;

use crate::entity::{EntityKind, Row};
use crate::histogram::{self, Histogram};
use crate::metric::{Column, MetricKind};

/// One round of collection and its two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// Rises by one per batch, from 0.
    pub seq: u64,
    /// Wall-clock time since the Unix epoch, the timestamp of every sample of the batch. Never the same
    /// as the batch before; it goes back where the machine's clock was set back by more than an interval.
    pub wall: Duration,
    /// Time since boot, suspend included: what rates are computed from.
    pub boottime: Duration,
}

impl Tick {
    pub(crate) const ZERO: Self = Self { seq: 0, wall: Duration::ZERO, boottime: Duration::ZERO };
}

/// The number in a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A total since its row began, or since the baseline.
    Counter(u64),
    /// A total that was recorded in another unit than the metric's.
    Scaled(Scaled),
    /// A finite level.
    Gauge(f64),
    /// A distribution.
    Histogram(Histogram<'a>),
}

/// A counter's total that was recorded in another unit than the metric's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    /// As it was recorded: exact.
    pub total: u64,
    /// What one of these is in the metric's unit.
    pub scale: f64,
}

impl Scaled {
    /// The total in the metric's unit, as near as a floating-point number comes.
    #[expect(clippy::cast_precision_loss, reason = "a total above 2^53 is rounded")]
    #[expect(clippy::float_cmp, reason = "whether a scale is exactly what was written")]
    pub fn in_unit(self) -> f64 {
        // 1e-9 is no binary number, 1e9 is: dividing rounds once.
        let inverse = (1.0 / self.scale).round();
        if inverse >= 1.0 && 1.0 / inverse == self.scale {
            self.total as f64 / inverse
        } else {
            self.total as f64 * self.scale
        }
    }
}

impl std::fmt::Display for Value<'_> {
    /// A counter's total, a level, or a histogram's count, in the metric's unit.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Counter(total) => total.fmt(f),
            Self::Scaled(scaled) => scaled.in_unit().fmt(f),
            Self::Gauge(level) => level.fmt(f),
            Self::Histogram(histogram) => histogram.count().fmt(f),
        }
    }
}

/// The kinds and columns that a recorder knows. Both are only ever added to, so that an index means the same in
/// every later layout.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) kinds: Vec<KindLayout>,
}

#[derive(Clone, Debug)]
pub(crate) struct KindLayout {
    pub(crate) kind: Arc<EntityKind>,
    pub(crate) columns: Vec<Arc<Column>>,
    /// By column, side by side: whoever reads cells needs nothing else of a column.
    pub(crate) formats: Vec<Format>,
    /// The columns by metric, in the order in which they were declared.
    pub(crate) metrics: Vec<Vec<u32>>,
}

/// How a cell's bits are read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// A counter's total in the metric's unit.
    Total,
    /// One in another unit.
    Scaled(f64),
    Level,
    Histogram {
        factor: f64,
        last: u8,
    },
}

impl Format {
    pub(crate) fn of(column: &Column) -> Self {
        match column.kind() {
            #[expect(clippy::float_cmp, reason = "1 is what it is unless it was set")]
            MetricKind::Counter if column.factor() == 1.0 => Self::Total,
            MetricKind::Counter => Self::Scaled(column.factor()),
            MetricKind::Gauge => Self::Level,
            MetricKind::Histogram => Self::Histogram { factor: column.factor(), last: column.slot_range().1 },
        }
    }
}

impl KindLayout {
    /// Whether a column's metric has this name.
    pub(crate) fn has_metric(&self, name: &str) -> bool {
        self.columns.iter().any(|column| self.kind.metric_name(column) == name)
    }
}

/// Rows of one kind with their cells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matrix {
    /// By slot. Shared by batches until a row comes or goes.
    pub(crate) rows: Arc<Vec<Option<Arc<Row>>>>,
    /// Cells between two rows.
    pub(crate) stride: usize,
    /// A counter's total, a gauge's bits, or a histogram's place in the slab.
    pub(crate) cells: Vec<u64>,
    /// Words of 64 cells, [`words`](Self::words) for each row: which of them have a value.
    pub(crate) present: Vec<u64>,
}

impl Matrix {
    /// Words of presence for each row.
    pub(crate) const fn words(&self) -> usize {
        words(self.stride)
    }

    #[inline]
    pub(crate) fn presence(&self, slot: usize) -> &[u64] {
        let words = self.words();
        self.present.get(slot * words..(slot + 1) * words).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn has(&self, slot: usize, column: usize) -> bool {
        is_set(self.presence(slot), column)
    }

    /// The cells of a row, whether or not they have values.
    #[inline]
    pub(crate) fn row(&self, slot: usize) -> &[u64] {
        self.cells.get(slot * self.stride..(slot + 1) * self.stride).unwrap_or_default()
    }

    /// Becomes the same as another, in the memory that it has.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.rows.clone_from(&other.rows);
        self.stride = other.stride;
        self.cells.clone_from(&other.cells);
        self.present.clone_from(&other.present);
    }

    fn memory(&self) -> usize {
        (self.cells.capacity() + self.present.capacity() + self.rows.capacity()) * 8
    }
}

/// Words of presence for so many columns.
pub(crate) const fn words(stride: usize) -> usize {
    stride.div_ceil(64)
}

/// Whether the bit of a column is set in such words.
#[inline]
pub(crate) fn is_set(words: &[u64], column: usize) -> bool {
    words.get(column / 64).is_some_and(|word| word >> (column % 64) & 1 == 1)
}

/// Rows of all kinds at one tick.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) tick: Tick,
    pub(crate) layout: Arc<Layout>,
    pub(crate) matrices: Vec<Matrix>,
    pub(crate) slab: Vec<u64>,
    /// Bytes of rows and their text that are nowhere else.
    pub(crate) text: usize,
}

impl Block {
    pub(crate) fn empty() -> Self {
        Self { tick: Tick::ZERO, layout: Arc::default(), matrices: Vec::new(), slab: Vec::new(), text: 0 }
    }

    /// Rows that have ended, with their last values.
    pub(crate) fn ended(tick: Tick, layout: Arc<Layout>, matrices: Vec<Matrix>, slab: Vec<u64>) -> Self {
        let rows = matrices.iter().flat_map(|matrix| matrix.rows.iter().flatten());
        let text = rows.map(|row| row.memory()).sum();
        Self { tick, layout, matrices, slab, text }
    }

    /// The value of a cell that is present.
    #[inline]
    pub(crate) fn value(&self, kind: usize, slot: usize, column: usize) -> Value<'_> {
        let bits = self.matrices[kind].row(slot).get(column).copied().unwrap_or_default();
        self.read(self.layout.kinds[kind].formats[column], bits)
    }

    /// The value of a cell with these bits.
    #[inline]
    pub(crate) fn read(&self, format: Format, bits: u64) -> Value<'_> {
        match format {
            // Nearly all there are.
            Format::Total => Value::Counter(bits),
            Format::Scaled(scale) => Value::Scaled(Scaled { total: bits, scale }),
            Format::Level => Value::Gauge(f64::from_bits(bits)),
            Format::Histogram { factor, last } => Value::Histogram(histogram::load(&self.slab, bits, last, factor)),
        }
    }

    /// How many cells have a value.
    pub(crate) fn len(&self) -> usize {
        let present = self.matrices.iter().flat_map(|matrix| &matrix.present);
        present.map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn memory(&self) -> usize {
        let matrices: usize = self.matrices.iter().map(|matrix| size_of::<Matrix>() + matrix.memory()).sum();
        size_of::<Self>() + matrices + self.slab.capacity() * 8 + self.text
    }
}

/// One tick's numbers; immutable once shared, recycled when no sink holds it.
///
/// Eight bytes a cell and a bit to say whether it has a value, plus a slab for histograms. Rows' and columns'
/// text is not in here but shared.
#[derive(Debug)]
pub struct Batch {
    /// The rows that live.
    pub(crate) live: Block,
    /// The rows that ended in this tick, with their last values: they are in no other batch.
    pub(crate) ended: Option<Arc<Block>>,
    pub(crate) elapsed: Duration,
    /// The probes whose numbers are missing.
    pub(crate) left_out: Vec<Arc<str>>,
}

impl Batch {
    pub(crate) fn empty() -> Self {
        Self { live: Block::empty(), ended: None, elapsed: Duration::ZERO, left_out: Vec::new() }
    }

    /// When and as which round the batch was collected.
    pub const fn tick(&self) -> Tick {
        self.live.tick
    }

    /// Time since the batch before, by the clock that counts suspend; zero for the first.
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// How many samples the batch holds, those of rows that ended in it included.
    pub fn len(&self) -> usize {
        self.live.len() + self.ended.as_ref().map_or(0, |ended| ended.len())
    }

    /// Whether the batch holds no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the batch takes, without the text of living rows, which batches share.
    pub fn memory(&self) -> usize {
        self.live.memory() + self.ended.as_ref().map_or(0, |ended| ended.memory())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_total_is_rounded_once() {
        // 3 times 1e-9 is 3.0000000000000004e-9, and 1 over 1e-9 is not a billion.
        for (total, scale, expected) in [
            (3, 1e-9, 3e-9),
            (1_234_567_891, 1e-9, 1.234_567_891),
            (7, 0.01, 0.07),
            (3, 4096.0, 12_288.0),
            (5, 1.0, 5.0),
        ] {
            assert_eq!(Scaled { total, scale }.in_unit().to_bits(), f64::to_bits(expected), "{total} times {scale}");
        }
    }
}
