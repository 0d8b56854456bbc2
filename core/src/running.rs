//! The probes of an agent: building them, also later and again, and asking them.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::assistant::Assistant;
use crate::clock::Clock;
use crate::coming::{Coming, Preparation};
use crate::condition::State;
use crate::error::{BuildError, ProbeError, ProbeErrorKind, chain};
use crate::opener::Opener;
use crate::options::Options;
use crate::part::ProbePart;
use crate::probe::{Probe, ProbeContext, ProbePlugin};
use crate::recorder::Recorder;
use crate::retry::Retry;
use crate::table::Owners;
use crate::vitals::Vitals;
use crate::vitals_probe::VITALS;

/// Probes that an agent may have: each has a bit of [`Owners`].
const PROBE_LIMIT: usize = Owners::BITS as usize;

/// What probes are built and asked with.
pub(crate) struct Scene<'a> {
    pub(crate) recorder: &'a mut Recorder,
    pub(crate) vitals: &'a Arc<Vitals>,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) interval: Duration,
    pub(crate) assistant: &'a Option<Arc<dyn Assistant>>,
    pub(crate) opener: &'a Arc<dyn Opener>,
}

/// The probes of an agent, in the order in which they are asked.
#[derive(Default)]
pub(crate) struct Probes {
    running: Vec<Running>,
    /// Rows that have ended for a change: whoever was built for it is asked one tick later, so that one batch has not two
    /// rows of one name.
    ended: bool,
}

struct Running {
    name: Arc<str>,
    number: u64,
    owner: Owners,
    /// None where it is absent or closed.
    probe: Option<Box<dyn Probe>>,
    /// How it is built.
    part: Option<ProbePart>,
    retry: Retry,
    /// When it is built again.
    due: Option<Instant>,
    /// Where it comes from that is prepared meanwhile.
    coming: Option<Receiver<Coming>>,
    /// Its last collection took longer than an interval: the next tick leaves it out.
    slow: bool,
    /// It is not asked in the next tick.
    fresh: bool,
    /// Since when it fails, as the log has said.
    failing: Option<Instant>,
    /// Whether it tells what was left out, so that it never is itself.
    tells: bool,
}

/// Probes that are in the agent no more, and still attached.
pub(crate) struct Gone(Vec<Running>);

impl Gone {
    /// Drops them, which detaches them: that waits for the kernel.
    pub(crate) fn detach(self) {
        detach_all(self.0.into_iter(), thread::Builder::new);
    }
}

/// Who says why a probe is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Saying {
    Log,
    /// Whoever gets the error: it may be the reason why there is no agent at all, and is said once then.
    Caller,
}

impl Probes {
    /// Adds a probe that is built already.
    pub(crate) fn push(&mut self, name: &str, probe: Box<dyn Probe>, vitals: &Vitals) {
        let owner = self.free_owner();
        self.add(name, owner, Some(probe), vitals);
    }

    /// Builds a probe and adds it; one that is refused is not added.
    pub(crate) fn build(
        &mut self,
        name: &str,
        plugin: &dyn ProbePlugin,
        options: &Options,
        scene: &mut Scene<'_>,
    ) -> Result<(), BuildError> {
        let owner = self.free_owner();
        let probe = build(name, owner, scene, |context| plugin.build(options, context))?;
        self.add(name, owner, Some(probe), scene.vitals);
        Ok(())
    }

    /// Adds a probe as it was built, or as one that is absent or closed for this reason.
    pub(crate) fn start(&mut self, part: ProbePart, scene: &mut Scene<'_>) -> Result<(), BuildError> {
        self.begin(part, Ok(None), Saying::Caller, scene)
    }

    /// The same of one of which this was prepared.
    fn begin(
        &mut self,
        part: ProbePart,
        prepared: Preparation,
        saying: Saying,
        scene: &mut Scene<'_>,
    ) -> Result<(), BuildError> {
        if self.running.len() >= PROBE_LIMIT {
            return Err(BuildError::refused(format!("more than {PROBE_LIMIT} probes"), "leave some out"));
        }
        let owner = self.free_owner();
        let name = Arc::clone(&part.name);
        let running = self.add(&name, owner, None, scene.vitals);
        running.part = Some(part);
        running.begin(prepared, saying, scene)
    }

    fn add(&mut self, name: &str, owner: Owners, probe: Option<Box<dyn Probe>>, vitals: &Vitals) -> &mut Running {
        let running = Running {
            name: name.into(),
            number: vitals.add_probe(name),
            owner,
            probe,
            part: None,
            retry: Retry::default(),
            due: None,
            coming: None,
            slow: false,
            fresh: false,
            failing: None,
            tells: name == VITALS.name(),
        };
        self.running.push(running);
        let last = self.running.len() - 1;
        &mut self.running[last]
    }

    /// A bit that no other probe has.
    fn free_owner(&self) -> Owners {
        let taken: Owners = self.running.iter().map(|running| running.owner).sum();
        1_u64.checked_shl(taken.trailing_ones()).unwrap_or(0)
    }

    /// Whether this very part runs, or is to be tried again: one that is closed is not.
    fn has(&self, part: &ProbePart) -> bool {
        let is = |running: &Running| {
            let lives = running.probe.is_some() || running.due.is_some() || running.coming.is_some();
            running.part.as_ref().filter(|_| lives).is_some_and(|known| {
                known.name == part.name
                    && known.plugin.name() == part.plugin.name()
                    && known.options.is_same(&part.options)
            })
        };
        self.running.iter().any(is)
    }

    /// Those that are not there as they are to be, each with whether one of its name counts.
    pub(crate) fn missing(&self, parts: &[ProbePart]) -> Vec<(ProbePart, bool)> {
        let counts =
            |name: &Arc<str>| self.running.iter().any(|running| running.name == *name && running.probe.is_some());
        let missing = parts.iter().filter(|part| !self.has(part));
        missing.map(|part| (part.clone(), counts(&part.name))).collect()
    }

    /// Becomes these probes, in their order. Those that are the same stay as they are. Whose options changed is asked for the
    /// last time while its successor takes over, which goes on from what it had counted; only where nothing was prepared of
    /// that one, it is built when the one before is gone. Returns what was done, in words, and who is to be detached.
    pub(crate) fn change_to(
        &mut self,
        parts: Vec<ProbePart>,
        mut coming: Vec<Coming>,
        scene: &mut Scene<'_>,
    ) -> (Vec<String>, Gone) {
        let mut said = Vec::new();
        let order: Vec<Arc<str>> = parts.iter().map(|part| Arc::clone(&part.name)).collect();
        let new: Vec<ProbePart> = parts.into_iter().filter(|part| !self.has(part)).collect();
        let is_new = |name: &str| new.iter().any(|part| *part.name == *name);
        let stays = |running: &Running| order.contains(&running.name) && !is_new(&running.name);
        let (mut gone, running): (Vec<_>, Vec<_>) =
            mem::take(&mut self.running).into_iter().partition(|running| running.part.is_some() && !stays(running));
        self.running = running;
        coming.retain(|coming| is_new(&coming.name));
        for coming in &mut coming {
            let mut before = gone.iter_mut().find(|running| running.name == coming.name);
            coming.take_over(|| before.iter_mut().for_each(|running| running.look_last(scene)));
        }
        for running in &mut gone {
            if !coming.iter().any(|coming| coming.name == running.name) {
                running.look_last(scene);
            }
            scene.recorder.disown(running.owner);
            scene.vitals.remove_probe(running.number);
            if !is_new(&running.name) {
                say(&mut said, format!("probe {} is taken out", running.name));
            }
        }
        let waited_for = |running: &Running| {
            let successor = coming.iter().find(|coming| coming.name == running.name);
            is_new(&running.name) && successor.is_none_or(Coming::waits)
        };
        let (waited_for, gone): (Vec<_>, Vec<_>) = gone.into_iter().partition(waited_for);
        Gone(waited_for).detach();
        for part in new {
            let name = Arc::clone(&part.name);
            let place = coming.iter().position(|coming| coming.name == name);
            let (prepared, took) =
                place.map_or((Ok(None), Duration::ZERO), |place| coming.swap_remove(place).into_parts());
            let started = Instant::now();
            let outcome = self.begin(part, prepared, Saying::Log, scene);
            let took = (took + started.elapsed()).as_millis();
            match outcome {
                Ok(()) => say(&mut said, format!("probe {name} is attached ({took} ms)")),
                // The log has it already.
                Err(error) => said.push(format!("probe {name} is not attached: {error}")),
            }
            if let Some(running) = self.running.iter_mut().find(|running| running.name == name) {
                running.fresh = true;
            }
        }
        let place = |running: &Running| order.iter().position(|name| *name == running.name).unwrap_or(usize::MAX);
        self.running.sort_by_key(place);
        self.ended |= scene.recorder.end_abandoned();
        (said, Gone(gone))
    }

    /// Decides which probes are left out of this batch, before any is asked: one of them tells.
    pub(crate) fn leave_out(&mut self, slow_ones: bool, recorder: &mut Recorder, vitals: &Vitals) {
        let ended = mem::take(&mut self.ended);
        for running in &mut self.running {
            running.slow &= slow_ones && !running.tells;
            running.fresh &= slow_ones && ended && !running.tells;
            if running.slow || running.fresh || running.probe.is_none() {
                vitals.update_probe(running.number, |probe| probe.skips += 1);
                recorder.leave_out(&running.name);
            }
        }
    }

    /// Asks all that are not left out; builds those that are due.
    pub(crate) fn collect(&mut self, scene: &mut Scene<'_>) {
        for running in &mut self.running {
            running.try_again(scene);
            if !mem::take(&mut running.slow) && !mem::take(&mut running.fresh) {
                running.look(scene);
            }
        }
    }

    /// Drops the probes, which detaches them.
    pub(crate) fn detach(self) {
        Gone(self.running).detach();
    }
}

impl Running {
    /// Builds it, or the rest of it. An error is why it is absent or closed.
    fn begin(&mut self, prepared: Preparation, saying: Saying, scene: &mut Scene<'_>) -> Result<(), BuildError> {
        let Some(part) = &self.part else { return Ok(()) };
        let outcome = prepared.and_then(|prepared| {
            build(&self.name, self.owner, scene, |context| match prepared {
                Some(prepared) => prepared.begin(context),
                None => part.plugin.build(&part.options, context),
            })
        });
        outcome.map(|probe| self.probe = Some(probe)).inspect_err(|error| {
            self.is_not_there(error.is_passing(), &error.to_string(), saying, scene.vitals);
        })
    }

    /// It could not be built, or has panicked.
    fn is_not_there(&mut self, passing: bool, reason: &str, saying: Saying, vitals: &Vitals) {
        let now = Instant::now();
        self.probe = None;
        let can_be = passing && self.part.is_some();
        self.due = can_be.then(|| now + self.retry.failed(now));
        let state = if can_be { State::Absent } else { State::Closed };
        vitals.update_probe(self.number, |probe| probe.condition.become_state(state, reason));
        if self.retry.is_news(now, reason) && saying == Saying::Log {
            let then = if can_be { "; it is tried again" } else { "" };
            warn!(probe = %self.name, "the probe is {}: {reason}{then}", state.as_str());
        }
    }

    /// Has it prepared when it is due, by a thread of its own, and begins when that is done.
    fn try_again(&mut self, scene: &mut Scene<'_>) {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.due = None;
            self.coming = self.part.as_ref().map(|part| prepare_apart(part, scene.assistant.as_ref()));
        }
        let Some(coming) = &self.coming else { return };
        let prepared = match coming.try_recv() {
            Err(TryRecvError::Empty) => return,
            Ok(mut coming) => {
                coming.take_over(|| {});
                coming.into_parts().0
            }
            Err(TryRecvError::Disconnected) => {
                Err(BuildError::refused("no thread can be started to prepare it", "raise the limit").passing(true))
            }
        };
        self.coming = None;
        // Whatever it had before it panicked goes on.
        scene.recorder.disown(self.owner);
        if self.begin(prepared, Saying::Log, scene).is_ok() {
            scene.vitals.update_probe(self.number, |probe| probe.condition.become_state(State::Working, ""));
            info!(probe = %self.name, "the probe works now");
        }
        // As after a change: one batch has not two rows of one name.
        self.fresh = scene.recorder.end_abandoned();
    }

    /// Asks it for the last time: what it holds back otherwise it has to record now.
    fn look_last(&mut self, scene: &mut Scene<'_>) {
        scene.recorder.set_last(true);
        self.look(scene);
        scene.recorder.set_last(false);
    }

    /// Asks it for its numbers.
    fn look(&mut self, scene: &mut Scene<'_>) {
        let Some(probe) = &mut self.probe else { return };
        let Scene { recorder, vitals, clock, interval, .. } = scene;
        let started = clock.now().boottime;
        recorder.set_owner(self.owner);
        let outcome = catch_unwind(AssertUnwindSafe(|| probe.collect(recorder)));
        recorder.set_owner(0);
        let duration = clock.now().boottime.saturating_sub(started);
        self.slow = duration > *interval;
        let kind = outcome.as_ref().ok().and_then(|outcome| outcome.as_ref().err()).map(ProbeError::kind);
        vitals.update_probe(self.number, |probe| {
            probe.duration = duration;
            match (&outcome, kind) {
                (Ok(Ok(())), _) if probe.state() == State::Failing => probe.condition.become_state(State::Working, ""),
                (Ok(Ok(())), _) => {}
                (_, Some(ProbeErrorKind::Skipped | ProbeErrorKind::Closed)) => probe.skips += 1,
                (Err(_) | Ok(Err(_)), _) => probe.errors += 1,
            }
            if let Ok(Err(error)) = &outcome {
                probe.condition.become_state(State::Failing, &error.to_string());
            }
        });
        match &outcome {
            Err(_) => {
                error!(probe = %self.name, "the probe panicked, and its numbers are missing");
                if let Some(probe) = self.probe.take() {
                    detach(&self.name, &Mutex::new(Some(probe)));
                }
                self.is_not_there(true, "it panicked, see the log", Saying::Log, vitals);
            }
            Ok(Err(error)) if kind == Some(ProbeErrorKind::Closed) => {
                if let Some(probe) = self.probe.take() {
                    detach(&self.name, &Mutex::new(Some(probe)));
                }
                self.is_not_there(false, &chain(error.source()), Saying::Log, vitals);
            }
            Ok(Err(error)) if kind == Some(ProbeErrorKind::Failed) && self.failing.is_none() => {
                self.failing = Some(Instant::now());
                warn!(probe = %self.name, "{error}; further failures are counted, not logged");
            }
            Ok(Ok(())) => {
                if let Some(since) = self.failing.take() {
                    info!(probe = %self.name, "the probe works again after {:.1?}", since.elapsed());
                }
            }
            Ok(Err(_)) => {}
        }
        if !matches!(outcome, Ok(Ok(()))) {
            recorder.leave_out(&self.name);
        }
    }
}

fn say(said: &mut Vec<String>, what: String) {
    info!("{what}");
    said.push(what);
}

/// Has a probe prepared by a thread of its own. Where none can be had nothing comes.
fn prepare_apart(part: &ProbePart, assistant: Option<&Arc<dyn Assistant>>) -> Receiver<Coming> {
    let (done, coming) = bounded(1);
    let (part, assistant, name) = (part.clone(), assistant.cloned(), part.name.to_string());
    // Where nobody waits any more, what was prepared is dropped by that thread.
    let work = move || drop(done.send(Coming::prepare(&part, assistant.as_ref())));
    let _ = thread::Builder::new().name(name).spawn(work);
    coming
}

/// Builds a probe by what its plugin does.
fn build(
    name: &str,
    owner: Owners,
    scene: &mut Scene<'_>,
    by: impl FnOnce(ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError>,
) -> Result<Box<dyn Probe>, BuildError> {
    let Scene { recorder, vitals, interval, assistant, opener, .. } = scene;
    recorder.set_owner(owner);
    vitals.begins_building(name);
    let context = ProbeContext {
        name,
        recorder,
        interval: *interval,
        vitals: Arc::clone(vitals),
        assistant: (*assistant).clone(),
        opener: Arc::clone(opener),
    };
    // At the start a panic is the program's end, as anywhere else there; later it costs the probe alone.
    let built = by(context);
    vitals.ends_building();
    recorder.set_owner(0);
    built
}

/// Drops the probes, each on a thread of its own or, where none can be had, on this one.
fn detach_all(probes: impl Iterator<Item = Running>, thread: impl Fn() -> thread::Builder) {
    let probes: Vec<_> = probes.map(|Running { name, probe, .. }| (name, Mutex::new(probe))).collect();
    thread::scope(|scope| {
        for (name, probe) in &probes {
            let detaching = thread().name(name.to_string()).spawn_scoped(scope, || detach(name, probe));
            if detaching.is_err() {
                detach(name, probe);
            }
        }
    });
}

/// Drops a probe, which detaches it. A panic is its own.
fn detach(name: &str, probe: &Mutex<Option<Box<dyn Probe>>>) {
    let probe = probe.lock().take();
    if catch_unwind(AssertUnwindSafe(move || drop(probe))).is_err() {
        error!(probe = %name, "the probe panicked while it was dropped");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_probe_that_panics_when_dropped_costs_itself_alone_where_no_thread_can_be_had() {
        struct Panics(Arc<AtomicUsize>);
        impl Probe for Panics {
            fn collect(&mut self, _: &mut Recorder) -> Result<(), ProbeError> {
                Ok(())
            }
        }
        impl Drop for Panics {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
                panic!("a bug in somebody's probe");
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let running = |name: &str| Running {
            name: name.into(),
            number: 0,
            owner: 0,
            probe: Some(Box::new(Panics(Arc::clone(&dropped)))),
            part: None,
            retry: Retry::default(),
            due: None,
            coming: None,
            slow: false,
            fresh: false,
            failing: None,
            tells: false,
        };
        // No address space has room for such a stack.
        detach_all(["a", "b"].map(running).into_iter(), || thread::Builder::new().stack_size(1 << 60));
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
        detach_all(["a", "b"].map(running).into_iter(), thread::Builder::new);
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
    }
}
