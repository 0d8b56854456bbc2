//! What the agent gives up once its probes are attached, for good: being root, capabilities, system calls and paths.
//!
//! All of it is a thread's to the kernel, and goes on to the threads that it starts: so it is done by the main thread,
//! before there is any other.

pub(crate) mod landlock;
pub(crate) mod seccomp;
pub(crate) mod user;

use ebpf_process_config::{Plan, Rights};
use rustix::process::geteuid;
use serde::Serialize;
use tracing::{debug, warn};

use crate::confinement::landlock::Reach;
use crate::confinement::seccomp::Filter;
use crate::confinement::user::User;
use crate::exit::Refusal;
use crate::{privileges, rights};

/// Gives up what the plan does not need any more. `elevated` is a process that was started with more rights than its
/// caller's, and becomes its caller again; any other becomes `user`, if there is one.
///
/// With a broker the agent opens and attaches nothing itself that takes a right. What the kernel has not got, a filter of
/// system calls or Landlock, is done without.
pub(crate) fn confine(plan: &Plan, user: Option<&User>, elevated: bool, has_broker: bool) -> Result<(), Refusal> {
    if !elevated && plan.capabilities == Rights::Keep {
        return Ok(());
    }
    tell_who_stays(plan, user, elevated);
    let kept = rights::set_of(&rights::kept(plan, user, has_broker));
    let reach = Reach::of(plan, elevated);
    let filter = Filter::new(!has_broker);
    if elevated { privileges::give_up(kept) } else { privileges::limit(kept, user) }?;
    tell_threads();
    reach.and_then(Reach::enforce).unwrap_or_else(|reason| debug!("without Landlock: {reason}"));
    filter
        .and_then(|filter| filter.install())
        .unwrap_or_else(|reason| debug!("without a filter of system calls: {reason}"));
    Ok(())
}

/// What an agent of a plan will give up on this machine, for `check`.
#[derive(Debug, Serialize)]
pub(crate) struct Prospect {
    /// Whom it becomes; absent where it stays who it is.
    user: Option<String>,
    /// Whether system calls that it does not make are closed to it.
    system_calls: Layer,
    /// Whether paths that it does not use are closed to it.
    landlock: Layer,
}

/// A layer that takes a kernel which has it.
#[derive(Debug, Serialize)]
struct Layer {
    applies: bool,
    /// Why not.
    reason: Option<String>,
}

impl Layer {
    fn of(found: Result<(), String>) -> Self {
        Self { applies: found.is_ok(), reason: found.err() }
    }

    fn told(&self, closed: &str) -> String {
        match &self.reason {
            None => format!("{closed} are closed to it"),
            Some(reason) => format!("{closed} are not closed to it: {reason}"),
        }
    }
}

impl Prospect {
    /// What there will be for a plan that gives something up.
    pub(crate) fn of(plan: &Plan, user: Option<&User>) -> Self {
        Self {
            user: user.map(ToString::to_string),
            system_calls: Layer::of(seccomp::applies()),
            landlock: Layer::of(landlock::applies(plan)),
        }
    }

    /// In words, a sentence a line.
    pub(crate) fn for_people(&self) -> String {
        let who = match &self.user {
            Some(user) => format!("it becomes user {user}"),
            None => "it stays the user that started it".to_owned(),
        };
        format!(
            "After the start {who}.\nBy seccomp, {}.\nBy Landlock, {}.\n",
            self.system_calls.told("system calls that it does not make"),
            self.landlock.told("files and directories that it does not use"),
        )
    }
}

/// Who it stays, where the configuration lets somebody expect another user.
fn tell_who_stays(plan: &Plan, user: Option<&User>, elevated: bool) {
    match (&plan.user, user) {
        _ if elevated => {}
        (Some(_), None) if !geteuid().is_root() => {
            warn!("the key user has no effect: only an agent that root starts becomes another user");
        }
        (None, None) if geteuid().is_root() => {
            warn!(
                "it stays root: to become another user takes CAP_SETUID and CAP_SETGID, which this root has not got; \
                 user = \"root\" says that it may"
            );
        }
        _ => {}
    }
}

/// A thread that is there already keeps all that it has.
fn tell_threads() {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return };
    let others = tasks.flatten().count().saturating_sub(1);
    if others > 0 {
        debug!("{others} threads were there before the rights went, and keep theirs until they end");
    }
}
