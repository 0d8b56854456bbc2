//! A small process that keeps the rights of the start when the agent gives them up, and opens for it what is configured.
//!
//! They are root's, or the capabilities that a service manager has granted to somebody else: then the broker is of the
//! same user as the agent, and has no more than these.
//!
//! It is forked before the agent has threads or has read anything from a network, and knows the configuration as it read
//! it itself. Over a pair of sockets the agent asks it in a closed language; what is not exactly what a sink or a probe of
//! the configuration has named is refused, and how it is opened is made so that nobody but root can lead it elsewhere. What
//! comes back is a descriptor, or why not. Whoever takes the agent over can therefore open what its sinks open, and
//! nothing else.
//!
//! All that runs with rights, in the order in which to read it:
//!
//! 1. `serve` is the loop. It understands nothing that comes from elsewhere than the agent.
//! 2. `language` is what can be asked and answered.
//! 3. `allowed` is what the configuration lets the agent ask for.
//! 4. `open` opens it; `walk` is the way to a path, and `user` what the agent's user may without any right.
//! 5. `programs` starts what a sink runs; `assist` does for a probe, in a child, what takes rights.
//! 6. `capabilities` says what it keeps, each with its reason.
//! 7. `wire` carries messages and descriptors.
//!
//! `client` is the agent's side: it opens by itself, and asks where it may not. This file starts the broker and ends it.
//!
//! The two end together. When the agent is gone, the broker cleans up what an agent leaves that was killed, and ends; an
//! agent without its broker could open nothing anew, and ends with an error.

mod allowed;
mod assist;
mod capabilities;
mod client;
mod language;
mod open;
mod programs;
mod serve;
#[cfg(test)]
mod tests;
mod user;
mod walk;
mod wire;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_process_config::{ConfigError, Plan, Rights, Sources};
use ebpf_process_core::Registry;
use ebpf_process_probes::{fork_apart, sweep};
use rustix::event::{Timespec, poll};
use rustix::process::{DumpableBehavior, Pid, geteuid, getpid, getppid, set_dumpable_behavior};
use rustix::thread::CapabilitySet;
use tracing::{debug, error, warn};

use allowed::Allowed;
pub(crate) use client::Client;
use serve::Server;
use user::User;
use wire::Socket;

use crate::{confinement, log, meeting_place, status};

/// How long the broker waits for the last trace of an agent that has closed its socket.
const LAST_TRACE: Duration = Duration::from_secs(2);

/// Between two looks for it.
const PAUSE: Duration = Duration::from_millis(10);

/// The broker of an agent. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    client: Arc<Client>,
}

/// What the broker does beside opening.
pub(crate) struct Duties<Read, CleanUp> {
    /// Reads the configuration again: what it lets the agent ask for, and its bytes; or what is wrong with it.
    pub(crate) read_again: Read,
    /// Removes what an agent leaves behind that was killed.
    pub(crate) clean_up: CleanUp,
}

impl Broker {
    /// Whether an agent that runs by this plan, started as this process is, gives rights up that a later change takes.
    pub(crate) fn is_of_use(plan: &Plan) -> bool {
        plan.capabilities == Rights::Drop && capabilities::are_missed_later(geteuid().is_root(), permitted())
    }

    /// The capabilities that it would keep.
    pub(crate) fn keeps() -> CapabilitySet {
        capabilities::kept(permitted())
    }

    /// That of an agent which is going to give rights up that a later change takes; `None` for every other agent, also one
    /// that has more of them than its caller, and, with a line in the log, where there can be none.
    pub(crate) fn of(
        plan: &Plan,
        registry: &Registry,
        sources: &Sources,
        elevated: bool,
        user: Option<&confinement::user::User>,
    ) -> Option<Self> {
        if elevated || !Self::is_of_use(plan) {
            return None;
        }
        let read_again = || {
            let texts = sources.read()?;
            let loaded = sources.load_texts(&texts, registry)?;
            Ok::<_, ConfigError>((Allowed::of(&Plan::new(&loaded, registry)?), texts.encode()))
        };
        let duties = Duties {
            read_again: || read_again().map_err(|error| error.to_string()),
            clean_up: || {
                if let Some(socket) = &plan.status {
                    status::remove_dead(socket);
                }
                meeting_place::remove_empty();
                if let Err(error) = sweep() {
                    warn!("cannot remove what the agent has left in the kernel: {error}; the next start tries again");
                }
            },
        };
        let started = Self::start(plan, user_of(user), duties);
        let missing = |error: &io::Error| {
            warn!(
                "there is no process that opens files for the agent later: {error}; sinks open with the rights that \
                 are left"
            );
        };
        started.inspect_err(missing).ok()
    }

    /// Forks it. Refused where this process has more threads than one. What the duties have captured must own no
    /// descriptor; `user` is the one as whom the agent is going to run.
    pub(crate) fn start<Read, CleanUp>(plan: &Plan, user: User, duties: Duties<Read, CleanUp>) -> io::Result<Self>
    where
        Read: FnMut() -> Result<(Allowed, Vec<u8>), String>,
        CleanUp: FnOnce(),
    {
        // No other process of the same user looks into the agent, which can ask for something, or into the broker.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        let allowed = Allowed::of(plan);
        let (ours, its) = wire::pair()?;
        let agent = getpid();
        let pid = fork_apart(its.into(), |socket| serve(socket.into(), agent, allowed, user, duties))?;
        debug!("the process {pid} opens for the agent what it may not open itself");
        Ok(Self { client: Arc::new(Client::new(ours)) })
    }

    /// Who asks it.
    pub(crate) const fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Calls back when the broker has ended before its agent; on a thread of its own.
    pub(crate) fn when_gone(&self, tell: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let client = Arc::clone(&self.client);
        let watch = move || {
            if client.wait_for_end() {
                tell();
            }
        };
        thread::Builder::new().name("broker".to_owned()).spawn(watch).map(drop)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.client.let_go();
    }
}

fn permitted() -> CapabilitySet {
    rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted)
}

/// Whom the agent becomes, or who this process is where it stays that.
fn user_of(planned: Option<&confinement::user::User>) -> User {
    let Some(user) = planned else { return User::current() };
    let groups = user.groups.iter().map(|group| group.as_raw()).collect();
    User { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups }
}

/// All that the child does; returns its exit code.
fn serve<Read, CleanUp>(socket: Socket, agent: Pid, allowed: Allowed, user: User, duties: Duties<Read, CleanUp>) -> u8
where
    Read: FnMut() -> Result<(Allowed, Vec<u8>), String>,
    CleanUp: FnOnce(),
{
    let _log = log::on_stderr();
    // Nothing depends on the name.
    let _ = rustix::thread::set_name(c"ebpf-broker");
    if let Err(error) = capabilities::limit() {
        error!("the broker cannot give up the capabilities that it does not need: {error}; it ends");
        return 1;
    }
    let Duties { read_again, clean_up } = duties;
    Server::new(socket, allowed, user, read_again).run();
    // As long as the agent is there what it made is its own.
    let process = format!("/proc/{}", agent.as_raw_nonzero());
    let deadline = Instant::now() + LAST_TRACE;
    let pause = Timespec::try_from(PAUSE).ok();
    while (getppid() == Some(agent) || Path::new(&process).exists()) && Instant::now() < deadline {
        // However it ends, the next look is made.
        let _ = poll(&mut [], pause.as_ref());
    }
    clean_up();
    0
}
