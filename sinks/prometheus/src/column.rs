//! A column's lines but for the row's labels and the number.

use ebpf_process_core::{ColumnView, HISTOGRAM_SLOTS, Histogram, MetricKind, Value};

use crate::format::Format;
use crate::name;
use crate::number::Scale;
use crate::row::Row;

/// What is the same in all lines of a column: made once.
#[derive(Debug)]
pub(crate) struct Column {
    /// The family, by its place among all.
    pub(crate) family: u32,
    scale: Scale,
    /// A line up to the row's labels, and from there to the number.
    head: Box<str>,
    tail: Box<str>,
    /// Of the line with the start time, up to the row's labels; none where there is no such line.
    created: Option<Box<str>>,
    histogram: Option<Box<HistogramText>>,
}

/// What the lines of a histogram have beside.
#[derive(Debug)]
struct HistogramText {
    /// A bucket's line up to the row's labels, and from there to its bound.
    head: Box<str>,
    tail: Box<str>,
    /// By slot: the bound and what follows up to the number. The last slot holds the largest values there are: its
    /// bound is infinity. One that cannot be told from the next one's is empty.
    bounds: Vec<Box<str>>,
    count: Box<str>,
}

/// A value that is on the page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number<'a> {
    Total(u64),
    Level(f64),
    Distribution(Distribution<'a>),
}

/// A histogram's slots from the first that was ever hit to the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Distribution<'a> {
    pub(crate) first: usize,
    pub(crate) counts: &'a [u64],
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

impl<'a> From<Histogram<'a>> for Distribution<'a> {
    fn from(histogram: Histogram<'a>) -> Self {
        let (first, counts) = (histogram.first(), histogram.counts());
        Self { first, counts, count: histogram.count(), sum: histogram.sum() }
    }
}

impl<'a> From<Value<'a>> for Number<'a> {
    fn from(value: Value<'a>) -> Self {
        match value {
            Value::Counter(total) => Self::Total(total),
            Value::Scaled(scaled) => Self::Total(scaled.total),
            Value::Gauge(level) => Self::Level(level),
            Value::Histogram(histogram) => Self::Distribution(histogram.into()),
        }
    }
}

impl Column {
    /// Of a family; `has_keys` says whether rows have labels, `labels` are the column's own and the tags.
    pub(crate) fn new(
        family: u32,
        name: &str,
        view: &ColumnView<'_>,
        has_keys: bool,
        labels: &[(String, String)],
    ) -> Self {
        let (kind, scale) = (view.column().kind(), Scale::of(view.column()));
        let pairs: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", name::escape(value))).collect();
        let pairs = pairs.join(",");
        let comma = |follows: bool| if follows { "," } else { "" };
        let separator = comma(has_keys && !pairs.is_empty());
        let has_labels = has_keys || !pairs.is_empty();
        let head = |suffix: &str| format!("{name}{suffix}{}", if has_labels { "{" } else { " " }).into();
        let tail = if has_labels { format!("{separator}{pairs}}} ") } else { String::new() };
        let histogram = (kind == MetricKind::Histogram).then(|| {
            let (_, last) = view.column().slot_range();
            let slots = (usize::from(last) + 1).min(HISTOGRAM_SLOTS - 1);
            let bound =
                |slot| Some(scale.bound(slot)).filter(|bound| slot + 1 == slots || *bound != scale.bound(slot + 1));
            let bounds =
                (0..slots).map(|slot| bound(slot).map(|bound| format!("{bound}\"}} ").into()).unwrap_or_default());
            Box::new(HistogramText {
                head: format!("{name}_bucket{{").into(),
                tail: format!("{separator}{pairs}{}le=\"", comma(has_labels)).into(),
                bounds: bounds.collect(),
                count: head("_count"),
            })
        });
        let (suffix, has_start) = match kind {
            MetricKind::Counter => ("_total", true),
            MetricKind::Gauge => ("", false),
            MetricKind::Histogram => ("_sum", true),
        };
        let created = (has_start && view.entity().has_start_times()).then(|| head("_created"));
        Self { family, scale, head: head(suffix), tail: tail.into(), created, histogram }
    }

    pub(crate) const fn is_histogram(&self) -> bool {
        self.histogram.is_some()
    }

    /// Writes the lines of a value.
    pub(crate) fn write(&self, row: &Row, number: Number<'_>, format: Format, to: &mut Vec<u8>) {
        match number {
            Number::Total(total) => {
                self.begin(&self.head, row, to);
                self.scale.integer(total, to);
            }
            Number::Level(level) => {
                self.begin(&self.head, row, to);
                self.scale.level(level, to);
            }
            Number::Distribution(distribution) => {
                let Some(text) = &self.histogram else { return };
                text.buckets(row, distribution, to);
                self.begin(&self.head, row, to);
                self.scale.integer(distribution.sum, to);
                to.push(b'\n');
                self.begin(&text.count, row, to);
                integer(distribution.count, to);
            }
        }
        to.push(b'\n');
        if let Some(created) = self.created.as_ref().filter(|_| format == Format::OpenMetrics) {
            self.begin(created, row, to);
            to.extend_from_slice(row.started.as_bytes());
            to.push(b'\n');
        }
    }

    /// A line up to its number.
    fn begin(&self, head: &str, row: &Row, to: &mut Vec<u8>) {
        to.extend_from_slice(head.as_bytes());
        to.extend_from_slice(row.labels.as_bytes());
        to.extend_from_slice(self.tail.as_bytes());
    }
}

impl HistogramText {
    /// How many observations there were up to each bound.
    fn buckets(&self, row: &Row, distribution: Distribution<'_>, to: &mut Vec<u8>) {
        let bounds = self.bounds.iter().skip(distribution.first).zip(distribution.counts);
        let counts = bounds.scan(0_u64, |sum, (bound, count)| {
            *sum = sum.wrapping_add(*count);
            Some((&**bound, *sum))
        });
        for (bound, count) in counts.filter(|(bound, _)| !bound.is_empty()).chain([("+Inf\"} ", distribution.count)]) {
            for part in [&self.head, &*row.labels, &self.tail, bound] {
                to.extend_from_slice(part.as_bytes());
            }
            integer(count, to);
            to.push(b'\n');
        }
    }
}

fn integer(number: u64, to: &mut Vec<u8>) {
    to.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
