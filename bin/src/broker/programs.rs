//! Programs that the broker has started for the agent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;

use ebpf_process_core::Program;
use ebpf_process_probes::{fork_alone, reset_signals};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{
    Gid, Pid, Resource, Rlimit, Signal, Uid, WaitId, WaitIdOptions, WaitOptions, getpid, getppid, kill_process_group,
    set_parent_process_death_signal, setrlimit, setsid, umask, waitid, waitpid,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::capabilities;
use super::language::Refusal;
use super::user::User;
use crate::accounts::{Account, Accounts};

/// Programs at once.
const MOST: usize = 64;

/// Those of which nobody has heard the end yet, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Programs(BTreeMap<u32, Pid>);

/// The agent's ends of a program's standard input, output and error.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
    pub(crate) errors: OwnedFd,
}

/// The program's own ends.
struct Own {
    stdin: PipeReader,
    stdout: PipeWriter,
    stderr: PipeWriter,
}

impl Programs {
    /// Starts one as its user or the agent's, without any capability, in a session of its own; it is killed when this
    /// process ends.
    pub(crate) fn start(&mut self, program: &Program, user: &User) -> Result<(u32, Pipes), Refusal> {
        if self.0.len() >= MOST {
            return Err(Refusal::of(format!("{MOST} programs run; end one before another one is started")));
        }
        let user = &*whose(program, user)?;
        let (stdin, input) = io::pipe()?;
        let (output, stdout) = io::pipe()?;
        let (errors, stderr) = io::pipe()?;
        let own = Own { stdin, stdout, stderr };
        // It closes with the start of the program, or says why there is none.
        let (mut trouble, tell) = io::pipe()?;
        let broker = getpid();
        let number = fork_alone(|| {
            let error = run(program, user, broker, &own);
            let number = error.raw_os_error().unwrap_or(0);
            let told = (&tell).write_all(&number.to_le_bytes());
            told.map_or(1, |()| 0)
        })?;
        drop((own, tell));
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw).ok_or_else(|| Refusal::of("it has no number"))?;
        let mut error = Vec::new();
        trouble.read_to_end(&mut error)?;
        if let Ok(error) = <[u8; 4]>::try_from(&*error) {
            waitpid(Some(pid), WaitOptions::empty())?;
            let error = io::Error::from_raw_os_error(i32::from_le_bytes(error));
            return Err(Refusal::of(format!("cannot start {}: {error}", program.path.display())));
        }
        self.0.insert(number, pid);
        Ok((number, Pipes { input: input.into(), output: output.into(), errors: errors.into() }))
    }

    /// Asks one to end, with what it has started in its session's first group.
    pub(crate) fn terminate(&self, number: u32) -> Result<(), Refusal> {
        signal(*self.0.get(&number).ok_or_else(not_started)?, Signal::TERM)
    }

    /// Kills one, with what it has started in its session's first group, and tells how it ended.
    pub(crate) fn end(&mut self, number: u32) -> Result<i32, Refusal> {
        let pid = *self.0.get(&number).ok_or_else(not_started)?;
        signal(pid, Signal::KILL)?;
        let status = waitpid(Some(pid), WaitOptions::empty())?;
        self.0.remove(&number);
        status.map(|(_, status)| status.as_raw()).ok_or_else(not_started)
    }

    /// How one has ended, if it has. What it has left in its session's first group is killed.
    pub(crate) fn ended(&mut self, number: u32) -> Result<Option<i32>, Refusal> {
        let pid = *self.0.get(&number).ok_or_else(not_started)?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // As long as it is not waited for, its number is nobody else's.
        if waitid(WaitId::Pid(pid), options)?.is_none() { Ok(None) } else { self.end(number).map(Some) }
    }

    /// Kills all.
    pub(crate) fn end_all(&mut self) {
        for pid in std::mem::take(&mut self.0).into_values() {
            // It may have ended.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Sends a signal to a process group, of which nobody may be left.
fn signal(pid: Pid, signal: Signal) -> Result<(), Refusal> {
    match kill_process_group(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// As whom a program runs.
fn whose<'a>(program: &Program, agents: &'a User) -> Result<Cow<'a, User>, Refusal> {
    if program.user.is_none() && program.group.is_none() {
        return Ok(Cow::Borrowed(agents));
    }
    let accounts = Accounts::read();
    let mut user = match &program.user {
        Some(name) => {
            let Account { uid, gid, groups, .. } = accounts.user(name).ok_or_else(|| nobody("user", name, "passwd"))?;
            User { uid, gid, groups }
        }
        None => agents.clone(),
    };
    if let Some(name) = &program.group {
        user.gid = accounts.group(name).ok_or_else(|| nobody("group", name, "group"))?;
    }
    Ok(Cow::Owned(user))
}

fn nobody(what: &str, name: &str, file: &str) -> Refusal {
    Refusal::of(format!("there is no {what} \"{}\" in /etc/{file}", name.escape_debug()))
}

fn not_started() -> Refusal {
    Refusal::of("no program of this number was started, or its end was told")
}

/// Becomes the program, in the child. Returns if that cannot be.
fn run(program: &Program, user: &User, broker: Pid, own: &Own) -> io::Error {
    let become_it = || -> io::Result<io::Error> {
        reset_signals()?;
        setsid()?;
        rustix::stdio::dup2_stdin(&own.stdin)?;
        rustix::stdio::dup2_stdout(&own.stdout)?;
        rustix::stdio::dup2_stderr(&own.stderr)?;
        capabilities::bound(CapabilitySet::empty())?;
        if *user != User::current() {
            let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
            set_thread_groups(&groups)?;
            let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
        }
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
        set_no_new_privs(true)?;
        // After the change of the user, which takes it away.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(broker) {
            return Err(io::Error::other("the broker has ended"));
        }
        umask(Mode::RWXG | Mode::RWXO);
        if let Some(memory) = program.memory {
            setrlimit(Resource::Data, Rlimit { current: Some(memory), maximum: Some(memory) })?;
        }
        Ok(program.command().exec())
    };
    become_it().unwrap_or_else(|error| error)
}
