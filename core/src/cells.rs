//! The cells of one kind's rows, as the recorder keeps them between two batches.

use crate::batch::{Matrix, words};
use crate::histogram::Totals;
use crate::metric::{Column, MetricKind};

/// Once there are rows, room for columns is made in steps of so many, so that cells seldom move.
const STEP: usize = 8;

/// The cells of one kind's rows: by slot, then by column.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    columns: Vec<(MetricKind, (u8, u8))>,
    /// Which of the columns are histograms.
    histogram_columns: Vec<u64>,
    slots: usize,
    /// Cells between two slots.
    stride: usize,
    /// Words of presence for each slot.
    width: usize,
    /// A counter's total, a gauge's bits, or a histogram's place among the histograms.
    values: Vec<u64>,
    /// Which ever had a value before this tick.
    known: Vec<u64>,
    /// Which have one in this tick.
    touched: Vec<u64>,
    /// Which are added to. The total is ours, and nobody repeats it: it is in every batch.
    added: Vec<u64>,
    bases: Vec<Option<Box<Base>>>,
    histograms: Vec<Distribution>,
    free_histograms: Vec<usize>,
    /// How many ever had a value, as of the last batch.
    series: usize,
}

/// What a row's totals are counted from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    /// Of counters, by column; none is 0.
    counters: Vec<u64>,
    /// What is added to counters, by column: what a probe had counted that is there no more. None is 0.
    carried: Vec<u64>,
    /// Of histograms that have no value yet, with their column.
    histograms: Vec<(usize, Totals)>,
}

impl Base {
    /// Of counters by column, and of histograms with their columns.
    pub(crate) const fn new(counters: Vec<u64>, histograms: Vec<(usize, Totals)>) -> Self {
        Self { counters, carried: Vec::new(), histograms }
    }

    /// What a counter's recorded totals are counted from, and what is added to that.
    fn of(&self, column: usize) -> (u64, u64) {
        let at = |numbers: &[u64]| numbers.get(column).copied().unwrap_or_default();
        (at(&self.counters), at(&self.carried))
    }

    /// From now on a counter's value is this one and what the recorded totals are above a base.
    fn begin_at(&mut self, column: usize, base: u64, carried: u64) {
        for (numbers, number) in [(&mut self.counters, base), (&mut self.carried, carried)] {
            if numbers.len() <= column {
                numbers.resize(column + 1, 0);
            }
            numbers[column] = number;
        }
    }

    fn take_histogram(&mut self, column: usize) -> Option<Totals> {
        let place = self.histograms.iter().position(|(known, _)| *known == column)?;
        Some(self.histograms.swap_remove(place).1)
    }
}

#[derive(Debug)]
struct Distribution {
    totals: Totals,
    base: Option<Totals>,
    /// What a probe had counted that is there no more.
    carried: Option<Totals>,
}

impl Cells {
    /// How many cells ever had a value.
    pub(crate) const fn series(&self) -> usize {
        self.series
    }

    /// Makes room for one more column.
    pub(crate) fn push_column(&mut self, column: &Column) {
        let index = self.columns.len();
        if index == self.stride {
            self.widen(self.stride + if self.slots == 0 { 1 } else { STEP });
        }
        if column.kind() == MetricKind::Histogram {
            self.histogram_columns.resize(self.width, 0);
            self.histogram_columns[index / 64] |= 1 << (index % 64);
        }
        self.columns.push((column.kind(), column.slot_range()));
    }

    fn widen(&mut self, stride: usize) {
        let (old, slots) = (self.stride, self.slots);
        let widened = |from: &[u64], old: usize, new: usize| {
            let mut to = vec![0; slots * new];
            for (slot, cells) in from.chunks_exact(old.max(1)).enumerate() {
                to[slot * new..][..old].copy_from_slice(cells);
            }
            to
        };
        self.values = widened(&self.values, old, stride);
        let width = words(stride);
        for bits in [&mut self.known, &mut self.touched, &mut self.added] {
            *bits = widened(bits, self.width, width);
        }
        (self.stride, self.width) = (stride, width);
    }

    /// Makes room for one more row.
    pub(crate) fn push_slot(&mut self) {
        self.slots += 1;
        self.values.resize(self.slots * self.stride, 0);
        for bits in [&mut self.known, &mut self.touched, &mut self.added] {
            bits.resize(self.slots * self.width, 0);
        }
        self.bases.push(None);
    }

    /// Sets a counter to a total, which the caller repeats at each tick.
    #[inline]
    pub(crate) fn set_counter(&mut self, slot: usize, column: usize, total: u64) {
        let (base, carried) = self.bases[slot].as_ref().map_or((0, 0), |base| base.of(column));
        self.values[slot * self.stride + column] = total.saturating_sub(base).saturating_add(carried);
        self.touch(slot, column);
    }

    /// Adds to a counter.
    #[inline]
    pub(crate) fn add_counter(&mut self, slot: usize, column: usize, increment: u64) {
        let value = &mut self.values[slot * self.stride + column];
        *value = value.saturating_add(increment);
        self.touch(slot, column);
        self.adds_to(slot, column);
    }

    /// Sets a gauge.
    #[inline]
    pub(crate) fn set_gauge(&mut self, slot: usize, column: usize, level: f64) {
        self.values[slot * self.stride + column] = level.to_bits();
        self.touch(slot, column);
    }

    /// Sets a histogram's totals, or adds to them.
    pub(crate) fn histogram(&mut self, slot: usize, column: usize, counts: &[u64], sum: u64, adds: bool) {
        let (cell, range) = (slot * self.stride + column, self.columns[column].1);
        if !self.is_known(slot, column) {
            let base = self.bases[slot].as_mut().and_then(|base| base.take_histogram(column));
            let fresh = Distribution { totals: Totals::new(range), base, carried: None };
            let place = self.free_histograms.pop().unwrap_or(self.histograms.len());
            match self.histograms.get_mut(place) {
                Some(free) => *free = fresh,
                None => self.histograms.push(fresh),
            }
            self.values[cell] = place as u64;
        }
        let Distribution { totals, base, carried } = &mut self.histograms[place(self.values[cell])];
        if adds {
            totals.grow(range.0, counts, sum);
            self.adds_to(slot, column);
        } else {
            totals.set(range.0, counts, sum);
            if let Some(base) = base {
                totals.subtract(base);
            }
            if let Some(carried) = carried {
                totals.add(carried);
            }
        }
        self.touch(slot, column);
    }

    #[inline]
    const fn bit(&self, slot: usize, column: usize) -> (usize, u64) {
        (slot * self.width + column / 64, 1 << (column % 64))
    }

    #[inline]
    fn touch(&mut self, slot: usize, column: usize) {
        let (word, bit) = self.bit(slot, column);
        self.touched[word] |= bit;
    }

    #[inline]
    fn adds_to(&mut self, slot: usize, column: usize) {
        let (word, bit) = self.bit(slot, column);
        self.added[word] |= bit;
    }

    fn is_known(&self, slot: usize, column: usize) -> bool {
        let (word, bit) = self.bit(slot, column);
        (self.known[word] | self.touched[word]) & bit != 0
    }

    /// What the totals of a row that takes the place of this one are counted from: all that this one has.
    pub(crate) fn base_for_heir(&self, slot: usize) -> Base {
        // What was never recorded still has its own.
        let Base { mut counters, mut histograms, carried } = self.bases[slot].as_deref().cloned().unwrap_or_default();
        counters.resize(self.columns.len(), 0);
        for (column, (kind, _)) in self.columns.iter().enumerate().filter(|(column, _)| self.is_known(slot, *column)) {
            let value = self.values[slot * self.stride + column];
            match kind {
                MetricKind::Gauge => {}
                MetricKind::Counter => {
                    let carried = carried.get(column).copied().unwrap_or_default();
                    counters[column] = counters[column].wrapping_add(value).wrapping_sub(carried);
                }
                MetricKind::Histogram => {
                    let Distribution { totals, base, carried } = &self.histograms[place(value)];
                    let mut totals = totals.clone();
                    if let Some(carried) = carried {
                        totals.subtract(carried);
                    }
                    if let Some(base) = base {
                        totals.add(base);
                    }
                    histograms.push((column, totals));
                }
            }
        }
        Base::new(counters, histograms)
    }

    /// A column's numbers go on from what they are now, whoever records totals from 0 on in it next. Until then no later
    /// batch has them.
    pub(crate) fn carry_on(&mut self, column: usize) {
        for slot in 0..self.slots {
            if !self.is_known(slot, column) {
                continue;
            }
            let (word, bit) = self.bit(slot, column);
            self.added[word] &= !bit;
            let value = self.values[slot * self.stride + column];
            match self.columns[column].0 {
                MetricKind::Gauge => {}
                MetricKind::Counter => self.bases[slot].get_or_insert_default().begin_at(column, 0, value),
                MetricKind::Histogram => {
                    let distribution = &mut self.histograms[place(value)];
                    distribution.base = None;
                    distribution.carried = Some(distribution.totals.clone());
                }
            }
        }
    }

    /// Sets what the totals of a new row are counted from.
    pub(crate) fn inherit(&mut self, slot: usize, base: Base) {
        self.bases[slot] = Some(Box::new(base));
    }

    /// From now on, counters and histograms are totals since what they are now.
    pub(crate) fn rebase(&mut self) {
        for slot in 0..self.slots {
            for column in 0..self.columns.len() {
                if !self.is_known(slot, column) {
                    continue;
                }
                let value = &mut self.values[slot * self.stride + column];
                match self.columns[column].0 {
                    MetricKind::Gauge => {}
                    MetricKind::Counter => {
                        let origin = self.bases[slot].get_or_insert_default();
                        let (base, carried) = origin.of(column);
                        let total = base.wrapping_add(std::mem::take(value)).wrapping_sub(carried);
                        origin.begin_at(column, total, 0);
                    }
                    MetricKind::Histogram => {
                        let Distribution { totals, base, carried } = &mut self.histograms[place(*value)];
                        if let Some(carried) = carried.take() {
                            totals.subtract(&carried);
                        }
                        match base {
                            Some(base) => base.add(totals),
                            None => *base = Some(totals.clone()),
                        }
                        totals.clear();
                    }
                }
            }
        }
    }

    /// Copies all cells to a batch, with this tick's values and without those of the slots that have ended.
    pub(crate) fn copy_live(&mut self, ended: &[u32], matrix: &mut Matrix, slab: &mut Vec<u64>) {
        matrix.stride = self.stride;
        if matrix.cells.capacity() > 4 * self.values.len() {
            // What there once was is not kept for every batch, either.
            (matrix.cells, matrix.present) = Default::default();
        }
        matrix.cells.clear();
        matrix.cells.extend_from_slice(&self.values);
        matrix.present.clear();
        matrix.present.extend(self.touched.iter().zip(&self.added).map(|(touched, added)| touched | added));
        for &slot in ended {
            matrix.present[slot as usize * self.width..][..self.width].fill(0);
        }
        for (known, touched) in self.known.iter_mut().zip(&self.touched) {
            self.series += (touched & !*known).count_ones() as usize;
            *known |= touched;
        }
        self.touched.fill(0);
        self.store_histograms(matrix, slab);
    }

    /// Copies all that the slots that have ended ever had.
    pub(crate) fn copy_ended(&self, ended: &[u32], matrix: &mut Matrix, slab: &mut Vec<u64>) {
        let (stride, width) = (self.stride, self.width);
        matrix.stride = stride;
        for &slot in ended {
            matrix.cells.extend_from_slice(&self.values[slot as usize * stride..][..stride]);
            matrix.present.extend_from_slice(&self.known[slot as usize * width..][..width]);
        }
        self.store_histograms(matrix, slab);
    }

    /// Makes a slot as it was before it had a row. For after the cells have been copied.
    pub(crate) fn clear(&mut self, slot: usize) {
        let width = self.width;
        for word in 0..width {
            let known = self.known[slot * width + word];
            self.series -= known.count_ones() as usize;
            let histograms = known & self.histogram_columns.get(word).copied().unwrap_or_default();
            for bit in bits(histograms) {
                self.free_histograms.push(place(self.values[slot * self.stride + word * 64 + bit]));
            }
        }
        for bits in [&mut self.known, &mut self.added] {
            bits[slot * width..][..width].fill(0);
        }
        self.values[slot * self.stride..][..self.stride].fill(0);
        self.bases[slot] = None;
    }

    /// Keeps so many slots; the others are [clear](Self::clear).
    pub(crate) fn truncate(&mut self, slots: usize) {
        self.slots = slots;
        self.bases.truncate(slots);
        let (cells, words) = (slots * self.stride, slots * self.width);
        let rest = [(&mut self.values, cells), (&mut self.known, words), (&mut self.touched, words)];
        for (vector, len) in rest.into_iter().chain([(&mut self.added, words)]) {
            vector.truncate(len);
            vector.shrink_to_fit();
        }
    }

    /// Puts the histograms of a copied matrix into its slab.
    fn store_histograms(&self, matrix: &mut Matrix, slab: &mut Vec<u64>) {
        if self.histogram_columns.is_empty() {
            return;
        }
        for (row, present) in matrix.present.chunks_exact(self.width.max(1)).enumerate() {
            for (word, (present, histograms)) in present.iter().zip(&self.histogram_columns).enumerate() {
                for bit in bits(present & histograms) {
                    let column = word * 64 + bit;
                    let cell = &mut matrix.cells[row * self.stride + column];
                    *cell = self.histograms[place(*cell)].totals.store(self.columns[column].1.0, slab);
                }
            }
        }
    }
}

/// The numbers of the bits of a word that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.checked_sub(1)?;
        Some(bit)
    })
}

/// A place that was kept in a cell.
fn place(bits: u64) -> usize {
    usize::try_from(bits).unwrap_or(usize::MAX)
}
