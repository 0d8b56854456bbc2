//! From a view to a page.

use std::collections::HashSet;
use std::collections::hash_map::{self, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ebpf_process_core::{HISTOGRAM_SLOTS, Histogram, Kind, Metric, Sample, SeriesCache, Value, View};

use crate::family::Family;
use crate::finals::{FinalCounts, Finals, Place, Scrape};
use crate::format::Format;
use crate::name;

/// One view's samples in both formats.
#[derive(Debug, Default)]
pub struct Page {
    /// Rises by one per page.
    number: u64,
    /// Whether a client has had all of it.
    fetched: AtomicBool,
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

    /// A client has had all of it.
    pub(crate) fn set_fetched(&self) {
        self.fetched.store(true, Ordering::Release);
    }

    /// Whether a client has had all of it.
    pub(crate) fn is_fetched(&self) -> bool {
        self.fetched.load(Ordering::Acquire)
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
    families: Families,
    series: SeriesCache<Entry>,
    heads: Heads,
    /// Where series that have ended stay for a while; none where each page is read at once.
    finals: Option<Finals>,
    /// The number of the page before.
    page: u64,
    /// The newest page that somebody has fetched.
    fetched: u64,
    now: Duration,
}

/// The families so far.
#[derive(Debug, Default)]
struct Families {
    all: Vec<Family>,
    /// By the metric's own name; none where its names are taken.
    by_metric: HashMap<Box<str>, Option<u32>>,
    names: HashSet<String>,
}

/// The samples' names with their labels, each in use by one series: one that lives, or a final.
type Heads = HashMap<Arc<str>, Option<Place>>;

/// What is kept per series.
#[derive(Debug)]
struct Entry {
    family: u32,
    shape: Shape,
    /// The last page that it was on, and what stood there if its series may have a final.
    page: u64,
    last: Last,
}

/// A total as it was last.
#[derive(Debug)]
enum Last {
    /// Of a level, which is nothing any more once it has ended.
    None,
    Counter(u64),
    Histogram(Box<([u64; HISTOGRAM_SLOTS], u64)>),
}

/// The lines of a series without their numbers.
#[derive(Debug)]
enum Shape {
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
            families: Families::default(),
            series: SeriesCache::default(),
            heads: Heads::new(),
            finals: None,
            page: 0,
            fetched: 0,
            now: Duration::ZERO,
        }
    }

    /// From now on the totals of a series that has ended stay on the page until somebody has fetched
    /// them and for two minutes more, ten at most without that.
    #[must_use]
    pub fn keeping_finals(mut self) -> Self {
        self.finals = Some(Finals::default());
        self
    }

    /// Somebody has fetched this page.
    pub(crate) fn fetched(&mut self, page: &Page) {
        self.fetched = self.fetched.max(page.number);
    }

    /// What became of samples of ended series since this was asked last.
    pub(crate) fn take_final_counts(&mut self) -> FinalCounts {
        self.finals.as_mut().map(Finals::take_counts).unwrap_or_default()
    }

    /// Nobody comes for a page any more: all finals are settled.
    pub(crate) fn end(&mut self) {
        if let Some(finals) = &mut self.finals {
            finals.end(self.fetched, self.now);
        }
    }

    /// Writes a view on a page, in place of what stood there.
    pub fn encode(&mut self, view: &View<'_>, page: &mut Page) -> Counts {
        self.now = view.tick().boottime;
        self.retire(view);
        self.page += 1;
        let Self { namespace, families, series, heads, finals, .. } = self;
        let Page { number, fetched, text, openmetrics } = page;
        *number = self.page;
        *fetched = AtomicBool::new(false);
        text.clear();
        openmetrics.clear();
        let mut counts = Counts::default();
        for metric in view.metrics() {
            let Some(index) = families.of(namespace, &metric) else {
                counts.rejected += metric.len() as u64;
                continue;
            };
            let family = &mut families.all[index as usize];
            family.page = self.page;
            let before = text.len();
            text.extend_from_slice(family.header(Format::Text));
            let samples = text.len();
            for sample in metric.samples() {
                let make = || Entry::new(index, family, &metric, &sample, heads, finals.as_mut());
                let entry = series.entry(sample.id(), make);
                if entry.shape.write(family, sample.value(), text) {
                    counts.written += 1;
                    if finals.is_some() {
                        entry.remember(sample.value(), self.page);
                    }
                } else {
                    counts.rejected += 1;
                }
            }
            // The samples' lines are the same in both formats.
            finals.iter().flat_map(|finals| finals.of(index)).for_each(|lines| text.extend_from_slice(lines));
            if text.len() == samples {
                text.truncate(before);
                continue;
            }
            openmetrics.extend_from_slice(family.header(Format::OpenMetrics));
            openmetrics.extend_from_slice(&text[samples..]);
        }
        for (index, finals) in finals.iter().flat_map(|finals| finals.families().map(move |index| (index, finals))) {
            let family = &families.all[index as usize];
            if family.page == self.page {
                continue;
            }
            text.extend_from_slice(family.header(Format::Text));
            openmetrics.extend_from_slice(family.header(Format::OpenMetrics));
            for lines in finals.of(index) {
                text.extend_from_slice(lines);
                openmetrics.extend_from_slice(lines);
            }
        }
        openmetrics.extend_from_slice(b"# EOF\n");
        counts
    }

    /// Lets go what is not on the page any more; what may be missed stays as a final.
    fn retire(&mut self, view: &View<'_>) {
        let Self { families, series, heads, finals, page, fetched, now, .. } = self;
        if let Some(finals) = finals {
            finals.tick(*fetched, *now, |head| {
                heads.remove(head);
            });
        }
        series.update(view, |entry| {
            let Some(head) = entry.shape.head() else { return };
            let lines = finals.as_ref().and_then(|_| entry.final_lines(&families.all[entry.family as usize]));
            let (Some(finals), Some(lines)) = (finals.as_mut(), lines) else {
                heads.remove(head);
                return;
            };
            let scrape = match entry.page {
                last if last <= *fetched => Scrape::Done,
                last if last == *page => Scrape::Awaited,
                _ => Scrape::Missed,
            };
            let place = finals.keep(entry.family, (Arc::clone(head), lines), entry.page, scrape, *now);
            heads.insert(Arc::clone(head), Some(place));
        });
    }
}

impl Families {
    /// The metric's family, made at its first sample. Of two metrics with one name the first counts.
    fn of(&mut self, namespace: &str, metric: &Metric<'_>) -> Option<u32> {
        let key = metric.descriptor().name();
        if let Some(known) = self.by_metric.get(key) {
            return *known;
        }
        let family = Family::new(namespace, metric);
        let index =
            u32::try_from(self.all.len()).ok().filter(|_| family.names().all(|name| !self.names.contains(&name)));
        if index.is_some() {
            self.names.extend(family.names());
            self.all.push(family);
        }
        self.by_metric.insert(key.into(), index);
        index
    }
}

impl Entry {
    fn new(
        index: u32,
        family: &Family,
        metric: &Metric<'_>,
        sample: &Sample<'_>,
        heads: &mut Heads,
        finals: Option<&mut Finals>,
    ) -> Self {
        let name = &family.name;
        let labels = labels(metric, sample);
        let line = |suffix: &str| {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            format!("{name}{suffix}{labels} ")
        };
        let separator = if labels.is_empty() { "" } else { "," };
        let shape = match metric.kind() {
            Kind::Counter => Shape::Plain { head: line("_total").into() },
            Kind::Gauge => Shape::Plain { head: line("").into() },
            Kind::Histogram => Shape::Histogram {
                head: format!("{name}_bucket{{{labels}{separator}le=\"").into(),
                last: format!("{name}_bucket{{{labels}{separator}le=\"+Inf\"}} ").into(),
                sum: line("_sum").into(),
                count: line("_count").into(),
            },
        };
        let is_new = shape.head().is_some_and(|head| match heads.entry(Arc::clone(head)) {
            hash_map::Entry::Vacant(free) => {
                free.insert(None);
                true
            }
            hash_map::Entry::Occupied(mut taken) => match (taken.get_mut().take(), finals) {
                (Some(place), Some(finals)) => {
                    finals.replace(place);
                    true
                }
                _ => false,
            },
        });
        Self { family: index, shape: if is_new { shape } else { Shape::Twin }, page: 0, last: Last::None }
    }

    /// Keeps what stands on a page.
    fn remember(&mut self, value: Value<'_>, page: u64) {
        self.page = page;
        match (value, &mut self.last) {
            (Value::Gauge(_), _) => {}
            (Value::Counter(total), last) => *last = Last::Counter(total),
            (Value::Histogram(histogram), last) => {
                if !matches!(last, Last::Histogram(_)) {
                    *last = Last::Histogram(Box::new(([0; HISTOGRAM_SLOTS], 0)));
                }
                if let Last::Histogram(kept) = last {
                    kept.1 = histogram.sum;
                    for (slot, count) in kept.0.iter_mut().zip(histogram.slots) {
                        *slot = *count;
                    }
                }
            }
        }
    }

    /// The lines that stood on the page last, of a total.
    fn final_lines(&self, family: &Family) -> Option<Vec<u8>> {
        let mut lines = Vec::new();
        let value = match &self.last {
            Last::None => return None,
            Last::Counter(total) => Value::Counter(*total),
            Last::Histogram(last) => Value::Histogram(Histogram { slots: &last.0, sum: last.1 }),
        };
        self.shape.write(family, value, &mut lines).then_some(lines)
    }
}

impl Shape {
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
