//! What stands for a probe, and its numbers.

use std::io;
use std::time::Duration;

use ebpf_process_core::BuildError;
use tracing::warn;

use crate::abi::Record;
use crate::attach::{AttachLost, can_attach_again};
use crate::built::{Built, BuiltCalls, Chosen};
use crate::calls::Share;
use crate::candidate::Candidate;
use crate::doubt::Doubt;
use crate::exactness::Facts;
use crate::hook::CounterReport;
use crate::kernel_probe::KernelProbe;
use crate::maps::Maps;
use crate::memory::{MapMemory, SharedMemory};
use crate::options::ProbeOptions;
use crate::preemption::InForce;
use crate::programs::Programs;
use crate::refusal::REBUILD;
use crate::selftest::Trial;
use crate::switches::Board;
use crate::vigil::Seen;
use crate::watch::{Filters, Watch};
use crate::who::{SharedInbox, Sizes};

/// The kernel's side of a probe: what is attached, and where its numbers are.
pub(crate) struct Attachment {
    /// The probe's own programs, if it has any.
    own: Option<Programs>,
    /// Those of system calls, if a counter stands on them.
    calls: Option<Share>,
    /// The look at their numbers that it had last.
    walk: u64,
    /// What they gain, of its own table and of that of system calls.
    pub(crate) inboxes: Inboxes,
    pub(crate) chosen: Vec<Chosen>,
    pub(crate) reports: Vec<CounterReport>,
    /// What the probe's own maps take.
    pub(crate) memory: MapMemory,
    /// How many processors may ever be there.
    pub(crate) possible_cpus: usize,
    /// What of the machine decided on exactness.
    pub(crate) facts: Facts,
    /// What of the machine may change meanwhile.
    pub(crate) in_force: InForce,
    pub(crate) switches: Board,
    /// What the hooks were tested with, to be let go when there is time.
    pub(crate) trial: Option<Trial>,
    /// Where only somebody counts.
    pub(crate) watch: Option<Watch>,
}

/// What the processes gain, of its own table and of that of system calls.
#[derive(Default)]
pub(crate) struct Inboxes {
    pub(crate) own: Option<SharedInbox>,
    pub(crate) calls: Option<SharedInbox>,
}

impl Attachment {
    /// Of what was built, here or by another process.
    pub(crate) fn new(probe: &KernelProbe, options: &ProbeOptions, built: Built) -> Result<Self, BuildError> {
        let memory = memory(probe, options, &built)?;
        let Built { possible_cpus, own, calls, chosen, reports, facts, target, in_force, switches, trial } = built;
        let (own, filter, unguarded) =
            own.map_or((None, None, None), |own| (Some(own.programs), Some(own.filter), own.unguarded));
        let calls = match calls {
            None => None,
            Some(BuiltCalls::Here(share)) => Some(share),
            Some(BuiltCalls::New(_) | BuiltCalls::Shared(..)) => {
                return Err(BuildError::refused("nobody watches its calls", "this is a mistake, please report it"));
            }
        };
        let unguarded = unguarded.or_else(|| calls.as_ref().and_then(|calls| calls.lock().unguarded.clone()));
        let filters = Filters { own: filter, calls: calls.as_ref().map(Share::programs) };
        let mut attachment = Self {
            own,
            calls,
            walk: 0,
            inboxes: Inboxes::default(),
            chosen,
            reports,
            memory,
            possible_cpus,
            facts,
            in_force,
            switches,
            trial,
            watch: Watch::new(filters, target),
        };
        if let Some(problem) = unguarded {
            warn!(
                probe = probe.name,
                "only: what comes after the one that counts is noticed at the next look only: {problem}"
            );
            attachment.add_doubt(Doubt::Unguarded);
        }
        Ok(attachment)
    }

    /// Of every counter, wherever it is told.
    fn add_doubt(&mut self, doubt: Doubt) {
        let reported = self.reports.iter_mut().filter_map(|report| report.hook.as_mut());
        for hook in self.chosen.iter_mut().map(|chosen| &mut chosen.hook).chain(reported) {
            hook.add_doubt(doubt);
        }
    }

    /// What the maps of the system calls take, which probes share.
    pub(crate) fn calls_memory(&self) -> Option<SharedMemory> {
        self.calls.as_ref().map(|calls| calls.lock().memory.clone())
    }

    /// The probe's own maps.
    pub(crate) fn maps(&self) -> io::Result<Option<Maps>> {
        let counters = || self.chosen.iter().map(|chosen| chosen.counter.name).collect();
        self.own.as_ref().map(|own| own.maps(counters())).transpose()
    }

    /// Takes the numbers of this tick.
    pub(crate) fn refresh(&mut self, patience: Duration) -> io::Result<()> {
        let walk = &mut self.walk;
        let calls = self.calls.as_ref().map_or(Ok(()), |calls| calls.lock().refresh_for(walk, patience));
        self.own.as_mut().map_or(Ok(()), |own| own.refresh(patience)).and(calls)
    }

    /// What a part of a chosen counter has counted since the baseline, as of the last refresh.
    pub(crate) fn since_baseline(&mut self, index: usize, part: usize) -> io::Result<Record> {
        let base = self.chosen.get(index).and_then(|chosen| chosen.base.get(part)).copied().unwrap_or_default();
        Ok(self.sum(index, part)?.since(base))
    }

    fn sum(&mut self, index: usize, part: usize) -> io::Result<Record> {
        self.with(index, |programs, candidate| {
            programs.sum(candidate.tier, candidate.parts.get(part).map_or(&[], Vec::as_slice))
        })
    }

    /// How many events the kernel left a chosen counter's hooks out of, as of the last refresh.
    pub(crate) fn missed(&mut self, index: usize) -> io::Result<u64> {
        self.with(index, |programs, candidate| programs.missed_of(candidate))
    }

    /// What the records of a chosen counter's hooks hold.
    pub(crate) fn seen(&mut self, index: usize) -> io::Result<Seen> {
        self.with(index, Programs::seen)
    }

    /// Whether this kernel attaches what was attached already.
    pub(crate) fn can_attach_again(&self, candidate: &Candidate) -> bool {
        candidate.hooks.iter().all(|hook| can_attach_again(hook, self.facts.version))
    }

    /// Lets go of a chosen counter's hooks and has them attached again, unless others show that they fire. Whether it was
    /// done.
    pub(crate) fn attach_again(&mut self, index: usize, attach: &mut AttachLost<'_>) -> io::Result<bool> {
        match (&self.calls, self.chosen.get(index)) {
            (Some(calls), Some(chosen)) if chosen.candidate.is_of_calls() => {
                calls.lock().attach_again(&chosen.candidate, attach)
            }
            _ => {
                let again = |programs: &mut Programs, candidate: &Candidate| {
                    programs.links.attach_again(&candidate.hooks, attach)
                };
                self.with(index, again).map(|()| true)
            }
        }
    }

    /// Does something with the programs that a chosen counter stands on.
    fn with<R>(&mut self, index: usize, act: impl FnOnce(&mut Programs, &Candidate) -> io::Result<R>) -> io::Result<R> {
        let candidate = self.chosen.get(index).map(|chosen| &chosen.candidate).ok_or(io::ErrorKind::NotFound)?;
        match (&self.calls, &mut self.own) {
            (Some(calls), _) if candidate.is_of_calls() => act(&mut calls.lock().programs, candidate),
            (_, Some(own)) => act(own, candidate),
            (_, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Takes the numbers of now, whoever has taken those of the same programs a moment ago.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        if let Some(calls) = &self.calls {
            calls.lock().refresh(Duration::ZERO)?;
        }
        self.own.as_mut().map_or(Ok(()), |own| own.refresh(Duration::ZERO))
    }

    /// Counts from the numbers that were taken last: of programs that others share, whoever has taken them.
    pub(crate) fn set_baseline(&mut self) -> io::Result<()> {
        self.walk = self.calls.as_ref().map_or(0, |calls| calls.lock().walked());
        // What is gained from here on is what comes on top of the baseline.
        self.inboxes.own = self.own.as_mut().and_then(Programs::subscribe);
        self.inboxes.calls = self.calls.as_ref().and_then(|calls| calls.lock().programs.subscribe());
        for index in 0..self.chosen.len() {
            let parts = self.chosen[index].candidate.parts.len();
            let base = (0..parts).map(|part| self.sum(index, part)).collect::<io::Result<_>>()?;
            let missed_base = self.missed(index)?;
            let chosen = &mut self.chosen[index];
            (chosen.base, chosen.missed_base) = (base, missed_base);
        }
        Ok(())
    }
}

/// What the probe's own maps take.
fn memory(probe: &KernelProbe, options: &ProbeOptions, built: &Built) -> Result<MapMemory, BuildError> {
    let Some((objects, own)) = probe.objects.as_ref().zip(built.own.as_ref()) else {
        return Ok(MapMemory { possible_cpus: built.possible_cpus as u64, ..MapMemory::default() });
    };
    let object = own.programs.object;
    let bytes = objects.bytes(object).unwrap_or_default();
    let sizes = Sizes::if_by_whom(object, bytes, options.who().map_or(0, |who| who.processes));
    MapMemory::of(bytes, built.possible_cpus, &sizes)
        .map_err(|error| BuildError::refused(format!("the probe's own object cannot be read: {error}"), REBUILD))
}
