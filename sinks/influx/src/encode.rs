//! From a view to line protocol.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ebpf_process_core::{Kind, SeriesCache, Value, View};

use crate::key::Key;
use crate::writer::{Fields, Integers, Writer};

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
    /// By the name of the field, which all series of a metric share.
    fields: HashMap<Box<[u8]>, Arc<Fields>>,
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
        /// What stands between the values of its fields.
        fields: Arc<Fields>,
    },
}

impl Encoder {
    /// An encoder for the samples of this host.
    pub fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            writer: Writer::default(),
            series: SeriesCache::default(),
            keys: HashSet::new(),
            fields: HashMap::new(),
        }
    }

    /// Writes integers in another way than `7i`.
    #[must_use]
    pub fn with_integers(mut self, integers: Integers) -> Self {
        self.writer = Writer::new(integers);
        self
    }

    /// What this host is called from now on.
    pub(crate) fn set_host(&mut self, host: &str) {
        if self.host != host {
            host.clone_into(&mut self.host);
            // Every line has it.
            self.series = SeriesCache::default();
            self.keys.clear();
        }
    }

    /// The lines for a view.
    pub fn encode(&mut self, view: &View<'_>) -> Lines<'_> {
        let Self { host, writer, series, keys, fields } = self;
        series.update(view, |entry| {
            if let Some(head) = entry.head() {
                keys.remove(head);
            }
        });
        writer.begin(view.tick().wall);
        let (mut samples, mut rejected) = (0, 0);
        for metric in view.metrics() {
            for sample in metric.samples() {
                let entry = series.entry(sample.id(), || {
                    let key = Key::render(&metric, &sample, host);
                    Entry::new(key, metric.kind(), keys, |field| {
                        let shared =
                            fields.entry(field.into()).or_insert_with(|| Fields::new(field, writer.integers()).into());
                        Arc::clone(shared)
                    })
                });
                match (&*entry, sample.value()) {
                    (Entry::Plain { head }, Value::Counter(total)) => writer.counter(head, total),
                    (Entry::Plain { head }, Value::Gauge(level)) => writer.gauge(head, level),
                    (Entry::Histogram { head, fields }, Value::Histogram(histogram)) => {
                        writer.histogram(head, fields, histogram);
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
    fn new(key: Key, kind: Kind, keys: &mut HashSet<Arc<[u8]>>, fields: impl FnOnce(&[u8]) -> Arc<Fields>) -> Self {
        let Key { text, field } = key;
        let entry = if kind == Kind::Histogram {
            Self::Histogram { head: [&*text, b"_count="].concat().into(), fields: fields(&text[field..]) }
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
