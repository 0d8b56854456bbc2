//! The metrics of the kernel probes.

use std::sync::Arc;

use ebpf_process_core::{Descriptor, Unit};

/// A metric that a counter feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    FileCalls,
    FileErrors,
    FileInterrupted,
    VfsCalls,
    VfsErrors,
    VfsInterrupted,
    VfsBytes,
    TaskStarted,
    TaskStartErrors,
    TaskStartInterrupted,
    TaskExits,
    TaskReleases,
}

impl Metric {
    pub(crate) fn descriptor(self) -> Arc<Descriptor> {
        let counter = Descriptor::counter;
        match self {
            Self::FileCalls => {
                counter("file.calls", Unit::CALLS, "Files opened and descriptors closed").labels(["operation"])
            }
            Self::FileErrors => {
                counter("file.errors", Unit::CALLS, "Opens and closes that failed").labels(["operation"])
            }
            Self::FileInterrupted => {
                counter("file.interrupted", Unit::CALLS, "Opens and closes that a signal interrupted")
                    .labels(["operation"])
            }
            Self::VfsCalls => counter("vfs.calls", Unit::CALLS, "Reads, writes and deletions").labels(["operation"]),
            Self::VfsErrors => {
                counter("vfs.errors", Unit::CALLS, "Reads, writes and deletions that failed").labels(["operation"])
            }
            Self::VfsInterrupted => {
                counter("vfs.interrupted", Unit::CALLS, "Reads, writes and deletions that a signal interrupted")
                    .labels(["operation"])
            }
            Self::VfsBytes => {
                counter("vfs.bytes", Unit::BYTES, "Bytes that successful reads and writes moved").labels(["operation"])
            }
            Self::TaskStarted => counter("task.started", Unit::TASKS, "Processes and threads started").labels(["kind"]),
            Self::TaskStartErrors => {
                counter("task.start_errors", Unit::CALLS, "Processes and threads that could not be started")
                    .labels(["kind"])
            }
            Self::TaskStartInterrupted => counter(
                "task.start_interrupted",
                Unit::CALLS,
                "Starts of processes and threads that a signal interrupted",
            )
            .labels(["kind"]),
            Self::TaskExits => counter("task.exits", Unit::TASKS, "Tasks that began to exit"),
            Self::TaskReleases => counter("task.releases", Unit::TASKS, "Tasks whose last trace was released"),
        }
        .share()
    }
}

/// `hook.info`: which hook serves a counter.
pub(crate) fn hook_info() -> Arc<Descriptor> {
    Descriptor::gauge("hook.info", Unit::ONE, "Which hook serves a counter; always 1")
        .labels(["counter", "tier", "layer", "function", "exact"])
        .share()
}

/// `target.present`: only where `only` names something.
pub(crate) fn target_present() -> Arc<Descriptor> {
    Descriptor::gauge(
        "target.present",
        Unit::ONE,
        "Whether the process or control group that `only` names is there (1) or not (0)",
    )
    .labels(["probe", "target"])
    .share()
}

/// `hook.missed`: counted + missed = events.
pub(crate) fn hook_missed() -> Arc<Descriptor> {
    Descriptor::counter(
        "hook.missed",
        Unit::EVENTS,
        "Events that a counter's hooks missed and that its numbers lack, as the kernel counts them",
    )
    .labels(["counter"])
    .share()
}

/// `hook.missed_is_bound`: how `hook.missed` is to be read.
pub(crate) fn hook_missed_is_bound() -> Arc<Descriptor> {
    Descriptor::gauge(
        "hook.missed_is_bound",
        Unit::ONE,
        "1 where hook.missed is an upper bound of what the counter lacks, 0 where it is the number itself",
    )
    .labels(["counter"])
    .share()
}

/// `hook.exact`: whether a counter is exact, as found now.
pub(crate) fn hook_exact() -> Arc<Descriptor> {
    Descriptor::gauge("hook.exact", Unit::ONE, "1 while nothing is known by which a counter could lack events, else 0")
        .labels(["counter"])
        .share()
}

/// `hook.doubt`: why a counter is not exact.
pub(crate) fn hook_doubt() -> Arc<Descriptor> {
    Descriptor::gauge("hook.doubt", Unit::ONE, "1 while this is a reason why a counter may lack events, else 0")
        .labels(["counter", "reason"])
        .share()
}

/// `hook.firing`: whether a counter's hooks fire.
pub(crate) fn hook_firing() -> Arc<Descriptor> {
    Descriptor::gauge("hook.firing", Unit::ONE, "0 while a counter's hooks were found not to fire, else 1")
        .labels(["counter"])
        .share()
}
