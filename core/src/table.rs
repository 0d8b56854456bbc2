//! The rows of one kind: which entity has which, and what has none.

use std::cmp::Reverse;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Format, KindLayout, Matrix};
use crate::cells::{Base, Cells};
use crate::entity::{ColumnId, EntityKind, Refused, Row, RowId, SEPARATOR, birth};
use crate::kind_vitals::KindVitals;
use crate::label::{clean_label, push_clean, told_apart};
use crate::metric::{Column, MetricKind};

/// The label value of the row that counts what has no row of its own.
pub(crate) const OTHER: &str = "other";

/// How many refused identities are remembered, so that each counts once.
const REMEMBERED: usize = 65_536;

/// How many rows of a kind may end in one tick, if its limit is not larger.
const ENDED: usize = 65_536;

/// The rows of one kind.
#[derive(Debug)]
pub(crate) struct Table {
    index: u32,
    pub(crate) birth: u64,
    pub(crate) layout: KindLayout,
    columns: Vec<(u64, MetricKind)>,
    /// By column: the probes that have declared it.
    column_owners: Vec<Owners>,
    /// Those that have declared the kind.
    owners: Owners,
    cells: Cells,
    /// By slot: the birth of the row that may be recorded, or 0.
    births: Vec<u64>,
    slots: Vec<Slot>,
    /// Those without a row: the first is taken first, so that what rows leave behind can be let go.
    free: BinaryHeap<Reverse<u32>>,
    by_identity: HashMap<u64, u32>,
    /// The texts of all rows.
    texts: HashSet<Arc<str>>,
    /// To put a text together in.
    scratch: String,
    /// Rows that have ended in this tick.
    ended: Vec<u32>,
    /// The identities that have no row, and the tick in which each was asked for last.
    refused: HashMap<u64, u64>,
    ticks: u64,
    other: Option<u32>,
    living: usize,
    /// How many rows there were, `other` not among them, and how many identities had none.
    began: u64,
    refusals: u64,
    /// The rows as batches know them, until one comes or goes.
    rows: Arc<Vec<Option<Arc<Row>>>>,
    changed: bool,
}

#[derive(Debug, Default)]
struct Slot {
    row: Option<Arc<Row>>,
    identity: u64,
    /// Of the labels as they were given.
    given: u64,
    /// The probes that have asked for it.
    owners: Owners,
}

/// Probes, a bit for each that an agent has.
pub(crate) type Owners = u64;

impl Table {
    pub(crate) fn new(index: u32, kind: EntityKind) -> Self {
        let keys = kind.label_keys().len();
        let mut texts = HashSet::new();
        if keys > 0 {
            // Nobody else may be called that.
            texts.insert(joined(vec![OTHER; keys]).into());
        }
        Self {
            index,
            birth: birth(),
            layout: KindLayout { kind: Arc::new(kind), columns: Vec::new(), formats: Vec::new(), metrics: Vec::new() },
            columns: Vec::new(),
            column_owners: Vec::new(),
            owners: 0,
            cells: Cells::default(),
            births: Vec::new(),
            slots: Vec::new(),
            free: BinaryHeap::new(),
            by_identity: HashMap::new(),
            texts,
            scratch: String::new(),
            ended: Vec::new(),
            refused: HashMap::new(),
            ticks: 0,
            other: None,
            living: 0,
            began: 0,
            refusals: 0,
            rows: Arc::default(),
            changed: false,
        }
    }

    /// How many cells of living rows ever had a value.
    pub(crate) const fn series(&self) -> usize {
        self.cells.series()
    }

    /// Says how many rows there are and were.
    pub(crate) fn tell(&self, vitals: &mut KindVitals) {
        vitals.rows = self.living;
        vitals.began = self.began;
        vitals.ended = self.began - self.living as u64;
        vitals.refused = self.refusals;
        vitals.series = self.series();
    }

    /// Whether nobody who has declared the kind is there any more, so that another probe may.
    pub(crate) const fn is_abandoned(&self) -> bool {
        self.owners == 0
    }

    /// The kind is declared, perhaps again, with the same label keys.
    pub(crate) fn declare(&mut self, kind: EntityKind, owner: Owners) {
        self.layout.kind = Arc::new(kind);
        self.owners |= owner;
    }

    /// A probe uses a kind that another one has declared.
    pub(crate) const fn join(&mut self, owner: Owners) {
        self.owners |= owner;
    }

    /// A probe is there no more. Its rows and columns stay for whoever asks for them next; what it has counted is what
    /// these go on from.
    pub(crate) fn disown(&mut self, owner: Owners) {
        if self.index > 0 {
            // The host is nobody's.
            self.owners &= !owner;
        }
        for slot in &mut self.slots {
            slot.owners &= !owner;
        }
        for (column, owners) in self.column_owners.iter_mut().enumerate().filter(|(_, owners)| **owners & owner != 0) {
            *owners &= !owner;
            if *owners == 0 {
                self.cells.carry_on(column);
            }
        }
    }

    /// Ends the rows that no probe has asked for that is there. Whether there were any.
    pub(crate) fn end_abandoned(&mut self) -> bool {
        let slots = 0..self.slots.len();
        let abandoned = slots.filter(|slot| {
            let is_other = self.other.is_some_and(|other| other as usize == *slot);
            self.births[*slot] != 0 && self.slots[*slot].owners == 0 && !is_other
        });
        let abandoned: Vec<_> = abandoned.map(small).collect();
        for slot in &abandoned {
            self.end_slot(*slot);
        }
        !abandoned.is_empty()
    }

    /// Adds a column, or finds the one that it is.
    pub(crate) fn column(&mut self, column: Column, owner: Owners) -> Result<(ColumnId, bool), Refused> {
        let kind = &self.layout.kind;
        let id = |index: usize, birth| ColumnId { kind: self.index, index: small(index), birth };
        let taken = column.own_labels().find(|(key, _)| kind.label_keys().any(|known| known == *key));
        if let Some((key, _)) = taken {
            return Err(Refused::KeyTaken { metric: kind.metric_name(&column), key: key.to_owned() });
        }
        let Self { layout: KindLayout { columns, metrics, .. }, .. } = self;
        let metric = metrics.iter().position(|metric| columns[metric[0] as usize].name() == column.name());
        for known in metric.iter().flat_map(|metric| &metrics[*metric]) {
            let (known, place) = (&columns[*known as usize], *known as usize);
            if known.kind() != column.kind() {
                return Err(Refused::MetricKind { metric: kind.metric_name(&column), has: known.kind() });
            }
            if known.is_twin_of(&column) {
                if !known.counts_like(&column) {
                    let unit = known.unit().as_str().to_owned();
                    return Err(Refused::Numbers { metric: kind.metric_name(&column), unit });
                }
                self.column_owners[place] |= owner;
                return Ok((id(place, self.columns[place].0), false));
            }
        }
        let id = id(self.columns.len(), birth());
        self.columns.push((id.birth, column.kind()));
        self.column_owners.push(owner);
        self.cells.push_column(&column);
        let Self { layout: KindLayout { columns, formats, metrics, .. }, .. } = self;
        match metric {
            Some(metric) => metrics[metric].push(id.index),
            None => metrics.push(vec![id.index]),
        }
        formats.push(Format::of(&column));
        columns.push(Arc::new(column));
        Ok((id, true))
    }

    /// Finds, makes or renames the row of an identity. Where there is no place it is the row [`OTHER`], and
    /// `refused` counts that, once for an identity.
    pub(crate) fn row(
        &mut self,
        identity: u64,
        labels: &[&str],
        (started, owner): (Duration, Owners),
        refused: &mut u64,
    ) -> Result<RowId, Refused> {
        let kind = Arc::clone(&self.layout.kind);
        let expected = kind.label_keys().len();
        if labels.len() != expected {
            return Err(Refused::Labels { kind: kind.name().to_owned(), expected, given: labels.len() });
        }
        let given = fingerprint(labels);
        let (mut base, mut owners) = (None, owner);
        let too_many_ended = self.ended.len() > kind.row_limit().max(ENDED);
        if let Some(&slot) = self.by_identity.get(&identity) {
            // Where too many have ended in this tick already, it has its new name from the next one on.
            if self.slots[slot as usize].given == given || too_many_ended {
                self.slots[slot as usize].owners |= owner;
                return Ok(self.id(slot));
            }
            base = Some(self.cells.base_for_heir(slot as usize));
            owners |= self.slots[slot as usize].owners;
            self.end_slot(slot);
        } else if expected == 0 && (self.living > 0 || !self.ended.is_empty()) {
            return Err(Refused::OneRow { kind: kind.name().to_owned() });
        }
        if self.living >= kind.row_limit() || too_many_ended {
            let is_new = u64::from(self.refuse(identity));
            self.refusals += is_new;
            *refused += is_new;
            return Ok(self.other(started));
        }
        if !self.refused.is_empty() {
            self.refused.remove(&identity);
        }
        let text = self.text(labels, identity);
        let slot = self.occupy(identity, given, text, started);
        self.slots[slot as usize].owners = owners;
        self.living += 1;
        self.began += 1;
        if let Some(base) = base {
            self.cells.inherit(slot as usize, base);
        }
        self.by_identity.insert(identity, slot);
        Ok(self.id(slot))
    }

    /// How many rows live, `other` not among them.
    pub(crate) const fn living(&self) -> usize {
        self.living
    }

    /// From which totals a row counts that has just begun.
    pub(crate) fn count_from(&mut self, row: RowId, base: Base) {
        if self.births.get(row.slot as usize) == Some(&row.birth) {
            self.cells.inherit(row.slot as usize, base);
        }
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

    #[inline]
    pub(crate) fn is_living(&self, row: RowId) -> bool {
        self.births.get(row.slot as usize) == Some(&row.birth)
    }

    pub(crate) fn is_other(&self, row: RowId) -> bool {
        self.other == Some(row.slot) && self.births.get(row.slot as usize) == Some(&row.birth)
    }

    /// The row of what has no row of its own.
    pub(crate) fn other(&mut self, started: Duration) -> RowId {
        let slot = self.other.unwrap_or_else(|| {
            let text = joined(vec![OTHER; self.layout.kind.label_keys().len()]);
            self.occupy(0, 0, text.into(), started)
        });
        self.other = Some(slot);
        self.id(slot)
    }

    /// The text of a new row: its cleaned labels and, where another row has those, one of them told apart by its
    /// identity.
    fn text(&mut self, labels: &[&str], identity: u64) -> Arc<str> {
        self.scratch.clear();
        for (index, label) in labels.iter().enumerate() {
            if index > 0 {
                self.scratch.push(SEPARATOR);
            }
            push_clean(label, &mut self.scratch);
        }
        if self.texts.contains(self.scratch.as_str()) {
            self.told_apart(labels, identity)
        } else {
            self.scratch.as_str().into()
        }
    }

    fn told_apart(&self, labels: &[&str], identity: u64) -> Arc<str> {
        let mut cleaned: Vec<_> = labels.iter().map(|label| clean_label(label)).collect();
        // The label that was changed is the one that is told apart.
        let changed = labels.iter().zip(&cleaned).position(|(given, cleaned)| **given != **cleaned);
        let changed = changed.unwrap_or(labels.len().saturating_sub(1));
        let plain = cleaned.get(changed).cloned().unwrap_or_default();
        for attempt in 0_u64.. {
            let Some(label) = cleaned.get_mut(changed) else { break };
            *label = told_apart(&plain, identity.wrapping_add(attempt));
            let text = joined(cleaned.iter().map(AsRef::as_ref));
            if !self.texts.contains(text.as_str()) {
                return text.into();
            }
        }
        // Without labels there is one row.
        Arc::default()
    }

    fn occupy(&mut self, identity: u64, given: u64, text: Arc<str>, started: Duration) -> u32 {
        let slot = self.free.pop().map(|Reverse(slot)| slot).unwrap_or_else(|| {
            let slot = self.slots.len();
            self.slots.push(Slot::default());
            self.births.push(0);
            self.cells.push_slot();
            small(slot)
        });
        let id = RowId { kind: self.index, slot, birth: birth() };
        self.texts.insert(Arc::clone(&text));
        let row = Arc::new(Row { id, text, started });
        self.slots[slot as usize] = Slot { row: Some(row), identity, given, owners: 0 };
        self.births[slot as usize] = id.birth;
        self.changed = true;
        slot
    }

    /// The rows that there are began at this wall-clock time.
    pub(crate) fn begin_at(&mut self, started: Duration) {
        for row in self.slots.iter_mut().filter_map(|slot| slot.row.as_mut()) {
            *row = Arc::new(Row { id: row.id, text: Arc::clone(&row.text), started });
        }
        self.changed = true;
    }

    fn id(&self, slot: u32) -> RowId {
        RowId { kind: self.index, slot, birth: self.births[slot as usize] }
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

    /// The cells, where this is a living row and a column of this kind of numbers; to set them, `other` is none.
    #[inline]
    fn cell(&mut self, row: RowId, column: ColumnId, kind: MetricKind, adds: bool) -> Option<&mut Cells> {
        let is_row = self.births.get(row.slot as usize) == Some(&row.birth) && (adds || self.other != Some(row.slot));
        let is_column = self.columns.get(column.index as usize) == Some(&(column.birth, kind));
        (is_row && is_column).then_some(&mut self.cells)
    }

    #[inline]
    pub(crate) fn set_counter(&mut self, row: RowId, column: ColumnId, total: u64) -> bool {
        let cells = self.cell(row, column, MetricKind::Counter, false);
        cells.map(|cells| cells.set_counter(row.slot as usize, column.index as usize, total)).is_some()
    }

    #[inline]
    pub(crate) fn add_counter(&mut self, row: RowId, column: ColumnId, increment: u64) -> bool {
        let cells = self.cell(row, column, MetricKind::Counter, true);
        cells.map(|cells| cells.add_counter(row.slot as usize, column.index as usize, increment)).is_some()
    }

    #[inline]
    pub(crate) fn set_gauge(&mut self, row: RowId, column: ColumnId, level: f64) -> bool {
        let cells = self.cell(row, column, MetricKind::Gauge, false);
        cells.map(|cells| cells.set_gauge(row.slot as usize, column.index as usize, level)).is_some()
    }

    /// Sets a histogram's totals, or adds to them.
    pub(crate) fn histogram(&mut self, row: RowId, column: ColumnId, counts: &[u64], sum: u64, adds: bool) -> bool {
        let cells = self.cell(row, column, MetricKind::Histogram, adds);
        cells.map(|cells| cells.histogram(row.slot as usize, column.index as usize, counts, sum, adds)).is_some()
    }

    /// From now on, counters and histograms are totals since what they are now.
    pub(crate) fn rebase(&mut self) {
        self.cells.rebase();
    }

    /// Whether a row has ended in this tick.
    pub(crate) fn has_ended(&self) -> bool {
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
        self.cells.copy_live(&self.ended, matrix, slab);
        if self.refused.len() > REMEMBERED / 2 {
            // Who is not asked for any more is over.
            let now = self.ticks;
            self.refused.retain(|_, asked| *asked == now);
        }
        self.ticks += 1;
    }

    /// Copies the rows that have ended, with their last values, and lets go of them.
    pub(crate) fn move_ended(&mut self, matrix: &mut Matrix, slab: &mut Vec<u64>) {
        self.cells.copy_ended(&self.ended, matrix, slab);
        let mut rows = Vec::with_capacity(self.ended.len());
        for slot in std::mem::take(&mut self.ended) {
            let row = std::mem::take(&mut self.slots[slot as usize]).row;
            if let Some(row) = &row {
                self.texts.remove(&row.text);
            }
            rows.push(row);
            self.cells.clear(slot as usize);
            self.free.push(Reverse(slot));
        }
        matrix.rows = Arc::new(rows);
        self.shrink();
    }

    /// Lets go of slots at the end that have no row any more: what exists costs, not what there once was.
    fn shrink(&mut self) {
        let used = self.slots.iter().rposition(|slot| slot.row.is_some()).map_or(0, |last| last + 1);
        if used < self.slots.len() / 2 {
            self.slots.truncate(used);
            self.births.truncate(used);
            self.cells.truncate(used);
            self.free.retain(|Reverse(slot)| (*slot as usize) < used);
            // Batches from now on have so many.
            self.changed = true;
        }
    }
}

/// An index into what fits in memory.
fn small(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// A row's text of cleaned labels.
fn joined<'a>(labels: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for (index, label) in labels.into_iter().enumerate() {
        text.extend((index > 0).then_some(SEPARATOR));
        text.push_str(label);
    }
    text
}

/// Tells sets of labels apart.
fn fingerprint(labels: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    hasher.finish()
}
