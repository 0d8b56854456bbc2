//! A sink tried out before it is relied on: what `check` does.

use std::path::PathBuf;
use std::time::Duration;

/// What a sink knows when it is [tried out](crate::SinkPlugin::try_out).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrialContext {
    /// The sink's name in the configuration.
    pub name: String,
    /// This host's name.
    pub host: String,
    /// The agent's name among several on this host, if it has one.
    pub instance: Option<String>,
    /// How long the whole trial may take. Who takes longer is not waited for.
    pub limit: Duration,
    /// The process number of a running agent that has this sink with this destination. What that agent holds
    /// (its port, its file, its spool) is no fault.
    pub running: Option<u32>,
    /// The process number of the running agent of this configuration, whatever its sinks are: the configuration
    /// may have changed since. What is held by exactly this process (a spool's lock) is no fault.
    pub agent: Option<u32>,
    /// Where running agents say what they hold, if this user may not look there: what is taken may be a running
    /// agent's, which is no fault, or somebody else's ([`Self::unless_the_agents`]).
    pub unseen: Option<PathBuf>,
}

impl TrialContext {
    /// What a sink of this name is tried out with on a host of this name where no agent runs. What is different is set in
    /// the fields.
    pub fn new(name: impl Into<String>, host: impl Into<String>, limit: Duration) -> Self {
        Self { name: name.into(), host: host.into(), instance: None, limit, running: None, agent: None, unseen: None }
    }

    /// The finding that something is taken; a warning where it cannot be told whether a running agent has it.
    #[must_use]
    pub fn unless_the_agents(&self, taken: Finding) -> Finding {
        let Some(unseen) = &self.unseen else { return taken };
        let what = format!(
            "{}, or by the agent that runs: this user may not look into {} to tell",
            taken.what,
            unseen.display()
        );
        Finding::warning(what, "check as root or as the agent's user")
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// It may get right by itself: a peer that does not answer now may do so later.
    Warning,
    /// The sink will not work until somebody changes something.
    Error,
}

impl Severity {
    /// The word for it in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that a trial found out: a sentence without a full stop, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was found, and where: `db.example:8086 answers, and the database telemetry exists`. No secret.
    pub what: String,
    /// What to do about it, in the imperative; none where all is fine.
    pub way_out: Option<String>,
}

impl Finding {
    /// Something that is as it should be.
    pub fn fine(what: impl Into<String>) -> Self {
        Self { severity: Severity::Fine, what: what.into(), way_out: None }
    }

    /// Something that may get right by itself, such as a peer that does not answer.
    pub fn warning(what: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, what: what.into(), way_out: Some(way_out.into()) }
    }

    /// Something that stays wrong until somebody changes it.
    pub fn error(what: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { severity: Severity::Error, what: what.into(), way_out: Some(way_out.into()) }
    }
}
