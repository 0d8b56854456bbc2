//! All charts, and which series belongs where.

use std::time::Duration;

use ebpf_process_core::{Kind, Metric, Sample};

use crate::chart::{Algorithm, Chart, Spec, labels};
use crate::charts::{self, Known, Role};
use crate::encode::clamped;
use crate::rule;
use crate::status::Status;

/// Slots that a heatmap has from its start. Netdata cannot tell a rate from a dimension's first
/// value, so a slot should be there before anything falls into it.
const FIRST_SLOTS: usize = 32;

/// How many slots are added at once when one beyond the last is needed.
const MORE_SLOTS: usize = 8;

/// Where a series' values go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The metric says everything in its labels, or has no chart under its own name.
    Nowhere,
    /// One dimension of a chart; for some also a term of the chart of tasks.
    Dimension { chart: usize, dimension: usize, role: Option<Role> },
    /// The dimensions of a chart of its own, one per slot.
    Heatmap { chart: usize },
}

/// The charts that netdata knows, or will with the next lines.
#[derive(Debug)]
pub(crate) struct Board {
    update_every: u64,
    /// In the order of their lines; a place is used again when its chart is over.
    charts: Vec<Option<(Key, Chart)>>,
    /// How many charts were made by rule: each has a priority of its own.
    by_rule: u32,
}

/// What a chart is for.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Known(&'static str),
    /// The metric's own name, which no other metric has.
    Metric(String),
    /// One series alone.
    Series,
}

impl Board {
    /// Without charts; each will be updated every so many seconds.
    pub(crate) const fn new(update_every: u64) -> Self {
        Self { update_every, charts: Vec::new(), by_rule: 0 }
    }

    /// Finds or makes the chart and the dimension of a series.
    pub(crate) fn place(&mut self, metric: &Metric<'_>, sample: &Sample<'_>, status: &mut Status) -> Place {
        if rule::is_information(metric) || charts::is_untold(metric) {
            return Place::Nowhere;
        }
        if let Some((known, dimension)) = charts::find(metric, sample) {
            let labels = || labels(metric.tags());
            let index = self.known(known, rule::area(metric), Algorithm::Incremental, labels);
            // Two metrics may have been given one name: the second is shown by rule.
            if let Some(chart) = self.chart(index)
                && !chart.is_taken(dimension)
            {
                let source = &known.sources[dimension];
                chart.add_at(dimension, source.dimension);
                if let Some(role) = source.role {
                    status.gain(role, labels());
                }
                return Place::Dimension { chart: index, dimension, role: source.role };
            }
        }
        if metric.kind() == Kind::Histogram {
            let chart = self.by_rule(metric, sample, Key::Series);
            self.grow(chart, FIRST_SLOTS);
            return Place::Heatmap { chart };
        }
        let key = Key::Metric(metric.descriptor().name().to_owned());
        let known = self.find(&key);
        let index = known.unwrap_or_else(|| self.by_rule(metric, sample, key));
        let dimension = self.chart(index).map(|chart| chart.add(&rule::dimension(metric, sample)));
        dimension.map_or(Place::Nowhere, |dimension| Place::Dimension { chart: index, dimension, role: None })
    }

    /// A series is gone, and with it what it had.
    pub(crate) fn retire(&mut self, place: Place, status: &mut Status) {
        match place {
            Place::Nowhere => {}
            Place::Dimension { chart, dimension, role } => {
                if let Some(chart) = self.chart(chart) {
                    chart.retire(dimension);
                }
                if let Some(role) = role {
                    status.lose(role);
                }
            }
            Place::Heatmap { chart } => {
                if let Some(chart) = self.chart(chart) {
                    (0..chart.len()).for_each(|slot| chart.retire(slot));
                }
            }
        }
    }

    /// Finds or makes one of the known charts.
    pub(crate) fn known(
        &mut self,
        known: &'static Known,
        module: &str,
        algorithm: Algorithm,
        labels: impl Fn() -> String,
    ) -> usize {
        self.find(&Key::Known(known.id)).unwrap_or_else(|| {
            let spec = Spec {
                id: known.id.to_owned(),
                title: known.title.to_owned(),
                units: known.units.to_owned(),
                family: known.family.to_owned(),
                style: "line",
                priority: known.priority,
                module: module.to_owned(),
            };
            self.put(Key::Known(known.id), Chart::new(&spec, algorithm, self.update_every, labels()))
        })
    }

    /// The chart at an index, if it is not over.
    pub(crate) fn chart(&mut self, index: usize) -> Option<&mut Chart> {
        self.charts.get_mut(index)?.as_mut().map(|(_, chart)| chart)
    }

    /// Sets a value for this view.
    pub(crate) fn set(&mut self, chart: usize, dimension: usize, value: i64, view: u64) {
        if let Some(chart) = self.chart(chart) {
            chart.set(dimension, value, view);
        }
    }

    /// Sets the values of a heatmap for this view.
    pub(crate) fn set_slots(&mut self, chart: usize, slots: &[u64], view: u64) {
        let used = slots.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
        self.grow(chart, used);
        if let Some(chart) = self.chart(chart) {
            for (slot, &count) in slots.iter().enumerate().take(chart.len()) {
                chart.set(slot, clamped(count), view);
            }
        }
    }

    /// Writes what is new and the values of this view, and forgets charts that are over.
    pub(crate) fn write(&mut self, bytes: &mut Vec<u8>, view: u64, boottime: Duration) {
        let mut digits = itoa::Buffer::new();
        for place in &mut self.charts {
            let Some((_, chart)) = place else { continue };
            if chart.is_over() {
                chart.write_obsolete(bytes);
                *place = None;
            } else {
                chart.write(bytes, view, boottime, &mut digits);
            }
        }
    }

    /// Takes all charts from the dashboard.
    pub(crate) fn clear(&mut self, bytes: &mut Vec<u8>) {
        for (_, chart) in self.charts.drain(..).flatten() {
            chart.write_obsolete(bytes);
        }
        self.by_rule = 0;
    }

    fn find(&self, key: &Key) -> Option<usize> {
        self.charts.iter().position(|place| matches!(place, Some((known, _)) if known == key))
    }

    fn by_rule(&mut self, metric: &Metric<'_>, sample: &Sample<'_>, key: Key) -> usize {
        let priority = rule::FIRST_PRIORITY.saturating_add(self.by_rule);
        self.by_rule = self.by_rule.saturating_add(1);
        let taken = |id: &str| self.charts.iter().flatten().any(|(_, chart)| chart.id() == id);
        let spec = rule::spec(metric, sample, priority, taken);
        let algorithm = rule::algorithm(metric.kind());
        // A chart of one series can say what the series' own labels are.
        let own = if key == Key::Series { Some(sample.labels()) } else { None };
        let labels = labels(own.into_iter().flatten().chain(metric.tags()));
        self.put(key, Chart::new(&spec, algorithm, self.update_every, labels))
    }

    fn put(&mut self, key: Key, chart: Chart) -> usize {
        let free = self.charts.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.charts.push(None);
            self.charts.len() - 1
        });
        self.charts[index] = Some((key, chart));
        index
    }

    /// Gives a heatmap dimensions for at least this many slots.
    fn grow(&mut self, chart: usize, slots: usize) {
        if let Some(chart) = self.chart(chart)
            && chart.len() < slots
        {
            for slot in chart.len()..slots.next_multiple_of(MORE_SLOTS) {
                chart.add_at(slot, &format!("le_{}", largest(slot)));
            }
        }
    }
}

/// The largest value that falls into a slot.
const fn largest(slot: usize) -> u64 {
    if slot >= 63 { u64::MAX } else { (1 << (slot + 1)) - 1 }
}
