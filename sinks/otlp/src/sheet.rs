//! The metrics of one kind of rows: what is written of each once, and the data points so far.

use std::collections::{HashMap, HashSet};

use ebpf_process_core::{ColumnView, EntityKind, KindView, MetricKind, RowView, Value};

use crate::attributes::name_of;
use crate::point::{self, Form, Number, Times};
use crate::row::Row;
use crate::unit::ucum;
use crate::wire;

/// Why what would be taken for another column's numbers is rejected.
pub(crate) const TWIN: &str = "same name as another series";

/// The fields of a metric.
const NAME: u8 = 1;
const DESCRIPTION: u8 = 2;
const UNIT: u8 = 3;
const GAUGE: u8 = 5;
const SUM: u8 = 7;
const HISTOGRAM: u8 = 9;
/// The field of a metric in its scope.
const METRIC: u8 = 2;

/// Behind the data points of a sum: cumulative, never falling.
const OF_SUM: &[u8] = &[wire::of_number(2), 2, wire::of_number(3), 1];
/// Behind those of a histogram: cumulative.
const OF_HISTOGRAM: &[u8] = &[wire::of_number(2), 2];

/// A metric and its data points so far.
#[derive(Debug)]
struct Sheet {
    /// Name, description, unit.
    head: Vec<u8>,
    /// The field that the points are in, and what is behind them there.
    field: u8,
    tail: &'static [u8],
    points: Vec<u8>,
}

impl Sheet {
    fn new(column: &ColumnView<'_>) -> Self {
        let mut head = Vec::new();
        wire::bytes(&mut head, NAME, column.name().as_bytes());
        wire::bytes(&mut head, DESCRIPTION, column.column().help().as_bytes());
        let unit = ucum(column.column().unit());
        if !unit.is_empty() {
            wire::bytes(&mut head, UNIT, unit.as_bytes());
        }
        let (field, tail) = match column.column().kind() {
            MetricKind::Counter => (SUM, OF_SUM),
            MetricKind::Gauge => (GAUGE, &[][..]),
            MetricKind::Histogram => (HISTOGRAM, OF_HISTOGRAM),
        };
        Self { head, field, tail, points: Vec::new() }
    }

    /// How many bytes its metric takes.
    fn size(&self) -> usize {
        self.head.len() + wire::framed_size(self.points.len() + self.tail.len())
    }
}

/// What is written of a column, and the place of its metric: nothing where another column has its name and labels.
type Planned = (Option<usize>, Form);

/// The metrics of one kind.
#[derive(Debug, Default)]
pub(crate) struct Sheets {
    /// How many columns were looked at.
    known: usize,
    /// By their place; nothing where a column is not selected.
    columns: Vec<Option<Planned>>,
    /// What stands in the data points of columns, side by side.
    text: Vec<u8>,
    metrics: Vec<Sheet>,
    /// The places of the metrics by what is written of each.
    by_head: HashMap<(Vec<u8>, u8), usize>,
    /// How many bytes all points take that wait, and how many there are.
    pub(crate) filled: usize,
    pub(crate) samples: u32,
}

/// What tells series of different columns apart: a metric's name, the keys of the rows, what the column adds.
pub(crate) type Shapes = HashSet<(String, Vec<String>, Vec<(String, String)>)>;

impl Sheets {
    /// Takes in the columns that are new. `shapes` are those of all kinds: whose is there already is a twin.
    pub(crate) fn extend(&mut self, kind: &KindView<'_>, shapes: &mut Shapes) {
        if kind.width() == self.known {
            return;
        }
        let known = self.known;
        for column in kind.columns().filter(|column| column.index() >= known) {
            let planned = self.plan(&column, kind.kind(), shapes);
            self.columns.resize_with(column.index(), || None);
            self.columns.push(Some(planned));
        }
        self.known = kind.width();
    }

    fn plan(&mut self, column: &ColumnView<'_>, entity: &EntityKind, shapes: &mut Shapes) -> Planned {
        let mut keys: Vec<String> = entity.label_keys().map(|key| name_of(key).to_owned()).collect();
        let mut labels: Vec<(&str, &str)> = Vec::new();
        // A key is there once: of two, the first counts.
        for (key, value) in column.column().own_labels().chain(column.tags()) {
            if !keys.iter().any(|own| own == key) && !labels.iter().any(|(own, _)| *own == key) {
                labels.push((key, value));
            }
        }
        let form = Form::new(column.column(), &labels, &mut self.text);
        // In whatever order they are, it is the same series.
        keys.sort_unstable();
        labels.sort_unstable();
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let is_new = shapes.insert((column.name().to_owned(), keys, labels));
        (is_new.then(|| self.place(column)), form)
    }

    /// The place of a column's metric.
    fn place(&mut self, column: &ColumnView<'_>) -> usize {
        let sheet = Sheet::new(column);
        let place = *self.by_head.entry((sheet.head.clone(), sheet.field)).or_insert(self.metrics.len());
        if place == self.metrics.len() {
            self.metrics.push(sheet);
        }
        place
    }

    /// Adds a data point for each value of a row. Returns how many samples have none.
    pub(crate) fn add(&mut self, row: &RowView<'_>, own: &mut Row) -> u64 {
        let times = Times::new(row.started(), row.tick().wall);
        let Self { columns, text, metrics, .. } = self;
        let mut rejected = 0;
        for (column, value) in row.cells() {
            let planned = columns.get(column).and_then(Option::as_ref);
            let planned = planned.and_then(|(place, form)| Some((form, metrics.get_mut((*place)?)?)));
            let Some((form, Sheet { points, .. })) = planned else {
                rejected += 1;
                continue;
            };
            let before = points.len();
            let column = (*form, &**text);
            let mut number = |times, number| point::number(points, own.of_numbers(), column, times, number);
            match value {
                Value::Counter(total) => number(times.both(), Number::total(total)),
                Value::Scaled(scaled) => number(times.both(), Number::level(scaled.in_unit())),
                Value::Gauge(level) => number(times.time(), Number::level(level)),
                Value::Histogram(values) => {
                    point::histogram(points, own.of_histograms(row), column, times.both(), values);
                }
            }
            self.filled += points.len() - before;
            self.samples += 1;
        }
        rejected
    }

    /// How many bytes the metrics take that have points.
    pub(crate) fn size(&self) -> usize {
        let with_points = self.metrics.iter().filter(|sheet| !sheet.points.is_empty());
        with_points.map(|sheet| wire::framed_size(sheet.size())).sum()
    }

    /// Writes the metrics that have points, and takes these out. Returns how many there were.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) -> u32 {
        for sheet in self.metrics.iter_mut().filter(|sheet| !sheet.points.is_empty()) {
            wire::head(out, METRIC, sheet.size());
            out.extend_from_slice(&sheet.head);
            wire::head(out, sheet.field, sheet.points.len() + sheet.tail.len());
            out.extend_from_slice(&sheet.points);
            out.extend_from_slice(sheet.tail);
            sheet.points.clear();
        }
        self.filled = 0;
        std::mem::take(&mut self.samples)
    }
}
