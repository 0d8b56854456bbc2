//! What the agent counts about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::condition::{Condition, SharedCondition, State};
use crate::kind_vitals::KindVitals;
use crate::ledger::{Ledger, Tally};
use crate::table::Table;

/// What the agent counts about itself. Shared by everything that counts; emitted by the probe type [`VITALS`](crate::VITALS).
#[derive(Debug, Default)]
pub struct Vitals {
    ticks: AtomicU64,
    overruns: AtomicU64,
    clock_steps: AtomicU64,
    probes: Mutex<Vec<ProbeVitals>>,
    kinds: Mutex<Vec<KindVitals>>,
    sinks: Mutex<Vec<SinkVitals>>,
    uncounted: Mutex<Vec<Uncounted>>,
    /// The probe that is being built: what it says is not counted is its own.
    building: Mutex<Option<String>>,
    /// How many probes and sinks there ever were: each has a number.
    numbers: AtomicU64,
}

/// What the configuration asks for and this machine does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uncounted {
    /// A counter such as `file.close`, or `probe NAME` for all of a probe's.
    pub what: String,
    /// Why it is not counted.
    pub reason: String,
    /// The probe that would count it, if it is one's.
    pub probe: Option<String>,
}

/// What is known of one probe.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProbeVitals {
    /// The probe's name.
    pub name: String,
    /// How long its last collection took.
    pub duration: Duration,
    /// Collections that failed or panicked.
    pub errors: u64,
    /// Ticks it was left out of because its last collection took longer than an interval, because
    /// it had none in time, or because it was not there.
    pub skips: u64,
    pub(crate) number: u64,
    pub(crate) condition: Arc<SharedCondition>,
    /// It was taken out of the agent; its row is to end.
    pub(crate) is_gone: bool,
}

impl ProbeVitals {
    /// How it fares, since when and, unless it works, why.
    pub fn condition(&self) -> Condition {
        self.condition.look()
    }

    pub(crate) fn state(&self) -> State {
        self.condition.state()
    }
}

/// What is known of one sink: what it is now, and what became of the samples of those that had its name before.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkVitals {
    /// The sink's name.
    pub name: String,
    /// The book of the one that runs.
    pub ledger: Arc<Ledger>,
    /// Those of its predecessors that still finish.
    finishing: Vec<Arc<Ledger>>,
    /// The sum of those that have.
    past: Tally,
    /// The most samples that were told to be offered.
    told: u64,
    pub(crate) number: u64,
    /// It was taken out of the agent; its row is to end.
    pub(crate) is_gone: bool,
}

impl SinkVitals {
    /// What became of all samples that were meant for a sink of this name. What a predecessor has left on disk is whose
    /// who finds it there: it is in the sum once the one that runs has found it.
    pub fn tally(&self) -> Tally {
        self.read(Clone::clone)
    }

    /// The same without copying it, where there was no other of the name.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&Tally) -> R) -> R {
        if self.finishing.is_empty() && self.past == Tally::default() {
            return self.ledger.read(look);
        }
        let mut sum = self.past.clone();
        for ledger in &self.finishing {
            ledger.read(|tally| sum.add(tally));
        }
        sum.leave_spooled();
        self.ledger.read(|tally| sum.add(tally));
        look(&sum)
    }

    fn retire(&mut self, ledger: &Arc<Ledger>) {
        self.finishing.retain(|other| !Arc::ptr_eq(other, ledger));
        ledger.read(|tally| self.past.add(tally));
        self.past.leave_spooled();
    }

    /// Samples that were offered, for a counter: never fewer than before, also while a successor has not taken over yet
    /// what its predecessor has given up.
    pub(crate) fn offered(&mut self, offered: u64) -> u64 {
        self.told = self.told.max(offered);
        self.told
    }
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

    /// What is known of each sink.
    pub fn sinks(&self) -> Vec<SinkVitals> {
        self.sinks.lock().iter().filter(|sink| !sink.is_gone).cloned().collect()
    }

    /// What the configuration asks for and is not counted.
    pub fn uncounted(&self) -> Vec<Uncounted> {
        self.uncounted.lock().clone()
    }

    /// Says that something is not counted here, for the table and the status.
    pub fn add_uncounted(&self, what: impl Into<String>, reason: impl Into<String>) {
        let probe = self.building.lock().clone();
        self.uncounted.lock().push(Uncounted { what: what.into(), reason: reason.into(), probe });
    }

    /// What is known of each probe.
    pub fn probes(&self) -> Vec<ProbeVitals> {
        self.probes.lock().iter().filter(|probe| !probe.is_gone).cloned().collect()
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

    /// Looks at the probes without copying them, and forgets those that are gone afterwards.
    pub(crate) fn with_probes<R>(&self, look: impl FnOnce(&[ProbeVitals]) -> R) -> R {
        let probes = &mut *self.probes.lock();
        let seen = look(probes);
        probes.retain(|probe| !probe.is_gone);
        seen
    }

    /// Looks at the sinks without copying their names, and forgets those that are gone afterwards.
    pub(crate) fn with_sinks<R>(&self, look: impl FnOnce(&mut [SinkVitals]) -> R) -> R {
        let sinks = &mut *self.sinks.lock();
        let seen = look(sinks);
        sinks.retain(|sink| !sink.is_gone);
        seen
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

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A probe of this name is in the agent: its number. One that was there a moment ago goes on.
    pub(crate) fn add_probe(&self, name: &str) -> u64 {
        let probes = &mut *self.probes.lock();
        if let Some(known) = probes.iter_mut().find(|probe| probe.name == name && probe.is_gone) {
            known.is_gone = false;
            known.condition = Arc::default();
            return known.number;
        }
        let number = self.number();
        probes.push(ProbeVitals {
            name: name.to_owned(),
            duration: Duration::ZERO,
            errors: 0,
            skips: 0,
            number,
            condition: Arc::default(),
            is_gone: false,
        });
        number
    }

    /// What is said to be uncounted from here on is this probe's; what it said before is forgotten.
    pub(crate) fn begins_building(&self, probe: &str) {
        self.uncounted.lock().retain(|uncounted| uncounted.probe.as_deref() != Some(probe));
        *self.building.lock() = Some(probe.to_owned());
    }

    pub(crate) fn ends_building(&self) {
        *self.building.lock() = None;
    }

    pub(crate) fn update_probe(&self, number: u64, update: impl FnOnce(&mut ProbeVitals)) {
        if let Some(probe) = self.probes.lock().iter_mut().find(|probe| probe.number == number) {
            update(probe);
        }
    }

    /// A probe is no longer in the agent.
    pub(crate) fn remove_probe(&self, number: u64) {
        self.update_probe(number, |probe| {
            probe.is_gone = true;
            let name = Some(probe.name.as_str());
            self.uncounted.lock().retain(|uncounted| uncounted.probe.as_deref() != name);
        });
    }

    /// A sink of this name is in the agent, in the place of one that finishes or was there a moment ago.
    pub(crate) fn add_sink(&self, name: &str, ledger: &Arc<Ledger>) {
        let sinks = &mut *self.sinks.lock();
        if let Some(known) = sinks.iter_mut().find(|sink| sink.name == name) {
            let former = std::mem::replace(&mut known.ledger, Arc::clone(ledger));
            known.finishing.push(Arc::clone(&former));
            if std::mem::take(&mut known.is_gone) {
                known.retire(&former);
            }
            return;
        }
        sinks.push(SinkVitals {
            name: name.to_owned(),
            ledger: Arc::clone(ledger),
            finishing: Vec::new(),
            past: Tally::default(),
            told: 0,
            number: self.number(),
            is_gone: false,
        });
    }

    /// What became of all samples of a name, at the end of the one whose book this is. None where another one has taken
    /// its place.
    pub(crate) fn closed(&self, name: &str, ledger: &Arc<Ledger>) -> Option<Tally> {
        let sinks = self.sinks.lock();
        // Two that were added under one name by hand are two.
        let Some(sink) = sinks.iter().find(|sink| sink.name == name) else { return Some(ledger.tally()) };
        Arc::ptr_eq(&sink.ledger, ledger).then(|| sink.tally())
    }

    /// A sink that was taken out of the agent, or replaced, has finished; its book is closed.
    pub(crate) fn retire_sink(&self, name: &str, ledger: &Arc<Ledger>) {
        let sinks = &mut *self.sinks.lock();
        let Some(known) = sinks.iter_mut().find(|sink| sink.name == name) else { return };
        if Arc::ptr_eq(&known.ledger, ledger) {
            known.is_gone = true;
        } else {
            known.retire(ledger);
        }
    }
}
