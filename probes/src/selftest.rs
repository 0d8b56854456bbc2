//! The self-test: does a hook count what the agent itself does?
//!
//! It is made with a second load of the same programs, whose filter is frozen to the agent's own thread group and which
//! are attached for the test alone. So nobody else's event can pass for ours, and the programs that count for good stay
//! as they are: a filter that can be switched off would cost them 17 instructions an event.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::Ebpf;
use tracing::debug;

use crate::attach::Links;
use crate::cgroup;
use crate::exactness::fires_anywhere;
use crate::filter::{Aimed, Filter};
use crate::hook::{Attach, Candidate, Counter, Hook, OPERATIONS, Subject};
use crate::kernel::Kernel;
use crate::kernel_probe::KernelProbe;
use crate::object::{Object, load_object};
use crate::owner;
use crate::release::Version;
use crate::target::{CGROUP_KIND, PID_KIND};
use crate::totals::Totals;

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
    ebpf: Ebpf,
    object: Object,
    links: Links,
    totals: Totals,
    filter: Filter,
    aim: Aim,
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
    pub(crate) fn load(probe: &KernelProbe, object: Object, kernel: &Kernel) -> Result<Self, String> {
        let aim = Aim::find();
        let mut ebpf = load_object(probe, object, kernel, aim.kind(), None).map_err(|error| error.to_string())?;
        let mut filter = Filter::take(&mut ebpf, object).map_err(|error| error.to_string())?;
        let aimed = match &aim {
            Aim::Own => filter.set_tgid(std::process::id())?,
            Aim::OwnGroup(group) => filter.aim_at_group(group)?,
            Aim::Everybody => Aimed::at_everybody(),
        };
        let totals = Totals::new(&ebpf, kernel.possible_cpus).map_err(|error| error.to_string())?;
        Ok(Self { ebpf, object, links: Links::new("test_", aimed), totals, filter, aim })
    }

    /// Attaches all hooks of a candidate and does its operation; an error says why the candidate cannot be used.
    ///
    /// What is attached stays so until the trial is dropped, all at once: letting go of a trampoline takes 0.15 s on
    /// Linux 6.1 to 6.12, and next to nothing when the one that counts for good stands on the same function.
    pub(crate) fn test(
        &mut self,
        kernel: &Kernel,
        counter: &Counter,
        candidate: &'static Candidate,
    ) -> Result<Proof, String> {
        for (attached, hook) in candidate.hooks.iter().enumerate() {
            if let Err(problem) = self.links.attach(&mut self.ebpf, kernel, hook) {
                self.let_go(&candidate.hooks[..attached]);
                return Err(problem);
            }
        }
        let proof = self.exercise(counter, candidate);
        // Before 4.15 an event holds one program.
        let alone = kernel.facts.version < Version(4, 15)
            && candidate.hooks.iter().any(|hook| matches!(hook.attach, Attach::Events(..)));
        if proof.is_err() || alone {
            self.let_go(candidate.hooks);
        }
        proof
    }

    fn let_go(&mut self, hooks: &'static [Hook]) {
        for hook in hooks {
            self.links.detach(&mut self.ebpf, hook);
        }
    }

    fn exercise(&mut self, counter: &Counter, candidate: &Candidate) -> Result<Proof, String> {
        if let Err(error) = self.pass(std::process::id()) {
            debug!(counter = counter.name, "not proven: {error}");
            return Ok(Proof::Impossible);
        }
        let unreadable = |error: io::Error| format!("cannot read the totals: {error}");
        let patience = if candidate.hooks.iter().any(fires_anywhere) { GRACE_PERIOD } else { Duration::ZERO };
        let mut missed = self.missed(candidate).map_err(unreadable)?;
        let (mut proven, mut in_vain, mut left_out) = (0, 0, 0);
        while proven < OPERATIONS {
            let before = self.counted(candidate).map_err(unreadable)?;
            // The floor looks into no task: there a release is the reaper's, which is us.
            let of_child = (counter.subject, self.object) != (Subject::Other, Object::Floor);
            let done = (counter.exercise)(&mut |pid| if of_child { self.pass(pid) } else { Ok(()) });
            if let Err(error) = done {
                debug!(counter = counter.name, "not proven: {error}");
                return Ok(Proof::Impossible);
            }
            let deadline = Instant::now() + patience;
            let mut after = self.counted(candidate).map_err(unreadable)?;
            while !all_moved(&before, &after) && Instant::now() < deadline {
                std::thread::yield_now();
                after = self.counted(candidate).map_err(unreadable)?;
            }
            if all_moved(&before, &after) {
                proven += 1;
                continue;
            }
            let missed_before = std::mem::replace(&mut missed, self.missed(candidate).map_err(unreadable)?);
            let of_which = if missed == missed_before { &mut in_vain } else { &mut left_out };
            *of_which += 1;
            if in_vain > IN_VAIN || left_out > MISSED {
                return Err("attached, but does not fire".to_owned());
            }
        }
        Ok(Proof::Proven)
    }

    fn missed(&mut self, candidate: &Candidate) -> io::Result<u64> {
        self.links.refresh()?;
        self.links.missed_of(candidate)
    }

    fn pass(&mut self, tgid: u32) -> io::Result<()> {
        match self.aim {
            Aim::Own => self.filter.set_tgid(tgid).map(drop).map_err(io::Error::other),
            Aim::OwnGroup(_) | Aim::Everybody => Ok(()),
        }
    }

    /// The calls in the records that the hooks of a candidate must move.
    fn counted(&mut self, candidate: &Candidate) -> io::Result<Vec<u64>> {
        let proofs = candidate.hooks.iter().filter(|hook| !hook.proof.is_empty());
        proofs.map(|hook| self.totals.sum(candidate.tier, hook.proof).map(|record| record.calls)).collect()
    }
}

fn all_moved(before: &[u64], after: &[u64]) -> bool {
    before.iter().zip(after).all(|(before, after)| before != after)
}

/// The first candidate that is proven, else the first that nothing speaks against; `tried` gets the others, with the
/// reason.
pub(crate) fn best<C: Copy>(
    candidates: impl IntoIterator<Item = C>,
    mut test: impl FnMut(C) -> Result<Proof, String>,
    mut tried: impl FnMut(C, String),
) -> Option<(C, Proof)> {
    let mut unproven = None;
    for candidate in candidates {
        match test(candidate) {
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

    #[test]
    fn every_record_must_move() {
        assert!(all_moved(&[1, 7], &[2, 8]));
        assert!(!all_moved(&[1, 7], &[2, 7]));
    }
}
