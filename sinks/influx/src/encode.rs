//! From a view to line protocol.

use std::collections::HashSet;
use std::sync::Arc;

use ebpf_process_core::{Histogram, Kind, Metric, Sample, SeriesCache, Value, View};
use serde::Deserialize;

use crate::key::Key;

/// Makes the lines for each view, in a buffer that it uses again.
///
/// What it writes depends on the views it has seen and on nothing else. A series' key is rendered
/// once; a view in which nothing comes or goes allocates nothing.
#[derive(Debug)]
pub struct Encoder {
    host: String,
    writer: Writer,
    series: SeriesCache<Entry>,
    /// The keys in use, each by one series.
    keys: HashSet<Arc<[u8]>>,
}

/// The lines for one view.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    /// Whole lines; each is one sample.
    pub bytes: &'a [u8],
    /// Where each line ends.
    pub ends: &'a [usize],
    /// How many samples they carry.
    pub samples: u64,
    /// How many samples have no line, because another series has the same key.
    pub rejected: u64,
}

impl<'a> Lines<'a> {
    /// Line by line, each with its line break.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Self { bytes, ends, .. } = *self;
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(ends).map(move |(start, &end)| &bytes[start..end])
    }
}

/// How a counter, or a histogram's number, is written. One per sink: a database never changes the
/// type of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Integers {
    /// `7i`, at most 2^63-1: what every version takes.
    #[default]
    #[serde(rename = "i")]
    Signed,
    /// `7u`, up to 2^64-1: for versions 2 and 3.
    #[serde(rename = "u")]
    Unsigned,
    /// `7.0`, exact up to 2^53.
    #[serde(rename = "float")]
    Float,
}

/// What is kept per series.
#[derive(Debug)]
enum Entry {
    /// Another series has its key: what it wrote would overwrite the other's.
    Twin,
    /// A counter or a gauge.
    Plain {
        /// The line up to its value.
        head: Arc<[u8]>,
    },
    Histogram {
        /// The line up to the value of its first field, the count.
        head: Arc<[u8]>,
        /// The start of each further field: `,<field>_`.
        field: Box<[u8]>,
    },
}

impl Encoder {
    /// An encoder for the samples of this host.
    pub fn new(host: &str) -> Self {
        Self { host: host.to_owned(), writer: Writer::default(), series: SeriesCache::default(), keys: HashSet::new() }
    }

    /// Writes integers in another way than `7i`.
    #[must_use]
    pub fn with_integers(mut self, integers: Integers) -> Self {
        self.writer.integers = integers;
        self
    }

    /// The lines for a view.
    pub fn encode(&mut self, view: &View<'_>) -> Lines<'_> {
        let Self { host, writer, series, keys } = self;
        series.update(view, |entry| {
            if let Some(head) = entry.head() {
                keys.remove(head);
            }
        });
        writer.begin(view);
        let (mut samples, mut rejected) = (0, 0);
        for metric in view.metrics() {
            for sample in metric.samples() {
                let entry = series.entry(sample.id(), || Entry::new(&metric, &sample, host, keys));
                match (&*entry, sample.value()) {
                    (Entry::Plain { head }, Value::Counter(total)) => writer.counter(head, total),
                    (Entry::Plain { head }, Value::Gauge(level)) => writer.gauge(head, level),
                    (Entry::Histogram { head, field }, Value::Histogram(histogram)) => {
                        writer.histogram(head, field, histogram);
                    }
                    _ => {
                        rejected += 1;
                        continue;
                    }
                }
                samples += 1;
            }
        }
        Lines { bytes: &writer.bytes, ends: &writer.ends, samples, rejected }
    }
}

impl Entry {
    fn new(metric: &Metric<'_>, sample: &Sample<'_>, host: &str, keys: &mut HashSet<Arc<[u8]>>) -> Self {
        let Key { text, field } = Key::render(metric, sample, host);
        let entry = if metric.kind() == Kind::Histogram {
            let field = [b",", &text[field..], b"_"].concat().into();
            Self::Histogram { head: [&*text, b"_count="].concat().into(), field }
        } else {
            Self::Plain { head: [&*text, b"="].concat().into() }
        };
        let new = entry.head().is_some_and(|head| keys.insert(Arc::clone(head)));
        if new { entry } else { Self::Twin }
    }

    const fn head(&self) -> Option<&Arc<[u8]>> {
        match self {
            Self::Twin => None,
            Self::Plain { head } | Self::Histogram { head, .. } => Some(head),
        }
    }
}

/// The lines so far, and what is needed to write numbers.
#[derive(Default)]
struct Writer {
    integers: Integers,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The end of every line of a view: its time.
    end: Vec<u8>,
    digits: itoa::Buffer,
}

impl Writer {
    fn begin(&mut self, view: &View<'_>) {
        self.bytes.clear();
        self.ends.clear();
        self.end.clear();
        // In the year 2262 nanoseconds since 1970 no longer fit the protocol's number.
        let nanoseconds = i64::try_from(view.tick().wall.as_nanos()).unwrap_or(i64::MAX);
        self.end.push(b' ');
        self.end.extend_from_slice(self.digits.format(nanoseconds).as_bytes());
        self.end.push(b'\n');
    }

    fn counter(&mut self, head: &[u8], total: u64) {
        self.bytes.extend_from_slice(head);
        self.integer(total);
        self.finish();
    }

    fn gauge(&mut self, head: &[u8], level: f64) {
        self.bytes.extend_from_slice(head);
        let mut decimals = ryu::Buffer::new();
        let text = decimals.format(level);
        match text.split_once('e') {
            // "1e16" becomes "1.0e16": a number without a point may pass for an integer.
            Some((digits, exponent)) if !digits.contains('.') => {
                for part in [digits, ".0e", exponent] {
                    self.bytes.extend_from_slice(part.as_bytes());
                }
            }
            _ => self.bytes.extend_from_slice(text.as_bytes()),
        }
        self.finish();
    }

    fn histogram(&mut self, head: &[u8], field: &[u8], histogram: Histogram<'_>) {
        self.bytes.extend_from_slice(head);
        self.integer(histogram.count());
        self.bytes.extend_from_slice(field);
        self.bytes.extend_from_slice(b"sum=");
        self.integer(histogram.sum);
        for (slot, &count) in histogram.slots.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.bytes.extend_from_slice(field);
            self.bytes.extend_from_slice(b"le_");
            self.bytes.extend_from_slice(self.digits.format(largest(slot)).as_bytes());
            self.bytes.push(b'=');
            self.integer(count);
        }
        self.finish();
    }

    /// A total in the way of this sink; a signed one as far as the server's 64 bits can hold it.
    fn integer(&mut self, total: u64) {
        let (total, suffix) = match self.integers {
            Integers::Signed => (total.min(i64::MAX as u64), &b"i"[..]),
            Integers::Unsigned => (total, &b"u"[..]),
            Integers::Float => (total, &b".0"[..]),
        };
        self.bytes.extend_from_slice(self.digits.format(total).as_bytes());
        self.bytes.extend_from_slice(suffix);
    }

    /// The line's time and its end.
    fn finish(&mut self) {
        self.bytes.extend_from_slice(&self.end);
        self.ends.push(self.bytes.len());
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// The largest value that falls into a slot.
const fn largest(slot: usize) -> u64 {
    if slot >= 63 { u64::MAX } else { (1 << (slot + 1)) - 1 }
}
