//! What is attached for a probe: for each counter the first way to count it that works here.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::BuildError;
use parking_lot::Mutex;
use tracing::{debug, warn};

use crate::abi::Record;
use crate::attach::can_attach_again;
use crate::calls::{Calls, Whose, object_for};
use crate::candidate::Candidate;
use crate::cause::Surroundings;
use crate::cgroup;
use crate::counter::{Counter, Subject};
use crate::doubt::Doubt;
use crate::exactness::{Facts, doubts, misses_are_a_bound, misses_are_calls};
use crate::filter::Filter;
use crate::hook::{Attempt, CounterReport, HookReport};
use crate::kernel::Kernel;
use crate::kernel_probe::KernelProbe;
use crate::maps::Maps;
use crate::memory::{MapMemory, SharedMemory};
use crate::object::{Loaded, Object, Objects};
use crate::object_maps::ObjectMaps;
use crate::options::{Hooks, ObjectChoice, ProbeOptions, Tier};
use crate::programs::Programs;
use crate::refusal::{REBUILD, nothing_attached, refuse_core, refuse_totals};
use crate::release::Version;
use crate::selftest::{Proof, Trial, best};
use crate::target::Target;
use crate::vigil::Seen;
use crate::wanted::wanted_by;
use crate::watch::{Filters, Watch};
use crate::who::{SharedInbox, Sizes, WhoOptions};

/// The kernel's side of a probe: what is attached, and where its numbers are.
pub(crate) struct Attachment {
    /// The probe's own programs, if it has any.
    own: Option<Programs>,
    /// Those of system calls, from the first counter on that stands on them, and which object they are of.
    calls: Option<(Object, Arc<Mutex<Calls>>)>,
    /// The look at their numbers that it had last.
    walk: u64,
    /// Of which object they may be.
    calls_objects: &'static [Object],
    /// By whom: so many processes have records.
    processes: Option<u32>,
    /// What they gain, of its own table and of that of system calls.
    pub(crate) inboxes: Inboxes,
    pub(crate) chosen: Vec<Chosen>,
    pub(crate) reports: Vec<CounterReport>,
    /// What the probe's own maps take.
    pub(crate) memory: MapMemory,
    /// What of the machine decided on exactness.
    pub(crate) facts: Facts,
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

impl Attachment {
    /// Loads the probe's object, chooses a hook for each counter and takes the baseline.
    pub(crate) fn new(probe: &KernelProbe, options: &ProbeOptions) -> Result<Self, BuildError> {
        let kernel = Kernel::shared(wanted_by(probe))?;
        if let Ok(tracefs) = &kernel.tracefs
            && let Err(error) = tracefs.sweep()
        {
            debug!("cannot sweep the kprobe events of dead agents: {error}");
        }
        let target = Target::open(options.only.as_ref())?;
        let who = options.who();
        if who.as_ref().is_some_and(WhoOptions::asks_for_groups)
            && let Err(problem) = cgroup::mount()
        {
            let problem = format!("control groups are those of the v2 hierarchy: {problem}");
            return Err(BuildError::refused(problem, LEAVE_GROUPS_OUT));
        }
        let (own, mut filter, memory) = match &probe.objects {
            Some(objects) => {
                let (own, filter, memory) = load(objects, options, who.as_ref(), &kernel, &target)?;
                (Some(own), Some(filter), memory)
            }
            None => (None, None, MapMemory { possible_cpus: kernel.possible_cpus as u64, ..MapMemory::default() }),
        };
        let mut attachment = Self {
            calls_objects: objects_of_calls(
                own.as_ref().map(|own| own.object),
                options.object,
                who.is_some(),
                kernel.btf.as_ref().err(),
            )?,
            own,
            calls: None,
            processes: who.as_ref().map(|who| who.processes),
            walk: 0,
            inboxes: Inboxes::default(),
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
        let loaded = probe.objects.as_ref().zip(attachment.own.as_ref().map(|own| own.object));
        let mut trial = Trial::load(loaded, &kernel)
            .inspect_err(|problem| warn!(probe = probe.name, "the hooks cannot be tested: {problem}"))
            .ok();
        tested("loaded the programs of the test", started);
        for counter in probe.counters_in(options.mode) {
            attachment.choose(&kernel, counter, options, &target, trial.as_mut());
        }
        tested("tested and attached", started);
        attachment.trial = trial;
        attachment.follow(&kernel)?;
        if let Some(problem) = attachment.guard(&kernel, filter.as_ref(), &target) {
            warn!(
                probe = probe.name,
                "only: what comes after the one that counts is noticed at the next look only: {problem}"
            );
            attachment.add_doubt(Doubt::Unguarded);
        }
        if let Some(filter) = &mut filter {
            filter.aim(&target)?;
        }
        target.is_there()?;
        if let Some(own) = &mut attachment.own {
            own.close();
        }
        attachment.set_baseline().map_err(|error| refuse_totals("cannot read the totals", &error))?;
        if attachment.chosen.is_empty() && !probe.counters.is_empty() {
            return Err(nothing_attached(probe.name, &attachment.reports));
        }
        let filters = Filters { own: filter, calls: attachment.calls.as_ref().map(|(_, calls)| Arc::clone(calls)) };
        attachment.watch = Watch::new(filters, target);
        Ok(attachment)
    }

    /// Attaches what guards the target of the filters; an error says why something does not.
    fn guard(&mut self, kernel: &Kernel, filter: Option<&Filter>, target: &Target) -> Option<String> {
        let guard = filter.and_then(|filter| filter.guard(target, kernel.facts.version));
        let own = self.own.as_mut().zip(guard).and_then(|(own, guard)| own.attach_guard(kernel, &guard).err());
        let calls = self.calls.as_ref().and_then(|(_, calls)| calls.lock().unguarded.clone());
        own.or(calls)
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
        let (all, no_calls) = candidates(kernel, counter, options);
        let function = || "sys_exit".to_owned();
        tried.extend(no_calls.map(|problem| Attempt { tier: Tier::Tracepoint, function: function(), problem }));
        for candidate in all {
            if !self.can_serve(&candidate) {
                // A way of the other object.
                others.extend(self.lacking(kernel).map(|problem| attempt(&candidate, problem)));
                continue;
            }
            match unfiltered(counter.subject, target, self.object()) {
                Some(problem) => tried.push(attempt(&candidate, problem.to_owned())),
                None => possible.push(candidate),
            }
        }
        let mut hook = None;
        let test = |candidate: Candidate| {
            let proof = match trial.as_mut() {
                // Before 4.15 a second program on a trace event is refused and ends the first, and the first is ours, of
                // this probe or another one: it has proven itself for the counter that it serves already.
                _ if kernel.facts.version < Version(4, 15) && self.stand_on_events(target, &candidate) => Proof::Proven,
                Some(trial) => match trial.test(kernel, counter, &candidate)? {
                    Proof::Impossible => self.proof_by_another(counter, &candidate),
                    Proof::Proven => Proof::Proven,
                },
                None => Proof::Impossible,
            };
            if proof == Proof::Proven {
                self.attach(kernel, target, &candidate)?;
            }
            Ok(proof)
        };
        let mut best = best(possible, test, |candidate, problem| tried.push(attempt(&candidate, problem)));
        let is_open = |(candidate, proof): &(Candidate, Proof)| *proof != Proof::Proven && candidate.is_of_calls();
        let absent = best.as_ref().is_none_or(is_open) && has_no_such_call(counter, Surroundings::is_filtered());
        if absent {
            tried.extend(best.take().map(|(candidate, _)| attempt(&candidate, NO_SUCH_CALL.to_owned())));
        }
        if let Some((candidate, proof)) = best {
            let attached = if proof == Proof::Proven { Ok(()) } else { self.attach(kernel, target, &candidate) };
            match attached {
                Ok(()) => hook = Some(self.take(counter, candidate, proof, options)),
                Err(problem) => tried.push(attempt(&candidate, problem)),
            }
        }
        if hook.is_none() && tried.is_empty() {
            // Nothing of what is allowed was there to be tried: what the other object would have had says why.
            tried = others;
        }
        self.reports.push(CounterReport { counter: counter.name, hook, tried, absent });
    }

    /// What another counter's test proves of one whose operation is impossible here.
    fn proof_by_another(&self, counter: &Counter, candidate: &Candidate) -> Proof {
        let is_like = |chosen: &Chosen| {
            let other = &chosen.candidate;
            Some(chosen.counter.name) == counter.proven_by
                && (other.tier, other.is_of_calls()) == (candidate.tier, candidate.is_of_calls())
        };
        let proven = self.chosen.iter().any(|chosen| is_like(chosen) && chosen.hook.proven);
        if proven { Proof::Proven } else { Proof::Impossible }
    }

    /// Whether the object that a candidate stands on has its programs.
    fn can_serve(&self, candidate: &Candidate) -> bool {
        if candidate.is_of_calls() {
            let object = self.object_for(candidate);
            return self.calls.as_ref().map_or(self.calls_objects.contains(&object), |(taken, _)| *taken == object);
        }
        self.own.as_ref().is_some_and(|own| own.can_serve(candidate))
    }

    /// The object of system calls that a candidate stands on here.
    fn object_for(&self, candidate: &Candidate) -> Object {
        match object_for(candidate) {
            Object::Core if self.processes.is_some() => Object::Who,
            object => object,
        }
    }

    /// Attaches what follows the processes of the probe's own records.
    fn follow(&mut self, kernel: &Kernel) -> Result<(), BuildError> {
        let has_own = self.chosen.iter().any(|chosen| !chosen.candidate.is_of_calls());
        match &mut self.own {
            Some(own) if self.processes.is_some() && has_own => own.follow(kernel).map_err(|problem| {
                BuildError::refused(format!("processes cannot be followed: {problem}"), "leave probes.by out")
            }),
            _ => Ok(()),
        }
    }

    /// What the loaded object lacks: the floor has no program that needs the kernel's type information.
    fn lacking(&self, kernel: &Kernel) -> Option<String> {
        let not_core = self.own.as_ref().and_then(|own| own.not_core.clone());
        match (self.object(), &kernel.btf) {
            (Object::Core | Object::Who, _) => None,
            (Object::Floor, Err(problem)) => Some(problem.clone()),
            (Object::Floor, Ok(_)) => {
                Some(not_core.unwrap_or_else(|| "the floor object has no program for it (probes.object)".to_owned()))
            }
        }
    }

    /// The object that most stands on.
    fn object(&self) -> Object {
        let own = self.own.as_ref().map(|own| own.object);
        let calls = || self.calls.as_ref().map(|(object, _)| *object).or_else(|| self.calls_objects.first().copied());
        own.or_else(calls).unwrap_or(Object::Core)
    }

    fn stand_on_events(&self, target: &Target, candidate: &Candidate) -> bool {
        match (&self.calls, &self.own) {
            (Some((_, calls)), _) if candidate.is_of_calls() => calls.lock().programs.stand_on_events(candidate),
            (None, _) if candidate.is_of_calls() => Calls::stand_on_events(target, candidate),
            (_, own) => own.as_ref().is_some_and(|own| own.stand_on_events(candidate)),
        }
    }

    /// Attaches all hooks of a candidate, or none.
    fn attach(&mut self, kernel: &Kernel, target: &Target, candidate: &Candidate) -> Result<(), String> {
        if !candidate.is_of_calls() {
            return self.own.as_mut().map_or(Ok(()), |own| own.attach(kernel, &candidate.hooks));
        }
        let object = self.object_for(candidate);
        let calls = match &self.calls {
            Some((_, calls)) => Arc::clone(calls),
            None => Calls::shared(kernel, object, &Whose::Target(target, self.processes.unwrap_or(0)))?,
        };
        calls.lock().attach(kernel, candidate)?;
        self.calls = Some((object, calls));
        Ok(())
    }

    fn take(
        &mut self,
        counter: &'static Counter,
        candidate: Candidate,
        proof: Proof,
        options: &ProbeOptions,
    ) -> HookReport {
        let mut doubts = doubts(&self.facts, &candidate, options);
        if proof != Proof::Proven {
            doubts.push(Doubt::Unproven);
        }
        let hook = HookReport {
            tier: candidate.tier,
            layer: candidate.layer,
            cost: candidate.cost(),
            function: candidate.targets().join("+"),
            exact: doubts.is_empty(),
            doubts,
            proven: proof == Proof::Proven,
        };
        self.chosen.push(Chosen {
            counter,
            hook: hook.clone(),
            base: Vec::new(),
            missed_base: 0,
            misses_are_calls: misses_are_calls(&candidate, options),
            misses_are_a_bound: misses_are_a_bound(counter, &candidate, options),
            candidate,
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

    /// What the maps of the system calls take, which probes share.
    pub(crate) fn calls_memory(&self) -> Option<SharedMemory> {
        self.calls.as_ref().map(|(_, calls)| calls.lock().memory.clone())
    }

    /// The probe's own maps.
    pub(crate) fn maps(&self) -> io::Result<Option<Maps>> {
        let counters = || self.chosen.iter().map(|chosen| chosen.counter.name).collect();
        self.own.as_ref().map(|own| own.maps(counters())).transpose()
    }

    /// Takes the numbers of this tick.
    pub(crate) fn refresh(&mut self, patience: Duration) -> io::Result<()> {
        let walk = &mut self.walk;
        let calls = self.calls.as_ref().map_or(Ok(()), |(_, calls)| calls.lock().refresh_for(walk, patience));
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

    /// Lets go of a chosen counter's hooks and attaches them again, unless others show that they fire. Whether it was done.
    pub(crate) fn attach_again(&mut self, index: usize) -> io::Result<bool> {
        match (&self.calls, self.chosen.get(index)) {
            (Some((_, calls)), Some(chosen)) if chosen.candidate.is_of_calls() => {
                calls.lock().attach_again(&chosen.candidate)
            }
            _ => self.with(index, Programs::attach_again).map(|()| true),
        }
    }

    /// Does something with the programs that a chosen counter stands on.
    fn with<R>(&mut self, index: usize, act: impl FnOnce(&mut Programs, &Candidate) -> io::Result<R>) -> io::Result<R> {
        let candidate = self.chosen.get(index).map(|chosen| &chosen.candidate).ok_or(io::ErrorKind::NotFound)?;
        match (&self.calls, &mut self.own) {
            (Some((_, calls)), _) if candidate.is_of_calls() => act(&mut calls.lock().programs, candidate),
            (_, Some(own)) => act(own, candidate),
            (_, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn set_baseline(&mut self) -> io::Result<()> {
        if let Some((_, calls)) = &self.calls {
            calls.lock().refresh(Duration::ZERO)?;
        }
        self.own.as_mut().map_or(Ok(()), |own| own.refresh(Duration::ZERO))?;
        // What is gained from here on is what comes on top of the baseline.
        self.inboxes.own = self.own.as_mut().and_then(Programs::subscribe);
        self.inboxes.calls = self.calls.as_ref().and_then(|(_, calls)| calls.lock().programs.subscribe());
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

impl Drop for Attachment {
    /// Others may go on with the program of system calls.
    fn drop(&mut self) {
        let Some((_, calls)) = &self.calls else { return };
        let candidates = self.chosen.iter().map(|chosen| &chosen.candidate);
        calls.lock().detach(candidates.filter(|candidate| candidate.is_of_calls()));
    }
}

/// Of which object the programs of system calls may be: that of the probe's own programs, where it has any.
fn objects_of_calls(
    own: Option<Object>,
    choice: ObjectChoice,
    by_whom: bool,
    lacks_types: Option<&String>,
) -> Result<&'static [Object], BuildError> {
    const CORE: &[Object] = &[Object::Core];
    const FLOOR: &[Object] = &[Object::Floor];
    const WHO: &[Object] = &[Object::Who];
    match (own, choice, lacks_types) {
        (Some(Object::Who), ..) => Ok(WHO),
        (None, ObjectChoice::Auto | ObjectChoice::Core, None) if by_whom => Ok(WHO),
        (None, ..) if by_whom => Err(BuildError::refused(
            "to tell by whom takes the kernel's type information, which the floor object does without",
            "leave probes.by out",
        )),
        (Some(Object::Core), ..) | (None, ObjectChoice::Core, None) => Ok(CORE),
        (Some(Object::Floor), ..) | (None, ObjectChoice::Floor, _) | (None, ObjectChoice::Auto, Some(_)) => Ok(FLOOR),
        (None, ObjectChoice::Core, Some(problem)) => Err(refuse_core(problem)),
        // What an old kernel with type information lacks (a typed tracepoint) shows when the programs are loaded.
        (None, ObjectChoice::Auto, None) => Ok(&[Object::Core, Object::Floor]),
    }
}

/// The way out where there are no control groups of the v2 hierarchy.
const LEAVE_GROUPS_OUT: &str = "mount it, or leave \"cgroup\" and \"subtree\" out of probes.by, and \"cgroup\" and \
                                \"container\" out of probes.process_labels";

/// What is said of a counter that has nothing to count.
const NO_SUCH_CALL: &str = "this kernel has no such system call";

/// Whether a counter counts system calls of which this kernel says that it has none. A seccomp filter says so, too, of a
/// call that others make.
fn has_no_such_call(counter: &Counter, is_filtered: bool) -> bool {
    let done = || (counter.exercise)(&mut |_| Ok(()));
    !counter.calls.is_empty() && !is_filtered && done().is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS))
}

/// Loads a probe's object; its filter lets nobody through who is not wanted.
fn load(
    objects: &Objects,
    options: &ProbeOptions,
    who: Option<&WhoOptions>,
    kernel: &Kernel,
    target: &Target,
) -> Result<(Programs, Filter, MapMemory), BuildError> {
    let Loaded { ebpf, object, not_core } = objects.load(options.object, kernel, target, who)?;
    let bytes = objects.bytes(object).unwrap_or_default();
    let sizes = Sizes::if_by_whom(object, bytes, who.map_or(0, |who| who.processes));
    let memory = MapMemory::of(bytes, kernel.possible_cpus, &sizes)
        .map_err(|error| BuildError::refused(format!("the probe's own object cannot be read: {error}"), REBUILD))?;
    let unreadable = |error: io::Error| refuse_totals("the totals cannot be had", &error);
    let maps = ObjectMaps::of(&ebpf, bytes).map_err(unreadable)?;
    let mut filter = Filter::of(&maps, object)?;
    let aimed = filter.close(target)?;
    let mut own = Programs::new(ebpf, maps, (object, bytes), kernel.possible_cpus, "", aimed).map_err(unreadable)?;
    own.not_core = not_core;
    Ok((own, filter, memory))
}

/// The candidates in the order in which they are tried, and why there are none by system calls, where that is so.
pub(crate) fn candidates(
    kernel: &Kernel,
    counter: &Counter,
    options: &ProbeOptions,
) -> (Vec<Candidate>, Option<String>) {
    let (mut allowed, no_calls) = match counter.candidates(options.mode) {
        Ok(all) => (all, None),
        Err(problem) => (counter.calls(&[]).candidates(options.mode).unwrap_or_default(), Some(problem)),
    };
    allowed.retain(|candidate| {
        let is_gone = candidate.gone_from.is_some_and(|version| kernel.facts.version >= version);
        options.hooks.allows(candidate.tier) && !is_gone
    });
    if options.hooks == Hooks::Auto {
        // Stable: among exact ones, and among those in equal doubt, the cheapest stays first.
        allowed.sort_by_key(|candidate| doubts(&kernel.facts, candidate, options).into_iter().max());
    }
    (allowed, no_calls)
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
    Attempt { tier: candidate.tier, function: candidate.targets().join("+"), problem }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::call::Call;
    use crate::counter::Exercise;
    use crate::hook::Layer;
    use crate::preemption::Preemption;
    use crate::way::{Function, Way};

    #[test]
    fn a_call_that_a_seccomp_filter_hides_is_not_taken_for_one_that_the_kernel_lacks() {
        let lacks: Exercise = |_| Err(io::Error::from_raw_os_error(libc::ENOSYS));
        let counter = Counter::new("a.b", Layer::Syscall, lacks).calls(const { &[Call::status("fsync")] });
        assert!(has_no_such_call(&counter, false) && !has_no_such_call(&counter, true));
        assert!(!has_no_such_call(&Counter::new("a.b", Layer::Syscall, lacks), false), "it counts no calls");
    }

    #[test]
    fn a_call_that_cannot_be_watched_costs_a_counter_none_of_its_functions() {
        const ROW: Counter = Counter::new("a.b", Layer::Function, |_| Ok(()))
            .ways(&[Way::Functions(&[Function::at_start("do_exit", &[0])])])
            .calls(&[Call::status("reed")]);
        let kernel = Kernel {
            btf: Err("none".to_owned()),
            arities: HashMap::new(),
            tracefs: Err("none".to_owned()),
            facts: Facts {
                version: Version(6, 1),
                preemption: Preemption::Never,
                sandboxed: false,
                runs_32_bit: true,
                takes_instances: true,
            },
            possible_cpus: 2,
        };
        let (all, no_calls) = candidates(&kernel, &ROW, &ProbeOptions::default());
        assert_eq!(all.iter().map(|candidate| candidate.tier).collect::<Vec<_>>(), [Tier::Fentry, Tier::Kprobe]);
        assert_eq!(no_calls.as_deref(), Some("no system call is named reed"));
    }

    #[test]
    fn programs_of_system_calls_are_of_the_object_that_serves() {
        use ObjectChoice::{Auto, Core, Floor};
        let lacks = Some(&"there is none".to_owned());
        for own in [Object::Core, Object::Floor] {
            for choice in [Auto, Core, Floor] {
                assert_eq!(objects_of_calls(Some(own), choice, false, None).expect("an object"), [own]);
            }
        }
        let without = |choice, lacks| objects_of_calls(None, choice, false, lacks);
        assert_eq!(without(Auto, None).expect("objects"), [Object::Core, Object::Floor]);
        assert_eq!(without(Core, None).expect("objects"), [Object::Core]);
        assert_eq!(without(Auto, lacks).expect("objects"), [Object::Floor]);
        assert_eq!(without(Floor, lacks).expect("objects"), [Object::Floor]);
        assert!(without(Core, lacks).expect_err("refused").to_string().contains("there is none"));
    }
}
