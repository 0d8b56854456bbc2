//! Attaching hooks and letting go of them.

mod text;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use tracing::debug;

use crate::candidate::Candidate;
use crate::filter::Aimed;
use crate::hook::{Attach, Hook, Place};
use crate::kernel::Kernel;
use crate::refusal::{no_event, no_perf_event};
use crate::release::Version;
use crate::switches;
use crate::sys;
use crate::tracefs::{self, Event, Names, Profile};
use crate::workshop::{Source, Unloaded, unattached};

pub(crate) use text::{LinksText, SharedText};

/// The programs of one object that are attached, and where others come from.
pub(crate) struct Links {
    /// By program and place: two counters that want one program at two places have two links.
    attached: Vec<(Place, Link)>,
    source: Source,
    profile: Option<Profile>,
    /// Trampolines are refused by some kernels before they look at the function: asked once.
    trampolines_refused: Option<String>,
    names: Names,
}

/// An attached program; the fields' order is the order of letting go.
#[derive(Debug)]
struct Link {
    hold: Hold,
    /// The tracefs event of a breakpoint.
    event: Option<Event>,
    program: OwnedFd,
    /// The perf event that it stands on.
    id: Option<u64>,
    /// Several counters may stand on one program.
    users: usize,
}

/// What keeps a program attached.
#[derive(Debug)]
enum Hold {
    /// Until this descriptor is closed.
    By(OwnedFd),
    /// Another process has it.
    There,
    /// Between two attachments, and when the second one failed.
    Lost,
    /// This kernel has no such place.
    Nowhere,
}

/// A hook that has to be attached again.
pub(crate) struct Loss<'a> {
    pub(crate) place: &'a Place,
    pub(crate) program: BorrowedFd<'a>,
    /// The tracefs event of a breakpoint.
    pub(crate) event: Option<&'a str>,
    /// The perf event that it stands on.
    id: Option<u64>,
}

/// Attaches lost hooks, all in their order: this process, or another one for it.
pub(crate) type AttachLost<'a> = dyn FnMut(&[Loss<'_>]) -> io::Result<Vec<OwnedFd>> + 'a;

impl Loss<'_> {
    /// Attaches the program where it was.
    pub(crate) fn attach(&self, possible_cpus: usize) -> io::Result<OwnedFd> {
        match self.id {
            None => sys::attach_again(self.program),
            Some(id) => sys::attach_to_event(id, self.program, possible_cpus),
        }
    }
}

impl Links {
    /// Where the filter is aimed, so that nothing is attached before.
    pub(crate) const fn new(source: Source, names: Names, _: Aimed) -> Self {
        Self { attached: Vec::new(), source, profile: None, trampolines_refused: None, names }
    }

    /// Loads the programs of these hooks: from here on no others can be attached.
    pub(crate) fn load_all(&mut self, kernel: &Kernel, hooks: &[Hook]) {
        self.source.load_all(kernel, hooks);
    }

    /// Lets go of what is needed to load programs: from here on there are those that stand.
    pub(crate) fn close(&mut self) {
        self.source = Source::Closed;
    }

    /// Whether there are all programs of a candidate.
    pub(crate) fn can_serve(&self, candidate: &Candidate) -> bool {
        candidate.hooks.iter().all(|hook| self.source.has(&hook.program))
    }

    /// Attaches all of these hooks, or none. The error says why in words.
    pub(crate) fn attach_all(&mut self, kernel: &Kernel, hooks: &[Hook]) -> Result<(), String> {
        for (attached, hook) in hooks.iter().enumerate() {
            if let Err(problem) = self.attach(kernel, hook) {
                self.detach(&hooks[..attached]);
                return Err(problem);
            }
        }
        if hooks.iter().all(|hook| !self.is_somewhere(hook)) && !hooks.is_empty() {
            self.detach(hooks);
            return Err(no_such_events(kernel, hooks));
        }
        Ok(())
    }

    /// Attaches one hook. The error says why in words.
    pub(crate) fn attach(&mut self, kernel: &Kernel, hook: &Hook) -> Result<(), String> {
        if let Some((place, link)) = self.entry_mut(hook) {
            link.hold_again(place, kernel.possible_cpus)
                .map_err(|error| format!("cannot be attached again: {error}"))?;
            link.users = link.users.saturating_add(1);
            return Ok(());
        }
        if let (Attach::Fentry(_) | Attach::Fexit(..), Some(problem)) = (&hook.attach, &self.trampolines_refused) {
            return Err(problem.clone());
        }
        let attached = self.attach_anew(kernel, hook);
        if attached.is_err() {
            // It may have been loaded before the attachment failed; another candidate may want it.
            self.unload_unused(hook);
        }
        let link = attached?;
        debug!(program = %hook.program, target = hook.attach.target(), "attached");
        self.attached.push((hook.place(), link));
        Ok(())
    }

    /// Takes a program out of the kernel, unless it is attached somewhere.
    fn unload_unused(&mut self, hook: &Hook) {
        if !self.attached.iter().any(|((program, _), _)| *program == hook.program) {
            self.source.unload(hook);
        }
    }

    fn attach_anew(&mut self, kernel: &Kernel, hook: &Hook) -> Result<Link, String> {
        if !matches!(hook.attach, Attach::Tracepoint(_) | Attach::Event(_))
            && let Some(off) = switches::ftrace_off()
        {
            return Err(off);
        }
        match &hook.attach {
            Attach::Fexit(function, arity) if kernel.arity(function) != Some(*arity) => {
                Err(match kernel.arity(function) {
                    None => "this kernel has no such function to trace".to_owned(),
                    Some(other) => format!("takes {other} arguments here, not {arity}"),
                })
            }
            Attach::Fentry(_) | Attach::Fexit(..) | Attach::Tracepoint(_) => {
                let attached = self.source.load(kernel, hook).and_then(|program| {
                    let held = sys::attach_again(program.as_fd()).map_err(|error| unattached(&error))?;
                    Ok(Link { hold: Hold::By(held), event: None, program, id: None, users: 1 })
                });
                attached.map_err(|error| self.explain(hook, error))
            }
            Attach::Kprobe(_) | Attach::Kretprobe(_) => self.attach_breakpoint(kernel, hook),
            Attach::Event(event) => attach_to_event(&mut self.source, kernel, hook, event),
        }
    }

    /// Lets go of hooks, all at once, that nobody else uses.
    pub(crate) fn detach<'a>(&mut self, hooks: impl IntoIterator<Item = &'a Hook>) {
        let mut unused = Vec::new();
        for hook in hooks {
            let Some(index) = self.index_of(hook) else { continue };
            let Some((_, link)) = self.attached.get_mut(index) else { continue };
            link.users = link.users.saturating_sub(1);
            if link.users == 0 {
                unused.push((hook, self.attached.remove(index).1));
            }
        }
        let (hooks, links): (Vec<_>, Vec<_>) = unused.into_iter().unzip();
        // Before its program can be loaded and attached anew: both would count.
        let_go(links);
        for hook in hooks {
            self.unload_unused(hook);
        }
    }

    /// Lets go of hooks and has the same loaded programs attached again: for those that have stopped firing.
    pub(crate) fn attach_again(&mut self, hooks: &[Hook], attach: &mut AttachLost<'_>) -> io::Result<()> {
        let places: Vec<usize> = hooks.iter().filter_map(|hook| self.index_of(hook)).collect();
        let mut lost = Vec::new();
        for place in places {
            let Some((_, link)) = self.attached.get_mut(place) else { continue };
            if !matches!(link.hold, Hold::Nowhere) && !lost.contains(&place) {
                // First: a trace event held one program before 4.15, and a trampoline holds each one once.
                link.hold = Hold::Lost;
                lost.push(place);
            }
        }
        let losses: Vec<_> =
            lost.iter().filter_map(|place| self.attached.get(*place).map(|(place, link)| link.loss(place))).collect();
        let held = attach(&losses)?;
        drop(losses);
        for (place, held) in lost.into_iter().zip(held) {
            if let Some((_, link)) = self.attached.get_mut(place) {
                link.hold = Hold::By(held);
            }
        }
        Ok(())
    }

    /// The link of this program at this place.
    fn link_of(&self, hook: &Hook) -> Option<&Link> {
        self.attached.get(self.index_of(hook)?).map(|(_, link)| link)
    }

    fn link_mut(&mut self, hook: &Hook) -> Option<&mut Link> {
        self.entry_mut(hook).map(|(_, link)| link)
    }

    fn entry_mut(&mut self, hook: &Hook) -> Option<&mut (Place, Link)> {
        let index = self.index_of(hook)?;
        self.attached.get_mut(index)
    }

    /// Takes over what another process has attached.
    pub(crate) fn take_over(&mut self, mut others: Self) {
        for (place, link) in std::mem::take(&mut others.attached) {
            match self.attached.iter_mut().find(|(own, _)| *own == place) {
                None => self.attached.push((place, link)),
                Some((_, own)) if matches!(own.hold, Hold::Lost) => (own.hold, own.id) = (link.hold, link.id),
                Some(_) => {}
            }
        }
        self.profile = self.profile.take().or_else(|| others.profile.take());
    }

    /// One user more of each of these hooks, which must stand.
    pub(crate) fn join(&mut self, hooks: &[Hook]) -> Result<(), String> {
        if let Some(hook) = hooks.iter().find(|hook| self.index_of(hook).is_none()) {
            return Err(format!("{} is not attached", hook.attach.target()));
        }
        for hook in hooks {
            self.count_user(hook, |users| users.saturating_add(1));
        }
        Ok(())
    }

    /// One user less, of hooks that stay attached until somebody joins.
    pub(crate) fn leave(&mut self, hooks: &[Hook]) {
        for hook in hooks {
            self.count_user(hook, |users| users.saturating_sub(1));
        }
    }

    fn count_user(&mut self, hook: &Hook, count: impl Fn(usize) -> usize) {
        if let Some(link) = self.link_mut(hook) {
            link.users = count(link.users);
        }
    }

    /// They are few, and to look for one allocates nothing.
    fn index_of(&self, hook: &Hook) -> Option<usize> {
        self.attached.iter().position(|((program, attach), _)| (program, attach) == (&hook.program, &hook.attach))
    }

    /// Whether this hook is attached, and to a place that this kernel has.
    pub(crate) fn is_somewhere(&self, hook: &Hook) -> bool {
        self.link_of(hook).is_some_and(|link| !matches!(link.hold, Hold::Nowhere))
    }

    /// Whether all of a candidate's hooks are trace events on which we stand already.
    pub(crate) fn stand_on_events(&self, candidate: &Candidate) -> bool {
        candidate.hooks.iter().all(|hook| matches!(hook.attach, Attach::Event(_)) && self.link_of(hook).is_some())
    }

    /// Reads anew what the breakpoints missed.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        self.profile.as_mut().map_or(Ok(()), Profile::refresh)
    }

    /// How many events the kernel left a candidate's hooks out of, as of the last refresh for breakpoints.
    pub(crate) fn missed_of(&self, candidate: &Candidate) -> io::Result<u64> {
        let mut missed = 0;
        for (index, hook) in candidate.hooks.iter().enumerate() {
            let Some(link) = self.link_of(hook) else { continue };
            // Of a program that stands at several places the kernel counts all of them in one number.
            if !candidate.hooks[..index].iter().any(|other| other.program == hook.program) {
                missed += sys::recursion_misses(link.program.as_fd())?;
            }
            let profile = self.profile.as_ref().zip(link.event.as_ref());
            missed += profile.map_or(0, |(profile, event)| profile.missed(event.name()));
        }
        Ok(missed)
    }

    fn attach_breakpoint(&mut self, kernel: &Kernel, hook: &Hook) -> Result<Link, String> {
        let tracefs = kernel.tracefs.as_ref().map_err(Clone::clone)?;
        tracefs.needs_kprobes()?;
        let at_return = matches!(hook.attach, Attach::Kretprobe(_));
        let program = self.source.load(kernel, hook).map_err(|error| error.problem)?;
        let created = tracefs.create(self.names, hook.attach.target(), at_return);
        let (event, id) = created.map_err(|error| no_event(tracefs.root(), &error))?;
        let perf = sys::attach_to_event(id, program.as_fd(), kernel.possible_cpus)
            .map_err(|error| no_perf_event("it", &error))?;
        if self.profile.is_none() {
            self.profile = Some(tracefs.profile().map_err(|error| format!("tracefs hides its misses: {error}"))?);
        }
        Ok(Link { hold: Hold::By(perf), event: Some(event), program, id: Some(id), users: 1 })
    }

    fn explain(&mut self, hook: &Hook, error: Unloaded) -> String {
        match (&hook.attach, error.code) {
            (Attach::Fentry(_) | Attach::Fexit(..), Some(libc::EPERM)) => {
                let problem = "the kernel permits no trampolines (EPERM)".to_owned();
                self.trampolines_refused.insert(problem).clone()
            }
            (_, Some(libc::EPERM)) => "not permitted (EPERM)".to_owned(),
            _ => error.problem,
        }
    }
}

impl Link {
    /// Attaches it where it was lost.
    fn hold_again(&mut self, place: &Place, possible_cpus: usize) -> io::Result<()> {
        if matches!(self.hold, Hold::Lost) {
            self.hold = Hold::By(self.loss(place).attach(possible_cpus)?);
        }
        Ok(())
    }

    fn loss<'a>(&'a self, place: &'a Place) -> Loss<'a> {
        Loss { place, program: self.program.as_fd(), event: self.event.as_ref().map(Event::name), id: self.id }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let_go(self.attached.drain(..).map(|(_, link)| link));
    }
}

/// Detaching waits for the kernel (25 to 65 ms for each perf event or trampoline): all are let go at once, so that the
/// waits overlap.
fn let_go(links: impl IntoIterator<Item = Link>) {
    let events: Vec<Option<Event>> = std::thread::scope(|scope| {
        let let_go = links.into_iter().map(|Link { hold, event, .. }| {
            // Where no thread can be had the link is dropped here and now.
            let _waiting = std::thread::Builder::new().spawn_scoped(scope, move || drop(hold));
            event
        });
        let_go.collect()
    });
    // An event can be removed when nothing stands on it any more.
    tracefs::remove(events.into_iter().flatten());
}

fn no_such_events(kernel: &Kernel, hooks: &[Hook]) -> String {
    let events = hooks.iter().filter_map(|hook| match &hook.attach {
        Attach::Event(event) => Some(event.as_str()),
        _ => None,
    });
    let events: Vec<&str> = events.collect();
    kernel.tracefs.as_ref().map_or_else(Clone::clone, |tracefs| tracefs.no_such_events(&events))
}

/// Whether a loaded program can be attached a second time: from 5.10 to 5.13 a trampoline forgets its function when it is
/// attached (mended by f3a95075549e "bpf: Allow trampoline re-attach", 5.14).
pub(crate) fn can_attach_again(hook: &Hook, version: Version) -> bool {
    let trampoline = matches!(hook.attach, Attach::Fentry(_) | Attach::Fexit(..));
    !(trampoline && (Version(5, 10)..Version(5, 14)).contains(&version))
}

/// Attaches a program to an event, if this kernel has it.
fn attach_to_event(source: &mut Source, kernel: &Kernel, hook: &Hook, event: &str) -> Result<Link, String> {
    let tracefs = kernel.tracefs.as_ref().map_err(Clone::clone)?;
    let program = source.load(kernel, hook).map_err(|error| error.problem)?;
    let id = match tracefs.id_of(event) {
        Ok(id) => id,
        Err(error) if error.kind() == io::ErrorKind::NotFound && hook.may_lack => {
            return Ok(Link { hold: Hold::Nowhere, event: None, program, id: None, users: 1 });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(tracefs.no_such_events(&[event])),
        Err(error) => return Err(format!("tracefs hides {event}: {error}")),
    };
    let perf = sys::attach_to_event(id, program.as_fd(), kernel.possible_cpus);
    let held = perf.map_err(|error| no_perf_event(event, &error))?;
    Ok(Link { hold: Hold::By(held), event: None, program, id: Some(id), users: 1 })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn hook(program: &'static str, attach: Attach) -> Hook {
        Hook { program: program.to_owned(), attach, proof: Vec::new(), may_lack: false }
    }

    #[test]
    fn links_are_found_by_target_and_not_by_program() {
        let mut links = Links::new(Source::Closed, Names::default(), Aimed::at_everybody());
        let program = || OwnedFd::from(File::open("/dev/null").expect("a descriptor"));
        let new = hook("clone__kprobe", Attach::Kprobe("kernel_clone"));
        let old = hook("clone__kprobe", Attach::Kprobe("_do_fork"));
        let event = hook("clone__kprobe", Attach::Event("a/b".to_owned()));
        for (hook, id) in [(&new, 1), (&old, 2)] {
            let link = Link { hold: Hold::Nowhere, event: None, program: program(), id: Some(id), users: 1 };
            links.attached.push((hook.place(), link));
        }
        let found = |hook| links.link_of(hook).and_then(|link| link.id);
        assert_eq!((found(&new), found(&old), found(&event)), (Some(1), Some(2), None));
    }

    #[test]
    fn a_trampoline_is_not_attached_again_where_it_forgets_its_function() {
        let fentry = hook("a", Attach::Fentry("f"));
        let fexit = hook("a", Attach::Fexit("f", 1));
        for (version, can) in [((5, 9), true), ((5, 10), false), ((5, 13), false), ((5, 14), true), ((6, 1), true)] {
            let version = Version(version.0, version.1);
            assert_eq!((can_attach_again(&fentry, version), can_attach_again(&fexit, version)), (can, can));
            assert!(can_attach_again(&hook("a", Attach::Tracepoint("t")), version));
            assert!(can_attach_again(&hook("a", Attach::Kprobe("f")), version));
        }
    }
}
