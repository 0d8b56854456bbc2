//! The charts of the agent's own metrics.
//!
//! Their ids, units, families, priorities and dimensions are those that `ebpf_process.plugin` has
//! had since 2020: dashboards and alarms know them.

use ebpf_process_core::{ColumnView, MetricKind, Sample};

use crate::number::Algorithm;

/// A chart that is known by name.
#[derive(Debug)]
pub(crate) struct Known {
    /// The id behind `ebpf.`.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) units: &'static str,
    pub(crate) family: &'static str,
    pub(crate) priority: u32,
    /// Where its dimensions come from, in the order in which they are declared.
    pub(crate) sources: &'static [Source],
}

/// Which series of which metric feeds a dimension.
#[derive(Debug)]
pub(crate) struct Source {
    metric: &'static str,
    /// The only label of the series: its key and value.
    label: Option<(&'static str, &'static str)>,
    pub(crate) dimension: &'static str,
    /// What the number is for the chart of tasks.
    pub(crate) role: Option<Role>,
}

/// A term of [`STATUS`]'s differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    StartedProcess,
    StartedThread,
    Exited,
    Released,
}

impl Role {
    pub(crate) const COUNT: usize = 4;
}

const fn one(metric: &'static str, label: (&'static str, &'static str), dimension: &'static str) -> Source {
    Source { metric, label: Some(label), dimension, role: None }
}

const fn term(
    metric: &'static str,
    label: Option<(&'static str, &'static str)>,
    dimension: &'static str,
    role: Role,
) -> Source {
    Source { metric, label, dimension, role: Some(role) }
}

const OPEN: (&str, &str) = ("operation", "open");
const CLOSE: (&str, &str) = ("operation", "close");
const READ: (&str, &str) = ("operation", "read");
const WRITE: (&str, &str) = ("operation", "write");
const DELETE: (&str, &str) = ("operation", "delete");
const PROCESS: (&str, &str) = ("kind", "process");
const THREAD: (&str, &str) = ("kind", "thread");

/// The charts whose dimensions are totals of one series each.
pub(crate) static KNOWN: [Known; 9] = [
    Known {
        id: "file_descriptor",
        title: "Files opened and closed",
        units: "calls/s",
        family: "File",
        priority: 970,
        sources: &[one("file.calls", OPEN, "open"), one("file.calls", CLOSE, "close")],
    },
    Known {
        id: "file_error",
        title: "Failed calls to open and close files",
        units: "calls/s",
        family: "File",
        priority: 971,
        sources: &[one("file.errors", OPEN, "open"), one("file.errors", CLOSE, "close")],
    },
    Known {
        id: "deleted_objects",
        title: "Files deleted",
        units: "calls/s",
        family: "VFS",
        priority: 972,
        sources: &[one("vfs.calls", DELETE, "delete")],
    },
    Known {
        id: "io",
        title: "Reads and writes",
        units: "calls/s",
        family: "VFS",
        priority: 973,
        sources: &[one("vfs.calls", READ, "read"), one("vfs.calls", WRITE, "write")],
    },
    Known {
        id: "io_bytes",
        title: "Bytes read and written",
        units: "bytes/s",
        family: "VFS",
        priority: 974,
        sources: &[one("vfs.bytes", READ, "read"), one("vfs.bytes", WRITE, "write")],
    },
    Known {
        id: "io_error",
        title: "Failed deletes, reads and writes",
        units: "calls/s",
        family: "VFS",
        priority: 975,
        sources: &[
            one("vfs.errors", DELETE, "delete"),
            one("vfs.errors", READ, "read"),
            one("vfs.errors", WRITE, "write"),
        ],
    },
    Known {
        id: "process_thread",
        title: "Processes and threads started",
        units: "calls/s",
        family: "Process",
        priority: 976,
        sources: &[
            term("task.started", Some(PROCESS), "process", Role::StartedProcess),
            term("task.started", Some(THREAD), "thread", Role::StartedThread),
        ],
    },
    Known {
        id: "exit",
        title: "Tasks exited and released",
        units: "calls/s",
        family: "Process",
        priority: 977,
        sources: &[
            term("task.exits", None, "process", Role::Exited),
            term("task.releases", None, "task", Role::Released),
        ],
    },
    Known {
        id: "task_error",
        title: "Failed starts of processes and threads",
        units: "calls/s",
        family: "Process",
        priority: 979,
        sources: &[one("task.start_errors", PROCESS, "process"), one("task.start_errors", THREAD, "thread")],
    },
];

/// The chart of differences: tasks started and not exited, tasks exited and not released, since
/// the baseline. Tasks that were there before it make both possibly negative.
pub(crate) static STATUS: Known = Known {
    id: "process_status",
    title: "Tasks not exited, and exited tasks not released",
    units: "difference",
    family: "Process",
    priority: 978,
    sources: &[],
};

/// The dimensions of [`STATUS`].
pub(crate) const STATUS_DIMENSIONS: [&str; 2] = ["process", "zombie"];

/// The agent's own metrics that have no chart under their own names: these charts are what they were
/// before there were such metrics. Whoever wants one renames or prefixes the metric, and gets a chart by rule.
const UNTOLD: [&str; 3] = ["file.interrupted", "vfs.interrupted", "task.start_interrupted"];

/// Whether a metric has no chart, by the name that the sink sees.
pub(crate) fn is_untold(column: &ColumnView<'_>) -> bool {
    UNTOLD.contains(&column.name())
}

/// Whether a known chart has this id.
pub(crate) fn is_known(id: &str) -> bool {
    id == STATUS.id || KNOWN.iter().any(|known| known.id == id)
}

/// The known chart of a series and the index of its dimension there, by the name that the sink
/// sees.
pub(crate) fn find(sample: &Sample<'_>) -> Option<(&'static Known, usize)> {
    let column = sample.column();
    if column.column().kind() != MetricKind::Counter || Algorithm::of(column.column()) != Algorithm::TOTAL {
        return None;
    }
    let mut labels = sample.own_labels();
    let label = labels.next();
    if labels.next().is_some() {
        return None;
    }
    KNOWN.iter().find_map(|known| {
        let fits = |source: &Source| source.metric == column.name() && source.label == label;
        Some((known, known.sources.iter().position(fits)?))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_charts_share_an_id_a_priority_or_a_source() {
        let charts = || KNOWN.iter().chain([&STATUS]);
        assert_eq!(charts().map(|known| known.id).collect::<BTreeSet<_>>().len(), 10);
        let priorities: BTreeSet<_> = charts().map(|known| known.priority).collect();
        assert_eq!(priorities, (970..980).collect());
        let sources: Vec<_> = KNOWN.iter().flat_map(|known| known.sources).map(|s| (s.metric, s.label)).collect();
        assert_eq!(sources.iter().collect::<BTreeSet<_>>().len(), sources.len());
        assert_eq!(sources.len(), 18);
    }
}
