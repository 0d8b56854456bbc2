//! What a build gives, before anything is read of it.

use crate::abi::Record;
use crate::attach::Links;
use crate::calls::{Key, LoadedCalls, Share};
use crate::candidate::Candidate;
use crate::counter::Counter;
use crate::doubt::Doubt;
use crate::exactness::{Facts, misses_are_a_bound, misses_are_calls};
use crate::filter::Filter;
use crate::hook::{CounterReport, HookReport};
use crate::kernel::Kernel;
use crate::options::ProbeOptions;
use crate::preemption::InForce;
use crate::programs::Programs;
use crate::selftest::Trial;
use crate::switches::Board;
use crate::target::Target;

/// Programs that stand, and what is known of them. It can be handed to another process.
pub(crate) struct Built {
    pub(crate) possible_cpus: usize,
    /// The probe's own programs, if it has any.
    pub(crate) own: Option<Owned>,
    /// Those of system calls, where a counter stands on them.
    pub(crate) calls: Option<BuiltCalls>,
    pub(crate) chosen: Vec<Chosen>,
    pub(crate) reports: Vec<CounterReport>,
    /// What of the machine decided on exactness.
    pub(crate) facts: Facts,
    pub(crate) target: Target,
    /// What of the machine may change meanwhile.
    pub(crate) in_force: InForce,
    pub(crate) switches: Board,
    /// What the hooks were tested with, to be let go when there is time.
    pub(crate) trial: Option<Trial>,
}

/// A probe's own object.
pub(crate) struct Owned {
    pub(crate) programs: Programs,
    pub(crate) filter: Filter,
    /// Why nothing guards the filter's target, where something should.
    pub(crate) unguarded: Option<String>,
}

/// The programs of system calls.
pub(crate) enum BuiltCalls {
    /// Those of this process, in which the calls are watched already.
    Here(Share),
    /// New ones that stand and watch nothing yet.
    New(Box<LoadedCalls>),
    /// Those of another process, by their key, with what was attached for it.
    Shared(Key, Links),
}

impl BuiltCalls {
    /// Attaches a candidate's hooks, and counts its calls where that is to be done here.
    pub(crate) fn attach(&mut self, kernel: &Kernel, candidate: &Candidate) -> Result<(), String> {
        match self {
            Self::Here(share) => share.attach(kernel, candidate),
            Self::New(loaded) => loaded.programs.attach(kernel, &candidate.hooks),
            Self::Shared(_, links) => links.attach_all(kernel, &candidate.hooks),
        }
    }

    /// Whether all of a candidate's hooks are trace events on which we stand already.
    pub(crate) fn stand_on_events(&self, candidate: &Candidate) -> bool {
        match self {
            Self::Here(share) => share.lock().programs.stand_on_events(candidate),
            Self::New(loaded) => loaded.programs.stand_on_events(candidate),
            Self::Shared(_, links) => links.stand_on_events(candidate),
        }
    }
}

/// A counter and what counts it.
pub(crate) struct Chosen {
    pub(crate) counter: &'static Counter,
    pub(crate) candidate: Candidate,
    pub(crate) hook: HookReport,
    pub(crate) base: Vec<Record>,
    pub(crate) missed_base: u64,
    /// Whether what its hooks miss is counted all the same.
    pub(crate) misses_are_calls: bool,
    /// Whether more is counted as missed than the counter lacks.
    pub(crate) misses_are_a_bound: bool,
}

impl Chosen {
    pub(crate) fn new(
        counter: &'static Counter,
        candidate: Candidate,
        hook: HookReport,
        options: &ProbeOptions,
    ) -> Self {
        Self {
            counter,
            hook,
            base: Vec::new(),
            missed_base: 0,
            misses_are_calls: misses_are_calls(&candidate, options),
            misses_are_a_bound: misses_are_a_bound(counter, &candidate, options),
            candidate,
        }
    }
}

/// What is told of a candidate that was chosen.
pub(crate) fn report(candidate: &Candidate, doubts: Vec<Doubt>, proven: bool) -> HookReport {
    HookReport {
        tier: candidate.tier,
        layer: candidate.layer,
        cost: candidate.cost(),
        function: candidate.targets().join("+"),
        exact: doubts.is_empty(),
        doubts,
        proven,
    }
}
