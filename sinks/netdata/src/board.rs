//! The charts of the host and of the agent itself, and which series belongs where.

use std::collections::HashMap;
use std::time::Duration;

use ebpf_process_core::{Bucket, ColumnView, Histogram, MetricKind, Sample, Scaled, Value};

use crate::catalog::Catalog;
use crate::chart::Chart;
use crate::charts::{self, Known, Role};
use crate::head::{Head, Spec, labels};
use crate::number::{Algorithm, number};
use crate::rule;

/// Where a series' values go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The metric says everything in its labels, or has no chart under its own name.
    Nowhere,
    /// One dimension of a chart; for some also a term of the chart of tasks.
    Dimension { chart: usize, dimension: usize, role: Option<Role> },
    /// The dimensions of a chart of its own, one per slot from the first that was ever hit to the last.
    Heatmap { chart: usize },
}

/// The charts that netdata knows, or will with the next lines.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// In the order of their lines; a place is used again when its chart is over.
    charts: Vec<Option<Chart>>,
    known: HashMap<&'static str, usize>,
    /// By the kind's place and the metric's own name: one chart, more where one cannot have all dimensions.
    by_rule: HashMap<(usize, String), Vec<usize>>,
    /// Places without a chart.
    free: Vec<usize>,
}

impl Board {
    /// Finds or makes the chart and the dimension of a series of the kind at this place. `None` when there are too many
    /// charts.
    pub(crate) fn place(&mut self, kind: usize, sample: &Sample<'_>, catalog: &mut Catalog) -> Option<Place> {
        let column = sample.column();
        if rule::is_information(&column) || charts::is_untold(&column) {
            return Some(Place::Nowhere);
        }
        if let Some((known, dimension)) = charts::find(sample) {
            let index = self.known(known, rule::area(column.name()), || labels(column.tags()), catalog);
            // Two metrics may have been given one name: the second is shown by rule.
            if let Some(chart) = self.chart(index)
                && !chart.is_taken(dimension)
            {
                let source = &known.sources[dimension];
                chart.add_at(dimension, source.dimension, source.dimension, Algorithm::TOTAL);
                return Some(Place::Dimension { chart: index, dimension, role: source.role });
            }
        }
        let algorithm = Algorithm::of(column.column());
        if column.column().kind() == MetricKind::Histogram {
            let spec = rule::heatmap(sample, catalog)?;
            // A chart of one series can say what the series' own labels are.
            let labels = labels(sample.labels());
            let chart = self.put(Chart::new(Head::new(&spec, catalog.update_every, labels)));
            return Some(Place::Heatmap { chart });
        }
        let metric = (kind, column.column().name().to_owned());
        let known = self.by_rule.get(&metric).and_then(|charts| {
            let has_room = |chart: &&usize| self.charts[**chart].as_ref().is_some_and(|chart| !chart.is_full());
            charts.iter().find(has_room).copied()
        });
        let chart = match known {
            Some(chart) => chart,
            None => self.make_by_rule(metric, &column, catalog)?,
        };
        let dimension = self.chart(chart)?.add(&rule::dimension(sample), algorithm);
        Some(Place::Dimension { chart, dimension, role: None })
    }

    /// A series is gone, and with it what it had.
    pub(crate) fn retire(&mut self, place: Place, bytes: &mut Vec<u8>, catalog: &mut Catalog) {
        match place {
            Place::Nowhere => {}
            Place::Dimension { chart, dimension, .. } => {
                if let Some(chart) = self.chart(chart) {
                    chart.retire(dimension);
                }
            }
            // Said at once: if the series comes back with this view, the chart has the same id.
            Place::Heatmap { chart } => {
                if let Some(over) = self.charts.get_mut(chart).and_then(Option::take) {
                    self.free.push(chart);
                    end(&over, bytes, catalog);
                }
            }
        }
    }

    /// Finds or makes one of the known charts.
    pub(crate) fn known(
        &mut self,
        known: &'static Known,
        module: &str,
        labels: impl Fn() -> String,
        catalog: &Catalog,
    ) -> usize {
        if let Some(chart) = self.known.get(known.id) {
            return *chart;
        }
        let spec = Spec {
            id: known.id.to_owned(),
            context: known.id.to_owned(),
            title: known.title.to_owned(),
            units: known.units.to_owned(),
            family: known.family.to_owned(),
            style: "line",
            priority: known.priority,
            module: module.to_owned(),
        };
        let chart = self.put(Chart::new(Head::new(&spec, catalog.update_every, labels())));
        self.known.insert(known.id, chart);
        chart
    }

    /// The chart at an index, if it is not over.
    pub(crate) fn chart(&mut self, index: usize) -> Option<&mut Chart> {
        self.charts.get_mut(index)?.as_mut()
    }

    /// Sets a value for this view.
    pub(crate) fn set(&mut self, chart: usize, dimension: usize, value: i64) {
        if let Some(chart) = self.chart(chart) {
            chart.set(dimension, value);
        }
    }

    /// Sets what a series has in this view. False where the protocol has no such number.
    #[inline]
    pub(crate) fn put_value(&mut self, place: Place, value: Value<'_>) -> bool {
        match (place, value) {
            (Place::Dimension { chart, dimension, .. }, value) => {
                let Some(number) = number(value) else { return false };
                self.set(chart, dimension, number);
            }
            (Place::Heatmap { chart }, Value::Histogram(histogram)) => return self.set_slots(chart, histogram),
            (Place::Nowhere | Place::Heatmap { .. }, _) => {}
        }
        true
    }

    /// Sets the values of a heatmap for this view, all or none. What was hit is there for good, and grows on both sides.
    fn set_slots(&mut self, chart: usize, histogram: Histogram<'_>) -> bool {
        if histogram.counts().iter().any(|count| i64::try_from(*count).is_err()) {
            return false;
        }
        let Some(chart) = self.chart(chart) else { return true };
        for Bucket { slot, bound, count, .. } in histogram.buckets() {
            if !chart.is_taken(slot) {
                let id = format!("le_{bound}");
                let in_unit = Scaled { total: bound, scale: histogram.scale() }.in_unit();
                let is_scaled = Algorithm::scaled(histogram.scale()) != Algorithm::TOTAL;
                let name = if is_scaled { format!("le_{in_unit}") } else { id.clone() };
                chart.add_at(slot, &id, &name, Algorithm::TOTAL);
            }
            chart.set(slot, i64::try_from(count).unwrap_or(i64::MAX));
        }
        true
    }

    /// Writes what is new and the values of this view, and forgets charts that are over.
    pub(crate) fn write(&mut self, bytes: &mut Vec<u8>, boottime: Duration, catalog: &mut Catalog) {
        for index in 0..self.charts.len() {
            match &mut self.charts[index] {
                Some(chart) if chart.is_over() => self.forget(index, bytes, catalog),
                Some(chart) => chart.write(bytes, boottime),
                None => {}
            }
        }
    }

    /// Takes charts from the dashboard that have no series any more: what they are made of may have other names and labels
    /// with this view, and the same id.
    pub(crate) fn end_over(&mut self, bytes: &mut Vec<u8>, catalog: &mut Catalog) {
        for index in 0..self.charts.len() {
            if self.charts[index].as_ref().is_some_and(Chart::is_over) {
                self.forget(index, bytes, catalog);
            }
        }
    }

    /// Takes a chart from the dashboard.
    fn forget(&mut self, index: usize, bytes: &mut Vec<u8>, catalog: &mut Catalog) {
        let Some(over) = self.charts.get_mut(index).and_then(Option::take) else { return };
        end(&over, bytes, catalog);
        self.free.push(index);
        self.known.retain(|_, chart| *chart != index);
        self.by_rule.retain(|_, charts| {
            charts.retain(|chart| *chart != index);
            !charts.is_empty()
        });
    }

    /// Takes all charts from the dashboard.
    pub(crate) fn clear(&mut self, bytes: &mut Vec<u8>) {
        self.charts.iter().flatten().for_each(|chart| chart.write_obsolete(bytes));
        *self = Self::default();
    }

    fn make_by_rule(
        &mut self,
        metric: (usize, String),
        column: &ColumnView<'_>,
        catalog: &mut Catalog,
    ) -> Option<usize> {
        let spec = rule::metric(column, catalog)?;
        let chart = self.put(Chart::new(Head::new(&spec, catalog.update_every, labels(column.tags()))));
        self.by_rule.entry(metric).or_default().push(chart);
        Some(chart)
    }

    fn put(&mut self, chart: Chart) -> usize {
        let index = self.free.pop().unwrap_or(self.charts.len());
        match self.charts.get_mut(index) {
            Some(place) => *place = Some(chart),
            None => self.charts.push(Some(chart)),
        }
        index
    }
}

/// Takes a chart that is over from the dashboard.
fn end(chart: &Chart, bytes: &mut Vec<u8>, catalog: &mut Catalog) {
    chart.write_obsolete(bytes);
    catalog.release(chart.id());
}
