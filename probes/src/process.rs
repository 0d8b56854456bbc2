//! The probe `process`: tasks started, failed to start, exited and released.
//!
//! A start is charged to the parent's thread group and an exit to the exiting task's, both current; a release to the
//! released task's, which is never current. Kernel threads and io workers count. A thread is what `CLONE_THREAD` makes.

use std::io;

use ebpf_process_core::Unit;

use crate::call::Call;
use crate::counter::{Counter, Field, Metric, Output};
use crate::hook::Layer;
use crate::kernel_probe::KernelProbe;
use crate::object::Objects;
use crate::release::Version;
use crate::sys;
use crate::way::{Fails, Function, Way};

/// The probe type `process`.
///
/// Linux 5.5 with type information (`CONFIG_DEBUG_INFO_BTF`), or 4.11 with kprobes. Tasks come and go thousands of times
/// more seldom than files are read: its cost is not noticeable.
pub static PROCESS: KernelProbe = KernelProbe::new("process", "processes and threads started, exited and released")
    .objects(
        Objects::new(crate::aligned!("../bpf/objects/x86_64/process.core.o"), slot::SLOTS)
            .floor(crate::aligned!("../bpf/objects/x86_64/process.floor.o"))
            .who(crate::aligned!("../bpf/objects/x86_64/process.who.o")),
    )
    .counters(&[START, FORK, EXIT, RELEASE]);

/// What a task does; a start as the return of a fork shows it has records of its own.
mod slot {
    crate::slots![
        PROCESS_STARTED,
        PROCESS_STARTED_THREAD,
        PROCESS_FORK,
        PROCESS_FORK_THREAD,
        PROCESS_EXIT,
        PROCESS_RELEASE,
        PROCESS_FORKED,
        PROCESS_FORKED_THREAD,
    ];
}

/// cad6967ac108 "fork: introduce `kernel_clone()`"
const KERNEL_CLONE: (Version, &str) = (Version(5, 10), "cad6967ac108");

const STARTED: &[u32] = &[slot::PROCESS_STARTED, slot::PROCESS_STARTED_THREAD];
const FORKED: &[u32] = &[slot::PROCESS_FORKED, slot::PROCESS_FORKED_THREAD];
const FORK_ENDED: &[u32] = &[slot::PROCESS_FORK, slot::PROCESS_FORK_THREAD];

const START: Counter = Counter::new("task.start", Layer::Task, |_| sys::fork_and_reap(&mut |_| Ok(())))
    .ways(&[
        Way::Tracepoint("task_newtask", STARTED),
        Way::Functions(&[Function::at_start("wake_up_new_task", STARTED)]),
        // On the floor no task is looked into: a start is a fork that returned a pid.
        Way::Functions(&[clone("kernel_clone", FORKED).since(KERNEL_CLONE.0, KERNEL_CLONE.1).counted_by_result()]),
        Way::Functions(&[clone("_do_fork", FORKED).until(KERNEL_CLONE.0, KERNEL_CLONE.1).counted_by_result()]),
        Way::Event("task/task_newtask", STARTED),
    ])
    .outputs(START_OUTPUTS);

const START_OUTPUTS: &[Output] = &[
    Output::new(&TASK_STARTED, "process", Field::Calls),
    Output::new(&TASK_STARTED, "thread", Field::Calls).of_part(1),
];

const FORK: Counter = Counter::new("task.fork", Layer::Function, |_| {
    sys::fail_to_clone();
    Ok(())
})
.in_return_mode()
.ways(&[
    Way::Functions(&[fork("kernel_clone").since(KERNEL_CLONE.0, KERNEL_CLONE.1)]),
    Way::Functions(&[fork("_do_fork").until(KERNEL_CLONE.0, KERNEL_CLONE.1)]),
    Way::Functions(&[clone("kernel_clone", FORK_ENDED).since(KERNEL_CLONE.0, KERNEL_CLONE.1).keeps_an_argument()]),
    Way::Functions(&[clone("_do_fork", FORK_ENDED).until(KERNEL_CLONE.0, KERNEL_CLONE.1).keeps_an_argument()]),
])
.calls(&[
    Call::status("fork"),
    Call::status("vfork"),
    Call::status("clone").second_part_if(0, CLONE_THREAD),
    // struct clone_args begins with its flags.
    Call::status("clone3").second_part_if_at(0, CLONE_THREAD),
])
// The child leaves the call as well, with 0: only failures are taken from here.
.outputs(FORK_OUTPUTS);

const FORK_OUTPUTS: &[Output] = &[
    Output::new(&TASK_START_ERRORS, "process", Field::Errors),
    Output::new(&TASK_START_ERRORS, "thread", Field::Errors).of_part(1),
    Output::new(&TASK_START_INTERRUPTED, "process", Field::Interrupted),
    Output::new(&TASK_START_INTERRUPTED, "thread", Field::Interrupted).of_part(1),
];

const CLONE_THREAD: u64 = 0x0001_0000;

/// By type information: the flags are read where they are.
const fn fork(symbol: &'static str) -> Function {
    Function::new(symbol, 1, Fails::Status, FORK_ENDED).program("fork").keeps_an_argument()
}

/// Without: by the registers, of every form that the function has had.
const fn clone(symbol: &'static str, slots: &'static [u32]) -> Function {
    Function::new(symbol, 1, Fails::Status, slots).program("clone").by_breakpoint()
}

const EXIT: Counter = Counter::new("task.exit", Layer::Task, child_lives_and_dies)
    .ways(&[
        Way::Functions(&[Function::at_start("do_exit", &[slot::PROCESS_EXIT])]),
        Way::Tracepoint("sched_process_exit", &[slot::PROCESS_EXIT]),
        Way::Event("sched/sched_process_exit", &[slot::PROCESS_EXIT]),
    ])
    .outputs(EXIT_OUTPUTS);

const EXIT_OUTPUTS: &[Output] = &[Output::unlabelled(&TASK_EXITS, Field::Calls)];

// The tracepoint comes an RCU grace period later than the function.
const RELEASE: Counter = Counter::new("task.release", Layer::Task, child_lives_and_dies)
    .of_others()
    .ways(&[
        Way::Functions(&[Function::at_start("release_task", &[slot::PROCESS_RELEASE])]),
        Way::Tracepoint("sched_process_free", &[slot::PROCESS_RELEASE]),
        Way::Event("sched/sched_process_free", &[slot::PROCESS_RELEASE]),
    ])
    .outputs(RELEASE_OUTPUTS);

const RELEASE_OUTPUTS: &[Output] = &[Output::unlabelled(&TASK_RELEASES, Field::Calls)];

static TASK_STARTED: Metric = Metric::new("task.started", Unit::TASKS, "Processes and threads started", "kind");
static TASK_START_ERRORS: Metric =
    Metric::new("task.start_errors", Unit::CALLS, "Processes and threads that could not be started", "kind");
static TASK_START_INTERRUPTED: Metric = Metric::new(
    "task.start_interrupted",
    Unit::CALLS,
    "Starts of processes and threads that a signal interrupted",
    "kind",
);
static TASK_EXITS: Metric = Metric::unlabelled("task.exits", Unit::TASKS, "Tasks that began to exit");
static TASK_RELEASES: Metric = Metric::unlabelled("task.releases", Unit::TASKS, "Tasks whose last trace was released");

/// Exit and release happen to the child, so the filter must let it through.
fn child_lives_and_dies(let_through: &mut dyn FnMut(u32) -> io::Result<()>) -> io::Result<()> {
    sys::fork_and_reap(let_through)
}
