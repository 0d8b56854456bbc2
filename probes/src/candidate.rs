//! From a counter's rows to the ways of counting it on any kernel, the cheapest first.

use std::collections::BTreeSet;

use crate::abi::Slot;
use crate::call::Watched;
use crate::counter::Counter;
use crate::hook::{Attach, Cost, Hook, Layer};
use crate::options::{Mode, Tier};
use crate::release::Version;
use crate::way::{Fails, Function, Shape, Way};

/// One way to count a counter. All of its hooks must attach and prove themselves.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Its place among those of its counter in a mode.
    pub(crate) index: usize,
    pub(crate) tier: Tier,
    pub(crate) layer: Layer,
    pub(crate) hooks: Vec<Hook>,
    /// By part of the counter: the records whose sum it is.
    pub(crate) parts: Vec<Vec<Slot>>,
    /// The version from which on it is not tried: a function is gone, or another way serves.
    pub(crate) gone_from: Option<Version>,
    /// The version below which it lacks what 32-bit programs do, where it does.
    pub(crate) lacks_32_bit_below: Option<Version>,
    /// Whether its programs sort calls, by an argument or the result: one that they were left out of need not have been
    /// this counter's.
    pub(crate) sorts_calls: bool,
    /// What it watches in the object of system calls, where its records are then; else they are in the probe's own.
    pub(crate) calls: Vec<Watched>,
}

/// Every kernel.
const ALWAYS: Version = Version(u32::MAX, 0);

/// cf5f5cea2706 "bpf: add support for `sys_enter_*` and `sys_exit_*` tracepoints": from here on a program may stand on
/// the events of single system calls, below it on that of all of them alone.
const SINGLE_EVENTS: Version = Version(4, 14);

/// Where every system call ends: the typed tracepoint, and the trace event.
const SYS_EXIT: &str = "sys_exit";
const RAW_SYS_EXIT: &str = "raw_syscalls/sys_exit";

impl Candidate {
    /// Whether it looks at system calls, by the object that all probes share.
    pub(crate) fn is_of_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Whether one program of it sees the calls of every counter, and not its own alone.
    pub(crate) fn sees_every_call(&self) -> bool {
        self.has(|attach| match attach {
            Attach::Tracepoint(name) => *name == SYS_EXIT,
            Attach::Event(event) => event == RAW_SYS_EXIT,
            _ => false,
        })
    }

    /// Whether one program at one place serves both.
    pub(crate) fn shares_a_hook_with(&self, other: &Self) -> bool {
        self.is_of_calls() == other.is_of_calls()
            && self.hooks.iter().any(|hook| other.hooks.iter().any(|theirs| hook.place() == theirs.place()))
    }

    /// The hooks that must move records when the operation is done.
    pub(crate) fn proofs(&self) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(|hook| !hook.proof.is_empty())
    }

    /// Whether any of its hooks is of this kind.
    pub(crate) fn has(&self, is: impl Fn(&Attach) -> bool) -> bool {
        self.hooks.iter().any(|hook| is(&hook.attach))
    }

    /// Its functions, tracepoints and events, each once.
    pub(crate) fn targets(&self) -> Vec<&str> {
        let mut targets: Vec<_> = self.hooks.iter().map(|hook| hook.attach.target()).collect();
        targets.dedup();
        targets
    }

    fn new(tier: Tier, layer: Layer, hooks: Vec<Hook>, parts: Vec<Vec<Slot>>) -> Self {
        Self {
            index: 0,
            tier,
            layer,
            hooks,
            parts,
            gone_from: None,
            lacks_32_bit_below: None,
            sorts_calls: false,
            calls: Vec::new(),
        }
    }

    /// What an event costs.
    pub(crate) fn cost(&self) -> Cost {
        if self.is_of_calls() {
            Cost::EverySystemCall
        } else if self.has(|attach| matches!(attach, Attach::Kretprobe(_))) {
            Cost::High
        } else if self.has(|attach| matches!(attach, Attach::Kprobe(_) | Attach::Event(_))) {
            Cost::Medium
        } else {
            Cost::Low
        }
    }

    /// What an event costs others, for the order: a breakpoint more than a trampoline, and every system call of the
    /// machine more than either.
    fn rank(&self) -> u8 {
        match self.tier {
            _ if self.is_of_calls() => 3,
            Tier::Kprobe => 1,
            Tier::Tracepoint if self.has(|attach| matches!(attach, Attach::Event(_))) => 2,
            Tier::Fentry | Tier::Tracepoint => 0,
        }
    }
}

impl Counter {
    /// Every candidate in this mode, the cheapest first; what it cannot have is said in words.
    pub(crate) fn candidates(&self, mode: Mode) -> Result<Vec<Candidate>, String> {
        let mut all: Vec<Candidate> = self.ways.iter().flat_map(|way| self.by_way(way, mode)).collect();
        all.extend(self.by_calls()?);
        // Stable: among equally cheap ones the order of the rows decides.
        all.sort_by_key(Candidate::rank);
        (0..).zip(&mut all).for_each(|(index, candidate)| candidate.index = index);
        Ok(all)
    }

    /// The same, without those by system calls where these cannot be watched, and then why not.
    pub(crate) fn possible(&self, mode: Mode) -> (Vec<Candidate>, Option<String>) {
        match self.candidates(mode) {
            Ok(all) => (all, None),
            Err(problem) => (self.calls(&[]).candidates(mode).unwrap_or_default(), Some(problem)),
        }
    }

    fn by_way(&self, way: &Way, mode: Mode) -> Vec<Candidate> {
        let place = |program: String, attach, slots: &[Slot]| {
            let parts = slots.iter().map(|slot| vec![*slot]).collect();
            let hook = Hook { program, attach, proof: first(slots), may_lack: false };
            vec![Candidate::new(Tier::Tracepoint, self.layer, vec![hook], parts)]
        };
        match *way {
            Way::Functions(rows) => self.by_functions(rows, mode),
            Way::Tracepoint(name, slots) => place(name.to_owned(), Attach::Tracepoint(name), slots),
            Way::Event(event, slots) => {
                let name = event.rsplit('/').next().unwrap_or(event);
                place(format!("{name}__event"), Attach::Event(event.to_owned()), slots)
            }
        }
    }

    /// By trampolines and by breakpoints; with what 32-bit programs go by, and without it.
    fn by_functions(&self, rows: &[Function], mode: Mode) -> Vec<Candidate> {
        let mut found = Vec::new();
        for tier in [Tier::Fentry, Tier::Kprobe] {
            let can = |row: &Function| tier == Tier::Kprobe || row.has_trampoline;
            if !rows.iter().filter(|row| !row.is_32_bit).all(can) {
                continue;
            }
            let has_32_bit = rows.iter().any(|row| row.is_32_bit);
            if has_32_bit && rows.iter().all(can) {
                found.push(self.by_rows(&rows.iter().collect::<Vec<_>>(), tier, mode));
            }
            let mut without = self.by_rows(&rows.iter().filter(|row| !row.is_32_bit).collect::<Vec<_>>(), tier, mode);
            let gone = |row: &Function| row.gone_from().unwrap_or(ALWAYS);
            without.lacks_32_bit_below = rows.iter().filter(|row| row.is_32_bit).map(gone).max();
            found.push(without);
        }
        found
    }

    fn by_rows(&self, rows: &[&Function], tier: Tier, mode: Mode) -> Candidate {
        let hooks = rows.iter().flat_map(|row| hooks_of(row, tier, mode)).collect();
        let mut parts: Vec<Vec<Slot>> = Vec::new();
        for (part, slot) in rows.iter().flat_map(|row| row.slots.iter().enumerate()) {
            if parts.len() <= part {
                parts.resize(part + 1, Vec::new());
            }
            // What replaces a function for 32-bit programs counts in the same record.
            if !parts[part].contains(slot) {
                parts[part].push(*slot);
            }
        }
        let mut candidate = Candidate::new(tier, self.layer, hooks, parts);
        candidate.gone_from = rows.iter().filter_map(|row| row.gone_from()).min();
        candidate.sorts_calls = rows.iter().any(|row| row.shape != Shape::Plain);
        candidate
    }

    /// By the raw tracepoint that every system call passes, or by trace events.
    fn by_calls(&self) -> Result<Vec<Candidate>, String> {
        if self.calls.is_empty() {
            return Ok(Vec::new());
        }
        let calls = self.calls.iter().map(|call| Watched::new(*call)).collect::<Result<Vec<_>, _>>()?;
        for (index, watched) in calls.iter().enumerate() {
            if calls[..index].iter().any(|other| other.record == watched.record) {
                return Err(format!("{} is named twice, and would count twice", watched.call.name));
            }
        }
        let mut parts: Vec<Vec<Slot>> = Vec::new();
        for (part, record) in calls.iter().flat_map(|watched| watched.call.parts(watched.record)) {
            if parts.len() <= part {
                parts.resize(part + 1, Vec::new());
            }
            parts[part].push(record);
        }
        // Whichever of its calls an operation comes to proves the program that serves them all.
        let proof: Vec<Slot> = parts.iter().flatten().copied().collect();
        let hook = |program: &str, attach, proof: &[Slot], may_lack| Hook {
            program: program.to_owned(),
            attach,
            proof: proof.to_vec(),
            may_lack,
        };
        let one = |program, attach| vec![hook(program, attach, &proof, false)];
        let mut single = Vec::new();
        for watched in &calls {
            // A call of 32-bit programs alone does not show here.
            let Some(name) = watched.call.traced_as() else { continue };
            let event = |when| Attach::Event(format!("syscalls/sys_{when}_{name}"));
            if watched.call.split.is_some() {
                single.push(hook(SPLIT_ENTER, event("enter"), &[], true));
                single.push(hook(SPLIT_EXIT, event("exit"), &[], true));
            } else {
                single.push(hook(CALL_EXIT, event("exit"), &[], true));
            }
        }
        if let Some(last) = single.last_mut() {
            last.proof.clone_from(&proof);
        }
        let candidate = |hooks, gone_from| Candidate {
            calls: calls.clone(),
            gone_from,
            ..Candidate::new(Tier::Tracepoint, Layer::Syscall, hooks, parts.clone())
        };
        let single = (!single.is_empty()).then(|| candidate(single, None));
        let all = [
            Some(candidate(one(SEES_ALL, Attach::Tracepoint(SYS_EXIT)), None)),
            single,
            Some(candidate(one(SEES_ALL_EVENTS, Attach::Event(RAW_SYS_EXIT.to_owned())), Some(SINGLE_EVENTS))),
        ];
        Ok(all.into_iter().flatten().collect())
    }
}

/// The programs of system calls, those of the floor or those for kernels with type information. Which trace event a
/// program stands on is a candidate's to say, and nothing that its loading depends on.
pub(crate) fn hooks_of_calls(floor: bool) -> Vec<Hook> {
    let hook = |program: &str, attach| Hook { program: program.to_owned(), attach, proof: Vec::new(), may_lack: false };
    if !floor {
        return vec![hook(SEES_ALL, Attach::Tracepoint(SYS_EXIT))];
    }
    let events = [SPLIT_ENTER, SPLIT_EXIT, CALL_EXIT, SEES_ALL_EVENTS];
    events.into_iter().map(|program| hook(program, Attach::Event(RAW_SYS_EXIT.to_owned()))).collect()
}

/// The programs of the object of system calls.
const SEES_ALL: &str = "sys_exit";
const SEES_ALL_EVENTS: &str = "sys_exit__event";
const SPLIT_ENTER: &str = "split_enter__event";
const SPLIT_EXIT: &str = "split_exit__event";
const CALL_EXIT: &str = "call_exit__event";

/// The self-test does an operation of the first part.
fn first(slots: &[Slot]) -> Vec<Slot> {
    slots.first().copied().into_iter().collect()
}

fn hooks_of(row: &Function, tier: Tier, mode: Mode) -> Vec<Hook> {
    let proof = if row.is_32_bit { Vec::new() } else { first(row.slots) };
    let hook = |suffix: String, attach, proof| Hook {
        program: format!("{}{suffix}", row.program),
        attach,
        proof,
        may_lack: false,
    };
    let at_end = row.end.filter(|_| mode == Mode::Return || row.shape == Shape::PairAlways);
    match (at_end, tier) {
        (Some((arity, fails)), Tier::Fentry) => {
            vec![hook(format!("__fexit_{}{arity}", Fails::as_str(fails)), Attach::Fexit(row.symbol, arity), proof)]
        }
        (Some((_, fails)), _) => {
            let start = (row.shape != Shape::Plain)
                .then(|| hook("_enter__kprobe".to_owned(), Attach::Kprobe(row.symbol), Vec::new()));
            let end = hook(format!("__kretprobe_{}", fails.as_str()), Attach::Kretprobe(row.symbol), proof);
            start.into_iter().chain([end]).collect()
        }
        (None, Tier::Fentry) => vec![hook("__fentry".to_owned(), Attach::Fentry(row.symbol), proof)],
        (None, _) => vec![hook("__kprobe".to_owned(), Attach::Kprobe(row.symbol), proof)],
    }
}

/// Every function on which a trampoline may stand.
pub(crate) fn functions_with_trampolines(counters: &[Counter]) -> BTreeSet<&'static str> {
    let rows = counters.iter().flat_map(|counter| counter.ways).filter_map(|way| match way {
        Way::Functions(rows) => Some(*rows),
        Way::Tracepoint(..) | Way::Event(..) => None,
    });
    rows.flatten().filter(|row| row.has_trampoline).map(|row| row.symbol).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Call;

    #[test]
    fn trace_events_of_single_calls_are_those_that_the_kernel_has() {
        const BOTH: &[Call] = &[Call::status("umount2"), Call::status("umount")];
        let places = |calls: &'static [Call]| {
            let counter = Counter::new("a.b", Layer::Syscall, |_| Ok(())).calls(calls);
            let all = counter.candidates(Mode::Return).expect("candidates");
            all.iter().map(|candidate| candidate.targets().join("+")).collect::<Vec<_>>()
        };
        assert_eq!(places(BOTH), ["sys_exit", "sys_exit_umount", "raw_sys_exit"]);
        // 32-bit programs alone make it: there is no such event.
        assert_eq!(places(&BOTH[1..]), ["sys_exit", "raw_sys_exit"]);
    }
}
