//! Which operation moves which counter, by layer: one table for the tests and for `docs/metrics.md`.
//!
//! An operation is one thing a process can do (`workload/operations.c` does it); its effects are what one of them adds
//! to each metric, once for a counter at the system call and once for one in the kernel function. **Every metric that
//! is not named stays where it is**: a row promises that too. [`measure`](mod@measure) puts the rows to the test.

pub mod measure;

use crate::expect::Layer;
use std::fmt::Write as _;

/// Bytes that each operation moves that moves any.
const BYTES: u64 = 3;

/// Something a process can do.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Its name in the workload.
    pub name: &'static str,
    /// What it is, for people.
    pub text: &'static str,
    /// What it adds to the metrics.
    pub effects: &'static [Effect],
    /// What a kernel may lack; where it does, the row cannot be tried.
    pub needs: Need,
    /// Whether the process can do it only once.
    pub once: bool,
}

/// What one operation adds to one metric.
#[derive(Debug, Clone, Copy)]
pub struct Effect {
    /// The metric's public name.
    pub metric: &'static str,
    /// The value of its label; empty when it has none.
    pub label: &'static str,
    /// Added to a counter at the system call.
    pub syscall: u64,
    /// Added to a counter in the kernel function, or at the event in a task's life.
    pub kernel: u64,
}

impl Effect {
    /// What it adds at one layer.
    pub fn at(&self, layer: Layer) -> u64 {
        match layer {
            Layer::Syscall => self.syscall,
            Layer::Kernel => self.kernel,
        }
    }
}

/// What an operation needs that not every kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: every kernel that the agent supports has it.
    Nothing,
    /// 32-bit system calls from a 64-bit process.
    Int80,
    /// `io_uring`, with this operation.
    Uring,
    /// Asynchronous I/O (`io_submit`).
    Aio,
    /// A process that may trace its parent.
    Ptrace,
    /// A stacked file system (overlayfs).
    Stacked,
}

/// Rows that one process does in one go, because some of them change what the process is.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Its name in a message.
    pub name: &'static str,
    /// The rows, in the order in which they are done.
    pub operations: &'static [Operation],
}

/// All rows.
pub const GROUPS: &[Group] = &[
    Group { name: "open and close", operations: OPEN_AND_CLOSE },
    Group { name: "read and write", operations: READ_AND_WRITE },
    Group { name: "delete", operations: DELETE },
    Group { name: "tasks", operations: TASKS },
];

const fn row(name: &'static str, text: &'static str, effects: &'static [Effect]) -> Operation {
    Operation { name, text, effects, needs: Need::Nothing, once: false }
}

const fn with(needs: Need, row: Operation) -> Operation {
    Operation { needs, ..row }
}

const fn once(row: Operation) -> Operation {
    Operation { once: true, ..row }
}

const fn effect(metric: &'static str, label: &'static str, syscall: u64, kernel: u64) -> Effect {
    Effect { metric, label, syscall, kernel }
}

const fn file(label: &'static str, syscall: u64, kernel: u64) -> Effect {
    effect("file.calls", label, syscall, kernel)
}

const fn file_error(label: &'static str, syscall: u64, kernel: u64) -> Effect {
    effect("file.errors", label, syscall, kernel)
}

const fn vfs(label: &'static str, syscall: u64, kernel: u64) -> Effect {
    effect("vfs.calls", label, syscall, kernel)
}

const fn vfs_error(label: &'static str, syscall: u64, kernel: u64) -> Effect {
    effect("vfs.errors", label, syscall, kernel)
}

const fn file_interrupted(label: &'static str) -> Effect {
    effect("file.interrupted", label, 1, 1)
}

const fn vfs_interrupted(label: &'static str) -> Effect {
    effect("vfs.interrupted", label, 1, 1)
}

const fn vfs_bytes(label: &'static str, bytes: u64) -> Effect {
    effect("vfs.bytes", label, bytes, bytes)
}

/// A task in all layers alike.
const fn task(metric: &'static str, label: &'static str, count: u64) -> Effect {
    effect(metric, label, count, count)
}

const OPENED: &[Effect] = &[file("open", 1, 1)];
const OPEN_UNSEEN: &[Effect] = &[file("open", 0, 0)];
const CLOSED: &[Effect] = &[file("close", 1, 1)];
const CLOSE_UNSEEN: &[Effect] = &[file("close", 0, 0)];

const OPEN_AND_CLOSE: &[Operation] = &[
    row("open", "`open`", OPENED),
    row("openat", "`openat`", OPENED),
    row("openat2", "`openat2`", OPENED),
    row("creat", "`creat`", OPENED),
    row("open-missing", "`openat` of a missing name", &[file("open", 1, 1), file_error("open", 1, 1)]),
    row("openat2-refused", "`openat2` with arguments it refuses", &[file("open", 1, 0), file_error("open", 1, 0)]),
    row(
        "open-interrupted",
        "`openat` of a FIFO that a signal interrupts: `EINTR`, no error",
        &[file("open", 1, 1), file_interrupted("open")],
    ),
    with(Need::Int80, row("open-int80", "`open` by `int 0x80`", OPENED)),
    with(Need::Uring, row("open-uring", "openat by io_uring", OPEN_UNSEEN)),
    row("memfd", "`memfd_create`", OPEN_UNSEEN),
    row("pipe", "`pipe`", OPEN_UNSEEN),
    row("socket", "`socket`", OPEN_UNSEEN),
    row("dup", "`dup`", OPEN_UNSEEN),
    row("close", "`close`", CLOSED),
    row("close-bad", "`close` of a bad descriptor", &[file("close", 1, 1), file_error("close", 1, 1)]),
    with(Need::Int80, row("close-int80", "`close` by `int 0x80`", CLOSED)),
    row("close-range", "`close_range`", CLOSE_UNSEEN),
    with(Need::Uring, row("close-uring", "close by io_uring", CLOSE_UNSEEN)),
    row("dup2", "`dup2` over an open descriptor", CLOSE_UNSEEN),
];

const READ: &[Effect] = &[vfs("read", 1, 1), vfs_bytes("read", BYTES)];
const READ_FAILED_EARLY: &[Effect] = &[vfs("read", 1, 0), vfs_error("read", 1, 0)];
const READ_UNSEEN: &[Effect] = &[vfs("read", 0, 0)];
const WRITTEN: &[Effect] = &[vfs("write", 1, 1), vfs_bytes("write", BYTES)];
const WRITE_FAILED: &[Effect] = &[vfs("write", 1, 1), vfs_error("write", 1, 1)];
const WRITE_UNSEEN: &[Effect] = &[vfs("write", 0, 0)];
const BOTH_UNSEEN: &[Effect] = &[vfs("read", 0, 0), vfs("write", 0, 0)];

const READ_AND_WRITE: &[Operation] = &[
    row("read", "`read`", READ),
    row("pread", "`pread64`", READ),
    row("readv", "`readv`", READ),
    row("preadv", "`preadv`", READ),
    row("preadv2", "`preadv2`", READ),
    with(Need::Int80, row("read-int80", "`read` by `int 0x80`", READ)),
    with(Need::Int80, row("readv-int80", "`readv` by `int 0x80`", READ)),
    row("read-end", "`pread64` at the end of the file: no bytes, no error", &[vfs("read", 1, 1)]),
    row("read-directory", "`read` of a directory", &[vfs("read", 1, 1), vfs_error("read", 1, 1)]),
    row("read-bad", "`read` of a bad descriptor", READ_FAILED_EARLY),
    row("pread-negative", "`pread64` at a negative offset", READ_FAILED_EARLY),
    row(
        "read-restarted",
        "`read` that a signal interrupts and the kernel restarts: no error",
        &[vfs("read", 2, 2), vfs_interrupted("read"), vfs_bytes("read", 1)],
    ),
    row(
        "read-interrupted",
        "`read` that a signal interrupts for good: `EINTR`, no error",
        &[vfs("read", 1, 1), vfs_interrupted("read")],
    ),
    with(Need::Aio, row("read-aio", "read by `io_submit`", READ_UNSEEN)),
    with(Need::Uring, row("read-uring", "read by io_uring", READ_UNSEEN)),
    row("recv", "`recv` on a socket", READ_UNSEEN),
    row("write", "`write`", WRITTEN),
    row("pwrite", "`pwrite64`", WRITTEN),
    row("writev", "`writev`", WRITTEN),
    row("pwritev", "`pwritev`", WRITTEN),
    row("pwritev2", "`pwritev2`", WRITTEN),
    with(Need::Int80, row("write-int80", "`write` by `int 0x80`", WRITTEN)),
    with(Need::Int80, row("writev-int80", "`writev` by `int 0x80`", WRITTEN)),
    row("write-full", "`write` to a full device", WRITE_FAILED),
    row("write-readable", "`write` to a descriptor opened for reading", WRITE_FAILED),
    row("write-bad", "`write` to a bad descriptor", &[vfs("write", 1, 0), vfs_error("write", 1, 0)]),
    row(
        "write-interrupted",
        "`write` to a full pipe that a signal interrupts for good: `EINTR`, no error",
        &[vfs("write", 1, 1), vfs_interrupted("write")],
    ),
    with(Need::Aio, row("write-aio", "write by `io_submit`", WRITE_UNSEEN)),
    with(Need::Uring, row("write-uring", "write by io_uring", WRITE_UNSEEN)),
    row("send", "`send` on a socket", WRITE_UNSEEN),
    row("sendfile", "`sendfile`", BOTH_UNSEEN),
    row("splice", "`splice`", BOTH_UNSEEN),
    row("copy", "`copy_file_range`", BOTH_UNSEEN),
    row("mapped", "reading and writing a mapped file (`mmap`)", BOTH_UNSEEN),
];

const DELETED: &[Effect] = &[vfs("delete", 1, 1)];
const DELETE_UNSEEN: &[Effect] = &[vfs("delete", 0, 0)];

const DELETE: &[Operation] = &[
    row("unlink", "`unlink`", DELETED),
    row("unlinkat", "`unlinkat`", DELETED),
    with(Need::Int80, row("unlink-int80", "`unlink` by `int 0x80`", DELETED)),
    with(Need::Stacked, row("unlink-stacked", "`unlink` on overlayfs: once per layer", &[vfs("delete", 1, 2)])),
    row("unlink-missing", "`unlink` of a missing name", &[vfs("delete", 1, 0), vfs_error("delete", 1, 0)]),
    row("unlink-folder", "`unlink` of a directory", &[vfs("delete", 1, 1), vfs_error("delete", 1, 1)]),
    with(Need::Uring, row("unlink-uring", "unlinkat by io_uring", &[vfs("delete", 0, 1)])),
    row("rmdir", "`rmdir`", DELETE_UNSEEN),
    row("unlinkat-folder", "`unlinkat` with `AT_REMOVEDIR`", DELETE_UNSEEN),
    row("rename", "`rename` over an existing file", DELETE_UNSEEN),
];

const PROCESS: &[Effect] = &[task("task.started", "process", 1)];
const PROCESS_FAILED: &[Effect] = &[effect("task.start_errors", "process", 1, 1)];
const THREAD_FAILED: &[Effect] = &[effect("task.start_errors", "thread", 1, 1)];
const THREAD_CAME_AND_WENT: &[Effect] =
    &[task("task.started", "thread", 1), task("task.exits", "", 1), task("task.releases", "", 1)];

const TASKS: &[Operation] = &[
    row("clone", "`clone` of a process", PROCESS),
    row("fork", "`fork`", PROCESS),
    row("vfork", "`vfork`", PROCESS),
    row("clone3", "`clone3` of a process", PROCESS),
    with(Need::Int80, row("fork-int80", "`fork` by `int 0x80`", PROCESS)),
    with(
        Need::Ptrace,
        row(
            "fork-interrupted",
            "`fork` that a signal interrupts and the kernel restarts: no error",
            &[task("task.started", "process", 1), task("task.start_interrupted", "process", 1)],
        ),
    ),
    row("thread", "`clone` of a thread that ends", THREAD_CAME_AND_WENT),
    row("clone-bad", "`clone` of a process that fails", PROCESS_FAILED),
    with(Need::Int80, row("clone-bad-int80", "the same by `int 0x80`", PROCESS_FAILED)),
    row("thread-bad", "`clone` of a thread that fails", THREAD_FAILED),
    row("clone3-bad", "`clone3` of a process that fails", PROCESS_FAILED),
    row("clone3-thread-bad", "`clone3` of a thread that fails", THREAD_FAILED),
    row("clone3-refused", "`clone3` with arguments it refuses", &[effect("task.start_errors", "process", 1, 0)]),
    row("exec-missing", "`execve` of a missing name", &[task("task.started", "process", 0)]),
    row(
        "exec",
        "`execve` with a descriptor marked close-on-exec",
        &[task("task.started", "process", 0), file("close", 0, 0)],
    ),
    row(
        "exec-thread",
        "`execve` by a new thread: the old leader ends, the thread takes its place",
        THREAD_CAME_AND_WENT,
    ),
    once(row(
        "exit",
        "exit of a process with open descriptors",
        &[task("task.exits", "", 1), task("task.releases", "", 1), file("close", 0, 0)],
    )),
];

/// The table of `docs/metrics.md`: a line per operation and metric that it should move.
pub fn markdown() -> String {
    let mut text = String::from("| operation | counter | at the system call | in the kernel |\n|---|---|---|---|\n");
    for operation in GROUPS.iter().flat_map(|group| group.operations) {
        for effect in operation.effects.iter().filter(|effect| !is_detail(operation, effect)) {
            let label = if effect.label.is_empty() { String::new() } else { format!(" {}", effect.label) };
            let [syscall, kernel] = [Layer::Syscall, Layer::Kernel].map(|layer| cell(operation, effect, layer));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {} | `{}`{label} | {syscall} | {kernel} |", operation.text, effect.metric);
        }
    }
    text
}

/// Errors and bytes are told by the line of the calls they belong to.
fn is_detail(operation: &Operation, effect: &Effect) -> bool {
    operation.effects.iter().any(|calls| what(calls) == Some("calls") && belongs(effect, calls))
}

/// The last part of a metric's name.
fn what(effect: &Effect) -> Option<&str> {
    effect.metric.split('.').next_back()
}

fn belongs(detail: &Effect, calls: &Effect) -> bool {
    let area = |effect: &Effect| effect.metric.split('.').next();
    detail.metric != calls.metric && detail.label == calls.label && area(detail) == area(calls)
}

fn cell(operation: &Operation, effect: &Effect, layer: Layer) -> String {
    let failed = operation
        .effects
        .iter()
        .any(|detail| what(detail) == Some("errors") && belongs(detail, effect) && detail.at(layer) > 0);
    let seen = match effect.at(layer) {
        0 => "not seen".to_owned(),
        1 => "seen".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    };
    let interrupted = operation
        .effects
        .iter()
        .any(|detail| what(detail) == Some("interrupted") && belongs(detail, effect) && detail.at(layer) > 0);
    match (failed, interrupted) {
        (true, _) => format!("{seen}, as an error"),
        (_, true) if effect.at(layer) > 1 => format!("{seen}, once as interrupted"),
        (_, true) => format!("{seen}, as interrupted"),
        _ => seen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect;
    use std::collections::BTreeSet;

    #[test]
    fn every_effect_is_on_a_metric_that_exists() {
        let known: BTreeSet<(&str, &str)> =
            expect::nothing().iter().map(|e| (e.metric.name, e.metric.label.map_or("", |(_, value)| value))).collect();
        for operation in GROUPS.iter().flat_map(|group| group.operations) {
            assert!(!operation.effects.is_empty(), "{}", operation.name);
            for effect in operation.effects {
                assert!(known.contains(&(effect.metric, effect.label)), "{}: {effect:?}", operation.name);
            }
        }
    }

    #[test]
    fn every_operation_of_the_workload_is_a_row_and_the_other_way_round() {
        let source = include_str!("../workload/operations.c");
        let done: BTreeSet<&str> =
            source.lines().filter_map(|line| line.strip_prefix("\t{ \"")?.split('"').next()).collect();
        let rows: Vec<&str> = GROUPS.iter().flat_map(|group| group.operations).map(|row| row.name).collect();
        assert_eq!(rows.iter().copied().collect::<BTreeSet<_>>(), done);
        assert_eq!(rows.len(), done.len(), "a row is there twice");
    }

    #[test]
    fn a_line_says_what_each_layer_sees() {
        let table = markdown();
        for line in [
            "| `unlink` on overlayfs: once per layer | `vfs.calls` delete | seen | twice |",
            "| `read` of a bad descriptor | `vfs.calls` read | seen, as an error | not seen |",
            "| `read` that a signal interrupts and the kernel restarts: no error | `vfs.calls` read | twice, once as interrupted |",
            "| `sendfile` | `vfs.calls` write | not seen | not seen |",
        ] {
            assert!(table.contains(line), "{table}");
        }
    }
}
