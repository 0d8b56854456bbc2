//! A batch as one sink sees it.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, Column, Tick, Value};
use crate::metric::{Descriptor, Kind};
use crate::selection::Selection;
use crate::series::{Series, SeriesId, SeriesTable};

/// A selection worked out for one generation of the series table.
#[derive(Debug)]
pub(crate) struct Projection {
    table: Arc<SeriesTable>,
    /// By descriptor: `None` is not selected.
    metrics: Vec<Option<Projected>>,
}

#[derive(Debug)]
struct Projected {
    name: Box<str>,
    tags: Box<[(Box<str>, Box<str>)]>,
}

impl Projection {
    pub(crate) fn new(selection: &Selection, table: &Arc<SeriesTable>) -> Self {
        let tags = selection.cleaned_tags();
        let project = |descriptor: &Arc<Descriptor>| {
            selection.takes(descriptor.name()).then(|| Projected {
                name: selection.name(descriptor.name()).into(),
                tags: tags
                    .iter()
                    .filter(|(key, _)| descriptor.label_keys().all(|label| label != &**key))
                    .cloned()
                    .collect(),
            })
        };
        Self { table: Arc::clone(table), metrics: table.descriptors.iter().map(project).collect() }
    }

    pub(crate) fn fits(&self, batch: &Batch) -> bool {
        Arc::ptr_eq(&self.table, &batch.table)
    }

    /// How many of the batch's samples are selected.
    pub(crate) fn count(&self, batch: &Batch) -> u64 {
        let selected = batch.columns.iter().zip(&self.metrics).filter(|(_, projected)| projected.is_some());
        selected.map(|(column, _)| column.slots.len() as u64).sum()
    }
}

/// A batch through the eyes of one sink: its selection, its names, its tags.
///
/// What a sink writes for a view depends on the view and on the sink's own state alone.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    batch: &'a Batch,
    projection: &'a Projection,
    elapsed: Duration,
}

impl<'a> View<'a> {
    pub(crate) const fn new(batch: &'a Batch, projection: &'a Projection, elapsed: Duration) -> Self {
        Self { batch, projection, elapsed }
    }

    /// When and as which round the batch was collected. All samples share its timestamp.
    pub const fn tick(&self) -> Tick {
        self.batch.tick
    }

    /// Time since the batch before at this sink's interval, whether or not the sink saw that one; zero
    /// for the first.
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Changes whenever a series comes or goes; what a sink keeps per series is good until then.
    pub fn generation(&self) -> u64 {
        self.batch.table.generation
    }

    /// Whether this series still exists. One that does not will never be seen again.
    pub fn contains(&self, id: SeriesId) -> bool {
        self.batch.table.contains(id)
    }

    /// The probes whose numbers are missing in this batch, or part of them: one that was left out
    /// because its last collection took longer than an interval, that failed, or that has panicked.
    pub fn left_out(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        self.batch.left_out.iter().map(AsRef::as_ref)
    }

    /// How many samples the view holds.
    pub fn len(&self) -> usize {
        self.metrics().map(|metric| metric.len()).sum()
    }

    /// Whether the view holds no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The selected metrics that have samples, in the order in which they were first recorded.
    pub fn metrics(&self) -> impl Iterator<Item = Metric<'a>> + use<'a> {
        let batch = self.batch;
        let columns = batch.columns.iter().zip(&self.projection.metrics).zip(&batch.table.descriptors);
        columns.filter_map(move |((column, projected), descriptor)| {
            let projected = projected.as_ref()?;
            (!column.slots.is_empty()).then_some(Metric { batch, column, projected, descriptor })
        })
    }
}

/// One metric of a view, with its samples.
#[derive(Clone, Copy, Debug)]
pub struct Metric<'a> {
    batch: &'a Batch,
    column: &'a Column,
    projected: &'a Projected,
    descriptor: &'a Descriptor,
}

impl<'a> Metric<'a> {
    /// The name for this sink: renamed and prefixed.
    pub fn name(&self) -> &'a str {
        &self.projected.name
    }

    /// What the metric is; its own name is in here.
    pub const fn descriptor(&self) -> &'a Descriptor {
        self.descriptor
    }

    /// How the values behave.
    pub const fn kind(&self) -> Kind {
        self.descriptor.kind()
    }

    /// The tags that this sink adds to each series of the metric.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        self.projected.tags.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many samples it has.
    pub const fn len(&self) -> usize {
        self.column.slots.len()
    }

    /// Never true for a metric that a view hands out.
    pub const fn is_empty(&self) -> bool {
        self.column.slots.is_empty()
    }

    /// The samples, in the order in which they were recorded.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'a>> + use<'a> {
        let Self { batch, column, descriptor, .. } = *self;
        column.slots.iter().zip(&column.bits).filter_map(move |(&slot, &bits)| {
            let series = batch.table.slot(slot)?;
            let value = match descriptor.kind() {
                Kind::Counter => Value::Counter(bits),
                Kind::Gauge => Value::Gauge(f64::from_bits(bits)),
                Kind::Histogram => Value::Histogram(batch.histogram(bits)),
            };
            Some(Sample { series, descriptor, value })
        })
    }
}

/// One value of one series.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    series: &'a Series,
    descriptor: &'a Descriptor,
    value: Value<'a>,
}

impl<'a> Sample<'a> {
    /// The series' identity: the key for what a sink keeps about it.
    pub const fn id(&self) -> SeriesId {
        self.series.id
    }

    /// The value.
    pub const fn value(&self) -> Value<'a> {
        self.value
    }

    /// The series' own labels: key and cleaned value. Tags of the sink are at its [`Metric`].
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let values = self.series.labels.iter().map(AsRef::as_ref);
        self.descriptor.labels_slice().iter().map(AsRef::as_ref).zip(values)
    }
}

/// What a sink keeps per series: made at the series' first sample, dropped when the series is gone.
#[derive(Debug)]
pub struct SeriesCache<T> {
    generation: Option<u64>,
    entries: Vec<Option<(SeriesId, T)>>,
}

impl<T> Default for SeriesCache<T> {
    fn default() -> Self {
        Self { generation: None, entries: Vec::new() }
    }
}

impl<T> SeriesCache<T> {
    /// Brings the cache up to a view: call once per view. What belonged to series that are gone
    /// is handed to `gone`.
    pub fn update(&mut self, view: &View<'_>, mut gone: impl FnMut(T)) {
        if self.generation == Some(view.generation()) {
            return;
        }
        self.generation = Some(view.generation());
        for entry in &mut self.entries {
            if let Some((_, value)) = entry.take_if(|(id, _)| !view.contains(*id)) {
                gone(value);
            }
        }
    }

    /// The entry of a series, made by `make` if there is none.
    pub fn entry(&mut self, id: SeriesId, make: impl FnOnce() -> T) -> &mut T {
        if self.entries.len() <= id.slot() {
            self.entries.resize_with(id.slot() + 1, || None);
        }
        let entry = &mut self.entries[id.slot()];
        if entry.as_ref().is_some_and(|(owner, _)| *owner != id) {
            *entry = None;
        }
        &mut entry.get_or_insert_with(|| (id, make())).1
    }

    /// The entry of a series, if it has one.
    pub fn get(&self, id: SeriesId) -> Option<&T> {
        let (owner, value) = self.entries.get(id.slot())?.as_ref()?;
        (*owner == id).then_some(value)
    }
}
