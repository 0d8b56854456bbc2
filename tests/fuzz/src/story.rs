//! A story that an input tells an encoder: kinds of entity, metrics, a sink's selection, and some ticks.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Column, ColumnId, EntityKind, KindId, Recorder, Selection, Unit, View};

/// Kinds, metrics and ticks; more of any finds nothing new and takes longer.
const MOST: usize = 8;

/// What is measured, and what a sink makes of it.
#[derive(Arbitrary, Debug)]
pub struct Story<'a> {
    entities: Vec<Entity<'a>>,
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

/// A kind of entity; what a metric or an event takes for the first one is the host.
#[derive(Arbitrary, Debug)]
struct Entity<'a> {
    name: &'a str,
    keys: Vec<&'a str>,
    limit: u8,
    names_as_they_are: bool,
}

#[derive(Arbitrary, Debug)]
struct Metric<'a> {
    kind: Kind,
    entity: u8,
    name: Name<'a>,
    unit: &'a str,
    help: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    slots: (u8, u8),
    scale: u8,
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

/// What one of the recorded numbers is in the unit.
const SCALES: [f64; 6] = [1.0, 1e-9, 1e-6, 0.3, 60.0, 4096.0];

/// What happens to one row in a tick.
#[derive(Arbitrary, Debug)]
struct Event<'a> {
    metric: u8,
    identity: u8,
    labels: [&'a str; 3],
    number: u64,
    slot: u8,
    adds: bool,
    ends: bool,
}

impl Entity<'_> {
    fn kind(&self) -> EntityKind {
        let keys = self.keys.iter().take(3).map(|key| (*key).to_owned());
        let kind = EntityKind::new(self.name.to_owned()).keys(keys).limit(self.limit.into());
        if self.names_as_they_are { kind.names_as_they_are() } else { kind }
    }
}

impl Metric<'_> {
    fn column(&self) -> Column {
        let name = match self.name {
            Name::Own(index) => OWN[usize::from(index) % OWN.len()],
            Name::Other(name) => name,
        };
        let make = match self.kind {
            Kind::Counter => Column::counter,
            Kind::Gauge => Column::gauge,
            Kind::Histogram => Column::histogram,
        };
        let labels = self.labels.iter().take(3).map(|(key, value)| ((*key).to_owned(), value));
        let column = make(name.to_owned(), Unit::new(self.unit.to_owned()), self.help.to_owned()).labels(labels);
        column.slots(self.slots.0..=self.slots.1).scale(SCALES[usize::from(self.scale) % SCALES.len()])
    }
}

/// A column with its kind and how many label values a row of that has.
type Place = (KindId, usize, ColumnId);

impl Event<'_> {
    /// Records a value as every kind; what the metric is not is refused by the recorder.
    fn record(&self, recorder: &mut Recorder, places: &[Place]) {
        let Some(&(kind, keys, column)) = places.get(usize::from(self.metric) % places.len().max(1)) else { return };
        let row = if kind == recorder.host_kind() {
            recorder.host()
        } else {
            let Ok(row) = recorder.row(kind, self.identity.into(), &self.labels[..keys]) else { return };
            row
        };
        let mut slots = no_slots();
        // Slots that do not overflow their count, as a kernel's do not.
        slots[usize::from(self.slot) % slots.len()] = self.number >> 8;
        if self.adds {
            recorder.add(row, column, self.number >> 8);
            recorder.add_histogram(row, column, &slots, self.number >> 8);
        } else {
            recorder.counter(row, column, self.number);
            recorder.gauge(row, column, f64::from_bits(self.number));
            recorder.histogram(row, column, &slots, self.number);
        }
        if self.ends {
            recorder.end(row);
        }
    }
}

impl Story<'_> {
    /// Shows each tick as the sink sees it; after the last one as many without news as it takes for
    /// every row that ended to be gone.
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
        let mut bench = Bench::new();
        let places = self.declare(bench.recorder());
        for events in self.ticks.iter().take(MOST) {
            let record = |recorder: &mut Recorder| events.iter().for_each(|event| event.record(recorder, &places));
            bench.tick(&selection, record, &mut look);
        }
        for _ in 0..4 {
            bench.tick(&selection, |_| {}, &mut look);
        }
    }

    /// All that the recorder does not refuse.
    fn declare(&self, recorder: &mut Recorder) -> Vec<Place> {
        let mut kinds = vec![(recorder.host_kind(), 0)];
        for kind in self.entities.iter().take(MOST).map(Entity::kind) {
            let keys = kind.label_keys().len();
            kinds.extend(recorder.kind(kind).map(|id| (id, keys)));
        }
        let mut places = Vec::new();
        for metric in self.metrics.iter().take(MOST) {
            let (kind, keys) = kinds[usize::from(metric.entity) % kinds.len()];
            places.extend(recorder.column(kind, metric.column()).map(|column| (kind, keys, column)));
        }
        places
    }
}
