//! Where probes put their numbers.
//!
//! The recorder belongs to the collecting thread. It knows every series, fills one batch per tick
//! and keeps a series that has ended in the batches long enough for every sink to see its final
//! total. A tick in which no series comes or goes allocates nothing.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, Column, HISTOGRAM_SLOTS, Tick};
use crate::metric::{Descriptor, Kind};
use crate::series::{Series, SeriesId, SeriesRefused, SeriesTable, clean_label, told_apart};

/// Series that have ended and are still repeated since a sink lacks their final value. Only a sink that is
/// stuck, or that has a long interval, while series come and go makes it so many.
const LINGERING_LIMIT: usize = 4096;

/// What a recorder refused, as totals; each is a vital of the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Series beyond their descriptor's limit.
    pub series: u64,
    /// Values that fit no sample: NaN or infinite, of another kind than the metric, or for a
    /// series that has ended.
    pub values: u64,
    /// Final values of ended series that a sink has lost, over all sinks: what their ledgers have as
    /// dropped for this reason.
    pub finals: u64,
}

/// Takes values of series and makes batches of them.
#[derive(Debug)]
pub struct Recorder {
    table: Arc<SeriesTable>,
    descriptors: Vec<Registered>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    births: u32,
    ends: u32,
    lingering: Vec<Lingering>,
    /// How many batches have been sealed: the number of the one being filled.
    sealed: u64,
    changed: bool,
    batch: Batch,
    refusals: Refusals,
}

#[derive(Debug)]
struct Registered {
    descriptor: Arc<Descriptor>,
    by_labels: HashMap<Box<[Box<str>]>, SeriesId>,
    /// How many of them have ended and linger.
    ending: usize,
}

#[derive(Debug, Default)]
struct Slot {
    series: Option<Arc<Series>>,
    /// Of the labels as they were given: tells apart those that are equal after cleaning.
    given: u64,
    /// Where in its column this tick's value stands, if there is one.
    position: Option<u32>,
    /// The last counter or gauge, for the time after its end.
    last: Option<u64>,
    /// What counters and histograms are counted from.
    base: u64,
    histogram: Option<Box<Totals>>,
    histogram_base: Option<Box<Totals>>,
    /// Which end this is, if it has ended.
    ending: Option<u32>,
}

/// A histogram's totals.
#[derive(Clone, Debug)]
struct Totals {
    slots: [u64; HISTOGRAM_SLOTS],
    sum: u64,
}

/// A series that has ended, until it is retired or asked for again.
#[derive(Clone, Copy, Debug)]
struct Lingering {
    id: SeriesId,
    end: u32,
    /// The number of the first batch with the final value.
    since: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            table: Arc::default(),
            descriptors: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            births: 0,
            ends: 0,
            lingering: Vec::new(),
            sealed: 0,
            changed: false,
            batch: Batch::empty(),
            refusals: Refusals::default(),
        }
    }
}

impl Recorder {
    /// Finds or makes the series of a metric with these label values.
    ///
    /// Not for the hot path: keep the id. Values are cleaned ([`clean_label`]); where two sets are
    /// equal after that, the second one gets a suffix that tells them apart. A series that has ended and
    /// is asked for again before it is gone goes on, as do its totals. Of two descriptors with one name
    /// the first counts.
    pub fn series(&mut self, descriptor: &Arc<Descriptor>, labels: &[&str]) -> Result<SeriesId, SeriesRefused> {
        let index = self.register(descriptor);
        let expected = self.descriptors[index].descriptor.label_keys().len();
        if labels.len() != expected {
            let metric = descriptor.name().to_owned();
            return Err(SeriesRefused::Labels { metric, expected, given: labels.len() });
        }
        let given = fingerprint(labels);
        let (known, cleaned) = self.find(index, labels, given);
        let registered = &mut self.descriptors[index];
        if let Some(id) = known {
            if self.slots[id.slot()].ending.take().is_some() {
                registered.ending -= 1;
            }
            return Ok(id);
        }
        let limit = registered.descriptor.limit();
        if registered.by_labels.len() - registered.ending >= limit {
            self.refusals.series += 1;
            return Err(SeriesRefused::Limit { metric: descriptor.name().to_owned(), limit });
        }
        self.births = self.births.wrapping_add(1);
        let next = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let slot = self.free.pop().unwrap_or(next);
        let id = SeriesId { slot, birth: self.births };
        let series = Arc::new(Series { id, descriptor: index, labels: cleaned.clone() });
        registered.by_labels.insert(cleaned, id);
        let state = Slot { series: Some(series), given, ..Slot::default() };
        match self.slots.get_mut(slot as usize) {
            Some(free) => *free = state,
            None => self.slots.push(state),
        }
        self.changed = true;
        Ok(id)
    }

    /// The living series of these labels, or else the labels that a new one gets: cleaned and, where another
    /// series has those, told apart by what they were.
    fn find(&self, metric: usize, labels: &[&str], given: u64) -> (Option<SeriesId>, Box<[Box<str>]>) {
        let by_labels = &self.descriptors[metric].by_labels;
        let cleaned: Box<[Box<str>]> = labels.iter().map(|value| clean_label(value)).collect();
        // The label that was changed is the one that is told apart.
        let changed = labels.iter().zip(&cleaned).position(|(given, cleaned)| **given != **cleaned);
        let changed = changed.unwrap_or(labels.len().saturating_sub(1));
        let (mut form, mut vacant) = (cleaned.clone(), None);
        for attempt in 0_u64.. {
            match by_labels.get(&form) {
                Some(id) if self.slots[id.slot()].given == given => return (Some(*id), form),
                Some(_) => {}
                None => {
                    vacant.get_or_insert_with(|| form.clone());
                }
            }
            // One that was told apart keeps its name when the other one has left.
            if attempt > 0 && vacant.is_some() {
                break;
            }
            if let Some(label) = form.get_mut(changed) {
                *label = told_apart(&cleaned[changed], given.wrapping_add(attempt));
            }
        }
        (None, vacant.unwrap_or(form))
    }

    /// Records a counter's total since the baseline; the last value of a tick wins. Refused and counted
    /// after the series' [`end`](Self::end), like any other value.
    pub fn counter(&mut self, id: SeriesId, total: u64) {
        if let Some(column) = self.column_of(id, Kind::Counter) {
            let total = total.saturating_sub(self.slots[id.slot()].base);
            self.put(id, column, total);
        }
    }

    /// Records a gauge; a value that is not finite is refused and counted.
    pub fn gauge(&mut self, id: SeriesId, value: f64) {
        if !value.is_finite() {
            self.refusals.values += 1;
        } else if let Some(column) = self.column_of(id, Kind::Gauge) {
            self.put(id, column, value.to_bits());
        }
    }

    /// Records a histogram's totals since the baseline.
    pub fn histogram(&mut self, id: SeriesId, slots: &[u64; HISTOGRAM_SLOTS], sum: u64) {
        let Some(column) = self.column_of(id, Kind::Histogram) else { return };
        let slot = &mut self.slots[id.slot()];
        let totals = slot.histogram.get_or_insert_with(|| Box::new(Totals { slots: *slots, sum }));
        (totals.slots, totals.sum) = (*slots, sum);
        if let Some(base) = &slot.histogram_base {
            totals.subtract(base);
        }
        self.put_histogram(id, column);
    }

    /// Ends a series: its last value is its final one, repeated until every sink has had it; then its id
    /// is void.
    pub fn end(&mut self, id: SeriesId) {
        let Some(slot) = self.slots.get_mut(id.slot()) else { return };
        let Some(series) = slot.series.as_ref().filter(|series| series.id == id) else { return };
        if slot.ending.is_some() {
            return;
        }
        self.ends = self.ends.wrapping_add(1);
        slot.ending = Some(self.ends);
        self.descriptors[series.descriptor].ending += 1;
        self.lingering.push(Lingering { id, end: self.ends, since: self.sealed });
    }

    /// What was refused so far.
    pub const fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// How many series exist, those that have ended but are still repeated included.
    pub fn live_series(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The names of all metrics, in an order to which new ones are added at the end.
    pub(crate) fn metrics(&self) -> impl ExactSizeIterator<Item = &str> {
        self.descriptors.iter().map(|registered| registered.descriptor.name())
    }

    /// Starts a tick with an empty batch and retires the ended series whose final value every sink has had
    /// that takes it: `is_over` says it, by the metric's place among all [`metrics`](Self::metrics), for a
    /// value that has been in all batches from this number on.
    pub(crate) fn begin(&mut self, is_over: impl Fn(usize, u64) -> bool) {
        self.batch.clear();
        for slot in &mut self.slots {
            slot.position = None;
        }
        let mut lingering = std::mem::take(&mut self.lingering);
        lingering.retain(|ended| {
            // It may have been asked for again.
            let Some(metric) = self.metric_of(ended) else { return false };
            let slot = &self.slots[ended.id.slot()];
            let has_value = slot.last.is_some() || slot.histogram.is_some();
            let stays = has_value && !is_over(metric, ended.since);
            if !stays {
                self.retire(ended.id);
            }
            stays
        });
        self.lingering = lingering;
    }

    /// Gives up the oldest of the ended series that linger, if they are too many. Tells `lose` the metric, and
    /// the numbers of the first and the last batch that hold the final value.
    pub(crate) fn give_up(&mut self, mut lose: impl FnMut(usize, u64, u64)) {
        let excess = self.lingering.len().saturating_sub(LINGERING_LIMIT);
        let mut lingering = std::mem::take(&mut self.lingering);
        for ended in lingering.drain(..excess) {
            if let Some(metric) = self.metric_of(&ended) {
                lose(metric, ended.since, self.sealed.saturating_sub(1));
                self.retire(ended.id);
            }
        }
        self.lingering = lingering;
    }

    /// Sinks have lost so many finals.
    pub(crate) const fn count_lost_finals(&mut self, finals: u64) {
        self.refusals.finals += finals;
    }

    /// The metric of a series that has ended and was not asked for again since.
    fn metric_of(&self, Lingering { id, end, .. }: &Lingering) -> Option<usize> {
        let slot = &self.slots[id.slot()];
        let series = slot.series.as_ref().filter(|series| series.id == *id && slot.ending == Some(*end))?;
        Some(series.descriptor)
    }

    /// Lets go of a series that has ended.
    fn retire(&mut self, id: SeriesId) {
        let Some(series) = self.slots[id.slot()].series.take() else { return };
        let registered = &mut self.descriptors[series.descriptor];
        registered.by_labels.remove(&series.labels);
        registered.ending -= 1;
        self.free.push(id.slot);
        self.changed = true;
    }

    /// Says in the batch that a probe's numbers are missing.
    pub(crate) fn leave_out(&mut self, probe: &Arc<str>) {
        self.batch.left_out.push(Arc::clone(probe));
    }

    /// From now on counters and histograms are totals since this batch, the last one that was sealed.
    pub(crate) fn rebase(&mut self, batch: &Batch) {
        for (registered, column) in self.descriptors.iter().zip(&batch.columns) {
            for (&slot, &bits) in column.slots.iter().zip(&column.bits) {
                let Some(slot) = self.slots.get_mut(slot as usize) else { continue };
                match registered.descriptor.kind() {
                    Kind::Gauge => {}
                    Kind::Counter => {
                        slot.base += bits;
                        slot.last = Some(0);
                    }
                    Kind::Histogram => {
                        let Some(totals) = &mut slot.histogram else { continue };
                        match &mut slot.histogram_base {
                            Some(base) => base.add(totals),
                            None => slot.histogram_base = Some(totals.clone()),
                        }
                        **totals = Totals { slots: [0; HISTOGRAM_SLOTS], sum: 0 };
                    }
                }
            }
        }
    }

    /// Ends a tick: repeats the series that have ended and swaps the finished batch with a recycled
    /// one.
    pub(crate) fn seal(&mut self, tick: Tick, elapsed: Duration, recycled: &mut Batch) {
        for index in 0..self.lingering.len() {
            let Lingering { id, .. } = self.lingering[index];
            let column = self.metric_of(&self.lingering[index]);
            let slot = &self.slots[id.slot()];
            let Some(column) = column.filter(|_| slot.position.is_none()) else { continue };
            if let Some(bits) = slot.last {
                self.put(id, column, bits);
            } else if slot.histogram.is_some() {
                self.put_histogram(id, column);
            }
        }
        if self.changed {
            self.changed = false;
            self.table = Arc::new(SeriesTable {
                generation: self.table.generation + 1,
                descriptors: self.descriptors.iter().map(|r| Arc::clone(&r.descriptor)).collect(),
                series: self.slots.iter().map(|slot| slot.series.clone()).collect(),
            });
        }
        self.sealed += 1;
        self.batch.tick = tick;
        self.batch.elapsed = elapsed;
        if !Arc::ptr_eq(&self.batch.table, &self.table) {
            self.batch.table = Arc::clone(&self.table);
        }
        std::mem::swap(&mut self.batch, recycled);
    }

    fn register(&mut self, descriptor: &Arc<Descriptor>) -> usize {
        let known = self.descriptors.iter().position(|r| r.descriptor.name() == descriptor.name());
        known.unwrap_or_else(|| {
            self.descriptors.push(Registered {
                descriptor: Arc::clone(descriptor),
                by_labels: HashMap::new(),
                ending: 0,
            });
            self.changed = true;
            self.descriptors.len() - 1
        })
    }

    /// The column of a live series of this kind; counts what does not fit.
    fn column_of(&mut self, id: SeriesId, kind: Kind) -> Option<usize> {
        let slot = self.slots.get(id.slot()).filter(|slot| slot.ending.is_none());
        let column = slot
            .and_then(|slot| slot.series.as_ref())
            .filter(|series| series.id == id && self.descriptors[series.descriptor].descriptor.kind() == kind)
            .map(|series| series.descriptor);
        if column.is_none() {
            self.refusals.values += 1;
        }
        column
    }

    /// Enters a counter's or a gauge's value.
    fn put(&mut self, id: SeriesId, column: usize, bits: u64) {
        self.slots[id.slot()].last = Some(bits);
        self.enter(id, column, bits);
    }

    /// Enters the last totals of a histogram.
    fn put_histogram(&mut self, id: SeriesId, column: usize) {
        let slot = &self.slots[id.slot()];
        let Some(totals) = &slot.histogram else { return };
        if let Some(position) = slot.position {
            let offset = self.batch.columns[column].bits[position as usize];
            self.batch.overwrite_histogram(offset, &totals.slots, totals.sum);
        } else {
            let offset = self.batch.push_histogram(&totals.slots, totals.sum);
            self.enter(id, column, offset);
        }
    }

    fn enter(&mut self, id: SeriesId, column: usize, bits: u64) {
        let columns = &mut self.batch.columns;
        if columns.len() <= column {
            columns.resize_with(column + 1, Column::default);
        }
        let column = &mut columns[column];
        let slot = &mut self.slots[id.slot()];
        if let Some(position) = slot.position {
            column.bits[position as usize] = bits;
        } else {
            slot.position = u32::try_from(column.slots.len()).ok();
            column.slots.push(id.slot);
            column.bits.push(bits);
        }
    }
}

impl Totals {
    fn add(&mut self, other: &Self) {
        for (slot, other) in self.slots.iter_mut().zip(&other.slots) {
            *slot = slot.wrapping_add(*other);
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    fn subtract(&mut self, base: &Self) {
        for (slot, base) in self.slots.iter_mut().zip(&base.slots) {
            *slot = slot.saturating_sub(*base);
        }
        self.sum = self.sum.saturating_sub(base.sum);
    }
}

/// Tells sets of labels apart, in every run alike.
fn fingerprint(labels: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Unit;

    const TICK: Tick = Tick { seq: 0, wall: Duration::ZERO, boottime: Duration::ZERO };

    #[test]
    fn a_series_that_ends_in_the_first_batch_stays_until_that_batch_was_taken() {
        let mut recorder = Recorder::default();
        let descriptor = Descriptor::counter("test.calls", Unit::CALLS, "Calls").labels(["name"]).share();
        let series = recorder.series(&descriptor, &["ends"]).expect("a series");
        let mut batch = Batch::empty();
        recorder.begin(|_, _| false);
        recorder.counter(series, 7);
        recorder.end(series);
        recorder.seal(TICK, Duration::ZERO, &mut batch);
        for _ in 0..3 {
            recorder.begin(|_, _| false);
            assert_eq!(recorder.live_series(), 1, "no sink has taken a batch yet");
            recorder.seal(TICK, Duration::ZERO, &mut batch);
        }
        recorder.begin(|_, since| since < 1);
        assert_eq!(recorder.live_series(), 0);
    }
}
