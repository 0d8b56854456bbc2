//! What the configuration says of who it was.

use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::EntityKind;
use ebpf_process_names::Apps;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What has rows beside the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    /// Each process.
    Process,
    /// Processes of one application together.
    App,
    /// Processes of one control group together: a service, a container.
    Cgroup,
    /// Processes of one control group and of all below it together; what they do is in the row of each group above them.
    Subtree,
}

impl By {
    /// The kind's name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Process => EntityKind::PROCESS,
            Self::App => "app",
            Self::Cgroup => "cgroup",
            Self::Subtree => "subtree",
        }
    }

    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Process => &["pid", "comm"],
            Self::App => &["app"],
            Self::Cgroup | Self::Subtree => &["cgroup", "unit", "container", "pod", "namespace", "container_name"],
        }
    }

    /// Whether its rows are control groups.
    pub(crate) const fn is_of_groups(self) -> bool {
        matches!(self, Self::Cgroup | Self::Subtree)
    }
}

/// What the row of a process says of it beside its number and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProcessLabel {
    /// The path of its program.
    Exe,
    /// The name of its user.
    User,
    /// Its app.
    App,
    /// The path of its control group.
    Cgroup,
    /// Its container.
    Container,
    /// Its number in its own PID namespace.
    NsPid,
}

impl ProcessLabel {
    /// The label's key.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Exe => "exe",
            Self::User => "user",
            Self::App => "app",
            Self::Cgroup => "cgroup",
            Self::Container => "container",
            Self::NsPid => "ns_pid",
        }
    }

    /// Whether it is known from the control group.
    pub(crate) const fn is_of_group(self) -> bool {
        matches!(self, Self::Cgroup | Self::Container)
    }
}

/// Who has rows, and how many.
#[derive(Clone, Debug)]
pub(crate) struct WhoOptions {
    /// Each once.
    pub(crate) by: Vec<By>,
    /// Each once, in their order; none without rows of processes.
    pub(crate) process_labels: Vec<ProcessLabel>,
    /// Rules for apps.
    pub(crate) apps: Option<Arc<Apps>>,
    /// Processes in a table.
    pub(crate) processes: u32,
    /// Rows of each kind, where that is said.
    pub(crate) rows: Option<usize>,
    /// How long a row stays after the last process of its app or group.
    pub(crate) linger: Duration,
}

impl WhoOptions {
    /// The kind of entity.
    pub(crate) fn kind(&self, by: By) -> EntityKind {
        let chosen: &[ProcessLabel] = if by == By::Process { &self.process_labels } else { &[] };
        let keys = by.keys().iter().copied().chain(chosen.iter().map(|label| label.as_str()));
        let kind = EntityKind::new(by.as_str()).keys(keys).limit(self.limit(by));
        if by == By::Subtree { kind.nested() } else { kind }
    }

    /// How many rows a kind has. Those of processes are kept for some ticks after their end: where many are short-lived,
    /// there are several times as many as live at a time, and as many as can be told apart at all must find a place.
    pub(crate) fn limit(&self, by: By) -> usize {
        let own = if by == By::Process { self.processes as usize } else { EntityKind::DEFAULT_LIMIT };
        self.rows.unwrap_or(own)
    }

    /// Whether somebody wants to know control groups.
    pub(crate) fn asks_for_groups(&self) -> bool {
        self.by.iter().any(|by| by.is_of_groups()) || self.process_labels.iter().any(|label| label.is_of_group())
    }
}
