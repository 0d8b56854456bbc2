//! `cargo xtask cost`: the instructions that each way of counting adds to an event.
//!
//! The machine counts instructions instead of time, so its numbers repeat to one percent on any host. They say
//! nothing about caches and locks that several processors share: there they flatter whoever uses shared memory.

use crate::bpf::{Flavour, Tools, objects_of, sources};
use crate::vm::counted;
use crate::{Outcome, say};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A kernel to measure on.
struct Kernel {
    version: &'static str,
    /// Debian's suite and package.
    package: (&'static str, &'static str),
    /// The cases that `hooks = "auto"` comes to here, in entry and in return mode: the cheapest tier that counts
    /// every event under the kernel's preemption model.
    auto: [&'static str; 2],
}

const TRAMPOLINES: [&str; 2] = ["fentry", "fexit"];
/// Where a task is preempted inside a program: what a trampoline misses is counted as calls, but nobody knows the
/// bytes.
const PREEMPTED: [&str; 2] = ["fentry", "kretprobe"];

const KERNELS: &[Kernel] = &[
    Kernel { version: "5.10", package: ("bullseye-security", "linux-image-cloud-amd64"), auto: TRAMPOLINES },
    Kernel { version: "6.1", package: ("bookworm-security", "linux-image-cloud-amd64"), auto: TRAMPOLINES },
    Kernel { version: "6.12", package: ("trixie", "linux-image-cloud-amd64"), auto: TRAMPOLINES },
    // Preempted lazily.
    Kernel { version: "newest", package: ("sid", "linux-image-cloud-amd64"), auto: PREEMPTED },
];

/// One row of the table.
struct Case {
    id: &'static str,
    /// What a person reads.
    what: &'static str,
    /// For the measuring program: operation, programs, filter.
    measure: &'static str,
    /// The empty program on the same hook.
    empty: Option<&'static str>,
}

const fn case(id: &'static str, what: &'static str, measure: &'static str) -> Case {
    Case { id, what, measure, empty: None }
}

const fn beside(empty: &'static str, id: &'static str, what: &'static str, measure: &'static str) -> Case {
    Case { id, what, measure, empty: Some(empty) }
}

const CASES: &[Case] = &[
    case("empty-fentry", "empty fentry", "read,empty.o:empty_fentry:fentry:vfs_read"),
    case("empty-fexit", "empty fexit", "read,empty.o:empty_fexit:fexit:vfs_read"),
    case("empty-kprobe", "empty kprobe", "read,empty.o:empty_kprobe:kprobe:vfs_read"),
    case("empty-kretprobe", "empty kretprobe", "read,empty.o:empty_kretprobe:kretprobe:vfs_read"),
    case("empty-sys-exit", "empty sys_exit tracepoint", "read,empty.o:empty_sys_exit:tracepoint:sys_exit"),
    beside(
        "empty-fentry",
        "fentry",
        "ours, fentry tier, entry mode",
        "read,file.core.o:vfs_read__fentry:fentry:vfs_read",
    ),
    beside(
        "empty-fexit",
        "fexit",
        "ours, fentry tier, return mode (calls, errors, bytes)",
        "read,file.core.o:vfs_read__fexit_size4:fexit:vfs_read",
    ),
    beside(
        "empty-kprobe",
        "kprobe",
        "ours, kprobe tier, entry mode",
        "read,file.core.o:vfs_read__kprobe:kprobe:vfs_read",
    ),
    beside(
        "empty-kretprobe",
        "kretprobe",
        "ours, kprobe tier, return mode (calls, errors, bytes)",
        "read,file.core.o:vfs_read__kretprobe_size:kretprobe:vfs_read",
    ),
    beside(
        "empty-sys-exit",
        "sys-exit",
        "ours, tracepoint tier, both modes, a watched call",
        "read,syscalls.core.o:sys_exit:tracepoint:sys_exit",
    ),
    beside(
        "empty-sys-exit",
        "sys-exit-splits",
        "ours, tracepoint tier, both modes, a call whose argument decides what it is",
        "unlinkat,syscalls.core.o:sys_exit:tracepoint:sys_exit",
    ),
    beside(
        "empty-sys-exit",
        "sys-exit-unwatched",
        "ours, tracepoint tier, with all four probes on, a call of none",
        "getppid,syscalls.core.o:sys_exit:tracepoint:sys_exit",
    ),
    beside(
        "empty-fexit",
        "fexit-self",
        "ours, fentry tier, return mode, `only` this process",
        "read,file.core.o:vfs_read__fexit_size4:fexit:vfs_read,self",
    ),
    beside(
        "empty-fexit",
        "fexit-other",
        "ours, fentry tier, return mode, `only` another process",
        "read,file.core.o:vfs_read__fexit_size4:fexit:vfs_read,other",
    ),
    beside(
        "empty-fexit",
        "fexit-cgroup",
        "ours, fentry tier, return mode, `only` its control group",
        "read,file.core.o:vfs_read__fexit_size4:fexit:vfs_read,cgroup",
    ),
    beside(
        "empty-fentry",
        "fentry-who",
        "ours, fentry tier, entry mode, `by` process",
        "read,file.who.o:vfs_read__fentry:fentry:vfs_read",
    ),
    beside(
        "empty-fexit",
        "fexit-who",
        "ours, fentry tier, return mode, `by` process",
        "read,file.who.o:vfs_read__fexit_size4:fexit:vfs_read",
    ),
    beside(
        "empty-kretprobe",
        "kretprobe-who",
        "ours, kprobe tier, return mode, `by` process",
        "read,file.who.o:vfs_read__kretprobe_size:kretprobe:vfs_read",
    ),
    beside(
        "empty-sys-exit",
        "sys-exit-who",
        "ours, tracepoint tier, both modes, a watched call, `by` process",
        "read,syscalls.who.o:sys_exit:tracepoint:sys_exit",
    ),
    beside(
        "empty-kprobe",
        "floor-kprobe",
        "ours, kprobe tier of the object for kernels without BTF, entry mode",
        "read,file.floor.o:vfs_read__kprobe:kprobe:vfs_read",
    ),
    beside(
        "empty-kretprobe",
        "floor-kretprobe",
        "ours, kprobe tier of the object for kernels without BTF, return mode",
        "read,file.floor.o:vfs_read__kretprobe_size:kretprobe:vfs_read",
    ),
    beside("empty-kprobe", "peer-kprobe", "the older way, kprobe", "read,peer.o:light__kprobe:kprobe:vfs_read"),
    beside(
        "empty-kprobe",
        "peer-kprobe-process",
        "the older way, kprobe, also per process",
        "read,peer.o:process__kprobe:kprobe:vfs_read",
    ),
    beside(
        "empty-kretprobe",
        "peer-kretprobe",
        "the older way, kretprobe",
        "read,peer.o:light__kretprobe:kretprobe:vfs_read",
    ),
    beside(
        "empty-kretprobe",
        "peer-kretprobe-process",
        "the older way, kretprobe, also per process",
        "read,peer.o:process__kretprobe:kretprobe:vfs_read",
    ),
    beside("empty-fexit", "peer-fexit", "the older way, fexit", "read,peer.o:light__fexit:fexit:vfs_read"),
    beside(
        "empty-fexit",
        "peer-fexit-process",
        "the older way, fexit, also per process",
        "read,peer.o:process__fexit:fexit:vfs_read",
    ),
];

/// Instructions by case and kernel.
type Costs = BTreeMap<(&'static str, &'static str), f64>;

/// `cargo xtask cost [--kernel VERSION]... [--print]`.
///
/// # Errors
/// A wrong option, something that cannot be fetched or built, a machine that does not boot, a case that was not
/// measured.
pub(crate) fn run(options: &[&str]) -> Outcome {
    let mut chosen: Vec<&Kernel> = Vec::new();
    let mut print = false;
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        match *option {
            "--print" => print = true,
            "--kernel" => {
                let version = rest.next().copied().unwrap_or_default();
                let found = KERNELS.iter().find(|kernel| kernel.version == version);
                chosen.push(found.ok_or_else(|| format!("cost: no kernel {version:?}\n{}", crate::USAGE))?);
            }
            other => return Err(format!("cost: unknown option {other:?}\n{}", crate::USAGE).into()),
        }
    }
    if chosen.is_empty() {
        chosen.extend(KERNELS);
    } else if !print {
        return Err("cost: the table has every kernel; --kernel goes with --print".into());
    }

    let scratch = tempfile::tempdir()?;
    let guest = counted::build("ebpf-process-probes", "cost")?;
    let files = objects(scratch.path())?;
    let arguments: Vec<String> = CASES.iter().map(|case| format!("{}={}", case.id, case.measure)).collect();
    let mut costs = Costs::new();
    let mut releases = Vec::new();
    for kernel in &chosen {
        let console = counted::run(kernel.package, &guest, &files, &arguments.join(" "))?;
        releases.push(read(kernel.version, &console, &mut costs)?);
    }
    let table = table(&chosen, &releases, &costs)?;
    if print {
        say(table);
        return Ok(());
    }
    let document = sources()?.join("../../docs/cost.md");
    let text = fs::read_to_string(&document).map_err(|e| format!("{}: {e}", document.display()))?;
    fs::write(&document, replace(&text, &table)?)?;
    say(format!("wrote {}", document.display()));
    Ok(())
}

/// Ours as committed, the others built now; with their names in the machine.
fn objects(scratch: &Path) -> Outcome<Vec<(&'static str, PathBuf)>> {
    let tools = Tools::find()?.ok_or("clang or llvm-strip is missing; on Debian: apt-get install clang-14 llvm-14")?;
    let ours = objects_of(&sources()?);
    let names = ["file.core.o", "syscalls.core.o", "file.floor.o", "file.who.o", "syscalls.who.o"];
    let mut files: Vec<_> = names.into_iter().map(|name| (name, ours.join(name))).collect();
    for (name, probe) in [("empty.o", "empty"), ("peer.o", "peer")] {
        let built = scratch.join(name);
        tools.build(&sources()?.join("../benches/bpf"), probe, Flavour::Core, &built)?;
        files.push((name, built));
    }
    Ok(files)
}

/// Takes the console's `cost RELEASE ID INSTRUCTIONS` lines; returns the release.
fn read(kernel: &'static str, console: &[String], costs: &mut Costs) -> Outcome<String> {
    let mut kernel_release = String::new();
    for line in console {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["cost", release, id, instructions] => {
                if let Some(case) = CASES.iter().find(|case| case.id == id) {
                    costs.insert((case.id, kernel), instructions.parse()?);
                    release.clone_into(&mut kernel_release);
                }
            }
            ["failed", _, id, ..] => say(format!("{kernel} {id}: {line}")),
            _ => {}
        }
    }
    let missing = CASES.iter().filter(|case| !costs.contains_key(&(case.id, kernel))).map(|case| case.id);
    let missing: Vec<&str> = missing.collect();
    if missing.is_empty() { Ok(kernel_release) } else { Err(format!("{kernel}: no {}", missing.join(", ")).into()) }
}

/// A column per kernel: instructions, and beside them how many times the empty program.
fn table(kernels: &[&Kernel], releases: &[String], costs: &Costs) -> Outcome<String> {
    let mut table = String::from("| what |");
    for release in releases {
        // 6.1.0-56-cloud-amd64: the flavour is the same everywhere.
        write!(table, " {} |", release.trim_end_matches("-cloud-amd64"))?;
    }
    write!(table, "\n|---|{}", "---|".repeat(kernels.len()))?;
    for case in CASES {
        write!(table, "\n| {} |", case.what)?;
        for kernel in kernels {
            table.push_str(&cell(case, kernel, costs)?);
        }
    }
    for (mode, name) in ["entry", "return"].into_iter().enumerate() {
        write!(table, "\n| **ours as `hooks = \"auto\"` chooses, {name} mode** |")?;
        for kernel in kernels {
            let case = CASES.iter().find(|case| case.id == kernel.auto[mode]).ok_or("no such case")?;
            table.push_str(&cell(case, kernel, costs)?);
        }
    }
    table.push('\n');
    Ok(table)
}

fn cell(case: &Case, kernel: &Kernel, costs: &Costs) -> Outcome<String> {
    let cost = costs.get(&(case.id, kernel.version)).ok_or("a cost that was not measured")?;
    let empty = case.empty.and_then(|empty| costs.get(&(empty, kernel.version)));
    Ok(empty.map_or_else(|| format!(" {cost:.0} |"), |empty| format!(" {cost:.0} ({:.2}) |", cost / empty)))
}

const BEGIN: &str = "<!-- cargo xtask cost: begin -->\n";
const END: &str = "<!-- cargo xtask cost: end -->";

/// The document with the table between its two marks.
fn replace(document: &str, table: &str) -> Outcome<String> {
    let marks = || format!("docs/cost.md lost its marks {BEGIN:?} and {END:?}");
    let (before, rest) = document.split_once(BEGIN).ok_or_else(marks)?;
    let (_, after) = rest.split_once(END).ok_or_else(marks)?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_was_not_measured_is_an_error() {
        let console: Vec<String> = CASES.iter().map(|case| format!("cost 6.1.0 {} 100.0", case.id)).collect();
        let mut costs = Costs::new();
        assert_eq!(read("6.1", &console, &mut costs).unwrap(), "6.1.0");
        assert!(read("6.12", &console[1..], &mut costs).is_err());
    }

    #[test]
    fn every_case_stands_beside_an_empty_one_that_exists() {
        let known = |id: &str| CASES.iter().any(|case| case.id == id);
        for case in CASES {
            assert_eq!(CASES.iter().filter(|other| other.id == case.id).count(), 1, "{}", case.id);
            assert!(case.empty.is_none_or(known), "{}", case.id);
        }
        assert!(KERNELS.iter().flat_map(|kernel| kernel.auto).all(known));
    }

    #[test]
    fn only_the_table_of_the_document_changes() {
        let document = format!("before\n{BEGIN}old\n{END}\nafter\n");
        assert_eq!(replace(&document, "new\n").unwrap(), format!("before\n{BEGIN}new\n{END}\nafter\n"));
        assert!(replace("no marks", "new").is_err());
    }
}
