//! Attaching hooks and letting go of them.

use std::os::fd::{AsFd, OwnedFd};

use aya::programs::fentry::FEntryLink;
use aya::programs::fexit::FExitLink;
use aya::programs::tp_btf::BtfTracePointLink;
use aya::programs::{BtfTracePoint, FEntry, FExit, KProbe, Program, ProgramError, ProgramFd, TracePoint};
use aya::{Btf, Ebpf};
use ebpf_process_core::chain;
use tracing::debug;

use crate::candidate::Candidate;
use crate::filter::Aimed;
use crate::hook::{Attach, Hook, Place};
use crate::kernel::Kernel;
use crate::refusal::{no_event, no_perf_event};
use crate::release::Version;
use crate::switches;
use crate::sys;
use crate::tracefs::{Event, Profile};

/// The programs of one object that are attached.
#[derive(Debug)]
pub(crate) struct Links {
    /// By program and place: two counters that want one program at two places have two links.
    attached: Vec<(Place, Link)>,
    profile: Option<Profile>,
    /// Trampolines are refused by some kernels before they look at the function: asked once.
    trampolines_refused: Option<String>,
    prefix: &'static str,
}

/// An attached program; the fields' order is the order of letting go.
#[derive(Debug)]
struct Link {
    hold: Hold,
    /// The tracefs event of a breakpoint.
    event: Option<Event>,
    program: OwnedFd,
    /// The perf events that it stands on, by id.
    ids: Vec<u64>,
    /// Several counters may stand on one program.
    users: usize,
}

/// What keeps a program attached until it is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what dropping them does")]
enum Hold {
    Fentry(FEntryLink),
    Fexit(FExitLink),
    Tracepoint(BtfTracePointLink),
    Breakpoint(OwnedFd),
    Events(Vec<OwnedFd>),
    /// A trampoline or tracepoint that was attached again.
    Again(OwnedFd),
    /// Between two attachments, and when the second one failed.
    Lost,
    /// This kernel has no such place.
    None,
}

impl Links {
    /// Where the filter is aimed, so that nothing is attached before. The names of our tracefs events begin with `prefix`: those of a test stand beside those that count.
    pub(crate) fn new(prefix: &'static str, _: Aimed) -> Self {
        Self { attached: Vec::new(), profile: None, trampolines_refused: None, prefix }
    }

    /// Attaches one hook. The error says why in words.
    pub(crate) fn attach(&mut self, ebpf: &mut Ebpf, kernel: &Kernel, hook: &Hook) -> Result<(), String> {
        if let Some(link) = self.link_mut(hook) {
            link.hold_again(kernel.possible_cpus).map_err(|error| format!("cannot be attached again: {error}"))?;
            link.users += 1;
            return Ok(());
        }
        if let (Attach::Fentry(_) | Attach::Fexit(..), Some(problem)) = (&hook.attach, &self.trampolines_refused) {
            return Err(problem.clone());
        }
        let link = self.attach_anew(ebpf, kernel, hook).inspect_err(|_| {
            // It may have been loaded before the attachment failed; another candidate may want it.
            self.unload_unused(ebpf, hook);
        })?;
        debug!(program = %hook.program, target = hook.attach.target(), "attached");
        self.attached.push((hook.place(), link));
        Ok(())
    }

    /// Takes a program out of the kernel, unless it is attached somewhere.
    fn unload_unused(&self, ebpf: &mut Ebpf, hook: &Hook) {
        if !self.attached.iter().any(|((program, _), _)| *program == hook.program)
            && let Err(error) = unload(ebpf, hook)
        {
            debug!(program = %hook.program, "cannot unload: {error}");
        }
    }

    fn attach_anew(&mut self, ebpf: &mut Ebpf, kernel: &Kernel, hook: &Hook) -> Result<Link, String> {
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
                let btf = kernel.btf.as_ref().map_err(Clone::clone)?;
                attach_by_btf(ebpf, &btf.places, hook).map_err(|error| self.explain(hook, &error))
            }
            Attach::Kprobe(_) | Attach::Kretprobe(_) => self.attach_breakpoint(ebpf, kernel, hook),
            Attach::Event(event) => attach_to_event(ebpf, kernel, hook, event),
        }
    }

    /// Lets go of hooks, all at once, that nobody else uses.
    pub(crate) fn detach<'a>(&mut self, ebpf: &mut Ebpf, hooks: impl IntoIterator<Item = &'a Hook>) {
        let mut unused = Vec::new();
        for hook in hooks {
            let Some(index) = self.index_of(hook) else { continue };
            let Some((_, link)) = self.attached.get_mut(index) else { continue };
            link.users -= 1;
            if link.users == 0 {
                unused.push((hook, self.attached.remove(index).1));
            }
        }
        let (hooks, links): (Vec<_>, Vec<_>) = unused.into_iter().unzip();
        // Before its program can be loaded and attached anew: both would count.
        let_go(links);
        for hook in hooks {
            self.unload_unused(ebpf, hook);
        }
    }

    /// Lets go of a hook and attaches the same loaded program again: for one that has stopped firing.
    pub(crate) fn attach_again(&mut self, hook: &Hook, possible_cpus: usize) -> std::io::Result<()> {
        let Some(link) = self.link_mut(hook) else { return Ok(()) };
        if !matches!(link.hold, Hold::None) {
            // First: a trace event held one program before 4.15, and a trampoline holds each one once.
            link.hold = Hold::Lost;
        }
        link.hold_again(possible_cpus)
    }

    /// The link of this program at this place.
    fn link_of(&self, hook: &Hook) -> Option<&Link> {
        self.attached.get(self.index_of(hook)?).map(|(_, link)| link)
    }

    fn link_mut(&mut self, hook: &Hook) -> Option<&mut Link> {
        let index = self.index_of(hook)?;
        self.attached.get_mut(index).map(|(_, link)| link)
    }

    /// They are few, and to look for one allocates nothing.
    fn index_of(&self, hook: &Hook) -> Option<usize> {
        self.attached.iter().position(|((program, attach), _)| (program, attach) == (&hook.program, &hook.attach))
    }

    /// Whether this hook is attached, and to a place that this kernel has.
    pub(crate) fn is_somewhere(&self, hook: &Hook) -> bool {
        self.link_of(hook).is_some_and(|link| !matches!(link.hold, Hold::None))
    }

    /// Whether all of a candidate's hooks are trace events on which we stand already.
    pub(crate) fn stand_on_events(&self, candidate: &Candidate) -> bool {
        candidate.hooks.iter().all(|hook| matches!(hook.attach, Attach::Event(_)) && self.link_of(hook).is_some())
    }

    /// Reads anew what the breakpoints missed.
    pub(crate) fn refresh(&mut self) -> std::io::Result<()> {
        self.profile.as_mut().map_or(Ok(()), Profile::refresh)
    }

    /// How many events the kernel left a candidate's hooks out of, as of the last refresh for breakpoints.
    pub(crate) fn missed_of(&self, candidate: &Candidate) -> std::io::Result<u64> {
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

    fn attach_breakpoint(&mut self, ebpf: &mut Ebpf, kernel: &Kernel, hook: &Hook) -> Result<Link, String> {
        let tracefs = kernel.tracefs.as_ref().map_err(Clone::clone)?;
        tracefs.needs_kprobes()?;
        let at_return = matches!(hook.attach, Attach::Kretprobe(_));
        let program = load_for_perf(ebpf, hook).map_err(|error| in_short(&error))?;
        let created = tracefs.create(self.prefix, hook.attach.target(), at_return);
        let (event, id) = created.map_err(|error| no_event(tracefs.root(), &error))?;
        let perf = sys::attach_to_event(id, program.as_fd(), kernel.possible_cpus)
            .map_err(|error| no_perf_event("it", &error))?;
        if self.profile.is_none() {
            self.profile = Some(tracefs.profile().map_err(|error| format!("tracefs hides its misses: {error}"))?);
        }
        Ok(Link { hold: Hold::Breakpoint(perf), event: Some(event), program, ids: vec![id], users: 1 })
    }

    fn explain(&mut self, hook: &Hook, error: &ProgramError) -> String {
        let code = match error {
            ProgramError::LoadError { io_error, .. } => io_error.raw_os_error(),
            ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
            _ => None,
        };
        match (&hook.attach, code) {
            (Attach::Fentry(_) | Attach::Fexit(..), Some(libc::EPERM)) => {
                let problem = "the kernel permits no trampolines (EPERM)".to_owned();
                self.trampolines_refused.insert(problem).clone()
            }
            (_, Some(libc::EPERM)) => "not permitted (EPERM)".to_owned(),
            _ => in_short(error),
        }
    }
}

impl Link {
    /// Attaches it where it was lost.
    fn hold_again(&mut self, possible_cpus: usize) -> std::io::Result<()> {
        if !matches!(self.hold, Hold::Lost) {
            return Ok(());
        }
        self.hold = if self.ids.is_empty() {
            Hold::Again(sys::attach_again(self.program.as_fd())?)
        } else {
            let perf = self.ids.iter().map(|id| sys::attach_to_event(*id, self.program.as_fd(), possible_cpus));
            Hold::Events(perf.collect::<std::io::Result<_>>()?)
        };
        Ok(())
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
    drop(events);
}

/// Whether a loaded program can be attached a second time: from 5.10 to 5.13 a trampoline forgets its function when it is
/// attached (mended by f3a95075549e "bpf: Allow trampoline re-attach", 5.14).
pub(crate) fn can_attach_again(hook: &Hook, version: Version) -> bool {
    let trampoline = matches!(hook.attach, Attach::Fentry(_) | Attach::Fexit(..));
    !(trampoline && (Version(5, 10)..Version(5, 14)).contains(&version))
}

/// Loads and attaches by the names in the kernel's type information.
fn attach_by_btf(ebpf: &mut Ebpf, btf: &Btf, hook: &Hook) -> Result<Link, ProgramError> {
    let program = ebpf.program_mut(&hook.program).ok_or(ProgramError::UnexpectedProgramType)?;
    let (fd, hold) = match &hook.attach {
        Attach::Fentry(function) => {
            let program: &mut FEntry = program.try_into()?;
            program.load(function, btf)?;
            let link = program.attach()?;
            (clone_fd(program.fd()?)?, Hold::Fentry(program.take_link(link)?))
        }
        Attach::Fexit(function, _) => {
            let program: &mut FExit = program.try_into()?;
            program.load(function, btf)?;
            let link = program.attach()?;
            (clone_fd(program.fd()?)?, Hold::Fexit(program.take_link(link)?))
        }
        Attach::Tracepoint(name) => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(name, btf)?;
            let link = program.attach()?;
            (clone_fd(program.fd()?)?, Hold::Tracepoint(program.take_link(link)?))
        }
        Attach::Kprobe(_) | Attach::Kretprobe(_) | Attach::Event(_) => {
            return Err(ProgramError::UnexpectedProgramType);
        }
    };
    Ok(Link { hold, event: None, program: fd, ids: Vec::new(), users: 1 })
}

/// Attaches a program to an event, if this kernel has it.
fn attach_to_event(ebpf: &mut Ebpf, kernel: &Kernel, hook: &Hook, event: &str) -> Result<Link, String> {
    let tracefs = kernel.tracefs.as_ref().map_err(Clone::clone)?;
    let program = load_for_perf(ebpf, hook).map_err(|error| in_short(&error))?;
    let id = match tracefs.id_of(event) {
        Ok(id) => id,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && hook.may_lack => {
            return Ok(Link { hold: Hold::None, event: None, program, ids: Vec::new(), users: 1 });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(tracefs.no_such_events(&[event])),
        Err(error) => return Err(format!("tracefs hides {event}: {error}")),
    };
    let perf = sys::attach_to_event(id, program.as_fd(), kernel.possible_cpus);
    let held = vec![perf.map_err(|error| no_perf_event(event, &error))?];
    Ok(Link { hold: Hold::Events(held), event: None, program, ids: vec![id], users: 1 })
}

/// An error in one line. A verifier's log is kilobytes: its last words say what it refused.
fn in_short(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return chain(error) };
    debug!("the verifier's log: {verifier_log}");
    let log = verifier_log.to_string();
    let mut told = log.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("processed "));
    let reason = told.next_back().map_or(String::new(), |line| format!(" ({line})"));
    format!("the kernel refuses the program: {io_error}{reason}")
}

/// Loads a program that is hung on a perf event, unless it is loaded: such a program may stand at several places.
fn load_for_perf(ebpf: &mut Ebpf, hook: &Hook) -> Result<OwnedFd, ProgramError> {
    match ebpf.program_mut(&hook.program) {
        Some(Program::KProbe(program)) => {
            if program.fd().is_err() {
                program.load()?;
            }
            clone_fd(program.fd()?)
        }
        Some(Program::TracePoint(program)) => {
            if program.fd().is_err() {
                program.load()?;
            }
            clone_fd(program.fd()?)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn clone_fd(fd: &ProgramFd) -> Result<OwnedFd, ProgramError> {
    fd.as_fd().try_clone_to_owned().map_err(ProgramError::IOError)
}

/// Takes a program out of the kernel, its link first.
fn unload(ebpf: &mut Ebpf, hook: &Hook) -> Result<(), ProgramError> {
    let program = ebpf.program_mut(&hook.program).ok_or(ProgramError::UnexpectedProgramType)?;
    match hook.attach {
        Attach::Fentry(_) => <&mut FEntry>::try_from(program)?.unload(),
        Attach::Fexit(..) => <&mut FExit>::try_from(program)?.unload(),
        Attach::Tracepoint(_) => <&mut BtfTracePoint>::try_from(program)?.unload(),
        Attach::Kprobe(_) | Attach::Kretprobe(_) => <&mut KProbe>::try_from(program)?.unload(),
        Attach::Event(_) => <&mut TracePoint>::try_from(program)?.unload(),
    }
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
        let mut links = Links::new("", Aimed::at_everybody());
        let program = || OwnedFd::from(File::open("/dev/null").expect("a descriptor"));
        let new = hook("clone__kprobe", Attach::Kprobe("kernel_clone"));
        let old = hook("clone__kprobe", Attach::Kprobe("_do_fork"));
        let event = hook("clone__kprobe", Attach::Event("a/b".to_owned()));
        for (hook, id) in [(&new, 1), (&old, 2)] {
            let link = Link { hold: Hold::None, event: None, program: program(), ids: vec![id], users: 1 };
            links.attached.push((hook.place(), link));
        }
        let found = |hook| links.link_of(hook).map(|link| link.ids.clone());
        assert_eq!((found(&new), found(&old), found(&event)), (Some(vec![1]), Some(vec![2]), None));
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
