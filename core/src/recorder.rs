//! Where probes put their numbers.
//!
//! The recorder belongs to the collecting thread. It knows every series, fills one batch per tick
//! and keeps a series that has ended in the batches long enough for every sink to see its final
//! total. A tick in which no series comes or goes allocates nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, Column, HISTOGRAM_SLOTS, Tick};
use crate::metric::{Descriptor, Kind};
use crate::series::{Series, SeriesId, SeriesRefused, SeriesTable, clean_label};

/// Series that have ended and are still repeated because a sink has not seen their final value. Only
/// a sink that is stuck for long, or that has a long interval, while series come and go makes it so many.
const LINGERING_LIMIT: usize = 4096;

/// What a recorder refused, as totals; each is a vital of the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Series beyond their descriptor's limit.
    pub series: u64,
    /// Values that fit no sample: NaN or infinite, of another kind than the metric, or for a
    /// series that has ended.
    pub values: u64,
    /// Final values of ended series that were given up before every sink had seen them.
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
    linger: u32,
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

#[derive(Debug)]
struct Slot {
    series: Option<Arc<Series>>,
    /// Where in its column this tick's value stands, if there is one.
    position: Option<u32>,
    /// The last counter or gauge, for the time after its end.
    last: Option<u64>,
    ending: bool,
}

/// A series that has ended, with its last value.
#[derive(Debug)]
struct Lingering {
    id: SeriesId,
    last: Last,
    /// The number of the first batch with the final value.
    since: u64,
    /// For how many more batches it is repeated at least.
    ticks: u32,
}

#[derive(Debug)]
enum Last {
    Bits(u64),
    Histogram(Box<([u64; HISTOGRAM_SLOTS], u64)>),
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            table: Arc::default(),
            descriptors: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            births: 0,
            linger: 0,
            lingering: Vec::new(),
            sealed: 0,
            changed: false,
            batch: Batch::empty(),
            refusals: Refusals::default(),
        }
    }
}

impl Recorder {
    /// Sets for how many batches after its end a series is repeated with its final value.
    pub(crate) const fn set_linger(&mut self, ticks: u32) {
        self.linger = ticks;
    }

    /// Finds or makes the series of a metric with these label values.
    ///
    /// Not for the hot path: keep the id. Values are cleaned ([`clean_label`]); two sets that are
    /// equal after cleaning are one series. A series that has ended and is asked for again before
    /// it is gone goes on. Of two descriptors with one name the first counts.
    pub fn series(&mut self, descriptor: &Arc<Descriptor>, labels: &[&str]) -> Result<SeriesId, SeriesRefused> {
        let index = self.register(descriptor);
        let expected = self.descriptors[index].descriptor.label_keys().len();
        if labels.len() != expected {
            let metric = descriptor.name().to_owned();
            return Err(SeriesRefused::Labels { metric, expected, given: labels.len() });
        }
        let labels: Box<[Box<str>]> = labels.iter().map(|value| clean_label(value)).collect();
        let registered = &mut self.descriptors[index];
        if let Some(&id) = registered.by_labels.get(&labels) {
            if std::mem::take(&mut self.slots[id.slot()].ending) {
                registered.ending -= 1;
                self.lingering.retain(|lingering| lingering.id != id);
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
        let series = Arc::new(Series { id, descriptor: index, labels: labels.clone() });
        registered.by_labels.insert(labels, id);
        let state = Slot { series: Some(series), position: None, last: None, ending: false };
        match self.slots.get_mut(slot as usize) {
            Some(free) => *free = state,
            None => self.slots.push(state),
        }
        self.changed = true;
        Ok(id)
    }

    /// Records a counter's total since the baseline; the last value of a tick wins.
    pub fn counter(&mut self, id: SeriesId, total: u64) {
        self.put(id, Kind::Counter, total);
    }

    /// Records a gauge; a value that is not finite is refused and counted.
    pub fn gauge(&mut self, id: SeriesId, value: f64) {
        if value.is_finite() {
            self.put(id, Kind::Gauge, value.to_bits());
        } else {
            self.refusals.values += 1;
        }
    }

    /// Records a histogram's totals since the baseline.
    pub fn histogram(&mut self, id: SeriesId, slots: &[u64; HISTOGRAM_SLOTS], sum: u64) {
        let Some(column) = self.column_of(id, Kind::Histogram) else { return };
        let position = self.slots[id.slot()].position;
        if let Some(position) = position {
            let offset = self.batch.columns[column].bits[position as usize];
            self.batch.overwrite_histogram(offset, slots, sum);
        } else {
            let offset = self.batch.push_histogram(slots, sum);
            self.put(id, Kind::Histogram, offset);
        }
    }

    /// Ends a series: its final value is repeated until every sink has had it, then its id is void.
    /// A histogram's final value must have been recorded in this tick.
    pub fn end(&mut self, id: SeriesId) {
        let Some(slot) = self.slots.get_mut(id.slot()) else { return };
        let Some(series) = slot.series.as_ref().filter(|series| series.id == id) else { return };
        if std::mem::replace(&mut slot.ending, true) {
            return;
        }
        let registered = &mut self.descriptors[series.descriptor];
        registered.ending += 1;
        let last = match (registered.descriptor.kind(), slot.position) {
            (Kind::Counter | Kind::Gauge, _) => slot.last.map(Last::Bits),
            (Kind::Histogram, Some(position)) => {
                let offset = self.batch.columns[series.descriptor].bits[position as usize];
                let histogram = self.batch.histogram(offset);
                let mut slots = [0; HISTOGRAM_SLOTS];
                slots[..histogram.slots.len()].copy_from_slice(histogram.slots);
                Some(Last::Histogram(Box::new((slots, histogram.sum))))
            }
            (Kind::Histogram, None) => None,
        };
        // A series without a final value has nothing to repeat: it goes with the next batch.
        let nothing = Lingering { id, last: Last::Bits(0), since: 0, ticks: 0 };
        let linger = |last| Lingering { id, last, since: self.sealed, ticks: self.linger };
        self.lingering.push(last.map_or(nothing, linger));
    }

    /// What was refused so far.
    pub const fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// How many series exist, those that have ended but are still repeated included.
    pub fn live_series(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Starts a tick with an empty batch and retires ended series whose final value is in a batch
    /// that every sink has had: one numbered below `delivered`.
    pub(crate) fn begin(&mut self, delivered: u64) {
        self.batch.clear();
        for slot in &mut self.slots {
            slot.position = None;
        }
        let mut given_up = self.lingering.len().saturating_sub(LINGERING_LIMIT);
        let mut index = 0;
        while index < self.lingering.len() {
            let Lingering { id, since, ticks, .. } = self.lingering[index];
            let over = ticks == 0 && since < delivered;
            if !over && given_up == 0 {
                index += 1;
                continue;
            }
            if !over {
                given_up -= 1;
                self.refusals.finals += 1;
            }
            self.lingering.remove(index);
            if let Some(series) = self.slots[id.slot()].series.take() {
                let registered = &mut self.descriptors[series.descriptor];
                registered.by_labels.remove(&series.labels);
                registered.ending -= 1;
                self.free.push(id.slot);
                self.changed = true;
            }
        }
    }

    /// Ends a tick: repeats the series that have ended and swaps the finished batch with a recycled
    /// one.
    pub(crate) fn seal(&mut self, tick: Tick, elapsed: Duration, recycled: &mut Batch) {
        let mut lingering = std::mem::take(&mut self.lingering);
        for series in &mut lingering {
            if self.slots[series.id.slot()].position.is_some() {
                continue;
            }
            match &series.last {
                Last::Bits(bits) => {
                    let kind = self.kind_of(series.id);
                    self.put(series.id, kind, *bits);
                }
                Last::Histogram(last) => self.histogram(series.id, &last.0, last.1),
            }
            series.ticks = series.ticks.saturating_sub(1);
        }
        self.lingering = lingering;
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

    fn kind_of(&self, id: SeriesId) -> Kind {
        let series = self.slots.get(id.slot()).and_then(|slot| slot.series.as_ref());
        series.map_or(Kind::Counter, |series| self.descriptors[series.descriptor].descriptor.kind())
    }

    /// The column of a live series of this kind; counts what does not fit.
    fn column_of(&mut self, id: SeriesId, kind: Kind) -> Option<usize> {
        let series = self.slots.get(id.slot()).and_then(|slot| slot.series.as_ref());
        let column = series
            .filter(|series| series.id == id && self.descriptors[series.descriptor].descriptor.kind() == kind)
            .map(|series| series.descriptor);
        if column.is_none() {
            self.refusals.values += 1;
        }
        column
    }

    fn put(&mut self, id: SeriesId, kind: Kind, bits: u64) {
        let Some(index) = self.column_of(id, kind) else { return };
        let columns = &mut self.batch.columns;
        if columns.len() <= index {
            columns.resize_with(index + 1, Column::default);
        }
        let column = &mut columns[index];
        let slot = &mut self.slots[id.slot()];
        slot.last = Some(bits);
        if let Some(position) = slot.position {
            column.bits[position as usize] = bits;
        } else {
            slot.position = u32::try_from(column.slots.len()).ok();
            column.slots.push(id.slot);
            column.bits.push(bits);
        }
    }
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
        recorder.begin(0);
        recorder.counter(series, 7);
        recorder.end(series);
        recorder.seal(TICK, Duration::ZERO, &mut batch);
        for _ in 0..3 {
            recorder.begin(0);
            assert_eq!(recorder.live_series(), 1, "no sink has taken a batch yet");
            recorder.seal(TICK, Duration::ZERO, &mut batch);
        }
        recorder.begin(1);
        assert_eq!(recorder.live_series(), 0);
    }
}
