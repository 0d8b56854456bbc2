//! The probe `process`: tasks started, failed to start, exited and released.
//!
//! | counter | hooked at | remarks |
//! |---|---|---|
//! | `task.start` | tracepoint `task_newtask`; `wake_up_new_task`; on the floor the return of the fork function | a thread if and only if CLONE_THREAD; kernel and io threads count |
//! | `task.fork` | return of `kernel_clone` (5.10), `_do_fork` (5.5); system calls clone, clone3, fork, vfork | only failures are taken from here |
//! | `task.exit` | `do_exit`; tracepoint `sched_process_exit` | the exiting task is current |
//! | `task.release` | `release_task`; tracepoint `sched_process_free` | belongs to the released task, which is never current; the tracepoint comes an RCU grace period later |

use std::io;

use crate::abi::{Slot, process_slot as slot};
use crate::catalog::Metric;
use crate::hook::{Attach, Candidate, Counter, Field, Hook, Layer, Output, Subject};
use crate::kernel_probe::KernelProbe;
use crate::options::Tier;
use crate::sys;

/// The probe type `process`.
///
/// Linux 5.5 with type information (`CONFIG_DEBUG_INFO_BTF`), or 4.11 with kprobes. Tasks come and go thousands of times
/// more seldom than files are read: its cost is not noticeable.
pub static PROCESS: KernelProbe = KernelProbe {
    name: "process",
    summary: "processes and threads started, exited and released",
    core: aya::include_bytes_aligned!("../bpf/objects/x86_64/process.core.o"),
    floor: aya::include_bytes_aligned!("../bpf/objects/x86_64/process.floor.o"),
    counters: &[START, FORK, EXIT, RELEASE],
};

/// The pair of programs by which the floor object sees a fork come and go.
macro_rules! clone {
    ($function:literal, $proof:expr) => {
        &[
            hook("clone__kprobe", Attach::Kprobe($function), &[]),
            hook("clone__kretprobe", Attach::Kretprobe($function), $proof),
        ]
    };
}

const START: Counter = Counter {
    name: "task.start",
    return_only: false,
    subject: Subject::Current,
    entry: STARTS,
    results: STARTS,
    exercise: |_| sys::fork_and_reap(&mut |_| Ok(())),
    outputs: &[
        output(Metric::TaskStarted, Some("process"), Field::Calls, 0),
        output(Metric::TaskStarted, Some("thread"), Field::Calls, 1),
    ],
};

const STARTS: &[Candidate] = &[
    starts(Tier::Tracepoint, &[hook("task_newtask", Attach::Tracepoint("task_newtask"), PROOF_START)]),
    starts(Tier::Fentry, &[hook("start__fentry", Attach::Fentry("wake_up_new_task"), PROOF_START)]),
    starts(Tier::Kprobe, &[hook("start__kprobe", Attach::Kprobe("wake_up_new_task"), PROOF_START)]),
    // On the floor no task is looked into: a start is a fork that returned a pid.
    forks_that_start(clone!("kernel_clone", PROOF_FORKED)),
    forks_that_start(clone!("_do_fork", PROOF_FORKED)),
    starts(Tier::Tracepoint, &[event("start__event", "task_newtask", &["task/task_newtask"], PROOF_START)]),
];
const PROOF_START: &[Slot] = &[slot::STARTED];
const PROOF_FORKED: &[Slot] = &[slot::FORKED];

const FORK: Counter = Counter {
    name: "task.fork",
    return_only: true,
    subject: Subject::Current,
    entry: &[],
    results: &[
        forks(
            Tier::Fentry,
            Layer::Function,
            &[hook("fork__fexit1", Attach::Fexit("kernel_clone", 1), PROOF_FORK)],
            FORKS,
        ),
        forks(Tier::Fentry, Layer::Function, &[hook("fork__fexit1", Attach::Fexit("_do_fork", 1), PROOF_FORK)], FORKS),
        forks(
            Tier::Kprobe,
            Layer::Function,
            &[
                hook("fork__kprobe", Attach::Kprobe("kernel_clone"), &[]),
                hook("fork__kretprobe", Attach::Kretprobe("kernel_clone"), PROOF_FORK),
            ],
            FORKS,
        ),
        forks(
            Tier::Kprobe,
            Layer::Function,
            &[
                hook("fork__kprobe", Attach::Kprobe("_do_fork"), &[]),
                hook("fork__kretprobe", Attach::Kretprobe("_do_fork"), PROOF_FORK),
            ],
            FORKS,
        ),
        forks(Tier::Kprobe, Layer::Function, clone!("kernel_clone", PROOF_FORK), FORKS),
        forks(Tier::Kprobe, Layer::Function, clone!("_do_fork", PROOF_FORK), FORKS),
        forks(
            Tier::Tracepoint,
            Layer::Syscall,
            &[hook("sys_exit", Attach::Tracepoint("sys_exit"), &[slot::SYS_FORK])],
            FORK_CALLS,
        ),
        forks(
            Tier::Tracepoint,
            Layer::Syscall,
            &[
                event(
                    "fork_exit__event",
                    "sys_exit_fork*",
                    &["syscalls/sys_exit_fork", "syscalls/sys_exit_vfork"],
                    &[],
                ),
                event("clone_enter__event", "sys_exit_clone*", &["syscalls/sys_enter_clone"], &[]),
                event("clone3_enter__event", "sys_exit_clone*", &["syscalls/sys_enter_clone3"], &[]),
                event(
                    "clone_exit__event",
                    "sys_exit_clone*",
                    &["syscalls/sys_exit_clone", "syscalls/sys_exit_clone3"],
                    &[slot::SYS_FORK],
                ),
            ],
            FORK_CALLS,
        ),
    ],
    exercise: |_| {
        sys::fail_to_clone();
        Ok(())
    },
    outputs: &[
        output(Metric::TaskStartErrors, Some("process"), Field::Errors, 0),
        output(Metric::TaskStartErrors, Some("thread"), Field::Errors, 1),
        output(Metric::TaskStartInterrupted, Some("process"), Field::Interrupted, 0),
        output(Metric::TaskStartInterrupted, Some("thread"), Field::Interrupted, 1),
    ],
};

const FORK_CALLS: &[&[Slot]] = &[&[slot::SYS_FORK], &[slot::SYS_FORK_THREAD]];
const FORKS: &[&[Slot]] = &[&[slot::FORK], &[slot::FORK_THREAD]];
const PROOF_FORK: &[Slot] = &[slot::FORK];

const EXIT: Counter = Counter {
    name: "task.exit",
    return_only: false,
    subject: Subject::Current,
    entry: EXITS,
    results: EXITS,
    exercise: child_lives_and_dies,
    outputs: &[output(Metric::TaskExits, None, Field::Calls, 0)],
};

const EXITS: &[Candidate] = &[
    ends(Tier::Fentry, &[hook("exit__fentry", Attach::Fentry("do_exit"), &[slot::EXIT])], &[&[slot::EXIT]]),
    ends(
        Tier::Tracepoint,
        &[hook("sched_process_exit", Attach::Tracepoint("sched_process_exit"), &[slot::EXIT])],
        &[&[slot::EXIT]],
    ),
    ends(Tier::Kprobe, &[hook("exit__kprobe", Attach::Kprobe("do_exit"), &[slot::EXIT])], &[&[slot::EXIT]]),
    ends(
        Tier::Tracepoint,
        &[event("exit__event", "sched_process_exit", &["sched/sched_process_exit"], &[slot::EXIT])],
        &[&[slot::EXIT]],
    ),
];

const RELEASE: Counter = Counter {
    name: "task.release",
    return_only: false,
    subject: Subject::Other,
    entry: RELEASES,
    results: RELEASES,
    exercise: child_lives_and_dies,
    outputs: &[output(Metric::TaskReleases, None, Field::Calls, 0)],
};

const RELEASES: &[Candidate] = &[
    ends(
        Tier::Fentry,
        &[hook("release__fentry", Attach::Fentry("release_task"), &[slot::RELEASE])],
        &[&[slot::RELEASE]],
    ),
    ends(
        Tier::Tracepoint,
        &[hook("sched_process_free", Attach::Tracepoint("sched_process_free"), &[slot::RELEASE])],
        &[&[slot::RELEASE]],
    ),
    ends(
        Tier::Kprobe,
        &[hook("release__kprobe", Attach::Kprobe("release_task"), &[slot::RELEASE])],
        &[&[slot::RELEASE]],
    ),
    ends(
        Tier::Tracepoint,
        &[event("release__event", "sched_process_free", &["sched/sched_process_free"], &[slot::RELEASE])],
        &[&[slot::RELEASE]],
    ),
];

const fn hook(program: &'static str, attach: Attach, proof: &'static [Slot]) -> Hook {
    Hook { program, attach, proof }
}

/// By trace events, on the floor.
const fn event(
    program: &'static str,
    called: &'static str,
    events: &'static [&'static str],
    proof: &'static [Slot],
) -> Hook {
    hook(program, Attach::Events(called, events), proof)
}

const fn starts(tier: Tier, hooks: &'static [Hook]) -> Candidate {
    Candidate { tier, layer: Layer::Task, hooks, parts: &[&[slot::STARTED], &[slot::STARTED_THREAD]] }
}

/// The same programs may stand there for `task.fork` while another counts starts: they have records of their own.
const fn forks_that_start(hooks: &'static [Hook]) -> Candidate {
    Candidate { tier: Tier::Kprobe, layer: Layer::Task, hooks, parts: &[&[slot::FORKED], &[slot::FORKED_THREAD]] }
}

const fn forks(tier: Tier, layer: Layer, hooks: &'static [Hook], parts: &'static [&'static [Slot]]) -> Candidate {
    Candidate { tier, layer, hooks, parts }
}

const fn ends(tier: Tier, hooks: &'static [Hook], parts: &'static [&'static [Slot]]) -> Candidate {
    Candidate { tier, layer: Layer::Task, hooks, parts }
}

const fn output(metric: Metric, label: Option<&'static str>, field: Field, part: usize) -> Output {
    Output { metric, label, field, part, return_only: false }
}

/// Exit and release happen to the child, so the filter must let it through.
fn child_lives_and_dies(let_through: &mut dyn FnMut(u32) -> io::Result<()>) -> io::Result<()> {
    sys::fork_and_reap(let_through)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FILE;
    use crate::options::Mode;
    use object::{Object as _, ObjectSymbol as _};

    /// Two ways to count one counter must not share a record when another counter may put the programs of one of them
    /// into the kernel beside the other: each event would count twice. Trace events of single calls and that of all of
    /// them serve on different kernels.
    #[test]
    fn what_stands_there_for_another_counter_counts_in_a_record_of_its_own() {
        for probe in [&FILE, &PROCESS] {
            for object in [probe.core, probe.floor] {
                let object = object::File::parse(object).expect("an object");
                let programs: Vec<&str> = object.symbols().filter_map(|symbol| symbol.name().ok()).collect();
                let ways = |counter: &Counter, mode: Mode| -> Vec<&'static Candidate> {
                    let all = if mode == Mode::Return { counter.results } else { counter.entry };
                    let here = |way: &&Candidate| way.hooks.iter().all(|hook| programs.contains(&hook.program));
                    all.iter().filter(here).filter(|way| way.layer != Layer::Syscall).collect()
                };
                for (counter, mode) in probe.counters.iter().flat_map(|c| [(c, Mode::Entry), (c, Mode::Return)]) {
                    let others = probe.counters.iter().filter(|other| other.name != counter.name);
                    let lent: Vec<&Hook> =
                        others.flat_map(|other| ways(other, mode)).flat_map(|way| way.hooks).collect();
                    let is_lent =
                        |hook: &Hook| lent.iter().any(|l| (l.program, l.attach) == (hook.program, hook.attach));
                    let (shared, own): (Vec<_>, Vec<_>) =
                        ways(counter, mode).into_iter().partition(|way| way.hooks.iter().any(is_lent));
                    let records = |ways: &[&'static Candidate]| -> Vec<Slot> {
                        ways.iter().flat_map(|way| way.parts).copied().flatten().copied().collect()
                    };
                    // What the hooks that nobody else wants write is written once.
                    let unlent = shared.iter().flat_map(|way| way.hooks).filter(|hook| !is_lent(hook));
                    let once: Vec<Slot> = unlent.flat_map(|hook| hook.proof).copied().collect();
                    let twice =
                        records(&shared).into_iter().find(|slot| !once.contains(slot) && records(&own).contains(slot));
                    assert_eq!(twice, None, "{} {mode:?}: {shared:?} {own:?}", counter.name);
                }
            }
        }
    }
}
