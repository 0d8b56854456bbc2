//! A probe that records what it is told to.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::entity::{EntityKind, Refused};
use crate::error::ProbeError;
use crate::metric::{Column, MetricKind, Unit};
use crate::probe::Probe;
use crate::recorder::Recorder;

/// The kind of the kit's rows.
const KIND: &str = "conformance_row";

/// A row: the number by which it is known, and its label.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub(super) identity: u64,
    pub(super) label: String,
}

/// A metric, of the host or of rows.
#[derive(Clone, Debug)]
pub(super) struct What {
    /// The word in its name.
    pub(super) word: String,
    pub(super) kind: MetricKind,
}

impl What {
    fn column(&self) -> Column {
        let name = format!("conformance_test.{}", self.word);
        match self.kind {
            MetricKind::Counter => Column::counter(name, Unit::CALLS, "A made-up counter"),
            MetricKind::Gauge => Column::gauge(name, Unit::BYTES, "A made-up level"),
            MetricKind::Histogram => Column::histogram(name, Unit::BYTES, "A made-up distribution").slots(0..=40),
        }
    }
}

/// What is to be recorded for a cell.
#[derive(Clone, Debug)]
pub(super) enum Number {
    Counter(u64),
    Gauge(f64),
    /// Counts by slot, from slot 0 on, and the sum.
    Histogram(Vec<u64>, u64),
}

/// What a probe does in a tick.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// It records a number, of the host where nobody is named.
    Record(What, Option<Who>, Number),
    /// A row ends.
    End(Who),
}

/// Where the deeds of the next tick are put.
pub(super) type Script = Arc<Mutex<Vec<Deed>>>;

/// The probe.
pub(super) struct Player(pub(super) Script, pub(super) usize);

impl Player {
    fn play(&self, recorder: &mut Recorder, deed: &Deed) -> Result<(), Refused> {
        let kind = match recorder.existing_kind(KIND) {
            Some(kind) => kind,
            None => recorder.kind(EntityKind::new(KIND).keys(["name"]).limit(self.1))?,
        };
        match deed {
            Deed::Record(what, who, number) => {
                let (kind, row) = match who {
                    Some(who) => (kind, recorder.row(kind, who.identity, &[&who.label])?),
                    None => (recorder.host_kind(), recorder.host()),
                };
                let column = recorder.column(kind, what.column())?;
                match number {
                    Number::Counter(total) => recorder.counter(row, column, *total),
                    Number::Gauge(level) => recorder.gauge(row, column, *level),
                    Number::Histogram(slots, sum) => recorder.histogram(row, column, slots, *sum),
                }
            }
            Deed::End(who) => {
                let row = recorder.row(kind, who.identity, &[&who.label])?;
                recorder.end(row);
            }
        }
        Ok(())
    }
}

impl Probe for Player {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        let deeds = std::mem::take(&mut *self.0.lock());
        deeds.iter().try_for_each(|deed| self.play(recorder, deed)).map_err(ProbeError::new)
    }
}
