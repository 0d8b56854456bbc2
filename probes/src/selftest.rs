//! The self-test: does a hook count what the agent itself does?
//!
//! It is made with a second load of the same programs, whose filter is frozen to the agent's own thread group and which
//! are attached for the test alone. So nobody else's event can pass for ours, and the programs that count for good stay
//! as they are: a filter that can be switched off would cost them 17 instructions an event.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::debug;

use crate::attach::Links;
use crate::calls::{Calls, Whose, object_for};
use crate::candidate::Candidate;
use crate::cgroup;
use crate::counter::{Counter, OPERATIONS, Subject};
use crate::exactness::fires_anywhere;
use crate::filter::{Aimed, Filter};
use crate::hook::Attach;
use crate::kernel::Kernel;
use crate::object::{Object, Objects};
use crate::object_maps::ObjectMaps;
use crate::owner;
use crate::programs::Programs;
use crate::release::Version;
use crate::target::{CGROUP_KIND, PID_KIND};
use crate::tracefs::Names;
use crate::vigil::Seen;
use crate::workshop::Source;

/// A release is seen one RCU grace period later; on a busy machine that can be long.
const GRACE_PERIOD: Duration = Duration::from_millis(500);

/// Operations in vain that a hook is forgiven: a sandbox hides some, and before 6.7 a kprobe is left out uncounted while
/// another's bpf(2) is at work.
const IN_VAIN: u64 = 2;

/// Operations in vain that it is forgiven where the kernel says that it left the programs out, which it does on a busy
/// machine where tasks are preempted inside the kernel.
const MISSED: u64 = 100;

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Every hook counted every one of our operations.
    Proven,
    /// The operation is impossible here, or nobody can be told apart: that proves nothing.
    Impossible,
}

/// The programs of the test.
pub(crate) struct Trial {
    own: Option<Programs>,
    filter: Option<Filter>,
    /// Loaded when the first counter of system calls is tested, and shared with the tests of other probes.
    calls: Vec<TestedCalls>,
    aim: Aim,
}

/// The programs of one object of system calls.
struct TestedCalls {
    object: Object,
    calls: Arc<Mutex<Calls>>,
    /// What has to be given back.
    held: Vec<Candidate>,
}

/// Whose events the programs of the test count.
#[derive(Debug)]
enum Aim {
    /// The agent's own thread group's, and a child's where the operation is the child's.
    Own,
    /// Those of the agent's control group: in a PID namespace the agent does not know the number that the kernel compares.
    OwnGroup(File),
    /// Everybody's, where there is no such group either.
    Everybody,
}

impl Aim {
    fn find() -> Self {
        match (!knows_its_number(Path::new("/proc/self"))).then(cgroup::open_own) {
            None => Self::Own,
            Some(Ok(group)) => Self::OwnGroup(group),
            Some(Err(_)) => Self::Everybody,
        }
    }

    /// Aims a filter that nothing passes yet.
    fn set(&self, filter: &mut Filter) -> Result<Aimed, String> {
        match self {
            Self::Own => filter.set_tgid(std::process::id()),
            Self::OwnGroup(group) => filter.aim_at_group(group),
            Self::Everybody => Ok(Aimed::at_everybody()),
        }
    }

    const fn kind(&self) -> u32 {
        match self {
            Self::Own => PID_KIND,
            Self::OwnGroup(_) => CGROUP_KIND,
            Self::Everybody => 0,
        }
    }
}

/// Whether the id that this process has is the one that the kernel compares: in the initial PID namespace, and where the
/// kernel has none. Where nothing tells (no `/proc`), it is not known.
fn knows_its_number(myself: &Path) -> bool {
    match owner::namespace(myself) {
        Ok(namespace) => namespace == owner::INITIAL,
        Err(error) => error.kind() == io::ErrorKind::NotFound && myself.join("stat").exists(),
    }
}

impl Trial {
    /// Loads the object of a probe once more; `object` is which one counts for good.
    pub(crate) fn load(objects: Option<(&Objects, Object)>, kernel: &Kernel) -> Result<Self, String> {
        let mut trial = Self { own: None, filter: None, calls: Vec::new(), aim: Aim::find() };
        let Some((objects, object)) = objects else { return Ok(trial) };
        // Which hooks fire does not depend on how their records are kept.
        let object = if object == Object::Who { Object::Core } else { object };
        let kind = trial.aim.kind();
        let ebpf = objects.load_one(object, kernel, kind, None, 0).map_err(|error| error.to_string())?;
        let bytes = objects.bytes(object).unwrap_or_default();
        let maps = ObjectMaps::of(&ebpf, bytes).map_err(|error| error.to_string())?;
        let mut filter = Filter::of(&maps, object).map_err(|error| error.to_string())?;
        let aimed = trial.aim.set(&mut filter)?;
        let names = Names { prefix: "test_", owner: None };
        let links = Links::new(Source::Object(Box::new(ebpf)), names, aimed);
        let own = Programs::new(links, maps, (object, bytes), kernel.possible_cpus);
        trial.own = Some(own.map_err(|error| error.to_string())?);
        trial.filter = Some(filter);
        Ok(trial)
    }

    /// Attaches all hooks of a candidate and does its operation; an error says why the candidate cannot be used.
    ///
    /// What is attached stays so until the trial is dropped, all at once: letting go of a trampoline takes 0.15 s on
    /// Linux 6.1 to 6.12, and next to nothing when the one that counts for good stands on the same function.
    pub(crate) fn test(&mut self, kernel: &Kernel, counter: &Counter, candidate: &Candidate) -> Result<Proof, String> {
        if candidate.is_of_calls() && self.calls_of(candidate).is_none() {
            let aim = |filter: &mut Filter| self.aim.set(filter);
            let object = object_for(candidate);
            let calls = Calls::shared(kernel, object, &Whose::Test(self.aim.kind(), &aim))?;
            self.calls.push(TestedCalls { object, calls, held: Vec::new() });
        }
        match self.calls_of(candidate) {
            Some(tested) => tested.calls.lock().attach(kernel, candidate)?,
            None => self.own.as_mut().map_or(Ok(()), |own| own.attach(kernel, &candidate.hooks))?,
        }
        let proof = self.exercise(counter, candidate);
        // Before 4.15 an event holds one program.
        let alone = kernel.facts.version < Version(4, 15) && candidate.has(|attach| matches!(attach, Attach::Event(_)));
        match (self.calls_of(candidate), proof.is_err() || alone) {
            (Some(tested), true) => tested.calls.lock().detach([candidate]),
            (Some(tested), false) => tested.held.push(candidate.clone()),
            (None, true) => self.own.iter_mut().for_each(|own| own.detach(&candidate.hooks)),
            (None, false) => {}
        }
        proof
    }

    /// The shared programs that a candidate stands on, where it does.
    fn calls_of(&mut self, candidate: &Candidate) -> Option<&mut TestedCalls> {
        let object = object_for(candidate);
        self.calls.iter_mut().find(|tested| candidate.is_of_calls() && tested.object == object)
    }

    fn exercise(&mut self, counter: &Counter, candidate: &Candidate) -> Result<Proof, String> {
        // What has no record shows nothing.
        if candidate.proofs().next().is_none() {
            return Ok(Proof::Impossible);
        }
        if let Err(error) = self.pass(std::process::id()) {
            debug!(counter = counter.name, "not proven: {error}");
            return Ok(Proof::Impossible);
        }
        let unreadable = |error: io::Error| format!("cannot read the totals: {error}");
        let patience = if candidate.hooks.iter().any(fires_anywhere) { GRACE_PERIOD } else { Duration::ZERO };
        let (mut proven, mut in_vain, mut left_out) = (0, 0, 0);
        while proven < OPERATIONS {
            let before = self.seen(candidate).map_err(unreadable)?;
            // The floor looks into no task: there a release is the reaper's, which is us.
            let on_floor = self.own.as_ref().is_some_and(|own| own.object == Object::Floor);
            let of_child = !(counter.subject == Subject::Other && on_floor);
            let done = (counter.exercise)(&mut |pid| if of_child { self.pass(pid) } else { Ok(()) });
            if let Err(error) = done {
                debug!(counter = counter.name, "not proven: {error}");
                return Ok(Proof::Impossible);
            }
            let deadline = Instant::now() + patience;
            let mut after = self.seen(candidate).map_err(unreadable)?;
            while !all_moved(candidate, &before, &after) && Instant::now() < deadline {
                std::thread::yield_now();
                after = self.seen(candidate).map_err(unreadable)?;
            }
            if all_moved(candidate, &before, &after) {
                proven += 1;
                continue;
            }
            let of_which = if after.missed == before.missed { &mut in_vain } else { &mut left_out };
            *of_which += 1;
            if in_vain > IN_VAIN || left_out > MISSED {
                return Err("attached, but does not fire".to_owned());
            }
        }
        Ok(Proof::Proven)
    }

    fn pass(&mut self, tgid: u32) -> io::Result<()> {
        match (&self.aim, &mut self.filter) {
            (Aim::Own, Some(filter)) => filter.set_tgid(tgid).map(drop).map_err(io::Error::other),
            _ => Ok(()),
        }
    }

    /// The calls in the records that the hooks of a candidate must move.
    fn seen(&mut self, candidate: &Candidate) -> io::Result<Seen> {
        if let Some(tested) = self.calls_of(candidate) {
            return tested.calls.lock().programs.seen(candidate);
        }
        self.own.as_mut().map_or(Err(io::ErrorKind::NotFound.into()), |own| own.seen(candidate))
    }
}

impl Drop for TestedCalls {
    fn drop(&mut self) {
        self.calls.lock().detach(&self.held);
    }
}

fn all_moved(candidate: &Candidate, before: &Seen, after: &Seen) -> bool {
    let moved = before.calls.iter().zip(&after.calls).map(|(before, after)| before != after);
    candidate.proofs().zip(moved).all(|(_, moved)| moved)
}

/// The first candidate that is proven, else the first that nothing speaks against; `tried` gets the others, with the
/// reason.
pub(crate) fn best<C: Clone>(
    candidates: impl IntoIterator<Item = C>,
    mut test: impl FnMut(C) -> Result<Proof, String>,
    mut tried: impl FnMut(C, String),
) -> Option<(C, Proof)> {
    let mut unproven = None;
    for candidate in candidates {
        match test(candidate.clone()) {
            Ok(Proof::Proven) => {
                if let Some(other) = unproven {
                    tried(other, "its operation was impossible here, so it was not proven".to_owned());
                }
                return Some((candidate, Proof::Proven));
            }
            Ok(Proof::Impossible) if unproven.is_none() => unproven = Some(candidate),
            Ok(Proof::Impossible) => {}
            Err(problem) => tried(candidate, problem),
        }
    }
    unproven.map(|candidate| (candidate, Proof::Impossible))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of some candidates is taken, and what is said of the others.
    fn taken(outcomes: &[Result<Proof, &str>]) -> (Option<(usize, Proof)>, Vec<usize>) {
        let mut tried = Vec::new();
        let test = |index: usize| outcomes[index].map_err(ToOwned::to_owned);
        let best = best(0..outcomes.len(), test, |index, _problem| tried.push(index));
        (best, tried)
    }

    #[test]
    fn a_proven_candidate_is_preferred_to_an_unproven_one() {
        use Proof::{Impossible, Proven};
        let silent = Err("attached, but does not fire");
        assert_eq!(taken(&[Ok(Proven), Ok(Proven)]), (Some((0, Proven)), vec![]));
        assert_eq!(taken(&[silent, Ok(Proven)]), (Some((1, Proven)), vec![0]));
        assert_eq!(taken(&[Ok(Impossible), silent, Ok(Proven)]), (Some((2, Proven)), vec![1, 0]));
        // Where nothing can be proven, the cheapest that nothing speaks against.
        assert_eq!(taken(&[silent, Ok(Impossible), Ok(Impossible)]), (Some((1, Impossible)), vec![0]));
        assert_eq!(taken(&[silent, silent]), (None, vec![0, 1]));
        assert_eq!(taken(&[]), (None, vec![]));
    }

    #[test]
    fn an_id_is_the_kernels_in_the_initial_namespace_only_and_unknown_without_proc() {
        let myself = tempfile::tempdir().expect("a folder");
        let knows = || knows_its_number(myself.path());
        assert!(!knows(), "no /proc");
        std::fs::write(myself.path().join("stat"), "").expect("a file");
        assert!(knows(), "no PID namespaces");
        std::fs::create_dir(myself.path().join("ns")).expect("a folder");
        for (namespace, expected) in [(owner::INITIAL, true), (4_026_532_177, false)] {
            let link = myself.path().join("ns/pid");
            std::os::unix::fs::symlink(format!("pid:[{namespace}]"), &link).expect("a link");
            assert_eq!(knows(), expected);
            std::fs::remove_file(link).expect("a link");
        }
    }
}
