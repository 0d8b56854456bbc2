//! What is attached for a probe: for each counter the first way to count it that works here.

use std::io;
use std::time::{Duration, Instant};

use aya::Ebpf;
use ebpf_process_core::BuildError;
use tracing::debug;

use crate::abi::Record;
use crate::attach::Links;
use crate::exactness::{Doubt, Facts, doubts, misses_are_a_bound, misses_are_calls};
use crate::filter::Filter;
use crate::hook::{Attempt, Candidate, Cost, Counter, CounterReport, HookReport, Layer, Subject};
use crate::kernel::Kernel;
use crate::loader::loader;
use crate::memory::MapMemory;
use crate::options::{Hooks, Mode, ObjectChoice, ProbeOptions};
use crate::probe::KernelProbe;
use crate::refusal::{REBUILD, nothing_attached, refuse_load, refused, try_as_root};
use crate::target::{Target, Watch};
use crate::totals::{KPROBE_TOTALS, Totals};

/// How long the self-test waits for a counter that moves a little after its operation: a release
/// is seen one RCU grace period later.
const PROOF_WAIT: Duration = Duration::from_millis(60);

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
            .map_err(|error| refused(&format!("the probe's own object cannot be read: {error}"), REBUILD))?;
        let mut filter = Filter::take(&mut ebpf, object)?;
        filter.close(&target)?;
        let totals = Totals::new(&ebpf, kernel.possible_cpus)
            .map_err(|error| refused(&format!("the totals cannot be had: {error}"), &try_as_root()))?;
        let mut attachment = Self {
            links: Links::new(),
            ebpf,
            object,
            totals,
            chosen: Vec::new(),
            reports: Vec::new(),
            memory,
            facts: kernel.facts,
            watch: None,
        };
        for counter in probe.counters_in(options.mode) {
            attachment.choose(&kernel, counter, options, &target, &mut filter);
        }
        if let Some(guard) = filter.guard(&target, kernel.facts.version)
            && let Err(problem) = attachment.links.attach(&mut attachment.ebpf, &kernel, guard)
        {
            debug!("what comes after the one that counts is noticed at the next tick only: {problem}");
        }
        filter.aim(&target)?;
        target.is_there()?;
        attachment
            .set_baseline()
            .map_err(|error| refused(&format!("cannot read the totals: {error}"), &try_as_root()))?;
        if attachment.chosen.is_empty() {
            return Err(nothing_attached(probe.name, &attachment.reports));
        }
        attachment.watch = Watch::new(filter, target);
        Ok(attachment)
    }

    /// Attaches the first candidate that is allowed, can be attached and proves itself.
    fn choose(
        &mut self,
        kernel: &Kernel,
        counter: &'static Counter,
        options: &ProbeOptions,
        target: &Target,
        filter: &mut Filter,
    ) {
        let (mut tried, mut others) = (Vec::new(), Vec::new());
        let mut hook = None;
        for candidate in candidates(kernel, counter, options) {
            if candidate.hooks.iter().any(|hook| self.ebpf.program(hook.program).is_none()) {
                // A way of the other object.
                others.extend(lacking(kernel, self.object).map(|problem| attempt(candidate, problem)));
                continue;
            }
            if let Some(problem) = unfiltered(counter.subject, target, self.object) {
                tried.push(attempt(candidate, problem.to_owned()));
                continue;
            }
            match self.try_candidate(kernel, counter, candidate, target, filter) {
                Ok(proven) => {
                    let mut doubts = doubts(&kernel.facts, candidate, options);
                    if !proven {
                        doubts.push(Doubt::Unproven);
                    }
                    let report = HookReport {
                        tier: candidate.tier,
                        layer: candidate.layer,
                        cost: Cost::of(candidate),
                        function: functions(candidate),
                        exact: doubts.is_empty(),
                        doubts,
                        proven,
                    };
                    hook = Some(report.clone());
                    self.chosen.push(Chosen {
                        counter,
                        candidate,
                        hook: report,
                        base: Vec::new(),
                        missed_base: 0,
                        misses_are_calls: misses_are_calls(candidate, options),
                        misses_are_a_bound: misses_are_a_bound(counter, candidate, options),
                    });
                    break;
                }
                Err(problem) => tried.push(attempt(candidate, problem)),
            }
        }
        if hook.is_none() && tried.is_empty() {
            // Nothing of what is allowed was there to be tried: what the other object would have had says why.
            tried = others;
        }
        self.reports.push(CounterReport { counter: counter.name, hook, tried });
    }

    /// Attaches all hooks of a candidate and does its operation once; says whether that proved
    /// the hooks, or why they cannot be used.
    fn try_candidate(
        &mut self,
        kernel: &Kernel,
        counter: &Counter,
        candidate: &'static Candidate,
        target: &Target,
        filter: &mut Filter,
    ) -> Result<bool, String> {
        let mut attached = 0;
        let mut outcome = Ok(false);
        for hook in candidate.hooks {
            outcome = self.links.attach(&mut self.ebpf, kernel, hook).map(|()| false);
            if outcome.is_err() {
                break;
            }
            attached += 1;
        }
        if outcome.is_ok() {
            outcome = self.prove(counter, candidate, target, filter);
        }
        if outcome.is_err() {
            for hook in &candidate.hooks[..attached] {
                self.links.detach(&mut self.ebpf, hook);
            }
        }
        outcome
    }

    fn prove(
        &mut self,
        counter: &Counter,
        candidate: &Candidate,
        target: &Target,
        filter: &mut Filter,
    ) -> Result<bool, String> {
        if let Err(error) = filter.aim_at_self(target) {
            debug!(counter = counter.name, "not proven: {error}");
            return Ok(false);
        }
        let before = self.proofs(candidate).map_err(|error| format!("cannot read the totals: {error}"))?;
        if let Err(error) = (counter.exercise)(&mut |pid| filter.aim_at_pid(target, pid)) {
            debug!(counter = counter.name, "not proven: {error}");
            return Ok(false);
        }
        let deadline = Instant::now() + PROOF_WAIT;
        loop {
            let after = self.proofs(candidate).map_err(|error| format!("cannot read the totals: {error}"))?;
            if before.iter().zip(&after).all(|(before, after)| before != after) {
                return Ok(true);
            }
            // A call counts before it returns; an event in the life of a task comes when the kernel
            // likes, and late is not never.
            if candidate.layer != Layer::Task {
                return Err("attached, but does not fire".to_owned());
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }

    /// The record that each hook of a candidate must move.
    fn proofs(&mut self, candidate: &Candidate) -> io::Result<Vec<Record>> {
        let proofs = candidate.hooks.iter().filter(|hook| !hook.proof.is_empty());
        proofs.map(|hook| self.totals.sum(candidate.tier, hook.proof)).collect()
    }

    fn set_baseline(&mut self) -> io::Result<()> {
        self.links.refresh()?;
        for chosen in &mut self.chosen {
            let parts = chosen.candidate.parts.iter();
            chosen.base =
                parts.map(|slots| self.totals.sum(chosen.candidate.tier, slots)).collect::<io::Result<_>>()?;
            chosen.missed_base = missed(&self.links, chosen.candidate)?;
        }
        Ok(())
    }
}

/// The candidates in the order in which they are tried.
pub(crate) fn candidates<'a>(kernel: &Kernel, counter: &'a Counter, options: &ProbeOptions) -> Vec<&'a Candidate> {
    let all = if options.mode == Mode::Return { counter.results } else { counter.entry };
    let mut allowed: Vec<_> = all.iter().filter(|candidate| options.hooks.allows(candidate.tier)).collect();
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

pub(crate) fn missed(links: &Links, candidate: &Candidate) -> io::Result<u64> {
    candidate.hooks.iter().map(|hook| links.missed(hook)).sum()
}

/// Which of a probe's objects is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Core,
    Floor,
}

/// Loads the object that the configuration names, or the best that this kernel takes.
fn load(
    probe: &KernelProbe,
    choice: ObjectChoice,
    kernel: &Kernel,
    target: &Target,
) -> Result<(Ebpf, Object), BuildError> {
    let floor = || loader(None).load(probe.floor).map(|ebpf| (ebpf, Object::Floor));
    let core = |btf| {
        let mut loader = loader(Some(btf));
        let kind = target.kind();
        loader.map_max_entries(KPROBE_TOTALS, u32::try_from(kernel.possible_cpus).unwrap_or(u32::MAX));
        let lineage = target.lineage();
        if let Some((parent, name)) = &lineage {
            loader.override_global("cgroup_parent", parent, true).override_global("cgroup_name", name, true);
        }
        loader.override_global("filter_kind", &kind, true).load(probe.core)
    };
    let loaded = match (choice, &kernel.btf) {
        (ObjectChoice::Floor, _) | (ObjectChoice::Auto, Err(_)) => floor(),
        (ObjectChoice::Core, Err(problem)) => {
            return Err(refused(problem, "set probes.object = \"auto\", or use a kernel with type information"));
        }
        (ObjectChoice::Core, Ok(btf)) => core(btf).map(|ebpf| (ebpf, Object::Core)),
        // What an old kernel with type information lacks (global data, a map type) shows here.
        (ObjectChoice::Auto, Ok(btf)) => match core(btf) {
            Ok(ebpf) => Ok((ebpf, Object::Core)),
            Err(error) => floor().map_err(|_also| error),
        },
    };
    loaded.map_err(|error| refuse_load(&error))
}

fn attempt(candidate: &Candidate, problem: String) -> Attempt {
    Attempt { tier: candidate.tier, function: functions(candidate), problem }
}

fn functions(candidate: &Candidate) -> String {
    let mut names: Vec<_> = candidate.hooks.iter().map(|hook| hook.attach.target()).collect();
    names.dedup();
    names.join("+")
}
