//! A column's lines but for the row's labels and the number.

use std::ops::Range;

use ebpf_process_core::{ColumnView, Histogram, MetricKind, Value};

use crate::format::Format;
use crate::name;
use crate::number::{Scale, digits};
use crate::row::RowText;

/// What is the same in all lines of a column: made once.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// The family, by its place among all.
    pub(crate) family: u32,
    scale: Scale,
    line: Line,
    /// Where there is a line with the start time: what stands in front of its labels, from the end of the line above it.
    created: Option<Range<usize>>,
    histogram: Option<Box<HistogramText>>,
}

/// The texts of a kind's lines, one behind the other: a page reads them in this order.
pub(crate) type Texts = Vec<u8>;

/// A line up to its number, among others' texts: the row's labels are put in at one place.
#[derive(Clone, Copy, Debug)]
struct Line {
    from: usize,
    place: usize,
    end: usize,
}

/// What the lines of a histogram have beside.
#[derive(Clone, Debug)]
struct HistogramText {
    /// A bucket's line up to its bound.
    bucket: Line,
    /// By slot: the bound and what follows up to the number. The last slot holds the largest values there are: its
    /// bound is infinity. One that cannot be told from the next one's is empty.
    bounds: Vec<Box<str>>,
    count: Line,
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
        texts: &mut Texts,
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
        let mut line = |suffix: &str, behind: &str| {
            let open = if has_labels || !behind.is_empty() { "{" } else { "" };
            let close = if behind.is_empty() { if has_labels { "} " } else { " " } } else { behind };
            Line::new(texts, &format!("{name}{suffix}{open}"), &format!("{separator}{pairs}{close}"))
        };
        let (suffix, has_start) = match kind {
            MetricKind::Counter => ("_total", true),
            MetricKind::Gauge => ("", false),
            MetricKind::Histogram => ("_sum", true),
        };
        let first = line(suffix, "");
        let histogram = (kind == MetricKind::Histogram).then(|| {
            let (_, last) = view.column().slot_range();
            // The last one holds all that is larger, too: its bound is infinity.
            let slots = usize::from(last);
            let bound =
                |slot| Some(scale.bound(slot)).filter(|bound| slot + 1 == slots || *bound != scale.bound(slot + 1));
            let bounds =
                (0..slots).map(|slot| bound(slot).map(|bound| format!("{bound}\"}} ").into()).unwrap_or_default());
            let bucket = line("_bucket", if has_labels { ",le=\"" } else { "le=\"" });
            Box::new(HistogramText { bucket, bounds: bounds.collect(), count: line("_count", "") })
        });
        let created = (has_start && view.entity().has_start_times()).then(|| {
            let from = texts.len();
            texts.extend_from_slice(format!("\n{name}_created{}", if has_labels { "{" } else { "" }).as_bytes());
            from..texts.len()
        });
        Self { family, scale, line: first, created, histogram }
    }

    pub(crate) const fn is_histogram(&self) -> bool {
        self.histogram.is_some()
    }

    /// Writes the lines of a value; `texts` are those that it was made with.
    #[inline]
    pub(crate) fn write(&self, texts: &Texts, row: RowText<'_>, number: Number<'_>, format: Format, to: &mut Vec<u8>) {
        let labels = match number {
            Number::Total(total) => {
                let labels = self.line.begin(texts, row, to);
                self.scale.integer(total, to);
                labels
            }
            Number::Level(level) => {
                let labels = self.line.begin(texts, row, to);
                self.scale.level(level, to);
                labels
            }
            Number::Distribution(distribution) => {
                let Some(text) = &self.histogram else { return };
                text.buckets(texts, row, distribution, to);
                self.line.begin(texts, row, to);
                self.scale.integer(distribution.sum, to);
                to.push(b'\n');
                let labels = text.count.begin(texts, row, to);
                digits(distribution.count, to);
                labels
            }
        };
        if let Some(created) = self.created.as_ref().filter(|_| format == Format::OpenMetrics) {
            to.extend_from_slice(&texts[created.clone()]);
            to.extend_from_within(labels);
            to.extend_from_slice(row.started.as_bytes());
        }
        to.push(b'\n');
    }
}

impl Line {
    fn new(texts: &mut Texts, head: &str, tail: &str) -> Self {
        let mut push = |text: &str| {
            texts.extend_from_slice(text.as_bytes());
            texts.len()
        };
        Self { from: push(""), place: push(head), end: push(tail) }
    }

    /// Writes the line up to its number. Returns where its labels are, with what stands around them behind the bracket
    /// that opens.
    #[inline]
    fn begin(self, texts: &Texts, row: RowText<'_>, to: &mut Vec<u8>) -> Range<usize> {
        to.extend_from_slice(&texts[self.from..self.place]);
        let labels = to.len();
        to.extend_from_slice(row.labels.as_bytes());
        to.extend_from_slice(&texts[self.place..self.end]);
        labels..to.len()
    }
}

impl HistogramText {
    /// How many observations there were up to each bound.
    fn buckets(&self, texts: &Texts, row: RowText<'_>, distribution: Distribution<'_>, to: &mut Vec<u8>) {
        let bounds = self.bounds.iter().skip(distribution.first).zip(distribution.counts);
        let counts = bounds.scan(0_u64, |sum, (bound, count)| {
            *sum = sum.wrapping_add(*count);
            Some((&**bound, *sum))
        });
        for (bound, count) in counts.filter(|(bound, _)| !bound.is_empty()).chain([("+Inf\"} ", distribution.count)]) {
            self.bucket.begin(texts, row, to);
            to.extend_from_slice(bound.as_bytes());
            digits(count, to);
            to.push(b'\n');
        }
    }
}
