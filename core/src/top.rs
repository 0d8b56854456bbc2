//! The most active rows of a kind, for a sink that does not want all of them.
//!
//! ```text
//! a batch: all rows      -> of each kind with a `top`: -> a batch of the sink's own
//! (shared by all sinks)     who has a place               N rows and `other`
//! ```
//!
//! What a tick adds to the sink's rows together is what it adds to all rows of the batch: each gain belongs to the row that
//! stands for it in that tick, a place or `other`, and never moves. A row that gets a place begins with what it gains in
//! that tick; one that loses its place ends, for this sink. So every row of the sink's own has a birth of its own.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, Block, KindLayout, Layout, Matrix, Scaled, Value};
use crate::cells::Base;
use crate::entity::{ColumnId, Row, RowId};
use crate::histogram::{HISTOGRAM_SLOTS, Histogram, Totals};
use crate::lens::{KindLens, Lens};
use crate::metric::MetricKind;
use crate::selection::{STAY, Selection};
use crate::table::{OTHER, Owners, Table};
use crate::values::Values;

/// What of a row's activity is left after a tick: half of it after seven.
const DECAY: f64 = 0.9;

/// How much more active than the weakest that has a place one must be who takes that place: two that are nearly equal do
/// not change places at each tick.
const MARGIN: f64 = 1.5;

/// Makes of each batch the one that a sink with a `top` sees. It has to see every batch, in their order.
#[derive(Debug)]
pub(crate) struct Top {
    selection: Selection,
    /// What the sink would take of a batch without this.
    lens: Lens,
    /// By kind; none where all rows are the sink's.
    kinds: Vec<Option<Ranks>>,
    pool: Vec<Arc<Batch>>,
    /// Wall-clock time of the batch before.
    before: Option<Duration>,
}

impl Top {
    /// For a sink with this selection; none where it wants all rows.
    pub(crate) fn new(selection: &Selection) -> Option<Self> {
        (!selection.top.is_empty()).then(|| Self {
            selection: selection.clone(),
            lens: Lens::new(selection, &Arc::default(), 0),
            kinds: Vec::new(),
            pool: Vec::new(),
            before: None,
        })
    }

    /// The batch as the sink sees it.
    pub(crate) fn narrow(&mut self, batch: &Batch) -> Arc<Batch> {
        if !self.lens.fits(&batch.live) {
            self.widen(&batch.live.layout);
        }
        let index = self.recycled();
        let Self { lens, kinds, pool, before, .. } = self;
        let Some(own) = Arc::get_mut(&mut pool[index]) else {
            unreachable!("nobody else holds what was recycled");
        };
        let Block { tick, layout, matrices, slab, .. } = &mut own.live;
        slab.clone_from(&batch.live.slab);
        matrices.resize_with(kinds.len(), Matrix::default);
        for (kind, (ranks, own)) in kinds.iter_mut().zip(matrices).enumerate() {
            match ranks {
                Some(ranks) => {
                    ranks.follow(batch, kind, &lens.kinds[kind], *before);
                    ranks.table.copy_live(own, slab);
                }
                None if lens.kinds[kind].metrics.is_empty() => {}
                None => own.copy_from(&batch.live.matrices[kind]),
            }
        }
        *tick = batch.tick();
        if !Arc::ptr_eq(layout, &batch.live.layout) {
            *layout = Arc::clone(&batch.live.layout);
        }
        own.ended = ended(kinds, batch);
        own.elapsed = batch.elapsed;
        own.left_out.clone_from(&batch.left_out);
        *before = Some(batch.tick().wall);
        Arc::clone(&pool[index])
    }

    /// Takes in kinds and columns that are new.
    fn widen(&mut self, layout: &Arc<Layout>) {
        self.lens = Lens::new(&self.selection, layout, 0);
        for (index, (kind, lens)) in layout.kinds.iter().zip(&self.lens.kinds).enumerate() {
            if self.kinds.len() == index {
                let limit = self.selection.top.get(kind.kind.name()).filter(|_| !lens.metrics.is_empty());
                self.kinds.push(limit.map(|limit| Ranks::new(index, kind, *limit)));
            }
            if let Some(ranks) = &mut self.kinds[index] {
                ranks.widen(kind, lens, |name| self.selection.ranks_by(name));
            }
        }
    }

    /// The index of a batch that the sink does not hold any more.
    fn recycled(&mut self) -> usize {
        let free = self.pool.iter_mut().position(|batch| Arc::get_mut(batch).is_some());
        free.unwrap_or_else(|| {
            self.pool.push(Arc::new(Batch::empty()));
            self.pool.len() - 1
        })
    }
}

/// The rows that end for the sink: those of its places, and all of the kinds without places.
fn ended(kinds: &mut [Option<Ranks>], batch: &Batch) -> Option<Arc<Block>> {
    let theirs = batch.ended.as_ref();
    let rows = |kind: usize| theirs.and_then(|block| block.matrices.get(kind)).map_or(0, |matrix| matrix.rows.len());
    let mut numbered = kinds.iter().enumerate();
    let changes = numbered.any(|(kind, ranks)| ranks.as_ref().is_some_and(|it| it.table.has_ended() || rows(kind) > 0));
    if !changes {
        return theirs.cloned();
    }
    let mut slab = theirs.map(|block| block.slab.clone()).unwrap_or_default();
    let matrices = kinds.iter_mut().enumerate().map(|(kind, ranks)| match ranks {
        Some(Ranks { table, .. }) => {
            let mut matrix = Matrix::default();
            if table.has_ended() {
                table.move_ended(&mut matrix, &mut slab);
            }
            matrix
        }
        None => theirs.and_then(|block| block.matrices.get(kind)).cloned().unwrap_or_default(),
    });
    let matrices: Vec<Matrix> = matrices.collect();
    let is_any = matrices.iter().any(|matrix| !matrix.rows.is_empty());
    is_any.then(|| Arc::new(Block::ended(batch.tick(), Arc::clone(&batch.live.layout), matrices, slab)))
}

/// Who of one kind has a place.
#[derive(Debug)]
struct Ranks {
    limit: usize,
    /// The sink's own rows: the places and `other`.
    table: Table,
    /// Theirs, by column.
    columns: Vec<ColumnId>,
    /// The columns by which activity is measured.
    active: Vec<usize>,
    /// By slot of the batch.
    seen: Vec<Seen>,
    /// The places of rows that have ended soon, by the tick from which others may have them.
    resting: Vec<u64>,
    ticks: u64,
    /// Slots to choose among: those without a place, and those with one who may lose it.
    outsiders: Vec<u32>,
    members: Vec<u32>,
}

/// A row of the batch, as of the tick before.
#[derive(Debug, Default)]
struct Seen {
    /// The row's; 0 where there is none.
    birth: u64,
    part: Part,
    activity: f64,
    /// Totals of counters, by column.
    counters: Vec<u64>,
    /// Of histograms that have a value.
    spreads: Vec<(usize, Box<Spread>)>,
}

/// What becomes of a row's numbers for this sink.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Part {
    /// The sink does not want it.
    #[default]
    Unwanted,
    /// It is the batch's own `other`.
    Other,
    /// It was not there in the tick before.
    New,
    /// It counts in the sink's `other`.
    Outside,
    /// It has this row until somebody else takes its place, from this tick on.
    Place(RowId, u64),
}

impl Ranks {
    fn new(index: usize, kind: &KindLayout, limit: usize) -> Self {
        let own = (*kind.kind).clone().limit(limit);
        Self {
            limit,
            table: Table::new(u32::try_from(index).unwrap_or(u32::MAX), own),
            columns: Vec::new(),
            active: Vec::new(),
            seen: Vec::new(),
            resting: Vec::new(),
            ticks: 0,
            outsiders: Vec::new(),
            members: Vec::new(),
        }
    }

    /// Takes in columns that are new.
    fn widen(&mut self, layout: &KindLayout, lens: &KindLens, ranks_by: impl Fn(&str) -> bool) {
        for column in &layout.columns[self.columns.len()..] {
            // Its own kind has no such column yet, and its keys are the same: nothing is refused.
            self.columns.extend(self.table.column((**column).clone(), Owners::MAX).map(|(id, _)| id));
        }
        let numbered = layout.columns.iter().enumerate();
        let counters = numbered.filter(|(at, column)| lens.takes_column(*at) && column.kind() == MetricKind::Counter);
        let named = counters.clone().filter(|(_, column)| ranks_by(&layout.kind.metric_name(column)));
        self.active = named.map(|(at, _)| at).collect();
        if self.active.is_empty() {
            self.active = counters.map(|(at, _)| at).collect();
        }
    }

    /// One tick: books what every row has gained, and decides before that who has a place.
    fn follow(&mut self, batch: &Batch, kind: usize, lens: &KindLens, before: Option<Duration>) {
        let Matrix { rows, .. } = &batch.live.matrices[kind];
        let new = rows.iter().flatten().map(|row| row.started);
        // As if it had been there from the start: in the first batch rows may be older.
        let since = before.or_else(|| new.min()).unwrap_or_default();
        if let Some(ended) = &batch.ended {
            for (slot, row) in ended.matrices.get(kind).iter().flat_map(|matrix| numbered(&matrix.rows)) {
                self.end(row, Values::new(ended, lens, kind, slot), lens, since);
            }
        }
        self.meet(rows, lens);
        self.outsiders.clear();
        self.members.clear();
        for (slot, _) in numbered(rows) {
            let values = Values::new(&batch.live, lens, kind, slot);
            self.weigh(slot, values);
        }
        self.choose(rows, since, |slot| Values::new(&batch.live, lens, kind, slot));
        for (slot, _) in numbered(rows) {
            let values = Values::new(&batch.live, lens, kind, slot);
            self.book(slot, values, since);
        }
        self.ticks += 1;
    }

    /// A row has ended: its place is free.
    fn end(&mut self, row: &Row, values: Values<'_>, lens: &KindLens, since: Duration) {
        let slot = row.id.slot as usize;
        if self.seen.len() <= slot {
            self.seen.resize_with(slot + 1, Seen::default);
        }
        if self.seen[slot].birth != row.id.birth {
            self.seen[slot] = Seen::new(row, lens);
        }
        self.book(slot, values, since);
        if let Seen { part: Part::Place(own, until), .. } = std::mem::take(&mut self.seen[slot]) {
            self.table.end(own);
            self.resting.push(until);
        }
    }

    /// Notes who is new.
    fn meet(&mut self, rows: &[Option<Arc<Row>>], lens: &KindLens) {
        self.seen.resize_with(rows.len(), Seen::default);
        for (slot, row) in numbered(rows) {
            if self.seen[slot].birth != row.id.birth {
                self.seen[slot] = Seen::new(row, lens);
            }
        }
    }

    /// Adds what a row has gained to its activity, and notes it as one of those to choose among.
    fn weigh(&mut self, slot: usize, values: Values<'_>) {
        let seen = &mut self.seen[slot];
        let gain = |&column: &usize| match values.get(column) {
            Some(Value::Counter(total)) => as_float(seen.gained(column, total)),
            Some(Value::Scaled(scaled)) => as_float(seen.gained(column, scaled.total)) * scaled.scale,
            _ => 0.0,
        };
        seen.activity = seen.activity.mul_add(DECAY, self.active.iter().map(gain).sum());
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        match seen.part {
            Part::New | Part::Outside => self.outsiders.push(slot),
            Part::Place(_, until) if until <= self.ticks => self.members.push(slot),
            Part::Unwanted | Part::Other | Part::Place(..) => {}
        }
    }

    /// Gives free places to the most active, and takes some from those who are much less active than others.
    fn choose<'a>(&mut self, rows: &[Option<Arc<Row>>], since: Duration, values: impl Fn(usize) -> Values<'a>) {
        let now = self.ticks;
        self.resting.retain(|until| *until > now);
        let (mut outsiders, mut members) = (std::mem::take(&mut self.outsiders), std::mem::take(&mut self.members));
        let rank = |slot: &u32| (self.seen[*slot as usize].activity, std::cmp::Reverse(*slot));
        let most_active_first = |a: &u32, b: &u32| rank(b).partial_cmp(&rank(a)).unwrap_or(std::cmp::Ordering::Equal);
        if outsiders.len() > self.limit {
            // No more than there are places can get one.
            outsiders.select_nth_unstable_by(self.limit, most_active_first);
            outsiders.truncate(self.limit);
        }
        outsiders.sort_unstable_by(most_active_first);
        members.sort_unstable_by(most_active_first);
        let mut weakest = members.iter().rev();
        for slot in outsiders.iter().map(|slot| *slot as usize) {
            if self.table.living() + self.resting.len() >= self.limit {
                let Some(member) = weakest.next().map(|slot| *slot as usize) else { break };
                if self.seen[slot].activity <= self.seen[member].activity * MARGIN {
                    break;
                }
                self.book(member, values(member), since);
                if let Part::Place(own, _) = std::mem::replace(&mut self.seen[member].part, Part::Outside) {
                    self.table.end(own);
                }
            }
            if let Some(row) = &rows[slot] {
                self.place(slot, row, since);
            }
        }
        (self.outsiders, self.members) = (outsiders, members);
    }

    /// Gives a row a place. What it had before this tick is in `other` and stays there.
    fn place(&mut self, slot: usize, row: &Row, since: Duration) {
        let Self { table, seen, .. } = self;
        let seen = &mut seen[slot];
        let started = if seen.part == Part::New { row.started } else { since };
        // A kind without keys has a row without labels, whose text is empty.
        let labels: Vec<&str> = row.labels().take(table.layout.kind.label_keys().len()).collect();
        // There is room, and the labels are as many as the kind has keys: it is a row of its own.
        if let Ok(own) = table.row(row.id.birth, &labels, (started, Owners::MAX), &mut 0) {
            let spreads = seen.spreads.iter().map(|(column, spread)| {
                let range = table.layout.columns[*column].slot_range();
                (*column, spread.totals(range))
            });
            let base = Base::new(seen.counters.clone(), spreads.collect());
            table.count_from(own, base);
            seen.part = Part::Place(own, self.ticks + STAY);
        }
    }

    /// Books what a row has gained: in its place, or in `other`.
    fn book(&mut self, slot: usize, values: Values<'_>, since: Duration) {
        let Self { table, seen, columns, .. } = self;
        let seen = &mut seen[slot];
        let own = match seen.part {
            Part::Unwanted => return,
            Part::Place(own, _) => Some(own),
            Part::Other | Part::New | Part::Outside => None,
        };
        for (column, value) in values.all() {
            let id = columns[column];
            match (value, own) {
                (Value::Counter(total) | Value::Scaled(Scaled { total, .. }), own) => {
                    let row = own.unwrap_or_else(|| table.other(since));
                    match own {
                        Some(_) => table.set_counter(row, id, total),
                        None => table.add_counter(row, id, seen.gained(column, total)),
                    };
                    seen.note(column, total);
                }
                (Value::Histogram(histogram), own) => {
                    let (now, last) = (Spread::of(histogram), seen.spread(column));
                    let row = own.unwrap_or_else(|| table.other(since));
                    let told = if own.is_some() { &now } else { &now.since(last) };
                    table.histogram(row, id, &told.slots, told.sum, own.is_none());
                    *last = now;
                }
                (Value::Gauge(level), Some(own)) => {
                    table.set_gauge(own, id, level);
                }
                // The sum of levels is nobody's level.
                (Value::Gauge(_), None) => {}
            }
        }
        if seen.part == Part::New {
            seen.part = Part::Outside;
        }
    }
}

impl Seen {
    fn new(row: &Row, lens: &KindLens) -> Self {
        let part = if !lens.takes_row(row) {
            Part::Unwanted
        } else if row.labels().all(|label| label == OTHER) {
            // Nobody else may be called that.
            Part::Other
        } else {
            Part::New
        };
        Self { birth: row.id.birth, part, ..Self::default() }
    }

    /// By how much a total has grown.
    fn gained(&self, column: usize, total: u64) -> u64 {
        total.saturating_sub(self.counters.get(column).copied().unwrap_or_default())
    }

    fn note(&mut self, column: usize, total: u64) {
        if self.counters.len() <= column {
            self.counters.resize(column + 1, 0);
        }
        self.counters[column] = total;
    }

    /// A histogram's totals as of the tick before.
    fn spread(&mut self, column: usize) -> &mut Spread {
        let known = self.spreads.iter().position(|(known, _)| *known == column);
        let place = known.unwrap_or_else(|| {
            self.spreads.push((column, Box::default()));
            self.spreads.len() - 1
        });
        &mut self.spreads[place].1
    }
}

/// A histogram's totals, by slot from slot 0 on.
#[derive(Debug)]
struct Spread {
    slots: [u64; HISTOGRAM_SLOTS],
    sum: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { slots: [0; HISTOGRAM_SLOTS], sum: 0 }
    }
}

impl Spread {
    fn of(histogram: Histogram<'_>) -> Self {
        let mut slots = [0; HISTOGRAM_SLOTS];
        histogram.buckets().for_each(|bucket| slots[bucket.slot] = bucket.count);
        Self { slots, sum: histogram.sum() }
    }

    fn since(&self, last: &Self) -> Self {
        let slots = std::array::from_fn(|slot| self.slots[slot].saturating_sub(last.slots[slot]));
        Self { slots, sum: self.sum.saturating_sub(last.sum) }
    }

    fn totals(&self, range: (u8, u8)) -> Totals {
        let mut totals = Totals::new(range);
        totals.set(range.0, &self.slots, self.sum);
        totals
    }
}

/// The rows that there are, with their slots.
fn numbered(rows: &[Option<Arc<Row>>]) -> impl Iterator<Item = (usize, &Row)> {
    rows.iter().enumerate().filter_map(|(slot, row)| Some((slot, &**row.as_ref()?)))
}

#[expect(clippy::cast_precision_loss, reason = "a measure of activity, rounded above 2^53")]
const fn as_float(gain: u64) -> f64 {
    gain as f64
}
