//! From a view to a page.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ebpf_process_core::{Histogram, Kind, Metric, Sample, SeriesCache, Value, View};

use crate::family::Family;
use crate::format::Format;
use crate::name;

/// One view's samples in both formats.
#[derive(Debug, Default)]
pub struct Page {
    text: Vec<u8>,
    openmetrics: Vec<u8>,
}

impl Page {
    /// The page in this format.
    pub fn bytes(&self, format: Format) -> &[u8] {
        match format {
            Format::Text => &self.text,
            Format::OpenMetrics => &self.openmetrics,
        }
    }
}

/// What became of a view's samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples on the page.
    pub written: u64,
    /// Samples left out, because another series or another metric has the name already.
    pub rejected: u64,
}

/// Makes the page for each view.
///
/// What it writes depends on the views it has seen and on nothing else. What stays the same of a
/// series is rendered once; a view in which nothing comes or goes allocates nothing.
#[derive(Debug)]
pub struct Encoder {
    namespace: String,
    /// By the metric's own name; none where its names are taken.
    families: HashMap<Box<str>, Option<Family>>,
    names: HashSet<String>,
    series: SeriesCache<Entry>,
    /// The samples' names with their labels, each in use by one series.
    heads: HashSet<Arc<str>>,
}

/// What is kept per series.
#[derive(Debug)]
enum Entry {
    /// Another series has its name and labels.
    Twin,
    /// A counter or a gauge: the line up to its value.
    Plain { head: Arc<str> },
    Histogram {
        /// A bucket's line up to its bound.
        head: Arc<str>,
        /// The last bucket's line up to its value.
        last: Box<str>,
        sum: Box<str>,
        count: Box<str>,
    },
}

impl Encoder {
    /// An encoder whose metrics' names begin with `namespace`, which may be empty.
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            families: HashMap::new(),
            names: HashSet::new(),
            series: SeriesCache::default(),
            heads: HashSet::new(),
        }
    }

    /// Writes a view on a page, in place of what stood there.
    pub fn encode(&mut self, view: &View<'_>, page: &mut Page) -> Counts {
        let Self { namespace, families, names, series, heads } = self;
        series.update(view, |entry| {
            if let Some(head) = entry.head() {
                heads.remove(head);
            }
        });
        let Page { text, openmetrics } = page;
        text.clear();
        openmetrics.clear();
        let mut counts = Counts::default();
        for metric in view.metrics() {
            let Some(family) = family(families, names, namespace, &metric) else {
                counts.rejected += metric.len() as u64;
                continue;
            };
            let before = text.len();
            text.extend_from_slice(family.header(Format::Text));
            let samples = text.len();
            for sample in metric.samples() {
                let entry = series.entry(sample.id(), || Entry::new(family, &metric, &sample, heads));
                if entry.write(family, sample.value(), text) {
                    counts.written += 1;
                } else {
                    counts.rejected += 1;
                }
            }
            if text.len() == samples {
                text.truncate(before);
                continue;
            }
            // The samples' lines are the same in both formats.
            openmetrics.extend_from_slice(family.header(Format::OpenMetrics));
            openmetrics.extend_from_slice(&text[samples..]);
        }
        openmetrics.extend_from_slice(b"# EOF\n");
        counts
    }
}

/// The metric's family, made at its first sample. Of two metrics with one name the first counts.
fn family<'a>(
    families: &'a mut HashMap<Box<str>, Option<Family>>,
    names: &mut HashSet<String>,
    namespace: &str,
    metric: &Metric<'_>,
) -> Option<&'a Family> {
    let key = metric.descriptor().name();
    if !families.contains_key(key) {
        let family = Family::new(namespace, metric);
        let is_free = family.names().all(|name| !names.contains(&name));
        if is_free {
            names.extend(family.names());
        }
        families.insert(key.into(), is_free.then_some(family));
    }
    families.get(key)?.as_ref()
}

impl Entry {
    fn new(family: &Family, metric: &Metric<'_>, sample: &Sample<'_>, heads: &mut HashSet<Arc<str>>) -> Self {
        let name = &family.name;
        let labels = labels(metric, sample);
        let line = |suffix: &str| {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            format!("{name}{suffix}{labels} ")
        };
        let separator = if labels.is_empty() { "" } else { "," };
        let entry = match metric.kind() {
            Kind::Counter => Self::Plain { head: line("_total").into() },
            Kind::Gauge => Self::Plain { head: line("").into() },
            Kind::Histogram => Self::Histogram {
                head: format!("{name}_bucket{{{labels}{separator}le=\"").into(),
                last: format!("{name}_bucket{{{labels}{separator}le=\"+Inf\"}} ").into(),
                sum: line("_sum").into(),
                count: line("_count").into(),
            },
        };
        let is_new = entry.head().is_some_and(|head| heads.insert(Arc::clone(head)));
        if is_new { entry } else { Self::Twin }
    }

    const fn head(&self) -> Option<&Arc<str>> {
        match self {
            Self::Twin => None,
            Self::Plain { head } | Self::Histogram { head, .. } => Some(head),
        }
    }

    /// Writes the lines of a value; `false` if there are none.
    fn write(&self, family: &Family, value: Value<'_>, to: &mut Vec<u8>) -> bool {
        match (self, value) {
            (Self::Plain { head }, Value::Counter(total)) => integer(family, head, total, to),
            (Self::Plain { head }, Value::Gauge(level)) => {
                to.extend_from_slice(head.as_bytes());
                family.scale.level(level, to);
                to.push(b'\n');
            }
            (Self::Histogram { head, last, sum, count }, Value::Histogram(histogram)) => {
                buckets(family, head, histogram, to);
                let total = histogram.count();
                count_line(last, total, to);
                integer(family, sum, histogram.sum, to);
                count_line(count, total, to);
            }
            _ => return false,
        }
        true
    }
}

/// `key="value"` pairs; of two with one key the first stays.
fn labels(metric: &Metric<'_>, sample: &Sample<'_>) -> String {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (key, value) in sample.labels().chain(metric.tags()) {
        let key = name::label(key);
        if pairs.iter().all(|(known, _)| *known != key) {
            pairs.push((key, name::escape(value)));
        }
    }
    let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    pairs.join(",")
}

/// A line whose value is in the metric's unit.
fn integer(family: &Family, head: &str, value: u64, to: &mut Vec<u8>) {
    to.extend_from_slice(head.as_bytes());
    family.scale.integer(value, to);
    to.push(b'\n');
}

/// A line whose value is a number of observations.
fn count_line(head: &str, count: u64, to: &mut Vec<u8>) {
    to.extend_from_slice(head.as_bytes());
    to.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    to.push(b'\n');
}

/// How many observations there were up to each bound.
fn buckets(family: &Family, head: &str, histogram: Histogram<'_>, to: &mut Vec<u8>) {
    let mut sum = 0_u64;
    for (bound, count) in family.bounds.iter().zip(histogram.slots) {
        sum = sum.wrapping_add(*count);
        to.extend_from_slice(head.as_bytes());
        to.extend_from_slice(bound.as_bytes());
        count_line("\"} ", sum, to);
    }
}
