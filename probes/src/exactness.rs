//! Whether a counter's number can lack events, and why: a finding, from everything that is known of its hooks.

use serde::{Deserialize, Serialize};

use crate::candidate::Candidate;
use crate::counter::{Counter, Field};
use crate::doubt::Doubt;
use crate::hook::{Attach, Hook};
use crate::options::{Mode, ProbeOptions, Tier};
use crate::preemption::Preemption;
use crate::release::Version;

/// What of the machine decides.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) version: Version,
    pub(crate) preemption: Preemption,
    /// Whether the kernel keeps programs from places where Linux lets them be.
    pub(crate) sandboxed: bool,
    /// Whether a 32-bit program can run.
    pub(crate) runs_32_bit: bool,
    /// Whether a kretprobe can be given as many places as there may be calls under way.
    pub(crate) takes_instances: bool,
}

/// Why a counter that stands on these hooks may lack events; exact is what nothing speaks against.
pub(crate) fn doubts(facts: &Facts, candidate: &Candidate, options: &ProbeOptions) -> Vec<Doubt> {
    let by_events = candidate.has(|attach| matches!(attach, Attach::Event(_)));
    // The kernel leaves out a kprobe's or perf's program while bpf(2) works on a map on that processor.
    let heeds_bpf = candidate.tier == Tier::Kprobe || by_events;
    let told = told_of_misses(facts.version, heeds_bpf);
    let rescued = told && misses_are_calls(candidate, options) && facts.preemption != Preemption::RealTime;
    let preemptible = facts.preemption != Preemption::Never;
    let mut doubts = Vec::new();
    let mut add = |applies: bool, doubt| {
        if applies {
            doubts.push(doubt);
        }
    };
    add(facts.sandboxed && candidate.hooks.iter().any(fires_anywhere), Doubt::Sandbox);
    // Before 5.7 bpf(2) was not preempted while it worked on a map, so nothing else happened on its processor.
    add(heeds_bpf && preemptible && !told && facts.version >= PREEMPTED_BY_PERF, Doubt::OtherPrograms);
    add(facts.preemption == Preemption::RealTime, Doubt::RealTime);
    add(by_events && facts.version < Version(4, 15), Doubt::SharedEvent);
    let returns = candidate.has(|attach| matches!(attach, Attach::Kretprobe(_)));
    add(returns && !facts.takes_instances, Doubt::Instances);
    let lacks_some = candidate.lacks_32_bit_below.is_some_and(|version| facts.version < version);
    let blind = by_events && sees_native_calls_only(candidate) || lacks_some;
    add(facts.runs_32_bit && blind, Doubt::Calls32Bit);
    // A breakpoint's handler cannot be preempted; a trampoline's or tracepoint's program can, where tasks can.
    let may_be_preempted = candidate.tier != Tier::Kprobe && !(by_events && facts.version < PREEMPTED_BY_PERF);
    if may_be_preempted && !rescued {
        add(facts.preemption == Preemption::Unknown, Doubt::PreemptionUnknown);
        add(matches!(facts.preemption, Preemption::Possible | Preemption::RealTime), Doubt::Preempted);
    }
    doubts
}

/// From here on neither bpf(2) on a map nor a program of a trace event switches preemption off (2a916f2f546c "bpf: Use
/// `migrate_disable` in hashtab code", b0a81b94cc50 "bpf/trace: Remove redundant `preempt_disable` from `trace_call_bpf`").
const PREEMPTED_BY_PERF: Version = Version(5, 7);

/// Whether it stands on the events of single system calls. That of all of them shows the others' too.
fn sees_native_calls_only(candidate: &Candidate) -> bool {
    candidate.has(|attach| matches!(attach, Attach::Event(event) if event.starts_with("syscalls/")))
}

/// Whether the kernel counts what it leaves out: trampolines and tracepoints from the day on which it began to do so
/// (5.12), kprobes and perf from 6.7 on (dd8657894c11 "bpf: Count missed stats in `trace_call_bpf`"). 5.11 let programs be
/// preempted and did not guard them yet.
fn told_of_misses(version: Version, heeds_bpf: bool) -> bool {
    if heeds_bpf { version >= Version(6, 7) } else { version != Version(5, 11) }
}

/// Whether it fires on top of any task, in an interrupt, and not for the task that is current.
pub(crate) fn fires_anywhere(hook: &Hook) -> bool {
    hook.attach.target() == "sched_process_free"
}

/// Whether each run that the kernel leaves out is known to be one call of this counter, so that it can be counted as
/// one: nothing but calls is asked, no filter has to look at them, and the programs serve one number each, whatever the
/// call's argument or result. Linux 5.12 began to leave programs out, and to say how often, at the same time.
pub(crate) fn misses_are_calls(candidate: &Candidate, options: &ProbeOptions) -> bool {
    let serves_one_number = candidate.parts.len() == 1 && !candidate.is_of_calls() && !candidate.sorts_calls;
    // What a program on a trace event misses is counted from 6.7 on only.
    let told = !candidate.has(|attach| matches!(attach, Attach::Event(_)));
    options.mode == Mode::Entry && options.only.is_none() && serves_one_number && told
}

/// Whether what the kernel counts as missed is more than what this counter lacks: the program that serves system calls
/// is left out for those that nobody watches too, and for each of its counters; a filter is asked after the miss; so is
/// whose call it was where an argument or the result tells; and who counts failures alone does not know what a missed call
/// would have been.
pub(crate) fn misses_are_a_bound(counter: &Counter, candidate: &Candidate, options: &ProbeOptions) -> bool {
    let failures_only = !counter.outputs.iter().any(|output| matches!(output.field, Field::Calls));
    candidate.is_of_calls() || candidate.sorts_calls || options.only.is_some() || failures_only
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::only::Only;
    use crate::{FILE, PROCESS};

    /// The candidate of a counter that hooks this function in this tier.
    fn candidate(counter: &str, mode: Mode, tier: Tier, target: &str) -> Candidate {
        let counters = FILE.counters.iter().chain(PROCESS.counters);
        let counter = counters.into_iter().find(|known| known.name == counter).expect("a counter");
        let is = |c: &Candidate| c.tier == tier && c.hooks.iter().any(|hook| hook.attach.target() == target);
        counter.candidates(mode).expect("its calls").into_iter().find(is).expect("a candidate")
    }

    fn facts(version: (u32, u32), preemption: Preemption) -> Facts {
        Facts {
            version: Version(version.0, version.1),
            preemption,
            sandboxed: false,
            runs_32_bit: true,
            takes_instances: version > (4, 11),
        }
    }

    fn options(mode: Mode, filtered: bool) -> ProbeOptions {
        ProbeOptions {
            mode,
            only: filtered.then_some(Only::Process { pid: 1, start_time: None }),
            ..ProbeOptions::default()
        }
    }

    #[test]
    fn what_is_known_decides() {
        use Doubt::{Calls32Bit, Instances, OtherPrograms, Preempted, PreemptionUnknown, RealTime, SharedEvent};
        use Mode::{Entry, Return};
        use Preemption::{Never, Possible, Unknown};
        let read = |mode, tier, target| candidate("vfs.read", mode, tier, target);
        let (fentry, kprobe) = ((Tier::Fentry, "vfs_read"), (Tier::Kprobe, "vfs_read"));
        let (sys_exit, event) = ((Tier::Tracepoint, "sys_exit"), (Tier::Tracepoint, "sys_exit_read"));
        let all_calls = (Tier::Tracepoint, "raw_sys_exit");
        for ((tier, target), mode, filtered, version, preemption, expected) in [
            (fentry, Return, false, (6, 1), Never, &[][..]),
            (fentry, Return, false, (6, 1), Possible, &[Preempted]),
            (fentry, Return, false, (6, 1), Unknown, &[PreemptionUnknown]),
            // What a trampoline misses is a call where nothing but calls is asked, and nobody else's.
            (fentry, Entry, false, (6, 1), Possible, &[]),
            (fentry, Entry, false, (6, 1), Unknown, &[]),
            (fentry, Entry, true, (6, 1), Possible, &[Preempted]),
            (fentry, Entry, false, (5, 11), Possible, &[Preempted]),
            (fentry, Entry, false, (5, 11), Never, &[]),
            (fentry, Entry, false, (6, 1), Preemption::RealTime, &[RealTime, Preempted]),
            // A kprobe is left out beside another's bpf(2) only; that is counted from 6.7 on.
            (kprobe, Return, false, (6, 1), Never, &[]),
            (kprobe, Return, false, (6, 1), Possible, &[OtherPrograms]),
            (kprobe, Entry, false, (6, 6), Possible, &[OtherPrograms]),
            (kprobe, Return, false, (6, 6), Unknown, &[OtherPrograms]),
            (kprobe, Return, true, (6, 7), Possible, &[]),
            (kprobe, Return, false, (7, 2), Preemption::RealTime, &[RealTime]),
            (kprobe, Return, false, (4, 11), Never, &[Instances]),
            (kprobe, Entry, false, (4, 11), Never, &[]),
            // The trampoline has no part for the vectors of 32-bit programs.
            (fentry, Return, false, (5, 9), Never, &[Calls32Bit]),
            (fentry, Entry, false, (5, 10), Never, &[]),
            (sys_exit, Entry, false, (6, 18), Never, &[]),
            (sys_exit, Entry, false, (7, 2), Possible, &[Preempted]),
            (event, Return, false, (6, 18), Never, &[Calls32Bit]),
            (event, Return, false, (4, 14), Never, &[SharedEvent, Calls32Bit]),
            (event, Return, false, (4, 14), Possible, &[SharedEvent, Calls32Bit]),
            (kprobe, Return, false, (4, 11), Possible, &[Instances]),
            (kprobe, Return, false, (5, 4), Possible, &[]),
            (all_calls, Return, false, (4, 11), Possible, &[SharedEvent]),
            (event, Return, false, (6, 6), Possible, &[OtherPrograms, Calls32Bit, Preempted]),
            (event, Return, false, (7, 2), Possible, &[Calls32Bit, Preempted]),
        ] {
            let candidate = read(mode, tier, target);
            let found = doubts(&facts(version, preemption), &candidate, &options(mode, filtered));
            assert_eq!(found, expected, "{tier} {target} {mode:?} filtered={filtered} {version:?} {preemption:?}");
        }
    }

    #[test]
    fn a_kernel_that_runs_no_32_bit_program_hides_none_of_its_calls() {
        let candidate = candidate("vfs.read", Mode::Entry, Tier::Tracepoint, "sys_exit_read");
        let facts = Facts { runs_32_bit: false, ..facts((6, 18), Preemption::Never) };
        assert_eq!(doubts(&facts, &candidate, &ProbeOptions::default()), []);
    }

    #[test]
    fn a_sandbox_hides_what_fires_on_top_of_any_task() {
        let facts = Facts { sandboxed: true, ..facts((6, 18), Preemption::Never) };
        let of = |counter, tier, target| {
            doubts(&facts, &candidate(counter, Mode::Entry, tier, target), &ProbeOptions::default())
        };
        assert_eq!(of("task.release", Tier::Tracepoint, "sched_process_free"), [Doubt::Sandbox]);
        assert_eq!(of("task.release", Tier::Fentry, "release_task"), []);
        assert_eq!(of("task.exit", Tier::Tracepoint, "sched_process_exit"), []);
        assert_eq!(of("vfs.read", Tier::Tracepoint, "sys_exit"), []);
    }

    #[test]
    fn a_miss_is_a_call_where_the_program_counts_nothing_else() {
        use crate::hook::Layer;
        use crate::way::{Fails, Function, Way};

        const BY_RESULT: Way = Way::Functions(&[Function::new("f", 1, Fails::Status, &[0]).counted_by_result()]);
        let options = options(Mode::Entry, false);
        let are_calls =
            |counter, target| misses_are_calls(&candidate(counter, Mode::Entry, Tier::Kprobe, target), &options);
        assert!(are_calls("vfs.read", "vfs_readv") && are_calls("file.open", "do_sys_openat2"));
        // Whether it was a read or a write says an argument, and whether it counts at all the result.
        assert!(!are_calls("vfs.read", "do_readv_writev") && !are_calls("vfs.write", "do_readv_writev"));
        let by_result = Counter::new("a.b", Layer::Function, |_| Ok(())).ways(&[BY_RESULT]);
        for candidate in by_result.candidates(Mode::Entry).expect("its functions") {
            assert!(!misses_are_calls(&candidate, &options), "{candidate:?}");
        }
    }

    #[test]
    fn misses_are_a_bound_where_others_are_among_them() {
        let bound = |counter: &str, tier, target, filtered| {
            let counters = FILE.counters.iter().chain(PROCESS.counters);
            let known = counters.into_iter().find(|known| known.name == counter).expect("a counter");
            misses_are_a_bound(known, &candidate(counter, Mode::Return, tier, target), &options(Mode::Return, filtered))
        };
        assert!(bound("vfs.read", Tier::Tracepoint, "sys_exit", false));
        assert!(bound("vfs.read", Tier::Kprobe, "vfs_readv", true));
        assert!(bound("task.fork", Tier::Kprobe, "kernel_clone", false));
        assert!(!bound("vfs.read", Tier::Kprobe, "vfs_readv", false));
        // One program for reads and writes, and one for starts and failures.
        assert!(bound("vfs.write", Tier::Kprobe, "do_readv_writev", false));
        assert!(bound("task.start", Tier::Kprobe, "kernel_clone", false));
        assert!(!bound("task.start", Tier::Tracepoint, "task_newtask", false));
    }
}
