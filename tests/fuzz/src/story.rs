//! A story that an input tells an encoder: metrics, their series, a sink's selection, and some ticks.

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Descriptor, Recorder, Selection, Unit, View};

/// Metrics and ticks; more of either finds nothing new and takes longer.
const MOST: usize = 8;

/// What is measured, and what a sink makes of it.
#[derive(Arbitrary, Debug)]
pub struct Story<'a> {
    metrics: Vec<Metric<'a>>,
    ticks: Vec<Vec<Event<'a>>>,
    prefix: &'a str,
    tags: Vec<(&'a str, &'a str)>,
    rename: Vec<(&'a str, &'a str)>,
    /// The sink's own text: a namespace or a host.
    pub own: &'a str,
    /// The sink's own choice: a dialect, a limit.
    pub choice: u16,
}

#[derive(Arbitrary, Debug)]
struct Metric<'a> {
    kind: Kind,
    name: Name<'a>,
    unit: &'a str,
    help: &'a str,
    labels: Vec<&'a str>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Arbitrary, Debug)]
enum Name<'a> {
    /// A metric of the agent's own, some of which are special to a sink.
    Own(u8),
    Other(&'a str),
}

const OWN: [&str; 8] =
    ["file.calls", "vfs.calls", "vfs.errors", "vfs.bytes", "task.started", "task.exits", "task.releases", "hook.info"];

/// What happens to one series in a tick.
#[derive(Arbitrary, Debug)]
struct Event<'a> {
    metric: u8,
    labels: [&'a str; 3],
    number: u64,
    slot: u8,
    ends: bool,
}

impl Metric<'_> {
    fn descriptor(&self) -> Arc<Descriptor> {
        let name = match self.name {
            Name::Own(index) => OWN[usize::from(index) % OWN.len()],
            Name::Other(name) => name,
        };
        let make = match self.kind {
            Kind::Counter => Descriptor::counter,
            Kind::Gauge => Descriptor::gauge,
            Kind::Histogram => Descriptor::histogram,
        };
        let labels = self.labels.iter().take(3).map(|key| (*key).to_owned());
        make(name.to_owned(), Unit::new(self.unit.to_owned()), self.help.to_owned()).labels(labels).share()
    }
}

impl Event<'_> {
    /// Records a value as every kind; what the metric is not is refused by the recorder.
    fn record(&self, recorder: &mut Recorder, descriptors: &[Arc<Descriptor>]) {
        let Some(descriptor) = descriptors.get(usize::from(self.metric) % descriptors.len().max(1)) else { return };
        let labels = &self.labels[..descriptor.label_keys().len()];
        // Refused where another metric of this name has other labels.
        let Ok(id) = recorder.series(descriptor, labels) else { return };
        recorder.counter(id, self.number);
        recorder.gauge(id, f64::from_bits(self.number));
        let mut slots = no_slots();
        // Slots that do not overflow their count, as a kernel's do not.
        slots[usize::from(self.slot) % slots.len()] = self.number >> 1;
        recorder.histogram(id, &slots, self.number);
        if self.ends {
            recorder.end(id);
        }
    }
}

impl Story<'_> {
    /// Shows each tick as the sink sees it; after the last one as many without news as it takes for
    /// every series that ended to be gone.
    pub fn tell(&self, mut look: impl FnMut(&View<'_>)) {
        let texts = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().take(MOST).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let selection = Selection {
            prefix: self.prefix.to_owned(),
            tags: texts(&self.tags),
            rename: texts(&self.rename),
            ..Selection::default()
        };
        let descriptors: Vec<_> = self.metrics.iter().take(MOST).map(Metric::descriptor).collect();
        let mut bench = Bench::new();
        for events in self.ticks.iter().take(MOST) {
            let record = |recorder: &mut Recorder| events.iter().for_each(|event| event.record(recorder, &descriptors));
            bench.tick(&selection, record, &mut look);
        }
        for _ in 0..4 {
            bench.tick(&selection, |_| {}, &mut look);
        }
    }
}
