//! What the agent gives up once its probes are attached, for good: being root, capabilities, system calls and paths.
//!
//! All of it is a thread's to the kernel, and goes on to the threads that it starts: so it is done by the main thread,
//! before there is any other.

pub(crate) mod landlock;
pub(crate) mod seccomp;
pub(crate) mod user;

use ebpf_process_config::{Plan, Rights};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::confinement::landlock::{Open, Reach};
use crate::confinement::seccomp::Filter;
use crate::confinement::user::User;
use crate::exit::Refusal;
use crate::{privileges, rights};

/// What an agent gives up, beside capabilities: on this machine as it will be, for `check`, or as it is, for `status`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Confinement {
    /// Whom it becomes; absent where it stays who it is.
    user: Option<String>,
    /// Whether system calls that it does not make are closed to it.
    system_calls: Layer,
    /// Whether paths that it does not use are closed to it.
    landlock: Layer,
    /// Which paths are open, in an agent to which others are closed.
    #[serde(skip)]
    open: Option<Open>,
}

/// A layer that takes a kernel which has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Layer {
    applies: bool,
    /// Why not.
    reason: Option<String>,
}

impl Layer {
    fn of<T>(found: &Result<T, String>) -> Self {
        Self { applies: found.is_ok(), reason: found.as_ref().err().cloned() }
    }

    fn told(&self, what: &str) -> String {
        match &self.reason {
            None => format!("{what} are closed to it"),
            Some(reason) => format!("{what} are not closed to it: {reason}"),
        }
    }
}

impl Confinement {
    /// What will be given up for this plan, which gives something up.
    pub(crate) fn expected(plan: &Plan, user: Option<&User>) -> Self {
        Self::new(user, &seccomp::applies(), &landlock::applies(plan))
    }

    fn new<T>(user: Option<&User>, system_calls: &Result<(), String>, landlock: &Result<T, String>) -> Self {
        let (system_calls, landlock) = (Layer::of(system_calls), Layer::of(landlock));
        Self { user: user.map(ToString::to_string), system_calls, landlock, open: None }
    }

    /// Which paths are open; none where none are closed.
    pub(crate) const fn open(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// In words, a sentence a line; `becomes` is what is said of the user.
    pub(crate) fn for_people(&self, becomes: &str) -> String {
        let user = self.user.as_ref().map_or_else(String::new, |user| format!("{becomes} user {user}.\n"));
        let calls = self.system_calls.told("system calls that it does not make");
        let paths = self.landlock.told("files and directories that it does not use");
        format!("{user}By seccomp, {calls}.\nBy Landlock, {paths}.\n")
    }
}

/// Gives up what the plan does not need any more, and says what that was. `elevated` is a process that was started with
/// more rights than its caller's, and becomes its caller again; any other becomes `user`, if there is one. With
/// `capabilities = "keep"` it is nothing.
///
/// With a broker the agent opens and attaches nothing itself that takes a right. What the kernel has not got, a filter of
/// system calls or Landlock, is done without.
pub(crate) fn confine(
    plan: &Plan,
    user: Option<&User>,
    elevated: bool,
    has_broker: bool,
) -> Result<Option<Confinement>, Refusal> {
    if !elevated && plan.capabilities == Rights::Keep {
        return Ok(None);
    }
    tell_who_stays(plan, user, elevated);
    let kept = rights::set_of(&rights::kept(plan, user, has_broker));
    let reach = Reach::of(plan, elevated);
    let filter = Filter::new(!has_broker);
    if elevated { privileges::give_up(kept) } else { privileges::limit(kept, user) }?;
    tell_threads();
    let reach = reach.and_then(Reach::enforce);
    // Last: it refuses what the others take.
    let filter = filter.and_then(|filter| filter.install());
    for (what, failure) in [("Landlock", reach.as_ref().err()), ("a filter of system calls", filter.as_ref().err())] {
        if let Some(reason) = failure {
            debug!("without {what}: {reason}");
        }
    }
    let confinement = Confinement::new(user, &filter, &reach);
    Ok(Some(Confinement { open: reach.ok(), ..confinement }))
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
