//! One loaded object: its programs, where they are attached, its records and its filter.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use aya::Ebpf;

use crate::abi::{Record, Slot};
use crate::attach::{Links, Loss};
use crate::call::RECORDS;
use crate::candidate::Candidate;
use crate::filter::Aimed;
use crate::hook::{Attach, Hook};
use crate::kernel::Kernel;
use crate::maps::Maps;
use crate::object::Object;
use crate::object_maps::ObjectMaps;
use crate::options::Tier;
use crate::totals::Totals;
use crate::vigil::{HOOKS, Seen};
use crate::who::{self, SharedInbox, Table};
use crate::workshop::Source;

/// An object in the kernel. What it holds is let go of in the order of the fields.
pub(crate) struct Programs {
    links: Links,
    source: Source,
    pub(crate) object: Object,
    /// Why it is the floor's, where the other would have been better.
    pub(crate) not_core: Option<String>,
    totals: Totals,
    maps: ObjectMaps,
    possible_cpus: usize,
}

impl Programs {
    /// Of an object that was loaded from these bytes, whose filter is aimed. The names of tracefs events begin with `prefix`:
    /// those of a test stand beside those that count.
    pub(crate) fn new(
        ebpf: Ebpf,
        maps: ObjectMaps,
        (object, bytes): (Object, &[u8]),
        possible_cpus: usize,
        prefix: &'static str,
        aimed: Aimed,
    ) -> io::Result<Self> {
        who::vacate(&maps)?;
        let totals = Totals::new(&maps, bytes, possible_cpus)?;
        let (links, source) = (Links::new(prefix, aimed), Source::Object(Box::new(ebpf)));
        Ok(Self { links, source, object, not_core: None, totals, maps, possible_cpus })
    }

    /// Loads the programs of these hooks: from here on no others can be attached.
    pub(crate) fn load_all(&mut self, kernel: &Kernel, hooks: &[Hook]) {
        self.source.load_all(kernel, hooks);
    }

    /// Lets go of what is needed to load programs: from here on there are those that stand.
    pub(crate) fn close(&mut self) {
        self.source = Source::Closed;
    }

    /// Whether the object has all programs of a candidate.
    pub(crate) fn can_serve(&self, candidate: &Candidate) -> bool {
        candidate.hooks.iter().all(|hook| self.source.has(&hook.program))
    }

    /// Attaches all of these hooks, or none. The error says why in words.
    pub(crate) fn attach(&mut self, kernel: &Kernel, hooks: &[Hook]) -> Result<(), String> {
        for (attached, hook) in hooks.iter().enumerate() {
            if let Err(problem) = self.links.attach(&mut self.source, kernel, hook) {
                self.detach(&hooks[..attached]);
                return Err(problem);
            }
        }
        if hooks.iter().all(|hook| !self.links.is_somewhere(hook)) && !hooks.is_empty() {
            self.detach(hooks);
            return Err(no_such_events(kernel, hooks));
        }
        Ok(())
    }

    /// Lets go of hooks that nobody else uses.
    pub(crate) fn detach<'a>(&mut self, hooks: impl IntoIterator<Item = &'a Hook>) {
        self.links.detach(&mut self.source, hooks);
    }

    /// Whether all of a candidate's hooks are trace events on which we stand already.
    pub(crate) fn stand_on_events(&self, candidate: &Candidate) -> bool {
        self.links.stand_on_events(candidate)
    }

    /// Takes the numbers of now: the records and what breakpoints missed; of the last look also those of processes that
    /// have no name yet.
    pub(crate) fn refresh(&mut self, patience: Duration) -> io::Result<()> {
        self.totals.refresh(patience);
        self.links.refresh()
    }

    /// The sum over all processors of these records, as of the last refresh.
    pub(crate) fn sum(&mut self, tier: Tier, slots: &[Slot]) -> io::Result<Record> {
        self.totals.sum(tier, slots)
    }

    /// How many events the kernel left a candidate's hooks out of, for breakpoints as of the last refresh.
    pub(crate) fn missed_of(&self, candidate: &Candidate) -> io::Result<u64> {
        self.links.missed_of(candidate)
    }

    /// What the records of a candidate's hooks hold now.
    pub(crate) fn seen(&mut self, candidate: &Candidate) -> io::Result<Seen> {
        self.refresh(Duration::ZERO)?;
        let mut seen = Seen { calls: [0; HOOKS], missed: self.missed_of(candidate)? };
        for (calls, hook) in seen.calls.iter_mut().zip(candidate.proofs()) {
            *calls = self.sum(candidate.tier, &hook.proof)?.calls;
        }
        Ok(seen)
    }

    /// Lets go of a candidate's hooks and attaches them again.
    pub(crate) fn attach_again(&mut self, candidate: &Candidate) -> io::Result<()> {
        let possible_cpus = self.possible_cpus;
        let mut attach = |losses: &[Loss<'_>]| -> io::Result<Vec<OwnedFd>> {
            losses.iter().map(|loss| loss.attach(possible_cpus)).collect()
        };
        self.links.attach_again(&candidate.hooks, &mut attach)
    }

    /// What the program that guards a filter's target is; see [`Filter::guard`].
    pub(crate) fn attach_guard(&mut self, kernel: &Kernel, guard: &Hook) -> Result<(), String> {
        self.links.attach(&mut self.source, kernel, guard)
    }

    /// Attaches what follows processes, behind the programs that count. The error says why in words.
    pub(crate) fn follow(&mut self, kernel: &Kernel) -> Result<(), String> {
        who::hooks().iter().try_for_each(|hook| {
            let attached = self.links.attach(&mut self.source, kernel, hook);
            attached.map_err(|problem| format!("{}: {problem}", hook.attach.target()))
        })
    }

    /// The gains of processes from now on, where the object tells by whom.
    pub(crate) fn subscribe(&mut self) -> Option<SharedInbox> {
        self.totals.by_whom.as_mut().map(Table::subscribe)
    }

    /// Reads these records alone, where the object tells by whom.
    pub(crate) fn read_only(&mut self, slots: &[Slot]) {
        if let Some(table) = &mut self.totals.by_whom {
            table.read_only(slots);
        }
    }

    /// How many records there are of system calls.
    pub(crate) fn records(&self) -> usize {
        self.totals.by_whom.as_ref().map_or(RECORDS, Table::records)
    }

    /// The object's maps, for whoever reads them himself; `counters` have a hook.
    pub(crate) fn maps(&self, counters: Vec<&'static str>) -> io::Result<Maps> {
        Maps::of(&self.maps, self.possible_cpus, counters)
    }
}

fn no_such_events(kernel: &Kernel, hooks: &[Hook]) -> String {
    let events = hooks.iter().filter_map(|hook| match &hook.attach {
        Attach::Event(event) => Some(event.as_str()),
        _ => None,
    });
    let events: Vec<&str> = events.collect();
    kernel.tracefs.as_ref().map_or_else(Clone::clone, |tracefs| tracefs.no_such_events(&events))
}
