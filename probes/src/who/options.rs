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
}

impl By {
    /// The kind's name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Process => EntityKind::PROCESS,
            Self::App => "app",
            Self::Cgroup => "cgroup",
        }
    }

    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Process => &["pid", "comm"],
            Self::App => &["app"],
            Self::Cgroup => &["cgroup", "unit", "container", "pod", "namespace", "container_name"],
        }
    }
}

/// Who has rows, and how many.
#[derive(Clone, Debug)]
pub(crate) struct WhoOptions {
    /// Each once.
    pub(crate) by: Vec<By>,
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
        EntityKind::new(by.as_str()).keys(by.keys().iter().copied()).limit(self.limit(by))
    }

    /// How many rows a kind has. Those of processes are kept for some ticks after their end: where many are short-lived,
    /// there are several times as many as live at a time, and as many as can be told apart at all must find a place.
    pub(crate) fn limit(&self, by: By) -> usize {
        let own = if by == By::Process { self.processes as usize } else { EntityKind::DEFAULT_LIMIT };
        self.rows.unwrap_or(own)
    }
}
