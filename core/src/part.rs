//! What an agent is to consist of: probes and sinks with what it takes to build them, also later and again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::error::BuildError;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::outlet_spec::OutletSpec;
use crate::probe::ProbePlugin;
use crate::sink::{Legacy, Scope, Sink, SinkPlugin, Stop};

/// Builds a sink with this ledger and this signal to stop. Called on the sink's thread, and again, later and later, as long
/// as it is refused in passing, or after the sink has panicked.
pub type SinkMaker = Box<dyn FnMut(Arc<Ledger>, Stop) -> Result<Box<dyn Sink>, BuildError> + Send>;

/// A probe of an agent.
#[derive(Clone)]
pub struct ProbePart {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub plugin: Arc<dyn ProbePlugin>,
    /// Its options. Where they are others, the probe is attached anew.
    pub options: Options,
}

/// A sink of an agent.
pub struct SinkPart {
    /// Its name, its selection and its queue.
    pub spec: OutletSpec,
    /// Its type.
    pub plugin: Arc<dyn SinkPlugin>,
    /// Its options. Where they are others, another sink takes its place.
    pub options: Options,
    /// What else it was built with.
    pub setting: Setting,
    /// Builds it.
    pub make: SinkMaker,
}

/// What a sink is built with beside its options: where it is something else, another sink takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The agent's name.
    pub instance: Option<String>,
    /// The time between two batches for this sink.
    pub interval: Duration,
    /// What the numbers describe.
    pub scope: Scope,
}

/// What an agent is to be from now on; see [`Remote::apply`](crate::remote::Remote::apply).
pub struct Parts {
    /// The time between two batches.
    pub interval: Duration,
    /// How long sinks may take that are taken out or replaced.
    pub grace: Duration,
    /// The probes, in the order in which they are asked.
    pub probes: Vec<ProbePart>,
    /// The sinks.
    pub sinks: Vec<SinkPart>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let probes: Vec<_> = self.probes.iter().map(|probe| &probe.name).collect();
        let sinks: Vec<_> = self.sinks.iter().map(|sink| &sink.spec.name).collect();
        f.debug_struct("Parts").field("probes", &probes).field("sinks", &sinks).finish_non_exhaustive()
    }
}

/// By what a sink is known again.
#[derive(Clone, Debug)]
pub(crate) struct SinkKey {
    pub(crate) plugin: String,
    pub(crate) options: Options,
    pub(crate) setting: Setting,
}

impl SinkKey {
    pub(crate) fn of(part: &SinkPart) -> Self {
        Self { plugin: part.plugin.name().to_owned(), options: part.options.clone(), setting: part.setting.clone() }
    }

    pub(crate) fn is(&self, part: &SinkPart) -> bool {
        self.plugin == part.plugin.name() && self.setting == part.setting && self.options.is_same(&part.options)
    }
}

/// A sink that finishes, and whose place another one takes.
#[derive(Debug)]
pub(crate) struct Predecessor {
    /// Gets what it leaves, or hangs up when it leaves nothing.
    pub(crate) legacy: Receiver<Legacy>,
    /// Hangs up when its thread has ended.
    pub(crate) ended: Receiver<()>,
    /// When it is waited for no longer.
    pub(crate) deadline: Instant,
}

impl Predecessor {
    /// Waits for its end, no longer than it may take.
    pub(crate) fn wait(self) -> Option<Legacy> {
        let legacy = self.legacy.recv_deadline(self.deadline).ok();
        // What both need it lets go of at its very end. Nothing is ever sent.
        let _ = self.ended.recv_deadline(self.deadline);
        legacy
    }
}
