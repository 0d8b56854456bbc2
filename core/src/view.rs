//! A batch as one sink sees it.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, Block, Tick, Value, is_set};
use crate::entity::{EntityKind, Row, RowId};
use crate::lens::{KindLens, Lens, Projected};
use crate::metric::{Column, MetricKind, Unit};
use crate::values::Values;

/// A batch through the eyes of one sink: its selection, its names, its tags.
///
/// What a sink writes for a view depends on the view and on the sink's own state alone. It can be looked at by
/// row ([`kinds`](Self::kinds)), by metric ([`metrics`](Self::metrics)) or flat ([`samples`](Self::samples)).
///
/// Rows that have ended come first, in the order in which they ended, and each in one view that the sink takes: those of
/// batches that it did not get, or failed to take, come with its next one.
#[derive(Clone, Copy, Debug)]
pub struct View<'a>(&'a KeptView);

impl<'a> View<'a> {
    /// A view that outlives this one, for a sink that renders when it is asked.
    pub fn keep(&self) -> KeptView {
        self.0.clone()
    }

    /// When and as which round the batch was collected. All samples share its timestamp, but those of rows that
    /// ended earlier ([`RowView::tick`]).
    pub fn tick(&self) -> Tick {
        self.live().tick
    }

    /// Time since the batch before at this sink's interval, whether or not the sink saw that one; zero
    /// for the first.
    pub const fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// The probes whose numbers are missing in this batch, or part of them: one that was left out
    /// because its last collection took longer than an interval, that failed, or that has panicked.
    pub fn left_out(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        self.0.batch.left_out.iter().map(AsRef::as_ref)
    }

    /// Another number than that of the view before says that the sink's selection is another one: names and tags may have
    /// changed, and columns may have come or gone. What a sink keeps of them is to be made anew.
    pub fn edition(&self) -> u64 {
        self.0.lens.edition
    }

    /// How many samples the view holds.
    pub fn len(&self) -> usize {
        let blocks = self.finals().iter().map(|block| &**block).chain([self.live()]);
        usize::try_from(blocks.map(|block| self.0.lens.count(block)).sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// Whether the view holds no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The kinds of which something is selected, in the order in which they were declared.
    pub fn kinds(&self) -> impl Iterator<Item = KindView<'a>> + use<'a> {
        let view = *self;
        let kinds = view.0.lens.kinds.iter().enumerate();
        kinds.filter_map(move |(index, lens)| (!lens.metrics.is_empty()).then_some(KindView { view, index, lens }))
    }

    /// The metrics that have samples: by kind, then in the order in which they were declared.
    pub fn metrics(&self) -> impl Iterator<Item = Metric<'a>> + use<'a> {
        self.kinds().flat_map(|kind| kind.metrics())
    }

    /// All samples, by metric.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'a>> + use<'a> {
        self.metrics().flat_map(|metric| metric.samples())
    }

    /// The rows that ended in batches that the sink has not taken, this one included; the oldest first.
    pub(crate) fn finals(self) -> &'a [Arc<Block>] {
        &self.0.finals
    }

    pub(crate) fn live(self) -> &'a Block {
        &self.0.batch.live
    }

    /// How many blocks there are: those of rows that have ended, then that of those that live.
    fn blocks(self) -> usize {
        self.finals().len() + 1
    }

    /// A block, and whether its rows have ended.
    fn block(self, number: usize) -> Option<(&'a Block, bool)> {
        match self.finals().get(number) {
            Some(block) => Some((&**block, true)),
            None => (number == self.finals().len()).then(|| (self.live(), false)),
        }
    }
}

/// What a view has of one kind of entity.
#[derive(Clone, Copy, Debug)]
pub struct KindView<'a> {
    view: View<'a>,
    index: usize,
    lens: &'a KindLens,
}

impl<'a> KindView<'a> {
    /// The kind.
    pub fn kind(&self) -> &'a EntityKind {
        &self.view.0.lens.layout.kinds[self.index].kind
    }

    /// The kind's place among all kinds, which never changes.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// The selected columns, in the order in which they were declared. New ones come at the end.
    pub fn columns(&self) -> impl Iterator<Item = ColumnView<'a>> + use<'a> {
        let Self { view, index: kind, lens } = *self;
        lens.columns.iter().enumerate().filter_map(move |(index, projected)| {
            projected.as_ref().map(|projected| ColumnView { lens: &view.0.lens, kind, index, projected })
        })
    }

    /// How many columns the kind has, selected or not: as long as this stays the same, so do the selected ones.
    pub fn width(&self) -> usize {
        self.lens.columns.len()
    }

    /// The selected column at a place, if it is selected.
    pub fn column(&self, index: usize) -> Option<ColumnView<'a>> {
        let projected = self.lens.columns.get(index)?.as_ref()?;
        Some(ColumnView { lens: &self.view.0.lens, kind: self.index, index, projected })
    }

    /// The selected rows: those that have ended, then those that live. A row may have no value in this view.
    pub fn rows(&self) -> impl Iterator<Item = RowView<'a>> + use<'a> {
        let kind = *self;
        let blocks = (0..kind.view.blocks()).filter_map(move |number| kind.view.block(number));
        blocks.flat_map(move |(block, is_final)| {
            let slots = block.matrices.get(kind.index).map_or(0, |matrix| matrix.rows.len());
            (0..slots).filter_map(move |slot| kind.row(block, is_final, slot))
        })
    }

    /// The row that lives at this [place](RowView::place), if it is selected: for who goes on later where it has stopped.
    #[inline]
    pub fn living(&self, place: usize) -> Option<RowView<'a>> {
        self.row(self.view.live(), false, place)
    }

    /// The row in a slot of a block, if there is one and it is selected.
    #[inline]
    fn row(&self, block: &'a Block, is_final: bool, slot: usize) -> Option<RowView<'a>> {
        let Self { view, index: kind, lens } = *self;
        let row = block.matrices.get(kind)?.rows.get(slot)?.as_ref().filter(|row| lens.takes_row(row))?;
        Some(RowView { whole: &view.0.lens, lens, block, kind, slot, row, is_final })
    }

    /// The metrics that have samples, in the order in which they were declared.
    pub fn metrics(&self) -> impl Iterator<Item = Metric<'a>> + use<'a> {
        let kind = *self;
        let metrics = self.lens.metrics.iter().map(move |(name, columns)| Metric { kind, name, columns });
        metrics.filter(|metric| metric.samples().next().is_some())
    }
}

/// A column as a sink sees it.
#[derive(Clone, Copy, Debug)]
pub struct ColumnView<'a> {
    lens: &'a Lens,
    kind: usize,
    index: usize,
    projected: &'a Projected,
}

impl<'a> ColumnView<'a> {
    /// The metric's name for this sink: with its kind in front, renamed and prefixed.
    pub fn name(&self) -> &'a str {
        &self.projected.name
    }

    /// The column's place among those of its kind, which never changes.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// The kind's place and the column's among its kind's.
    pub(crate) const fn place(&self) -> (usize, usize) {
        (self.kind, self.index)
    }

    /// What is counted; its own name is in here.
    pub fn column(&self) -> &'a Column {
        &self.lens.layout.kinds[self.kind].columns[self.index]
    }

    /// The kind of its rows.
    pub fn entity(&self) -> &'a EntityKind {
        &self.lens.layout.kinds[self.kind].kind
    }

    /// The tags that this sink adds, but for those whose key is one of a label.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        self.projected.tags.iter().map(|(key, value)| (&**key, &**value))
    }
}

/// One metric of one kind in a view: the columns with its name.
#[derive(Clone, Copy, Debug)]
pub struct Metric<'a> {
    kind: KindView<'a>,
    name: &'a str,
    columns: &'a [u32],
}

impl<'a> Metric<'a> {
    /// The name for this sink: with its kind in front, renamed and prefixed.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// How the values behave.
    pub fn kind(&self) -> MetricKind {
        self.first().kind()
    }

    /// The unit of the values.
    pub fn unit(&self) -> &'a Unit {
        self.first().unit()
    }

    /// One sentence on what is counted.
    pub fn help(&self) -> &'a str {
        self.first().help()
    }

    /// The metric's own name, whatever this sink calls it.
    pub fn own_name(&self) -> String {
        self.entity().metric_name(self.first())
    }

    /// The kind of its rows.
    pub fn entity(&self) -> &'a EntityKind {
        self.kind.kind()
    }

    /// The columns.
    pub fn columns(&self) -> impl Iterator<Item = ColumnView<'a>> + use<'a> {
        let kind = self.kind;
        self.columns.iter().filter_map(move |column| kind.column(*column as usize))
    }

    /// The tags that this sink adds to the metric's first column.
    pub fn tags(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let first = self.kind.lens.columns[self.columns[0] as usize].as_ref();
        first.into_iter().flat_map(|column| column.tags.iter()).map(|(key, value)| (&**key, &**value))
    }

    /// The samples: row by row, those of a row in the order of its columns.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'a>> + use<'a> {
        Samples { kind: self.kind, columns: self.columns, block: 0, slot: 0, column: 0 }
    }

    fn first(&self) -> &'a Column {
        &self.kind.view.0.lens.layout.kinds[self.kind.index].columns[self.columns[0] as usize]
    }
}

/// Walks over the cells of a metric. It looks at a row only where there is a value.
struct Samples<'a> {
    kind: KindView<'a>,
    columns: &'a [u32],
    /// Where it is: the number of the block, the slot in it, and the place among the columns.
    block: usize,
    slot: usize,
    column: usize,
}

impl<'a> Iterator for Samples<'a> {
    type Item = Sample<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((block, is_final)) = self.kind.view.block(self.block) {
            if let Some(sample) = self.next_of(block, is_final) {
                return Some(sample);
            }
            (self.block, self.slot, self.column) = (self.block + 1, 0, 0);
        }
        None
    }
}

impl<'a> Samples<'a> {
    /// The next sample of a block, if it has one more.
    fn next_of(&mut self, block: &'a Block, is_final: bool) -> Option<Sample<'a>> {
        let matrix = block.matrices.get(self.kind.index)?;
        let words = matrix.words();
        let rest = matrix.present.get(self.slot * words..)?;
        for presence in rest.chunks_exact(words.max(1)) {
            while let Some(&column) = self.columns.get(self.column) {
                self.column += 1;
                let column = column as usize;
                if is_set(presence, column) {
                    let Some(row) = self.kind.row(block, is_final, self.slot) else { break };
                    return row.sample(column);
                }
            }
            (self.slot, self.column) = (self.slot + 1, 0);
        }
        None
    }
}

/// One row of a view.
#[derive(Clone, Copy, Debug)]
pub struct RowView<'a> {
    whole: &'a Lens,
    lens: &'a KindLens,
    block: &'a Block,
    kind: usize,
    slot: usize,
    row: &'a Row,
    is_final: bool,
}

impl<'a> RowView<'a> {
    /// The row's identity for the whole run: no other row has it, before or after. The key for what a sink keeps
    /// about it, as in [`RowCache`](crate::RowCache).
    pub const fn id(&self) -> RowId {
        self.row.id
    }

    /// The row's labels: key and cleaned value. A column has labels of its own beside them.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let keys = self.whole.layout.kinds[self.kind].kind.label_keys();
        keys.zip(self.row.labels())
    }

    /// Where the row is among those of its kind in this view, if it lives.
    pub const fn place(&self) -> usize {
        self.slot
    }

    /// Whether the row has ended: these are its last values, and a view that the sink takes has it once.
    pub const fn is_final(&self) -> bool {
        self.is_final
    }

    /// When the row began, as wall-clock time since the epoch: the time of the batch before its first one. Its
    /// counters were 0 then.
    pub const fn started(&self) -> Duration {
        self.row.started
    }

    /// The tick that the values are of: the view's, or an earlier one of a row that ended then.
    pub const fn tick(&self) -> Tick {
        self.block.tick
    }

    /// The values by column, in the order of columns.
    #[inline]
    pub fn cells(&self) -> impl Iterator<Item = (usize, Value<'a>)> + use<'a> {
        self.values().all()
    }

    /// The values, for who asks for those of several columns.
    #[inline]
    pub fn values(&self) -> Values<'a> {
        let Self { block, lens, kind, slot, .. } = *self;
        Values::new(block, lens, kind, slot)
    }

    /// The value in a selected column, if there is one.
    #[inline]
    pub fn value(&self, column: usize) -> Option<Value<'a>> {
        self.values().get(column)
    }

    /// The sample in a selected column, if there is a value.
    pub fn sample(&self, column: usize) -> Option<Sample<'a>> {
        let projected = self.lens.columns.get(column)?.as_ref()?;
        let has = self.block.matrices[self.kind].has(self.slot, column);
        has.then_some(Sample {
            row: *self,
            column: ColumnView { lens: self.whole, kind: self.kind, index: column, projected },
        })
    }
}

/// One value: a cell with its row and its column.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    row: RowView<'a>,
    column: ColumnView<'a>,
}

impl<'a> Sample<'a> {
    /// The metric's name for this sink.
    pub fn name(&self) -> &'a str {
        self.column.name()
    }

    /// The value.
    pub fn value(&self) -> Value<'a> {
        self.row.block.value(self.row.kind, self.row.slot, self.column.index)
    }

    /// All labels: the row's, the column's, then the sink's tags.
    pub fn labels(&self) -> Labels<'a> {
        Labels { row: self.row, column: self.column, at: 0 }
    }

    /// The labels without the sink's tags.
    pub fn own_labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        self.row.labels().chain(self.column.column().own_labels())
    }

    /// The row.
    pub const fn row(&self) -> RowView<'a> {
        self.row
    }

    /// The column.
    pub const fn column(&self) -> ColumnView<'a> {
        self.column
    }
}

/// The labels of a sample. Displayed as `key=value,key=value`, for who has no rule of its own.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    row: RowView<'a>,
    column: ColumnView<'a>,
    at: usize,
}

impl<'a> Iterator for Labels<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (row, own) = (self.row.labels(), self.column.column().own_labels());
        let next = row.chain(own).chain(self.column.tags()).nth(self.at);
        self.at += 1;
        next
    }
}

impl std::fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (key, value)) in self.clone().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

/// A view that is kept. It keeps the batch from being used again as long as it lives.
#[derive(Clone, Debug)]
pub struct KeptView {
    pub(crate) batch: Arc<Batch>,
    pub(crate) finals: Vec<Arc<Block>>,
    pub(crate) lens: Arc<Lens>,
    pub(crate) elapsed: Duration,
}

impl KeptView {
    /// All of a batch, as it is for who gets every batch.
    pub(crate) fn of(batch: Arc<Batch>, lens: Arc<Lens>) -> Self {
        let (finals, elapsed) = (batch.ended.iter().cloned().collect(), batch.elapsed);
        Self { batch, finals, lens, elapsed }
    }

    /// The view.
    pub const fn view(&self) -> View<'_> {
        View(self)
    }

    /// Bytes that are not used again as long as it lives: its batch, and rows that had ended.
    pub fn memory(&self) -> usize {
        self.batch.live.memory() + self.finals.iter().map(|block| block.memory()).sum::<usize>()
    }
}
