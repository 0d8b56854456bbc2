//! What must hold of every declaration: whether a probe's rows and its objects agree, found before anything is loaded.

use std::collections::BTreeSet;

use aya_obj::Object as Parsed;

use crate::abi::{Record, Slot, TOTALS};
use crate::btf::names_of_enum;
use crate::candidate::Candidate;
use crate::counter::Counter;
use crate::floor;
use crate::hook::Hook;
use crate::kernel_probe::KernelProbe;
use crate::memory::value_sizes;
use crate::options::Mode;
use crate::vigil::HOOKS;
use crate::who::ELEMENTS;

/// Programs of every object that no row names: they watch the target of a filter, or follow processes.
const GUARDS: [&str; 8] = [
    "number_again",
    "number_again__event",
    "cgroup_again",
    "who_made",
    "who_moved",
    "who_rename",
    "who_new",
    "who_free",
];

const MODES: [Mode; 2] = [Mode::Entry, Mode::Return];

impl KernelProbe {
    /// What is wrong with the declaration, in words; nothing, if all is well. For a test of whoever declares a probe.
    ///
    /// Its rows name programs that an object has, and each program has a row; the records have the names and the order of
    /// the object's `enum slot`; what counters feed comes from parts that they have; no event can be counted twice; the
    /// object for the floor has nothing that Linux 4.11 would refuse.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.problems_of_counters();
        let mut objects: Vec<(&str, BTreeSet<String>)> = Vec::new();
        if let Some(own) = &self.objects {
            for (name, bytes) in [("core", Some(own.core)), ("floor", own.floor), ("who", own.who)] {
                let Some(bytes) = bytes else { continue };
                match Parsed::parse(bytes) {
                    Ok(parsed) => {
                        let mut found = self.problems_of_maps(name, &parsed);
                        if name == "floor" {
                            found.extend(floor::problems(&parsed));
                        }
                        problems.extend(found.into_iter().map(|problem| format!("the {name} object: {problem}")));
                        objects.push((name, parsed.programs.into_keys().collect()));
                    }
                    Err(error) => problems.push(format!("the {name} object cannot be read: {error}")),
                }
            }
            let [bytes] = value_sizes(own.core, [TOTALS]);
            let records = bytes / size_of::<Record>();
            if records < own.slots.len() {
                problems.push(format!("the core object has room for {records} of {} records", own.slots.len()));
            }
            match names_of_enum(own.core, "slot") {
                Some(names) if names.iter().map(String::as_str).eq(own.slots.iter().copied().chain(["SLOTS"])) => {}
                _ if own.slots.is_empty() => {}
                Some(names) => problems.push(format!("the records are {:?}, and in the object {names:?}", own.slots)),
                None => problems.push("the core object has no `enum slot`".to_owned()),
            }
        }
        problems.extend(self.problems_of_programs(&objects));
        for (name, programs) in &objects {
            problems.extend(self.counted_twice(programs).into_iter().map(|problem| format!("{name}: {problem}")));
        }
        problems
    }

    /// What every object has, and what one with records has.
    fn problems_of_maps(&self, object: &str, parsed: &Parsed) -> Vec<String> {
        let filter = if object == "floor" { "filter" } else { ".data.filter" };
        let has_records = self.objects.is_some_and(|objects| !objects.slots.is_empty());
        let wanted = [(filter, "includes no probe.h"), ("filter_cgroup", "includes no probe.h")];
        let records = if object == "who" { ELEMENTS } else { TOTALS };
        let totals = has_records.then_some((records, "has no totals_map(SLOTS)"));
        let lacking = wanted.into_iter().chain(totals).filter(|(name, _)| !parsed.maps.contains_key(*name));
        lacking.map(|(name, why)| format!("it has no map {name}: the source {why}")).collect()
    }

    fn problems_of_counters(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut names = BTreeSet::new();
        for counter in self.counters {
            if !names.insert(counter.name) {
                problems.push(format!("two counters are named {}", counter.name));
            }
            for candidate in own_ways(counter, &mut problems) {
                let records = candidate.parts.iter().flatten().filter(|_| !candidate.is_of_calls());
                let known = self.objects.map_or(0, |objects| objects.slots.len());
                for slot in records.filter(|slot| **slot as usize >= known) {
                    problems.push(format!("{}: no record has the number {slot}", counter.name));
                }
                if candidate.proofs().count() > HOOKS {
                    problems.push(format!("{}: more than {HOOKS} hooks would have to prove themselves", counter.name));
                }
                for output in counter.outputs.iter().filter(|output| output.part >= candidate.parts.len()) {
                    let targets = candidate.targets().join("+");
                    problems.push(format!("{}: {targets} has no part {}", counter.name, output.part));
                }
            }
            for output in counter.outputs.iter().filter(|output| output.metric.has_label() != output.label.is_some()) {
                let has = if output.metric.has_label() { "has a label, and here no value" } else { "has no label" };
                problems.push(format!("{}: {} {has}", counter.name, output.metric.name()));
            }
        }
        problems
    }

    /// Rows without a program, and programs without a row.
    fn problems_of_programs(&self, objects: &[(&str, BTreeSet<String>)]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut named = BTreeSet::new();
        for counter in self.counters {
            for candidate in own_ways(counter, &mut Vec::new()).iter().filter(|way| !way.is_of_calls()) {
                named.extend(candidate.hooks.iter().map(|hook| hook.program.clone()));
                if !objects.iter().any(|(_, programs)| has_all(programs, candidate)) {
                    let programs: Vec<&str> = candidate.hooks.iter().map(|hook| hook.program.as_str()).collect();
                    problems.push(format!("{}: no object has {}", counter.name, programs.join(" and ")));
                }
            }
        }
        for (object, programs) in objects {
            let unnamed = programs.iter().filter(|program| !named.contains(*program));
            let unnamed = unnamed.filter(|program| !GUARDS.contains(&program.as_str()));
            problems.extend(unnamed.map(|program| format!("no row names {program} of the {object} object")));
        }
        problems
    }

    /// Two ways to count one counter must not share a record when another counter may put the programs of one of them
    /// into the kernel beside the other: each event would count twice.
    fn counted_twice(&self, programs: &BTreeSet<String>) -> Vec<String> {
        let ways = |counter: &Counter, mode: Mode| -> Vec<Candidate> {
            let all = counter.candidates(mode).unwrap_or_default();
            all.into_iter().filter(|way| !way.is_of_calls() && has_all(programs, way)).collect()
        };
        let mut problems = Vec::new();
        for (counter, mode) in self.counters.iter().flat_map(|counter| MODES.map(|mode| (counter, mode))) {
            let others = self.counters.iter().filter(|other| other.name != counter.name);
            let lent: Vec<Hook> = others.flat_map(|other| ways(other, mode)).flat_map(|way| way.hooks).collect();
            let is_lent = |hook: &Hook| lent.iter().any(|other| other.place() == hook.place());
            let (shared, own): (Vec<_>, Vec<_>) =
                ways(counter, mode).into_iter().partition(|way| way.hooks.iter().any(is_lent));
            let records =
                |ways: &[Candidate]| ways.iter().flat_map(|way| way.parts.concat()).collect::<BTreeSet<Slot>>();
            // What the hooks that nobody else wants write is written once.
            let unlent = shared.iter().flat_map(|way| &way.hooks).filter(|hook| !is_lent(hook));
            let once: BTreeSet<Slot> = unlent.flat_map(|hook| hook.proof.clone()).collect();
            let twice: Vec<Slot> =
                records(&shared).intersection(&records(&own)).filter(|slot| !once.contains(slot)).copied().collect();
            if !twice.is_empty() {
                problems.push(format!("{}: two ways that can stand beside each other share {twice:?}", counter.name));
            }
        }
        problems
    }
}

/// The candidates of both modes.
fn own_ways(counter: &Counter, problems: &mut Vec<String>) -> Vec<Candidate> {
    let modes = MODES.into_iter().filter(|mode| *mode == Mode::Return || !counter.return_only);
    let mut all = Vec::new();
    for mode in modes {
        match counter.candidates(mode) {
            Ok(candidates) => all.extend(candidates),
            Err(problem) => problems.push(format!("{}: {problem}", counter.name)),
        }
    }
    all
}

fn has_all(programs: &BTreeSet<String>, candidate: &Candidate) -> bool {
    candidate.hooks.iter().all(|hook| programs.contains(&hook.program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Call;
    use crate::counter::{Field, Metric, Output};
    use crate::file::FILE;
    use crate::hook::Layer;
    use crate::ours::PROBES;
    use crate::way::{Fails, Function, Way};

    #[test]
    fn our_own_declarations_agree_with_their_objects() {
        for probe in PROBES {
            assert_eq!(probe.problems(), Vec::<String>::new(), "{}", probe.name);
        }
    }

    #[test]
    fn what_does_not_agree_is_named() {
        static METRIC: Metric = Metric::new("a.calls", ebpf_process_core::Unit::CALLS, "Calls", "operation");
        const OUTPUTS: &[Output] = &[Output::new(&METRIC, "b", Field::Calls).of_part(1)];
        const NOTHING: Counter = Counter::new("a.b", Layer::Function, |_| Ok(())).outputs(OUTPUTS);
        const TWICE: &[Call] =
            &[Call::status("unlinkat").without(2, 0x200), Call::status("unlinkat").second_part_if(2, 0x200)];
        const ROWS: [(&[Way], &[Call], &str); 5] = [
            (&[Way::Functions(&[Function::new("f", 1, Fails::Status, &[0])])], &[], "no object has f__fentry"),
            (&[Way::Functions(&[Function::at_start("vfs_read", &[99])])], &[], "no record has the number 99"),
            (&[Way::Functions(&[Function::at_start("vfs_read", &[0])])], &[], "vfs_read has no part 1"),
            (&[], &[Call::status("reed")], "no system call is named reed"),
            (&[], TWICE, "unlinkat is named twice"),
        ];
        let says = |counters, what: &str| {
            let probe = KernelProbe::new("a", "a probe").objects(FILE.objects.expect("objects")).counters(counters);
            let problems = probe.problems();
            assert!(problems.iter().any(|problem| problem.contains(what)), "{what}: {problems:?}");
        };
        for (ways, calls, what) in ROWS {
            says(Box::leak(Box::new([NOTHING.ways(ways).calls(calls)])), what);
        }
        says(&[NOTHING, NOTHING], "two counters are named a.b");
        says(&[NOTHING], "no row names vfs_read__fentry");
        let problems = KernelProbe::new("a", "a probe").objects(crate::Objects::new(b"", &[])).problems();
        assert!(problems[0].starts_with("the core object cannot be read: "), "{problems:?}");
        let own = FILE.objects.expect("objects");
        let too_new = crate::Objects::new(own.core, own.slots).floor(own.core);
        let problems = KernelProbe::new("a", "a probe").objects(too_new).problems();
        for what in ["it has type information", "it has no map filter: the source includes no probe.h"] {
            let said = format!("the floor object: {what}");
            assert!(problems.iter().any(|problem| problem.starts_with(&said)), "{problems:?}");
        }
        let renamed = crate::Objects::new(FILE.objects.expect("objects").core, &["OTHER"]);
        let problems = KernelProbe::new("a", "a probe").objects(renamed).problems();
        assert!(problems[0].contains("OTHER") && problems[0].contains("FILE_OPEN"), "{problems:?}");
    }
}
