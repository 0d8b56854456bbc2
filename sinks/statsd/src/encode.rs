//! From a view to packets.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use ebpf_process_core::{HISTOGRAM_SLOTS, Kind, Metric, Sample, SeriesCache, Value, View};

use crate::dialect::Syntax;
use crate::dispatch::{Dispatch, Settled};
use crate::level::push_level;
use crate::line::{Line, Naming};
use crate::packet::{Fate, Packet};

/// Makes the packets for each view, in a buffer that it uses again.
///
/// What it sends depends on the views it has seen, on the fates it was told and on nothing else. A
/// view in which nothing comes or goes allocates nothing.
#[derive(Debug)]
pub struct Encoder {
    naming: Naming,
    /// Whether some line was the same on two hosts.
    adds_up: bool,
    packet: Packet,
    series: SeriesCache<Entry>,
    /// The lines of gauges in use, each by one series.
    gauges: HashSet<Arc<[u8]>>,
    /// A level's digits.
    level: Vec<u8>,
    /// Samples of the last view with nothing to send.
    idle: u64,
}

/// What is kept per series: its line, and the totals that have been sent.
#[derive(Debug)]
pub(crate) enum Entry {
    Counter {
        line: Line,
        sent: Cell<u64>,
    },
    Gauge {
        line: Line,
    },
    Histogram {
        line: Line,
        /// By slot.
        sent: Box<[Cell<u64>; HISTOGRAM_SLOTS]>,
    },
    /// Another gauge has its line: at the receiver the last one would win.
    Twin,
}

impl Encoder {
    /// An encoder whose names start with `namespace` and whose packets have at most `max_packet`
    /// bytes.
    pub fn new(syntax: Syntax, namespace: &str, max_packet: usize) -> Self {
        Self {
            naming: Naming { syntax, namespace: namespace.to_owned(), host: None, host_is_tag: false, renames: 0 },
            adds_up: false,
            packet: Packet::new(max_packet),
            series: SeriesCache::default(),
            gauges: HashSet::new(),
            level: Vec::new(),
            idle: 0,
        }
    }

    /// `{host}` in a metric's name or in the namespace becomes this host's name, as one part of a name;
    /// where `is_tag`, and the dialect has tags, it is a tag as well.
    #[must_use]
    pub fn with_host(mut self, host: &str, is_tag: bool) -> Self {
        self.naming.host = Some(host.to_owned());
        self.naming.host_is_tag = is_tag;
        self
    }

    /// The host may have been renamed: from now on it is called this. Totals that were sent under the old
    /// name are not sent again.
    pub fn set_host(&mut self, host: &str) {
        if self.naming.host.as_deref().is_some_and(|known| known != host) {
            self.naming.host = Some(host.to_owned());
            self.naming.renames += 1;
        }
    }

    /// Whether two hosts would have sent one of the lines so far under one name.
    pub(crate) const fn adds_up(&self) -> bool {
        self.adds_up
    }

    /// Sends a view packet by packet: whole lines with line breaks between them. `send` says what
    /// became of each.
    pub fn encode(&mut self, view: &View<'_>, send: &mut dyn FnMut(&[u8]) -> Fate) -> Settled {
        let Self { naming, adds_up, packet, series, gauges, level: digits, idle } = self;
        *idle = 0;
        series.update(view, |entry| {
            if let Entry::Gauge { line } = &entry {
                gauges.remove(line.identity());
            }
        });
        let mut settled = Settled::default();
        for metric in view.metrics() {
            for sample in metric.samples() {
                let id = sample.id();
                let entry = series.entry(id, || {
                    *adds_up |= !naming.tells_hosts_apart(&metric);
                    Entry::new(naming, &metric, &sample, gauges)
                });
                entry.follow(naming, &metric, &sample, gauges);
                let Some(entry) = series.get(id) else { continue };
                let mut dispatch = Dispatch { packet, series, send, settled: &mut settled, idle };
                match (entry, sample.value()) {
                    (Entry::Counter { line, sent }, Value::Counter(total)) => {
                        dispatch.counter(id, line, sent, total);
                    }
                    (Entry::Gauge { line }, Value::Gauge(level)) => {
                        digits.clear();
                        let negative = push_level(digits, level);
                        dispatch.gauge(line, negative, digits, naming.syntax.adds_signed_gauges());
                    }
                    (Entry::Histogram { line, sent }, Value::Histogram(histogram)) => {
                        dispatch.histogram(id, line, &**sent, histogram.slots);
                    }
                    _ => settled.twins += 1,
                }
            }
        }
        Dispatch { packet, series, send, settled: &mut settled, idle }.finish();
        settled
    }

    /// How many of the last view's written samples had nothing to send.
    pub(crate) const fn idle(&self) -> u64 {
        self.idle
    }
}

impl Entry {
    fn new(naming: &Naming, metric: &Metric<'_>, sample: &Sample<'_>, gauges: &mut HashSet<Arc<[u8]>>) -> Self {
        let line = Line::new(naming, metric, sample);
        match metric.kind() {
            Kind::Counter => Self::Counter { line, sent: Cell::new(0) },
            Kind::Gauge if gauges.insert(Arc::clone(line.identity())) => Self::Gauge { line },
            Kind::Gauge => Self::Twin,
            Kind::Histogram => Self::Histogram { line, sent: Box::new([const { Cell::new(0) }; HISTOGRAM_SLOTS]) },
        }
    }

    /// A host that was renamed has other lines; what was sent stays sent.
    fn follow(&mut self, naming: &Naming, metric: &Metric<'_>, sample: &Sample<'_>, gauges: &mut HashSet<Arc<[u8]>>) {
        match self {
            Self::Counter { line, .. } | Self::Histogram { line, .. } if line.renames != naming.renames => {
                *line = Line::new(naming, metric, sample);
            }
            Self::Gauge { line } if line.renames != naming.renames => {
                gauges.remove(line.identity());
                *self = Self::new(naming, metric, sample, gauges);
            }
            _ => {}
        }
    }

    /// The total that has been sent, of a counter or of a slot.
    pub(crate) fn sent(&self, slot: usize) -> Option<&Cell<u64>> {
        match self {
            Self::Counter { sent, .. } => Some(sent),
            Self::Histogram { sent, .. } => sent.get(slot),
            Self::Gauge { .. } | Self::Twin => None,
        }
    }
}
