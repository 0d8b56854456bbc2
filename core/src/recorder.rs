//! Where probes put their numbers.
//!
//! The recorder belongs to the collecting thread. It knows every kind, column and row, and fills one batch per
//! tick. A tick in which no row comes or goes allocates nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, Block, Layout, Matrix, Tick};
use crate::entity::{ColumnId, EntityKind, KindId, Refused, RowId};
use crate::metric::Column;
use crate::table::{Owners, Table};

/// What a recorder refused, as totals; each is a vital of the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Entities beyond their kind's limit, each once: they are counted in the row `other`.
    pub rows: u64,
    /// Values that fit no cell: NaN or infinite, of another kind than the metric, for a row that has ended, for an id of
    /// another recorder, or a total or a level for the row `other`.
    pub values: u64,
    /// Samples of ended rows that a sink has lost, over all sinks: what their ledgers have as dropped for this
    /// reason.
    pub finals: u64,
}

/// Takes values of cells and makes batches of them.
///
/// ```text
/// kind -> column (a metric with fixed labels) --+
///      -> row (an entity) ----------------------+-> one cell a tick
/// ```
///
/// A total or a level that is not recorded in a tick has no value in that tick's batch: whoever records it repeats it at
/// each. What is [added](Self::add) is kept here, and in every batch until its row ends.
#[derive(Debug)]
pub struct Recorder {
    layout: Arc<Layout>,
    tables: Vec<Table>,
    host: RowId,
    /// The probe that declares and records at the moment.
    owner: Owners,
    /// Wall-clock time of the batch before: when the rows that are made now begin.
    since: Duration,
    widened: bool,
    is_last: bool,
    batch: Batch,
    refusals: Refusals,
}

impl Default for Recorder {
    fn default() -> Self {
        let mut host = Table::new(0, EntityKind::host());
        host.join(Owners::MAX);
        let mut refusals = Refusals::default();
        let row = host.row(0, &[], (Duration::ZERO, Owners::MAX), &mut refusals.rows);
        Self {
            layout: Arc::default(),
            host: row.unwrap_or_else(|_| unreachable!("the host has no label keys and room for one row")),
            tables: vec![host],
            owner: 0,
            since: Duration::ZERO,
            widened: true,
            is_last: false,
            batch: Batch::empty(),
            refusals,
        }
    }
}

impl Recorder {
    /// The kind of what concerns the whole host: one row, [`host`](Self::host).
    pub fn host_kind(&self) -> KindId {
        KindId { index: 0, birth: self.tables[0].birth }
    }

    /// The row of the host, which never ends.
    pub const fn host(&self) -> RowId {
        self.host
    }

    /// Declares a kind of entity. One that only probes have declared which are there no more can be declared again.
    pub fn kind(&mut self, kind: EntityKind) -> Result<KindId, Refused> {
        let owner = self.owner;
        if self.position(kind.name()).is_some_and(|index| !self.tables[index].is_abandoned()) {
            return Err(Refused::KindTaken { kind: kind.name().to_owned() });
        }
        if let Some(key) = repeated(kind.label_keys()) {
            return Err(Refused::KeyTwice { name: kind.name().to_owned(), key: key.to_owned() });
        }
        let is_same = |table: &Table| {
            let known = &table.layout.kind;
            table.is_abandoned() && known.name() == kind.name() && known.label_keys().eq(kind.label_keys())
        };
        if let Some(index) = self.tables.iter().skip(1).position(is_same) {
            let table = &mut self.tables[index + 1];
            table.declare(kind, owner);
            self.widened = true;
            return Ok(KindId { index: table_index(index + 1), birth: table.birth });
        }
        let index = table_index(self.tables.len());
        let mut table = Table::new(index, kind);
        // Whoever declares outside an agent is nobody's, and stays.
        table.join(if owner == 0 { Owners::MAX } else { owner });
        let id = KindId { index, birth: table.birth };
        self.tables.push(table);
        self.widened = true;
        Ok(id)
    }

    /// The kind of this name that another probe has declared, if one has: to add columns and rows to it. Identities
    /// are then common to both.
    pub fn existing_kind(&mut self, name: &str) -> Option<KindId> {
        let index = self.position(name).filter(|index| !self.tables[*index].is_abandoned())?;
        self.tables[index].join(self.owner);
        Some(KindId { index: table_index(index), birth: self.tables[index].birth })
    }

    /// The kind of this name that somebody has, or the last one that was abandoned.
    fn position(&self, name: &str) -> Option<usize> {
        let named = |table: &Table| table.layout.kind.name() == name;
        let living = self.tables.iter().position(|table| named(table) && !table.is_abandoned());
        living.or_else(|| self.tables.iter().rposition(named))
    }

    /// Declares a column of a kind, or finds the one with this name and these labels. For the time when a probe is
    /// built; later it makes every sink look at the columns again.
    pub fn column(&mut self, kind: KindId, column: Column) -> Result<ColumnId, Refused> {
        let name = self.table(kind)?.layout.kind.metric_name(&column);
        let others = self.tables.iter().filter(|table| table.birth != kind.birth && !table.is_abandoned());
        if let Some(other) = others.map(|table| &table.layout).find(|layout| layout.has_metric(&name)) {
            return Err(Refused::NameTaken { metric: name, kind: other.kind.name().to_owned() });
        }
        if let Some(key) = repeated(column.own_labels().map(|(key, _)| key)) {
            return Err(Refused::KeyTwice { name, key: key.to_owned() });
        }
        let owner = self.owner;
        let (id, is_new) = self.table(kind)?.column(column, owner)?;
        self.widened |= is_new;
        Ok(id)
    }

    /// Finds or makes the row of an entity.
    ///
    /// `identity` is the plugin's own number for the entity, which no other of the kind has: it, not the text, says
    /// which entity is meant. Label values are cleaned ([`clean_label`](crate::clean_label)); where two rows are equal
    /// after that, the second one gets a suffix that tells them apart; so does one that takes the labels of a row in the
    /// tick in which that has ended, since one batch has both. Other labels than before end the row and begin another one
    /// at 0: the totals that are recorded for it are taken as going on.
    ///
    /// Where the kind has no place left this is the row `other`, which takes [`add`](Self::add) and no totals. Ask
    /// again, at each tick, for whoever may get a place of its own later; it then begins at 0.
    pub fn row(&mut self, kind: KindId, identity: u64, labels: &[&str]) -> Result<RowId, Refused> {
        let begin = (self.since, self.owner);
        let mut refused = 0;
        let row = self.table(kind)?.row(identity, labels, begin, &mut refused);
        self.refusals.rows += refused;
        row
    }

    /// The row `other` of a kind, for what is known to be nobody's who could have a row of his own.
    pub fn other(&mut self, kind: KindId) -> Result<RowId, Refused> {
        let since = self.since;
        Ok(self.table(kind)?.other(since))
    }

    /// Whether this is the row `other` of its kind.
    pub fn is_other(&self, row: RowId) -> bool {
        self.tables.get(row.kind as usize).is_some_and(|table| table.is_other(row))
    }

    /// Whether a row has not ended.
    #[inline]
    pub fn is_living(&self, row: RowId) -> bool {
        self.tables.get(row.kind as usize).is_some_and(|table| table.is_living(row))
    }

    /// Records a counter's total; the last value of a tick wins.
    #[inline]
    pub fn counter(&mut self, row: RowId, column: ColumnId, total: u64) {
        let done = self.cells(row, column).is_some_and(|table| table.set_counter(row, column, total));
        self.refusals.values += u64::from(!done);
    }

    /// Adds to a counter: for who knows what was added, and for the row `other`. The total is in every batch from then on,
    /// whether or not something is added.
    #[inline]
    pub fn add(&mut self, row: RowId, column: ColumnId, increment: u64) {
        let done = self.cells(row, column).is_some_and(|table| table.add_counter(row, column, increment));
        self.refusals.values += u64::from(!done);
    }

    /// Records a gauge; a value that is not finite is refused and counted.
    #[inline]
    pub fn gauge(&mut self, row: RowId, column: ColumnId, level: f64) {
        let table = if level.is_finite() { self.cells(row, column) } else { None };
        let done = table.is_some_and(|table| table.set_gauge(row, column, level));
        self.refusals.values += u64::from(!done);
    }

    /// Records a histogram's totals, by slot from slot 0 on: the whole of the 64, or fewer.
    pub fn histogram(&mut self, row: RowId, column: ColumnId, slots: &[u64], sum: u64) {
        let done = self.cells(row, column).is_some_and(|table| table.histogram(row, column, slots, sum, false));
        self.refusals.values += u64::from(!done);
    }

    /// Adds to a histogram, as [`add`](Self::add) does to a counter.
    pub fn add_histogram(&mut self, row: RowId, column: ColumnId, slots: &[u64], sum: u64) {
        let done = self.cells(row, column).is_some_and(|table| table.histogram(row, column, slots, sum, true));
        self.refusals.values += u64::from(!done);
    }

    /// Ends a row: the batch of this tick has its last values, and no later one. From now on the id is void, and what
    /// is recorded for it is refused and counted. The host and `other` do not end.
    pub fn end(&mut self, row: RowId) {
        let is_host = row == self.host;
        let table = self.tables.get_mut(row.kind as usize).filter(|_| !is_host);
        let done = table.is_some_and(|table| table.end(row));
        self.refusals.values += u64::from(!done);
    }

    /// What was refused so far.
    pub const fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// Whether no tick may follow this one: what a probe holds back otherwise has to be recorded now.
    pub const fn is_last(&self) -> bool {
        self.is_last
    }

    /// How many cells of living rows ever had a value.
    pub fn series(&self) -> usize {
        self.tables.iter().map(Table::series).sum()
    }

    /// The rows of each kind.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter()
    }

    fn table(&mut self, kind: KindId) -> Result<&mut Table, Refused> {
        let table = self.tables.get_mut(kind.index as usize).filter(|table| table.birth == kind.birth);
        table.ok_or(Refused::Foreign)
    }

    /// The table that both belong to, if both do.
    #[inline]
    fn cells(&mut self, row: RowId, column: ColumnId) -> Option<&mut Table> {
        if row.kind == column.kind { self.tables.get_mut(row.kind as usize) } else { None }
    }

    /// Sinks have lost so many samples of ended rows.
    pub(crate) const fn count_lost_finals(&mut self, finals: u64) {
        self.refusals.finals += finals;
    }

    /// Says whether another tick is to follow.
    pub(crate) const fn set_last(&mut self, is_last: bool) {
        self.is_last = is_last;
    }

    /// Rows that are made from now on begin at this wall-clock time, and so does the host's. Called before anything is
    /// recorded.
    pub(crate) fn begin_at(&mut self, wall: Duration) {
        self.since = wall;
        self.tables[0].begin_at(wall);
    }

    /// What is declared and recorded from now on is of this probe, a bit of [`Owners`]; 0 is nobody.
    pub(crate) const fn set_owner(&mut self, owner: Owners) {
        self.owner = owner;
    }

    /// A probe is there no more: what it had is whoever's who asks for it next.
    pub(crate) fn disown(&mut self, owner: Owners) {
        self.tables.iter_mut().for_each(|table| table.disown(owner));
    }

    /// Ends the rows of probes that are there no more. Whether there were any.
    pub(crate) fn end_abandoned(&mut self) -> bool {
        // The host stays, and the rows of whoever is no agent's probe.
        self.tables.iter_mut().skip(1).fold(false, |any, table| table.end_abandoned() | any)
    }

    /// Says in the batch that a probe's numbers are missing.
    pub(crate) fn leave_out(&mut self, probe: &Arc<str>) {
        self.batch.left_out.push(Arc::clone(probe));
    }

    /// From now on counters and histograms are totals since the last batch. Not for the middle of a tick.
    pub(crate) fn rebase(&mut self) {
        self.tables.iter_mut().for_each(Table::rebase);
    }

    /// Ends a tick: swaps the finished batch with a recycled one.
    pub(crate) fn seal(&mut self, tick: Tick, elapsed: Duration, recycled: &mut Batch) {
        if std::mem::take(&mut self.widened) {
            let kinds = self.tables.iter().map(|table| table.layout.clone()).collect();
            self.layout = Arc::new(Layout { kinds });
        }
        let Self { tables, batch, layout, .. } = self;
        let Block { matrices, slab, .. } = &mut batch.live;
        matrices.resize_with(tables.len(), Matrix::default);
        slab.clear();
        tables.iter_mut().zip(matrices).for_each(|(table, matrix)| table.copy_live(matrix, slab));
        batch.ended = tables.iter().any(Table::has_ended).then(|| {
            let mut slab = Vec::new();
            let mut move_ended = |table: &mut Table| {
                let mut matrix = Matrix::default();
                if table.has_ended() {
                    table.move_ended(&mut matrix, &mut slab);
                }
                matrix
            };
            let matrices = tables.iter_mut().map(&mut move_ended).collect();
            Arc::new(Block::ended(tick, Arc::clone(layout), matrices, slab))
        });
        batch.live.tick = tick;
        batch.elapsed = elapsed;
        if !Arc::ptr_eq(&batch.live.layout, layout) {
            batch.live.layout = Arc::clone(layout);
        }
        self.since = tick.wall;
        std::mem::swap(&mut self.batch, recycled);
        self.batch.left_out.clear();
        self.batch.ended = None;
    }
}

fn table_index(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// A key that comes twice.
fn repeated<'a>(keys: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let mut rest = keys;
    while let Some(key) = rest.next() {
        if rest.clone().any(|other| other == key) {
            return Some(key);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::births_were;
    use crate::metric::Unit;

    #[test]
    fn ids_do_not_wrap_at_two_to_the_thirty_second_birth() {
        let mut recorder = Recorder::default();
        let kind = recorder.kind(EntityKind::new("thing").keys(["name"])).expect("a kind");
        let column = recorder.column(kind, Column::counter("a.b", Unit::CALLS, "Calls")).expect("a column");
        let early = recorder.row(kind, 1, &["early"]).expect("a row");
        recorder.end(early);
        recorder.seal(Tick::ZERO, Duration::ZERO, &mut Batch::empty());
        births_were(1 << 32);
        let late = recorder.row(kind, 2, &["late"]).expect("a row");
        assert_eq!((late.slot, late.birth >> 32), (early.slot, 1), "in the place of the one that has ended");
        // What would be its id if a birth were 32 bits, and that of whoever had the place.
        for wrong in [RowId { birth: late.birth & u64::from(u32::MAX), ..late }, early] {
            recorder.counter(wrong, column, 99);
            recorder.end(wrong);
        }
        assert_eq!(recorder.refusals().values, 4);
        recorder.counter(late, column, 1);
        let other = recorder.row(kind, 3, &["other kinds of late"]).expect("a row");
        assert!(other.birth > late.birth);
        assert_eq!(recorder.refusals().values, 4);
    }
}
