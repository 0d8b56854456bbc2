//! Loading the programs of an object.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::programs::{BtfTracePoint, FEntry, FExit, KProbe, Program, ProgramError, ProgramFd, TracePoint};
use aya::{Btf, Ebpf};
use ebpf_process_core::chain;
use tracing::debug;

use crate::hook::{Attach, Hook};
use crate::kernel::Kernel;

/// Where the programs are that are attached.
pub(crate) enum Source {
    /// In an object, from which they are loaded when they are wanted.
    Object(Box<Ebpf>),
    /// In the kernel, all of them: each by its name, or why the kernel does not take it.
    Loaded(Vec<(String, Result<OwnedFd, Unloaded>)>),
    /// What stands is all that there is.
    Closed,
}

/// Why a program cannot be loaded.
#[derive(Clone, Debug)]
pub(crate) struct Unloaded {
    /// What the system call said.
    pub(crate) code: Option<i32>,
    pub(crate) problem: String,
}

impl Source {
    /// Whether it has a program of this name.
    pub(crate) fn has(&self, program: &str) -> bool {
        match self {
            Self::Object(ebpf) => ebpf.program(program).is_some(),
            Self::Loaded(programs) => programs.iter().any(|(name, _)| name == program),
            Self::Closed => false,
        }
    }

    /// The program of a hook, in the kernel.
    pub(crate) fn load(&mut self, kernel: &Kernel, hook: &Hook) -> Result<OwnedFd, Unloaded> {
        match self {
            Self::Object(ebpf) => load(ebpf, kernel, hook),
            Self::Loaded(programs) => {
                let program = programs.iter().find(|(name, _)| *name == hook.program);
                let program = program.ok_or_else(|| Unloaded::because("the object has no such program"))?.1.as_ref();
                program.map_err(Clone::clone)?.try_clone().map_err(|error| Unloaded::from(ProgramError::IOError(error)))
            }
            Self::Closed => Err(Unloaded::because("the object was closed")),
        }
    }

    /// Takes a program out of the kernel that stands nowhere.
    pub(crate) fn unload(&mut self, hook: &Hook) {
        if let Self::Object(ebpf) = self
            && let Err(error) = unload(ebpf, hook)
        {
            debug!(program = %hook.program, "cannot unload: {error}");
        }
    }

    /// Loads the programs of these hooks, and lets go of the object.
    pub(crate) fn load_all(&mut self, kernel: &Kernel, hooks: &[Hook]) {
        let load = |hook: &Hook| (hook.program.clone(), self.load(kernel, hook));
        *self = Self::Loaded(hooks.iter().map(load).collect());
    }

    /// The programs that are loaded, where all are.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = (&str, &OwnedFd)> {
        let programs = if let Self::Loaded(programs) = self { programs.as_slice() } else { &[] };
        programs.iter().filter_map(|(name, program)| Some((name.as_str(), program.as_ref().ok()?)))
    }

    /// The same, to be handed over.
    pub(crate) fn into_loaded(self) -> impl Iterator<Item = (String, OwnedFd)> {
        let programs = if let Self::Loaded(programs) = self { programs } else { Vec::new() };
        programs.into_iter().filter_map(|(name, program)| Some((name, program.ok()?)))
    }
}

impl Unloaded {
    fn because(problem: &str) -> Self {
        Self { code: None, problem: problem.to_owned() }
    }
}

impl From<ProgramError> for Unloaded {
    fn from(error: ProgramError) -> Self {
        let code = match &error {
            ProgramError::LoadError { io_error, .. } => io_error.raw_os_error(),
            ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
            _ => None,
        };
        Self { code, problem: in_short(&error) }
    }
}

fn load(ebpf: &mut Ebpf, kernel: &Kernel, hook: &Hook) -> Result<OwnedFd, Unloaded> {
    match hook.attach {
        Attach::Fentry(_) | Attach::Fexit(..) | Attach::Tracepoint(_) => {
            let btf = kernel.btf.as_ref().map_err(|problem| Unloaded::because(problem))?;
            Ok(load_by_btf(ebpf, &btf.places, hook)?)
        }
        Attach::Kprobe(_) | Attach::Kretprobe(_) | Attach::Event(_) => Ok(load_for_perf(ebpf, hook)?),
    }
}

/// Loads for a place by the names in the kernel's type information.
fn load_by_btf(ebpf: &mut Ebpf, btf: &Btf, hook: &Hook) -> Result<OwnedFd, ProgramError> {
    let program = ebpf.program_mut(&hook.program).ok_or(ProgramError::UnexpectedProgramType)?;
    match &hook.attach {
        Attach::Fentry(function) => {
            let program: &mut FEntry = program.try_into()?;
            program.load(function, btf)?;
            clone_fd(program.fd()?)
        }
        Attach::Fexit(function, _) => {
            let program: &mut FExit = program.try_into()?;
            program.load(function, btf)?;
            clone_fd(program.fd()?)
        }
        Attach::Tracepoint(name) => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(name, btf)?;
            clone_fd(program.fd()?)
        }
        Attach::Kprobe(_) | Attach::Kretprobe(_) | Attach::Event(_) => Err(ProgramError::UnexpectedProgramType),
    }
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

fn clone_fd(fd: &ProgramFd) -> Result<OwnedFd, ProgramError> {
    fd.as_fd().try_clone_to_owned().map_err(ProgramError::IOError)
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

/// What the kernel says to the attachment of a program that it has loaded.
pub(crate) fn unattached(error: &io::Error) -> Unloaded {
    Unloaded { code: error.raw_os_error(), problem: format!("the kernel does not attach the program: {error}") }
}
