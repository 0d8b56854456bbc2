//! The probe `process`.

use crate::known::{
    Done, Effect, Expected, Group, Layer, Need, Operation, RELEASES, Row, Rows, Straced, Traced, effect, expected,
    once, row, with,
};
use crate::workload::counts as n;

/// What is known of it.
pub static ROWS: Rows = Rows {
    probe: "process",
    is_default: true,
    groups: &[Group { name: "tasks", operations: TASKS }],
    expected: |done| metrics(|layer| totals(done, layer)),
    traced: &[Traced {
        functions: &[("kernel_clone", "s32")],
        adds_up: &[
            ("task.started", "", |seen| seen.calls - seen.errors - seen.interrupted),
            ("task.start_errors", "", |seen| seen.errors),
        ],
    }],
    straced: &[Straced {
        names: &["clone", "clone3", "fork", "vfork"],
        calls: &[
            ("task.started", "process"),
            ("task.started", "thread"),
            ("task.start_errors", "process"),
            ("task.start_errors", "thread"),
        ],
        failed: &[("task.start_errors", "process"), ("task.start_errors", "thread")],
        uncounted: 0,
    }],
};

/// What a process does, in the words of the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    processes: u64,
    process_errors: u64,
    threads: u64,
    thread_errors: u64,
    exits: u64,
    releases: u64,
}

fn totals(done: Done, layer: Layer) -> Totals {
    match done {
        Done::Nothing => Totals::default(),
        Done::Whole => whole(layer),
        Done::BeforeItsEnd => Totals { exits: n::THREADS, releases: n::THREADS, ..whole(layer) },
        Done::Reads { processes, .. } => Totals { exits: processes, releases: processes, ..Totals::default() },
        Done::Counted(c) => Totals {
            processes: c.processes,
            process_errors: c.start_errors,
            threads: c.threads,
            thread_errors: 0,
            exits: c.exits,
            releases: c.exits,
        },
    }
}

fn whole(layer: Layer) -> Totals {
    let syscall = |count| if layer == Layer::Syscall { count } else { 0 };
    Totals {
        processes: n::CLONE_FORKS + n::FORKS + n::VFORKS + n::CLONE3_FORKS + n::EXECS + n::SIGNALLERS,
        process_errors: n::BAD_PROCESS_CLONES + n::BAD_PROCESS_CLONE3S + syscall(n::REJECTED_CLONE3S),
        threads: n::THREADS,
        thread_errors: n::BAD_THREAD_CLONES + n::BAD_THREAD_CLONE3S,
        exits: n::THREADS + 1,
        releases: n::THREADS + 1,
    }
}

const PROCESSES: Option<(&str, &str)> = Some(("kind", "process"));
const THREADS: Option<(&str, &str)> = Some(("kind", "thread"));
const STARTS: &[&str] = &["task.start"];
const START_ERRORS: &[&str] = &["task.fork"];

fn metrics(totals: impl Fn(Layer) -> Totals) -> Vec<Expected> {
    let rows: [Row<Totals>; 8] = [
        ("task.started", PROCESSES, STARTS, false, |t| t.processes),
        ("task.started", THREADS, STARTS, false, |t| t.threads),
        ("task.start_errors", PROCESSES, START_ERRORS, true, |t| t.process_errors),
        ("task.start_errors", THREADS, START_ERRORS, true, |t| t.thread_errors),
        ("task.start_interrupted", PROCESSES, START_ERRORS, true, |_| 0),
        ("task.start_interrupted", THREADS, START_ERRORS, true, |_| 0),
        ("task.exits", None, &["task.exit"], false, |t| t.exits),
        (RELEASES, None, &["task.release"], false, |t| t.releases),
    ];
    expected(rows, totals)
}

/// A task in all layers alike.
const fn task(metric: &'static str, label: &'static str, count: u64) -> Effect {
    effect(metric, label, count, count)
}

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
    with(Need::Int80, row("thread-bad-int80", "the same by `int 0x80`", THREAD_FAILED)),
    row("clone3-bad", "`clone3` of a process that fails", PROCESS_FAILED),
    with(Need::Int80, row("clone3-bad-int80", "the same by `int 0x80`", PROCESS_FAILED)),
    row("clone3-thread-bad", "`clone3` of a thread that fails", THREAD_FAILED),
    with(Need::Int80, row("clone3-thread-bad-int80", "the same by `int 0x80`", THREAD_FAILED)),
    row("clone3-refused", "`clone3` with arguments it refuses", &[effect("task.start_errors", "process", 1, 0)]),
    row("exec-missing", "`execve` of a missing name", &[task("task.started", "process", 0)]),
    row(
        "exec",
        "`execve` with a descriptor marked close-on-exec",
        &[task("task.started", "process", 0), effect("file.calls", "close", 0, 0)],
    ),
    row(
        "exec-thread",
        "`execve` by a new thread: the old leader ends, the thread takes its place",
        THREAD_CAME_AND_WENT,
    ),
    once(row(
        "exit",
        "exit of a process with open descriptors",
        &[task("task.exits", "", 1), task("task.releases", "", 1), effect("file.calls", "close", 0, 0)],
    )),
];
