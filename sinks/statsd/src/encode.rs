//! From a view to datagrams.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use ebpf_process_core::{HISTOGRAM_SLOTS, Kind, Metric, Sample, SeriesCache, Value, View};

use crate::dispatch::{Dispatch, Settled};
use crate::name::{name, push_level};
use crate::packet::{Fate, Packet};

/// Makes the datagrams for each view, in a buffer that it uses again.
///
/// What it sends depends on the views it has seen, on the fates it was told and on nothing else. A
/// view in which nothing comes or goes allocates nothing.
#[derive(Debug)]
pub struct Encoder {
    namespace: String,
    packet: Packet,
    series: SeriesCache<Entry>,
    /// The names of gauges in use, each by one series.
    gauges: HashSet<Arc<[u8]>>,
    /// A level's digits.
    level: Vec<u8>,
}

/// What is kept per series: its line up to the number, and the totals that have been sent.
#[derive(Debug)]
pub(crate) enum Entry {
    Counter {
        head: Box<[u8]>,
        sent: Cell<u64>,
    },
    Gauge {
        head: Arc<[u8]>,
    },
    Histogram {
        /// The line up to the largest value of a slot.
        head: Box<[u8]>,
        /// By slot.
        sent: Box<[Cell<u64>; HISTOGRAM_SLOTS]>,
    },
    /// Another gauge has its name: at the receiver the last one would win.
    Twin,
}

impl Encoder {
    /// An encoder whose names start with `namespace` and whose datagrams have at most `max_packet`
    /// bytes.
    pub fn new(namespace: &str, max_packet: usize) -> Self {
        Self {
            namespace: namespace.to_owned(),
            packet: Packet::new(max_packet),
            series: SeriesCache::default(),
            gauges: HashSet::new(),
            level: Vec::new(),
        }
    }

    /// Sends a view datagram by datagram: whole lines with line breaks between them. `send` says
    /// what became of each.
    pub fn encode(&mut self, view: &View<'_>, send: &mut dyn FnMut(&[u8]) -> Fate) -> Settled {
        let Self { namespace, packet, series, gauges, level: digits } = self;
        series.update(view, |entry| {
            if let Entry::Gauge { head } = &entry {
                gauges.remove(head);
            }
        });
        let mut settled = Settled::default();
        for metric in view.metrics() {
            for sample in metric.samples() {
                let id = sample.id();
                series.entry(id, || Entry::new(namespace, &metric, &sample, gauges));
                let Some(entry) = series.get(id) else { continue };
                let mut dispatch = Dispatch { packet, series, send, settled: &mut settled };
                match (entry, sample.value()) {
                    (Entry::Counter { head, sent }, Value::Counter(total)) => {
                        dispatch.counter(id, head, sent.get(), total);
                    }
                    (Entry::Gauge { head }, Value::Gauge(level)) => {
                        digits.clear();
                        let negative = push_level(digits, level);
                        dispatch.gauge(head, negative, digits);
                    }
                    (Entry::Histogram { head, sent }, Value::Histogram(histogram)) => {
                        dispatch.histogram(id, head, &**sent, histogram.slots);
                    }
                    _ => settled.twins += 1,
                }
            }
        }
        Dispatch { packet, series, send, settled: &mut settled }.finish();
        settled
    }
}

impl Entry {
    fn new(namespace: &str, metric: &Metric<'_>, sample: &Sample<'_>, gauges: &mut HashSet<Arc<[u8]>>) -> Self {
        let mut head = name(namespace, metric, sample);
        match metric.kind() {
            Kind::Counter => {
                head.push(':');
                Self::Counter { head: head.into_bytes().into(), sent: Cell::new(0) }
            }
            Kind::Gauge => {
                head.push(':');
                let head: Arc<[u8]> = head.into_bytes().into();
                if gauges.insert(Arc::clone(&head)) { Self::Gauge { head } } else { Self::Twin }
            }
            Kind::Histogram => {
                head.push_str(".le_");
                let sent = Box::new([const { Cell::new(0) }; HISTOGRAM_SLOTS]);
                Self::Histogram { head: head.into_bytes().into(), sent }
            }
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
