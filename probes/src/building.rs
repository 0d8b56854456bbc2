//! Building a probe: for each counter the first way to count it that works here is tested and attached.

use std::io;
use std::time::Instant;

use ebpf_process_core::BuildError;
use tracing::{debug, warn};

use crate::attach::Links;
use crate::built::{Built, BuiltCalls, Chosen, Owned, report};
use crate::calls::{Calls, Key, LoadedCalls, Share, Whose, has_records, object_for};
use crate::candidate::Candidate;
use crate::cause::Surroundings;
use crate::cgroup;
use crate::counter::{Counter, Subject};
use crate::doubt::Doubt;
use crate::exactness::{Facts, doubts};
use crate::filter::Filter;
use crate::hook::{Attempt, CounterReport, HookReport};
use crate::kernel::Kernel;
use crate::kernel_probe::KernelProbe;
use crate::object::{Loaded, Object, Objects};
use crate::object_maps::ObjectMaps;
use crate::options::{Hooks, ObjectChoice, ProbeOptions, Tier};
use crate::owner::Owner;
use crate::preemption::InForce;
use crate::programs::Programs;
use crate::refusal::{nothing_attached, refuse_core, refuse_totals};
use crate::release::Version;
use crate::selftest::{Proof, Trial, best};
use crate::switches::Board;
use crate::target::Target;
use crate::tracefs::Names;
use crate::wanted::wanted_by;
use crate::who::{self, WhoOptions};
use crate::workshop::Source;

/// For whom is built.
pub(crate) enum For {
    /// For this process, whose probes share the programs of system calls.
    Myself,
    /// For another one, which comes to own what is built: by its name, and with what its probes share already. It writes the
    /// tables of system calls itself.
    Another { owner: Owner, shared: Vec<(Key, Links)> },
}

/// A probe that is being built.
struct Building {
    whom: For,
    /// The probe's own programs, if it has any.
    own: Option<Programs>,
    /// Those of system calls, from the first counter on that stands on them, and which object they are of.
    calls: Option<(Object, BuiltCalls)>,
    /// Of which object they may be.
    calls_objects: &'static [Object],
    /// By whom: so many processes have records.
    processes: Option<u32>,
    chosen: Vec<Chosen>,
    reports: Vec<CounterReport>,
    facts: Facts,
}

/// Loads the probe's object, chooses a hook for each counter and attaches it.
pub(crate) fn build(probe: &KernelProbe, options: &ProbeOptions, whom: For) -> Result<Built, BuildError> {
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
    let (own, mut filter) = match &probe.objects {
        Some(objects) => {
            let (own, filter) = load(objects, options, who.as_ref(), &kernel, &target, whom.owner())?;
            (Some(own), Some(filter))
        }
        None => (None, None),
    };
    let mut building = Building {
        whom,
        calls_objects: objects_of_calls(
            own.as_ref().map(|own| own.object),
            options.object,
            who.is_some(),
            kernel.btf.as_ref().err(),
        )?,
        own,
        calls: None,
        processes: who.as_ref().map(|who| who.processes),
        chosen: Vec::new(),
        reports: Vec::new(),
        facts: kernel.facts,
    };
    let (started, tested) = (Instant::now(), |what: &str, since: Instant| {
        debug!(probe = probe.name, milliseconds = since.elapsed().as_millis(), "{what}");
    });
    let loaded = probe.objects.as_ref().zip(building.own.as_ref().map(|own| own.object));
    let mut trial = Trial::load(loaded, &kernel)
        .inspect_err(|problem| warn!(probe = probe.name, "the hooks cannot be tested: {problem}"))
        .ok();
    tested("loaded the programs of the test", started);
    for counter in probe.counters_in(options.mode) {
        building.choose(&kernel, counter, options, &target, trial.as_mut());
    }
    tested("tested and attached", started);
    building.follow(&kernel)?;
    let unguarded = building.guard(&kernel, filter.as_ref(), &target);
    if let Some(filter) = &mut filter {
        filter.aim(&target)?;
    }
    target.is_there()?;
    let Building { mut own, calls, chosen, reports, facts, .. } = building;
    if chosen.is_empty() && !probe.counters.is_empty() {
        return Err(nothing_attached(probe.name, &reports));
    }
    if let Some(own) = &mut own {
        own.links.close();
    }
    let tiers = [Tier::Fentry, Tier::Kprobe, Tier::Tracepoint].into_iter();
    let switches = Board::of(tiers.filter(|tier| chosen.iter().any(|chosen| chosen.candidate.tier == *tier)));
    Ok(Built {
        possible_cpus: kernel.possible_cpus,
        own: own.zip(filter).map(|(programs, filter)| Owned { programs, filter, unguarded }),
        calls: calls.map(|(_, calls)| calls),
        chosen,
        reports,
        facts,
        target,
        in_force: InForce::open(),
        switches,
        trial,
    })
}

impl For {
    const fn owner(&self) -> Option<Owner> {
        match self {
            Self::Myself => None,
            Self::Another { owner, .. } => Some(*owner),
        }
    }
}

impl Building {
    /// Attaches what guards the target of the probe's own filter; an error says why it does not.
    fn guard(&mut self, kernel: &Kernel, filter: Option<&Filter>, target: &Target) -> Option<String> {
        let guard = filter.and_then(|filter| filter.guard(target, kernel.facts.version));
        self.own.as_mut().zip(guard).and_then(|(own, guard)| own.attach_guard(kernel, &guard).err())
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
        self.own.as_ref().is_some_and(|own| own.links.can_serve(candidate))
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
        if !candidate.is_of_calls() {
            return self.own.as_ref().is_some_and(|own| own.stand_on_events(candidate));
        }
        match (&self.calls, &self.whom) {
            (Some((_, calls)), _) => calls.stand_on_events(candidate),
            (None, For::Myself) => Calls::stand_on_events(target, candidate),
            (None, For::Another { shared, .. }) => {
                let key = Key::of(object_for(candidate), &Whose::Target(target, 0));
                shared.iter().any(|(other, links)| *other == key && links.stand_on_events(candidate))
            }
        }
    }

    /// Attaches all hooks of a candidate, or none.
    fn attach(&mut self, kernel: &Kernel, target: &Target, candidate: &Candidate) -> Result<(), String> {
        if !candidate.is_of_calls() {
            return self.own.as_mut().map_or(Ok(()), |own| own.attach(kernel, &candidate.hooks));
        }
        let object = self.object_for(candidate);
        has_records(object, candidate)?;
        let mut calls = match self.calls.take() {
            Some((_, calls)) => calls,
            None => self.calls_of(kernel, target, object)?,
        };
        let attached = calls.attach(kernel, candidate);
        // Those that nobody stands on yet are taken by the first that can.
        if attached.is_ok() || self.chosen.iter().any(|chosen| chosen.candidate.is_of_calls()) {
            self.calls = Some((object, calls));
        } else if let (For::Another { shared, .. }, BuiltCalls::Shared(key, links)) = (&mut self.whom, calls) {
            shared.push((key, links));
        }
        attached
    }

    /// The programs of system calls with this target: those that there are, or new ones.
    fn calls_of(&mut self, kernel: &Kernel, target: &Target, object: Object) -> Result<BuiltCalls, String> {
        let whose = Whose::Target(target, self.processes.unwrap_or(0));
        match &mut self.whom {
            For::Myself => Ok(BuiltCalls::Here(Share::new(Calls::shared(kernel, object, &whose)?))),
            For::Another { owner, shared } => {
                let key = Key::of(object, &whose);
                if let Some(place) = shared.iter().position(|(other, _)| *other == key) {
                    let (key, links) = shared.swap_remove(place);
                    return Ok(BuiltCalls::Shared(key, links));
                }
                let new = LoadedCalls::load(kernel, object, &whose, Some(*owner))?;
                Ok(BuiltCalls::New(Box::new(new)))
            }
        }
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
        let hook = report(&candidate, doubts, proof == Proof::Proven);
        self.chosen.push(Chosen::new(counter, candidate, hook.clone(), options));
        hook
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
    owner: Option<Owner>,
) -> Result<(Programs, Filter), BuildError> {
    let Loaded { ebpf, object, not_core } = objects.load(options.object, kernel, target, who)?;
    let bytes = objects.bytes(object).unwrap_or_default();
    let unreadable = |error: io::Error| refuse_totals("the totals cannot be had", &error);
    let maps = ObjectMaps::of(&ebpf, bytes).map_err(unreadable)?;
    who::vacate(&maps).map_err(unreadable)?;
    let mut filter = Filter::of(&maps, object)?;
    let aimed = filter.close(target)?;
    let links = Links::new(Source::Object(Box::new(ebpf)), Names { prefix: "", owner }, aimed);
    let mut own = Programs::new(links, maps, (object, bytes), kernel.possible_cpus).map_err(unreadable)?;
    own.not_core = not_core;
    Ok((own, filter))
}

/// The candidates in the order in which they are tried, and why there are none by system calls, where that is so.
pub(crate) fn candidates(
    kernel: &Kernel,
    counter: &Counter,
    options: &ProbeOptions,
) -> (Vec<Candidate>, Option<String>) {
    let (mut allowed, no_calls) = counter.possible(options.mode);
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
