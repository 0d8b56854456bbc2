//! What is attached for a probe: for each counter the first way to count it that works here.

use std::io;
use std::time::Instant;

use aya::Ebpf;
use ebpf_process_core::BuildError;
use tracing::{debug, warn};

use crate::abi::Record;
use crate::attach::{Links, can_attach_again};
use crate::doubt::Doubt;
use crate::exactness::{Facts, doubts, misses_are_a_bound, misses_are_calls};
use crate::filter::Filter;
use crate::hook::{Attempt, Candidate, Cost, Counter, CounterReport, Hook, HookReport, Subject};
use crate::kernel::Kernel;
use crate::kernel_probe::KernelProbe;
use crate::memory::MapMemory;
use crate::object::{Object, load};
use crate::options::{Hooks, Mode, ProbeOptions};
use crate::refusal::{REBUILD, nothing_attached, refuse_totals};
use crate::release::Version;
use crate::selftest::{Proof, Trial, best};
use crate::target::Target;
use crate::totals::Totals;
use crate::vigil::{HOOKS, Seen};
use crate::watch::Watch;

/// The kernel's side of a probe: what is attached, and where its numbers are.
pub(crate) struct Attachment {
    pub(crate) links: Links,
    ebpf: Ebpf,
    object: Object,
    pub(crate) totals: Totals,
    pub(crate) chosen: Vec<Chosen>,
    pub(crate) reports: Vec<CounterReport>,
    pub(crate) memory: MapMemory,
    /// What of the machine decided on exactness.
    pub(crate) facts: Facts,
    /// What the hooks were tested with, to be let go when there is time.
    pub(crate) trial: Option<Trial>,
    /// Where only somebody counts.
    pub(crate) watch: Option<Watch>,
}

/// A counter and what counts it.
pub(crate) struct Chosen {
    pub(crate) counter: &'static Counter,
    pub(crate) candidate: &'static Candidate,
    pub(crate) hook: HookReport,
    pub(crate) base: Vec<Record>,
    pub(crate) missed_base: u64,
    /// Whether what its hooks miss is counted all the same.
    pub(crate) misses_are_calls: bool,
    /// Whether more is counted as missed than the counter lacks.
    pub(crate) misses_are_a_bound: bool,
}

impl Attachment {
    /// Loads the probe's object, chooses a hook for each counter and takes the baseline.
    pub(crate) fn new(probe: &KernelProbe, options: &ProbeOptions) -> Result<Self, BuildError> {
        let kernel = Kernel::shared()?;
        if let Ok(tracefs) = &kernel.tracefs
            && let Err(error) = tracefs.sweep()
        {
            debug!("cannot sweep the kprobe events of dead agents: {error}");
        }
        let target = Target::open(options.only.as_ref())?;
        let (mut ebpf, object) = load(probe, options.object, &kernel, &target)?;
        let bytes = if object == Object::Core { probe.core } else { probe.floor };
        let memory = MapMemory::of(bytes, kernel.possible_cpus)
            .map_err(|error| BuildError::refused(format!("the probe's own object cannot be read: {error}"), REBUILD))?;
        let mut filter = Filter::take(&mut ebpf, object)?;
        let aimed = filter.close(&target)?;
        let totals = Totals::new(&ebpf, kernel.possible_cpus)
            .map_err(|error| refuse_totals("the totals cannot be had", &error))?;
        let mut attachment = Self {
            links: Links::new("", aimed),
            ebpf,
            object,
            totals,
            chosen: Vec::new(),
            reports: Vec::new(),
            memory,
            facts: kernel.facts,
            trial: None,
            watch: None,
        };
        let (started, tested) = (Instant::now(), |what: &str, since: Instant| {
            debug!(probe = probe.name, milliseconds = since.elapsed().as_millis(), "{what}");
        });
        let mut trial = Trial::load(probe, object, &kernel)
            .inspect_err(|problem| warn!(probe = probe.name, "the hooks cannot be tested: {problem}"))
            .ok();
        tested("loaded the programs of the test", started);
        for counter in probe.counters_in(options.mode) {
            attachment.choose(&kernel, counter, options, &target, trial.as_mut());
        }
        tested("tested and attached", started);
        attachment.trial = trial;
        if let Some(guard) = filter.guard(&target, kernel.facts.version)
            && let Err(problem) = attachment.links.attach(&mut attachment.ebpf, &kernel, guard)
        {
            warn!(
                probe = probe.name,
                "only: what comes after the one that counts is noticed at the next look only: {problem}"
            );
            attachment.add_doubt(Doubt::Unguarded);
        }
        filter.aim(&target)?;
        target.is_there()?;
        attachment.set_baseline().map_err(|error| refuse_totals("cannot read the totals", &error))?;
        if attachment.chosen.is_empty() {
            return Err(nothing_attached(probe.name, &attachment.reports));
        }
        attachment.watch = Watch::new(filter, target);
        Ok(attachment)
    }

    /// Attaches the first candidate that is allowed, can be attached and proves itself; one that could not be tested only
    /// where none does.
    fn choose(
        &mut self,
        kernel: &Kernel,
        counter: &'static Counter,
        options: &ProbeOptions,
        target: &Target,
        mut trial: Option<&mut Trial>,
    ) {
        let (mut tried, mut others) = (Vec::new(), Vec::new());
        let mut possible = Vec::new();
        for candidate in candidates(kernel, counter, options) {
            if candidate.hooks.iter().any(|hook| self.ebpf.program(hook.program).is_none()) {
                // A way of the other object.
                others.extend(lacking(kernel, self.object).map(|problem| attempt(candidate, problem)));
                continue;
            }
            match unfiltered(counter.subject, target, self.object) {
                Some(problem) => tried.push(attempt(candidate, problem.to_owned())),
                None => possible.push(candidate),
            }
        }
        let mut hook = None;
        let test = |candidate| {
            let proof = match trial.as_mut() {
                // Before 4.15 a second program on a trace event is refused and ends the first, and the first is ours: it
                // has proven itself for the counter that it serves already.
                _ if kernel.facts.version < Version(4, 15) && self.links.stand_on_events(candidate) => Proof::Proven,
                Some(trial) => trial.test(kernel, counter, candidate)?,
                None => Proof::Impossible,
            };
            if proof == Proof::Proven {
                self.attach(kernel, candidate)?;
            }
            Ok(proof)
        };
        let best = best(possible, test, |candidate, problem| tried.push(attempt(candidate, problem)));
        if let Some((candidate, proof)) = best {
            let attached = if proof == Proof::Proven { Ok(()) } else { self.attach(kernel, candidate) };
            match attached {
                Ok(()) => hook = Some(self.take(counter, candidate, proof, options)),
                Err(problem) => tried.push(attempt(candidate, problem)),
            }
        }
        if hook.is_none() && tried.is_empty() {
            // Nothing of what is allowed was there to be tried: what the other object would have had says why.
            tried = others;
        }
        self.reports.push(CounterReport { counter: counter.name, hook, tried });
    }

    /// Attaches all hooks of a candidate, or none.
    fn attach(&mut self, kernel: &Kernel, candidate: &'static Candidate) -> Result<(), String> {
        for (attached, hook) in candidate.hooks.iter().enumerate() {
            if let Err(problem) = self.links.attach(&mut self.ebpf, kernel, hook) {
                for hook in &candidate.hooks[..attached] {
                    self.links.detach(&mut self.ebpf, hook);
                }
                return Err(problem);
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        counter: &'static Counter,
        candidate: &'static Candidate,
        proof: Proof,
        options: &ProbeOptions,
    ) -> HookReport {
        let mut doubts = doubts(&self.facts, candidate, options);
        if proof != Proof::Proven {
            doubts.push(Doubt::Unproven);
        }
        let hook = HookReport {
            tier: candidate.tier,
            layer: candidate.layer,
            cost: Cost::of(candidate),
            function: functions(candidate),
            exact: doubts.is_empty(),
            doubts,
            proven: proof == Proof::Proven,
        };
        self.chosen.push(Chosen {
            counter,
            candidate,
            hook: hook.clone(),
            base: Vec::new(),
            missed_base: 0,
            misses_are_calls: misses_are_calls(candidate, options),
            misses_are_a_bound: misses_are_a_bound(counter, candidate, options),
        });
        hook
    }

    /// Of every counter, wherever it is told.
    fn add_doubt(&mut self, doubt: Doubt) {
        let reported = self.reports.iter_mut().filter_map(|report| report.hook.as_mut());
        for hook in self.chosen.iter_mut().map(|chosen| &mut chosen.hook).chain(reported) {
            hook.add_doubt(doubt);
        }
    }

    /// What the records of a chosen counter's hooks hold.
    pub(crate) fn seen(&mut self, index: usize) -> io::Result<Seen> {
        let candidate = self.chosen.get(index).map(|chosen| chosen.candidate).ok_or(io::ErrorKind::NotFound)?;
        self.links.refresh()?;
        let mut seen = Seen { calls: [0; HOOKS], missed: self.links.missed_of(candidate)? };
        for (calls, hook) in seen.calls.iter_mut().zip(candidate.hooks).filter(|(_, hook)| !hook.proof.is_empty()) {
            *calls = self.totals.sum(candidate.tier, hook.proof)?.calls;
        }
        Ok(seen)
    }

    /// Whether this kernel attaches what was attached already.
    pub(crate) fn can_attach_again(&self, candidate: &Candidate) -> bool {
        candidate.hooks.iter().all(|hook| can_attach_again(hook, self.facts.version))
    }

    /// Lets go of a candidate's hooks and attaches them again.
    pub(crate) fn attach_again(&mut self, candidate: &Candidate) -> io::Result<()> {
        let possible_cpus = usize::try_from(self.memory.possible_cpus).map_err(io::Error::other)?;
        candidate.hooks.iter().try_for_each(|hook| self.links.attach_again(hook, possible_cpus))
    }

    fn set_baseline(&mut self) -> io::Result<()> {
        self.links.refresh()?;
        for chosen in &mut self.chosen {
            let parts = chosen.candidate.parts.iter();
            chosen.base =
                parts.map(|slots| self.totals.sum(chosen.candidate.tier, slots)).collect::<io::Result<_>>()?;
            chosen.missed_base = self.links.missed_of(chosen.candidate)?;
        }
        Ok(())
    }
}

/// The candidates in the order in which they are tried.
pub(crate) fn candidates<'a>(kernel: &Kernel, counter: &'a Counter, options: &ProbeOptions) -> Vec<&'a Candidate> {
    let all = if options.mode == Mode::Return { counter.results } else { counter.entry };
    let gone = |hook: &Hook| hook.attach.until().is_some_and(|version| kernel.facts.version >= version);
    let allowed = all.iter().filter(|candidate| options.hooks.allows(candidate.tier));
    let mut allowed: Vec<_> = allowed.filter(|candidate| !candidate.hooks.iter().any(gone)).collect();
    if options.hooks == Hooks::Auto {
        // Stable: among exact ones, and among those in equal doubt, the cheapest stays first.
        allowed.sort_by_key(|candidate| doubts(&kernel.facts, candidate, options).into_iter().max());
    }
    allowed
}

/// What the loaded object lacks: the floor has no program that needs the kernel's type information.
fn lacking(kernel: &Kernel, object: Object) -> Option<String> {
    match (object, &kernel.btf) {
        (Object::Core, _) => None,
        (Object::Floor, Err(problem)) => Some(problem.clone()),
        (Object::Floor, Ok(_)) => Some("the floor object has no program for it (probes.object)".to_owned()),
    }
}

/// Why a filter cannot be honoured, if it cannot: a number is never approximated.
const fn unfiltered(subject: Subject, target: &Target, object: Object) -> Option<&'static str> {
    match (subject, target, object) {
        (Subject::Other, Target::Cgroup(..), _) => Some("cannot be filtered by control group: the task is not current"),
        (Subject::Other, Target::Process(_), Object::Floor) => {
            Some("cannot be filtered by process without the kernel's type information: the task is not current")
        }
        _ => None,
    }
}

fn attempt(candidate: &Candidate, problem: String) -> Attempt {
    Attempt { tier: candidate.tier, function: functions(candidate), problem }
}

fn functions(candidate: &Candidate) -> String {
    let mut names: Vec<_> = candidate.hooks.iter().map(|hook| hook.attach.target()).collect();
    names.dedup();
    names.join("+")
}
