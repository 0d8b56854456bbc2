//! One loaded object: its programs, where they are attached, its records and its filter.

use std::io;
use std::time::Duration;

use crate::abi::{Record, Slot};
use crate::attach::Links;
use crate::candidate::Candidate;
use crate::hook::Hook;
use crate::kernel::Kernel;
use crate::maps::Maps;
use crate::object::Object;
use crate::object_maps::ObjectMaps;
use crate::options::Tier;
use crate::totals::Totals;
use crate::vigil::{HOOKS, Seen};
use crate::who::{self, SharedInbox, Table};

/// An object in the kernel. What it holds is let go of in the order of the fields.
pub(crate) struct Programs {
    pub(crate) links: Links,
    pub(crate) object: Object,
    /// Why it is the floor's, where the other would have been better.
    pub(crate) not_core: Option<String>,
    totals: Totals,
    pub(crate) maps: ObjectMaps,
    possible_cpus: usize,
}

impl Programs {
    /// Of an object that was loaded from these bytes.
    pub(crate) fn new(
        links: Links,
        maps: ObjectMaps,
        (object, bytes): (Object, &[u8]),
        possible_cpus: usize,
    ) -> io::Result<Self> {
        let totals = Totals::new(&maps, bytes, possible_cpus)?;
        Ok(Self { links, object, not_core: None, totals, maps, possible_cpus })
    }

    /// Attaches all of these hooks, or none. The error says why in words.
    pub(crate) fn attach(&mut self, kernel: &Kernel, hooks: &[Hook]) -> Result<(), String> {
        self.links.attach_all(kernel, hooks)
    }

    /// Lets go of hooks that nobody else uses.
    pub(crate) fn detach<'a>(&mut self, hooks: impl IntoIterator<Item = &'a Hook>) {
        self.links.detach(hooks);
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

    /// What the program that guards a filter's target is; see [`Filter::guard`].
    pub(crate) fn attach_guard(&mut self, kernel: &Kernel, guard: &Hook) -> Result<(), String> {
        self.links.attach(kernel, guard)
    }

    /// Attaches what follows processes, behind the programs that count. The error says why in words.
    pub(crate) fn follow(&mut self, kernel: &Kernel) -> Result<(), String> {
        who::hooks().iter().try_for_each(|hook| {
            let attached = self.links.attach(kernel, hook);
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

    /// How many processors may ever be there.
    pub(crate) const fn possible_cpus(&self) -> usize {
        self.possible_cpus
    }

    /// The object's maps, for whoever reads them himself; `counters` have a hook.
    pub(crate) fn maps(&self, counters: Vec<&'static str>) -> io::Result<Maps> {
        Maps::of(&self.maps, self.possible_cpus, counters)
    }
}
