//! The rows of one kind and their cells, as the recorder keeps them between two batches.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{KindLayout, Matrix, words};
use crate::entity::{ColumnId, EntityKind, Refused, Row, RowId, birth, clean_labels};
use crate::histogram::Totals;
use crate::label::told_apart;
use crate::metric::{Column, MetricKind};

/// The label value of the row that counts what has no row of its own.
pub(crate) const OTHER: &str = "other";

/// How many refused identities are remembered, so that each counts once.
const REMEMBERED: usize = 65_536;

/// How many rows of a kind may end in one tick, if its limit is not larger.
const ENDED: usize = 65_536;

/// Once there are rows, room for columns is made in steps of so many, so that cells seldom move.
const STEP: usize = 8;

/// The rows of one kind.
#[derive(Debug)]
pub(crate) struct Table {
    index: u32,
    pub(crate) birth: u64,
    pub(crate) layout: KindLayout,
    columns: Vec<(u64, MetricKind)>,
    /// Which of the columns are histograms.
    histogram_columns: Vec<u64>,
    stride: usize,
    /// A counter's total, a gauge's bits, or a histogram's place among the histograms.
    cells: Vec<u64>,
    /// Which cells ever had a value.
    known: Vec<u64>,
    /// Which cells have one in this tick.
    touched: Vec<u64>,
    /// By slot: the birth of the row that may be recorded, or 0.
    births: Vec<u64>,
    slots: Vec<Slot>,
    histograms: Vec<Distribution>,
    free_histograms: Vec<usize>,
    free: Vec<u32>,
    by_identity: HashMap<u64, u32>,
    by_text: HashMap<Box<[Box<str>]>, u64>,
    /// Rows that have ended in this tick.
    ended: Vec<u32>,
    /// The identities that have no row, and the tick in which each was asked for last.
    refused: HashMap<u64, u64>,
    ticks: u64,
    other: Option<u32>,
    living: usize,
    /// The rows as batches know them, until one comes or goes.
    rows: Arc<Vec<Option<Arc<Row>>>>,
    changed: bool,
    /// How many cells are known.
    pub(crate) series: usize,
}

#[derive(Debug, Default)]
struct Slot {
    row: Option<Arc<Row>>,
    identity: u64,
    /// Of the labels as they were given.
    given: u64,
    /// What counters are counted from, by column; none is 0.
    base: Vec<u64>,
    /// What histograms are counted from that have no value yet.
    bases: Vec<(usize, Totals)>,
}

#[derive(Debug)]
struct Distribution {
    totals: Totals,
    base: Option<Totals>,
}

impl Table {
    pub(crate) fn new(index: u32, kind: EntityKind) -> Self {
        let keys = kind.label_keys().len();
        let mut by_text = HashMap::new();
        if keys > 0 {
            // Nobody else may be called that.
            by_text.insert(clean_labels(&vec![OTHER; keys]), 0);
        }
        Self {
            index,
            birth: birth(),
            layout: KindLayout { kind: Arc::new(kind), columns: Vec::new(), metrics: Vec::new() },
            columns: Vec::new(),
            histogram_columns: Vec::new(),
            stride: 0,
            cells: Vec::new(),
            known: Vec::new(),
            touched: Vec::new(),
            births: Vec::new(),
            slots: Vec::new(),
            histograms: Vec::new(),
            free_histograms: Vec::new(),
            free: Vec::new(),
            by_identity: HashMap::new(),
            by_text,
            ended: Vec::new(),
            refused: HashMap::new(),
            ticks: 0,
            other: None,
            living: 0,
            rows: Arc::default(),
            changed: false,
            series: 0,
        }
    }

    /// Adds a column, or finds the one that it is.
    pub(crate) fn column(&mut self, column: Column) -> Result<(ColumnId, bool), Refused> {
        let kind = &self.layout.kind;
        let id = |index: usize, birth| ColumnId { kind: self.index, index: small(index), birth };
        let taken = column.own_labels().find(|(key, _)| kind.label_keys().any(|known| known == *key));
        if let Some((key, _)) = taken {
            return Err(Refused::KeyTaken { metric: kind.metric_name(&column), key: key.to_owned() });
        }
        let namesake = self.layout.columns.iter().find(|known| known.name() == column.name());
        if let Some(known) = namesake.filter(|known| known.kind() != column.kind()) {
            return Err(Refused::MetricKind { metric: kind.metric_name(&column), has: known.kind() });
        }
        if let Some(known) = self.layout.columns.iter().position(|known| known.is_twin_of(&column)) {
            return Ok((id(known, self.columns[known].0), false));
        }
        let index = self.columns.len();
        let id = id(index, birth());
        if index == self.stride {
            self.widen(self.stride + if self.slots.is_empty() { 1 } else { STEP });
        }
        if column.kind() == MetricKind::Histogram {
            self.histogram_columns.resize(words(self.stride), 0);
            self.histogram_columns[index / 64] |= 1 << (index % 64);
        }
        self.columns.push((id.birth, column.kind()));
        let Self { layout: KindLayout { columns, metrics, .. }, .. } = self;
        let metric = metrics.iter_mut().find(|metric| columns[metric[0] as usize].name() == column.name());
        match metric {
            Some(metric) => metric.push(id.index),
            None => metrics.push(vec![id.index]),
        }
        columns.push(Arc::new(column));
        Ok((id, true))
    }

    /// Makes room for more columns.
    fn widen(&mut self, stride: usize) {
        let (old, rows) = (self.stride, self.slots.len());
        let move_to = |from: &[u64], old: usize, new: usize| {
            let mut to = vec![0; rows * new];
            for (row, cells) in from.chunks_exact(old.max(1)).enumerate() {
                to[row * new..][..old].copy_from_slice(cells);
            }
            to
        };
        self.cells = move_to(&self.cells, old, stride);
        self.known = move_to(&self.known, words(old), words(stride));
        self.touched = move_to(&self.touched, words(old), words(stride));
        self.stride = stride;
    }

    /// Finds, makes or renames the row of an identity. Where there is no place it is the row [`OTHER`], and
    /// `refused` counts that, once for an identity.
    pub(crate) fn row(
        &mut self,
        identity: u64,
        labels: &[&str],
        started: Duration,
        refused: &mut u64,
    ) -> Result<RowId, Refused> {
        let kind = Arc::clone(&self.layout.kind);
        let expected = kind.label_keys().len();
        if labels.len() != expected {
            return Err(Refused::Labels { kind: kind.name().to_owned(), expected, given: labels.len() });
        }
        let given = fingerprint(labels);
        let mut base = (Vec::new(), Vec::new());
        let too_many_ended = self.ended.len() > kind.row_limit().max(ENDED);
        if let Some(&slot) = self.by_identity.get(&identity) {
            // Where too many have ended in this tick already, it has its new name from the next one on.
            if self.slots[slot as usize].given == given || too_many_ended {
                return Ok(self.id(slot));
            }
            base = self.base_for_heir(slot);
            self.end_slot(slot);
        } else if expected == 0 && (self.living > 0 || !self.ended.is_empty()) {
            return Err(Refused::OneRow { kind: kind.name().to_owned() });
        }
        if self.living >= kind.row_limit() || too_many_ended {
            *refused += u64::from(self.refuse(identity));
            return Ok(self.other(started));
        }
        self.refused.remove(&identity);
        let text = self.text(labels, identity);
        let slot = self.occupy(identity, given, text, started);
        self.living += 1;
        let known = &mut self.slots[slot as usize];
        (known.base, known.bases) = base;
        self.by_identity.insert(identity, slot);
        Ok(self.id(slot))
    }

    /// Whether an identity is refused for the first time since it had a row.
    fn refuse(&mut self, identity: u64) -> bool {
        let is_room = self.refused.len() < REMEMBERED;
        match self.refused.entry(identity) {
            Entry::Occupied(mut known) => {
                known.insert(self.ticks);
                false
            }
            Entry::Vacant(new) => {
                if is_room {
                    new.insert(self.ticks);
                }
                true
            }
        }
    }

    /// The row of what has no row of its own.
    fn other(&mut self, started: Duration) -> RowId {
        let slot = self.other.unwrap_or_else(|| {
            let text = clean_labels(&vec![OTHER; self.layout.kind.label_keys().len()]);
            self.occupy(0, 0, text, started)
        });
        self.other = Some(slot);
        self.id(slot)
    }

    /// The labels of a new row: cleaned and, where another row has those, told apart by its identity.
    fn text(&self, labels: &[&str], identity: u64) -> Box<[Box<str>]> {
        let cleaned = clean_labels(labels);
        // The label that was changed is the one that is told apart.
        let changed = labels.iter().zip(&cleaned).position(|(given, cleaned)| **given != **cleaned);
        let changed = changed.unwrap_or(labels.len().saturating_sub(1));
        let mut text = cleaned.clone();
        for attempt in 0_u64.. {
            if !self.by_text.contains_key(&text) {
                break;
            }
            let Some(label) = text.get_mut(changed) else { break };
            *label = told_apart(&cleaned[changed], identity.wrapping_add(attempt));
        }
        text
    }

    fn occupy(&mut self, identity: u64, given: u64, text: Box<[Box<str>]>, started: Duration) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = self.slots.len();
            self.slots.push(Slot::default());
            self.births.push(0);
            self.cells.resize(self.slots.len() * self.stride, 0);
            self.known.resize(self.slots.len() * words(self.stride), 0);
            self.touched.resize(self.slots.len() * words(self.stride), 0);
            small(slot)
        });
        let id = RowId { kind: self.index, slot, birth: birth() };
        self.by_text.insert(text.clone(), id.birth);
        let row = Arc::new(Row { id, labels: text, started });
        self.slots[slot as usize] = Slot { row: Some(row), identity, given, ..Slot::default() };
        self.births[slot as usize] = id.birth;
        self.changed = true;
        slot
    }

    fn id(&self, slot: u32) -> RowId {
        RowId { kind: self.index, slot, birth: self.births[slot as usize] }
    }

    /// What the totals of a row that is renamed are counted from: all that its predecessor has.
    fn base_for_heir(&self, slot: u32) -> (Vec<u64>, Vec<(usize, Totals)>) {
        let (mut base, mut bases) = (vec![0; self.columns.len()], Vec::new());
        let known = &self.slots[slot as usize];
        for (column, (_, kind)) in self.columns.iter().enumerate() {
            let cell = slot as usize * self.stride + column;
            match kind {
                _ if !self.is_known(slot, column) => base[column] = known.base.get(column).copied().unwrap_or_default(),
                MetricKind::Counter => {
                    base[column] = known.base.get(column).copied().unwrap_or_default().wrapping_add(self.cells[cell]);
                }
                MetricKind::Gauge => {}
                MetricKind::Histogram => {
                    let Distribution { totals, base } = &self.histograms[index(self.cells[cell])];
                    let mut totals = totals.clone();
                    if let Some(base) = base {
                        totals.add(base);
                    }
                    bases.push((column, totals));
                }
            }
        }
        // What was never recorded still has its own.
        let unused = known.bases.iter().filter(|(column, _)| !self.is_known(slot, *column));
        bases.extend(unused.cloned());
        (base, bases)
    }

    fn is_known(&self, slot: u32, column: usize) -> bool {
        self.known[slot as usize * words(self.stride) + column / 64] >> (column % 64) & 1 == 1
    }

    /// Ends a row: this tick's batch has it, no later one. False where it has ended, or never does.
    pub(crate) fn end(&mut self, row: RowId) -> bool {
        let lives = self.births.get(row.slot as usize) == Some(&row.birth) && self.other != Some(row.slot);
        if lives {
            self.end_slot(row.slot);
        }
        lives
    }

    fn end_slot(&mut self, slot: u32) {
        self.births[slot as usize] = 0;
        self.by_identity.remove(&self.slots[slot as usize].identity);
        self.ended.push(slot);
        self.living -= 1;
        self.changed = true;
    }

    /// The cell of a row and a column that may be recorded.
    #[inline]
    fn cell(&self, row: RowId, column: ColumnId, kind: MetricKind) -> Option<usize> {
        let is_row = self.births.get(row.slot as usize) == Some(&row.birth);
        let is_column = self.columns.get(column.index as usize) == Some(&(column.birth, kind));
        (is_row && is_column).then(|| row.slot as usize * self.stride + column.index as usize)
    }

    #[inline]
    fn touch(&mut self, row: RowId, column: ColumnId) {
        let (word, bit) = (row.slot as usize * words(self.stride) + column.index as usize / 64, column.index % 64);
        self.touched[word] |= 1 << bit;
        let known = &mut self.known[word];
        self.series += usize::from(*known >> bit & 1 == 0);
        *known |= 1 << bit;
    }

    #[inline]
    pub(crate) fn set_counter(&mut self, row: RowId, column: ColumnId, total: u64) -> bool {
        let Some(cell) = self.cell(row, column, MetricKind::Counter).filter(|_| self.other != Some(row.slot)) else {
            return false;
        };
        let base = self.slots[row.slot as usize].base.get(column.index as usize).copied().unwrap_or_default();
        self.cells[cell] = total.saturating_sub(base);
        self.touch(row, column);
        true
    }

    #[inline]
    pub(crate) fn add_counter(&mut self, row: RowId, column: ColumnId, increment: u64) -> bool {
        let Some(cell) = self.cell(row, column, MetricKind::Counter) else { return false };
        self.cells[cell] = self.cells[cell].saturating_add(increment);
        self.touch(row, column);
        true
    }

    #[inline]
    pub(crate) fn set_gauge(&mut self, row: RowId, column: ColumnId, level: f64) -> bool {
        let Some(cell) = self.cell(row, column, MetricKind::Gauge).filter(|_| self.other != Some(row.slot)) else {
            return false;
        };
        self.cells[cell] = level.to_bits();
        self.touch(row, column);
        true
    }

    /// Sets a histogram's totals, or adds to them.
    pub(crate) fn histogram(&mut self, row: RowId, column: ColumnId, slots: &[u64], sum: u64, adds: bool) -> bool {
        let cell = self.cell(row, column, MetricKind::Histogram);
        let Some(cell) = cell.filter(|_| adds || self.other != Some(row.slot)) else { return false };
        let (first, last) = self.layout.columns[column.index as usize].slot_range();
        if !self.is_known(row.slot, column.index as usize) {
            let bases = &mut self.slots[row.slot as usize].bases;
            let base = bases.iter().position(|(known, _)| *known == column.index as usize);
            let base = base.map(|index| bases.swap_remove(index).1);
            let fresh = Distribution { totals: Totals::new((first, last)), base };
            let place = self.free_histograms.pop().unwrap_or(self.histograms.len());
            match self.histograms.get_mut(place) {
                Some(free) => *free = fresh,
                None => self.histograms.push(fresh),
            }
            self.cells[cell] = place as u64;
        }
        let Distribution { totals, base } = &mut self.histograms[index(self.cells[cell])];
        if adds {
            totals.grow(first, slots, sum);
        } else {
            totals.set(first, slots, sum);
            if let Some(base) = base {
                totals.subtract(base);
            }
        }
        self.touch(row, column);
        true
    }

    /// From now on, counters and histograms are totals since what they are now.
    pub(crate) fn rebase(&mut self) {
        for slot in 0..small(self.slots.len()) {
            for column in 0..self.columns.len() {
                if !self.is_known(slot, column) {
                    continue;
                }
                let cell = slot as usize * self.stride + column;
                match self.columns[column].1 {
                    MetricKind::Gauge => {}
                    MetricKind::Counter => {
                        let base = &mut self.slots[slot as usize].base;
                        base.resize(base.len().max(self.columns.len()), 0);
                        base[column] = base[column].wrapping_add(self.cells[cell]);
                        self.cells[cell] = 0;
                    }
                    MetricKind::Histogram => {
                        let Distribution { totals, base } = &mut self.histograms[index(self.cells[cell])];
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

    /// Whether a row has ended in this tick.
    pub(crate) const fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Copies the rows that live to a batch, with this tick's values.
    pub(crate) fn copy_live(&mut self, matrix: &mut Matrix, slab: &mut Vec<u64>) {
        if self.changed {
            self.changed = false;
            let living =
                self.slots.iter().zip(&self.births).map(|(slot, birth)| slot.row.clone().filter(|_| *birth != 0));
            self.rows = Arc::new(living.collect());
        }
        if !Arc::ptr_eq(&matrix.rows, &self.rows) {
            matrix.rows = Arc::clone(&self.rows);
        }
        matrix.stride = self.stride;
        matrix.cells.clear();
        matrix.cells.extend_from_slice(&self.cells);
        matrix.present.clear();
        matrix.present.extend_from_slice(&self.touched);
        let width = words(self.stride);
        for &slot in &self.ended {
            matrix.present[slot as usize * width..][..width].fill(0);
        }
        self.touched.fill(0);
        self.store_histograms(matrix, slab);
        if self.refused.len() > REMEMBERED / 2 {
            // Who is not asked for any more is over.
            let now = self.ticks;
            self.refused.retain(|_, asked| *asked == now);
        }
        self.ticks += 1;
    }

    /// Copies the rows that have ended, with their last values, and lets go of them.
    pub(crate) fn move_ended(&mut self, matrix: &mut Matrix, slab: &mut Vec<u64>) {
        let (stride, width) = (self.stride, words(self.stride));
        matrix.stride = stride;
        let mut rows = Vec::with_capacity(self.ended.len());
        for &slot in &self.ended {
            let slot = slot as usize;
            matrix.cells.extend_from_slice(&self.cells[slot * stride..][..stride]);
            matrix.present.extend_from_slice(&self.known[slot * width..][..width]);
            rows.push(self.slots[slot].row.clone());
        }
        matrix.rows = Arc::new(rows);
        self.store_histograms(matrix, slab);
        for slot in std::mem::take(&mut self.ended) {
            self.vacate(slot);
        }
    }

    fn vacate(&mut self, slot: u32) {
        let known = std::mem::take(&mut self.slots[slot as usize]);
        if let Some(row) = known.row {
            self.by_text.remove(&row.labels);
        }
        for column in 0..self.columns.len() {
            if self.is_known(slot, column) {
                self.series -= 1;
                if self.columns[column].1 == MetricKind::Histogram {
                    self.free_histograms.push(index(self.cells[slot as usize * self.stride + column]));
                }
            }
        }
        let width = words(self.stride);
        self.known[slot as usize * width..][..width].fill(0);
        self.cells[slot as usize * self.stride..][..self.stride].fill(0);
        self.free.push(slot);
    }

    /// Puts the histograms of a copied matrix into its slab.
    fn store_histograms(&self, matrix: &mut Matrix, slab: &mut Vec<u64>) {
        if self.histogram_columns.is_empty() {
            return;
        }
        for (row, present) in matrix.present.chunks_exact(words(self.stride).max(1)).enumerate() {
            for (word, (present, histograms)) in present.iter().zip(&self.histogram_columns).enumerate() {
                let mut bits = present & histograms;
                while bits != 0 {
                    let column = word * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    let cell = &mut matrix.cells[row * self.stride + column];
                    let first = self.layout.columns[column].slot_range().0;
                    *cell = self.histograms[index(*cell)].totals.store(first, slab);
                }
            }
        }
    }
}

/// An index into what fits in memory.
fn small(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// A place that was kept in a cell.
fn index(bits: u64) -> usize {
    usize::try_from(bits).unwrap_or(usize::MAX)
}

/// Tells sets of labels apart.
fn fingerprint(labels: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    hasher.finish()
}
