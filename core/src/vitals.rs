//! What the agent counts about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::kind_vitals::KindVitals;
use crate::ledger::Ledger;
use crate::table::Table;

/// What the agent counts about itself. Shared by everything that counts; emitted by the probe type [`VITALS`](crate::VITALS).
#[derive(Debug, Default)]
pub struct Vitals {
    ticks: AtomicU64,
    overruns: AtomicU64,
    clock_steps: AtomicU64,
    probes: Mutex<Vec<ProbeVitals>>,
    kinds: Mutex<Vec<KindVitals>>,
    sinks: Mutex<Vec<(String, Arc<Ledger>)>>,
    absent: Mutex<Vec<AbsentSink>>,
    uncounted: Mutex<Vec<Uncounted>>,
}

/// What the configuration asks for and this machine does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncounted {
    /// A counter such as `file.close`, or `probe NAME` for all of a probe's.
    pub what: String,
    /// Why it is not counted.
    pub reason: String,
}

/// A sink of the configuration that does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentSink {
    /// Its name.
    pub name: String,
    /// Why it does not run, and the way out.
    pub reason: String,
}

/// What is known of one probe.
#[derive(Clone, Debug, Default)]
pub struct ProbeVitals {
    /// The probe's name.
    pub name: String,
    /// How long its last collection took.
    pub duration: Duration,
    /// Collections that failed or panicked.
    pub errors: u64,
    /// Ticks it was left out of because its last collection took longer than an interval, or because it
    /// has panicked.
    pub skips: u64,
}

impl Vitals {
    /// Rounds of collection so far.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Ticks that found the collecting thread busy and were left out.
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }

    /// Times that the wall clock was found set back. Timestamps follow it where it is behind by more than an
    /// interval, and wait for it otherwise.
    pub fn clock_steps(&self) -> u64 {
        self.clock_steps.load(Ordering::Relaxed)
    }

    /// The ledgers of all sinks by name.
    pub fn ledgers(&self) -> Vec<(String, Arc<Ledger>)> {
        self.sinks.lock().clone()
    }

    /// The sinks of the configuration that do not run.
    pub fn absent_sinks(&self) -> Vec<AbsentSink> {
        self.absent.lock().clone()
    }

    /// Says that a sink of the configuration does not run, for the status and for `agent.sink_state`.
    pub fn add_absent_sink(&self, sink: AbsentSink) {
        self.absent.lock().push(sink);
    }

    /// What the configuration asks for and is not counted.
    pub fn uncounted(&self) -> Vec<Uncounted> {
        self.uncounted.lock().clone()
    }

    /// Says that something is not counted here, for the table and the status.
    pub fn add_uncounted(&self, what: impl Into<String>, reason: impl Into<String>) {
        self.uncounted.lock().push(Uncounted { what: what.into(), reason: reason.into() });
    }

    /// What is known of each probe.
    pub fn probes(&self) -> Vec<ProbeVitals> {
        self.probes.lock().clone()
    }

    /// What is known of each kind whose rows come and go.
    pub fn kinds(&self) -> Vec<KindVitals> {
        self.kinds.lock().clone()
    }

    /// Notes what the kinds have now. Costs no memory but where a kind is new.
    pub(crate) fn set_kinds<'a>(&self, tables: impl Iterator<Item = &'a Table>) {
        let kinds = &mut *self.kinds.lock();
        for (index, table) in tables.filter(|table| table.layout.kind.has_start_times()).enumerate() {
            if kinds.len() == index {
                let kind = table.layout.kind.name().to_owned();
                kinds.push(KindVitals { kind, limit: table.layout.kind.row_limit(), ..KindVitals::default() });
            }
            table.tell(&mut kinds[index]);
        }
    }

    /// Looks at the probes without copying them.
    pub(crate) fn with_probes<R>(&self, look: impl FnOnce(&[ProbeVitals]) -> R) -> R {
        look(&self.probes.lock())
    }

    /// Looks at the ledgers without copying their names.
    pub(crate) fn with_ledgers<R>(&self, look: impl FnOnce(&[(String, Arc<Ledger>)]) -> R) -> R {
        look(&self.sinks.lock())
    }

    /// Looks at the absent sinks without copying them.
    pub(crate) fn with_absent<R>(&self, look: impl FnOnce(&[AbsentSink]) -> R) -> R {
        look(&self.absent.lock())
    }

    pub(crate) fn count_tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_overrun(&self) {
        self.overruns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_clock_step(&self) {
        self.clock_steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_probe(&self, name: &str) {
        self.probes.lock().push(ProbeVitals { name: name.to_owned(), ..ProbeVitals::default() });
    }

    pub(crate) fn update_probe(&self, index: usize, update: impl FnOnce(&mut ProbeVitals)) {
        if let Some(probe) = self.probes.lock().get_mut(index) {
            update(probe);
        }
    }

    pub(crate) fn add_sink(&self, name: &str, ledger: &Arc<Ledger>) {
        self.sinks.lock().push((name.to_owned(), Arc::clone(ledger)));
    }
}
