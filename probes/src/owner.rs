//! Whose kprobe events are whose: each carries the PID namespace, the pid and the start time of its maker.
//!
//! A pid alone is soon another process's, and an agent in a container has a pid that means somebody else outside.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The initial PID namespace's number on every kernel (`PROC_PID_INIT_INO`): whoever is in it sees all processes.
pub(crate) const INITIAL: u32 = 0xefff_fffc;

/// Namespaces have numbers from here on: what is below, in a name, is the end of a function's.
const FIRST_NAMESPACE: u32 = 0xf000_0000;

/// Who made an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// 0 where there are no PID namespaces.
    namespace: u32,
    pid: u32,
    /// In clock ticks since boot.
    start: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, pid, start } = self;
        write!(f, "{namespace}_{pid}_{start}")
    }
}

impl Owner {
    /// From the end of an event's name.
    pub(crate) fn of_event(name: &str) -> Option<Self> {
        let mut words = name.rsplitn(4, '_');
        let start = words.next()?.parse().ok()?;
        let pid = words.next()?.parse().ok()?;
        let namespace = words.next().and_then(|word| word.parse().ok());
        let namespace = namespace.filter(|number| *number == INITIAL || *number >= FIRST_NAMESPACE || *number == 0);
        // Versions before this one wrote no namespace.
        Some(Self { namespace: namespace.unwrap_or(0), pid, start })
    }
}

/// Whoever asks for something is looked for among so many ancestors.
const GENERATIONS: usize = 64;

/// The processes that a proc file system shows.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    root: PathBuf,
    own: Owner,
    /// Whether its pids are those of our own namespace.
    own_view: bool,
}

impl Processes {
    /// Those of the one mounted there; `pid` is ours.
    pub(crate) fn at(root: &Path, pid: u32) -> Self {
        let myself = root.join("self");
        let own = Owner { namespace: namespace(&myself).unwrap_or(0), pid, start: start_time(&myself).unwrap_or(0) };
        // As many numbers as there are namespaces from the proc file system's down to ours.
        let own_view = pids(&myself).is_none_or(|pids| pids.len() == 1);
        Self { root: root.to_owned(), own, own_view }
    }

    /// This process.
    pub(crate) const fn own(&self) -> Owner {
        self.own
    }

    /// Whether an owner is this process, or one that it comes from.
    pub(crate) fn descend_from(&self, owner: Owner) -> bool {
        let mut process = self.root.join("self");
        for _ in 0..GENERATIONS {
            if is(&process, owner) {
                return true;
            }
            let Some(parent) = parent(&process).filter(|parent| *parent > 0) else { return false };
            process = self.root.join(parent.to_string());
        }
        false
    }

    /// Whether an owner is known not to live any more. Of other namespaces only who sees all processes can tell.
    pub(crate) fn know_dead(&self, owner: Owner) -> bool {
        let ours = owner.namespace == 0 || owner.namespace == self.own.namespace;
        if ours && self.own_view {
            !lives(&self.root.join(owner.pid.to_string()), owner.start)
        } else if ours || self.own.namespace == INITIAL {
            fs::read_dir(&self.root).is_ok_and(|all| !all.flatten().any(|process| is(&process.path(), owner)))
        } else {
            false
        }
    }
}

/// Whether the process of this folder is an owner, as far as can be seen.
fn is(process: &Path, owner: Owner) -> bool {
    lives(process, owner.start)
        && pids(process).is_none_or(|pids| pids.last() == Some(&owner.pid))
        && namespace(process).ok().is_none_or(|number| number == owner.namespace || owner.namespace == 0)
}

/// The number in `pid:[4026531836]`.
pub(crate) fn namespace(process: &Path) -> io::Result<u32> {
    let link = fs::read_link(process.join("ns/pid"))?;
    let number = link.to_str().and_then(|link| link.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok());
    number.ok_or_else(|| io::Error::other("not understood"))
}

/// A process's pid in each namespace that can see it, the innermost last.
fn pids(process: &Path) -> Option<Vec<u32>> {
    let status = text(&process.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().map(|pid| pid.parse().ok()).collect()
}

/// A file of a process. The names of processes are bytes, and need not be text.
pub(crate) fn text(file: &Path) -> Option<String> {
    fs::read(file).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// When a process started, in clock ticks since boot (field 22 of its `stat`).
pub(crate) fn start_time(process: &Path) -> Option<u64> {
    field(&text(&process.join("stat"))?, 22)?.parse().ok()
}

/// Whether the process of this folder started then and has not ended: a zombie holds nothing any more.
fn lives(process: &Path, start: u64) -> bool {
    text(&process.join("stat")).is_some_and(|stat| {
        let has_ended = matches!(field(&stat, 3), Some("Z" | "X"));
        !has_ended && field(&stat, 22).and_then(|started| started.parse().ok()) == Some(start)
    })
}

/// A process's parent, as the proc file system counts.
fn parent(process: &Path) -> Option<u32> {
    field(&text(&process.join("stat"))?, 4)?.parse().ok()
}

/// A field of `stat` from the third on, by its number in proc(5).
fn field(stat: &str, number: usize) -> Option<&str> {
    // The name in brackets may hold anything, brackets included: count from its end.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const CONTAINER: u32 = 0xf000_0100;

    /// A proc file system: of each process the name of its folder, its pids, its namespace and its start.
    fn proc(processes: &[(&str, &str, u32, u64)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (folder, pids, namespace, start) in processes {
            let process = root.path().join(folder);
            fs::create_dir_all(process.join("ns")).expect("a process");
            symlink(format!("pid:[{namespace}]"), process.join("ns/pid")).expect("its namespace");
            fs::write(process.join("status"), format!("Name:\tx\nNSpid:\t{pids}\n")).expect("its status");
            let fields = "0 ".repeat(18);
            fs::write(process.join("stat"), format!("1 (a ) b) S {fields}{start} 0\n")).expect("its stat");
        }
        root
    }

    const fn owner(namespace: u32, pid: u32, start: u64) -> Owner {
        Owner { namespace, pid, start }
    }

    #[test]
    fn a_name_ends_with_its_owner() {
        let owner = owner(INITIAL, 123, 456);
        assert_eq!(Owner::of_event(&format!("r_vfs_read_{owner}")), Some(owner));
        assert_eq!(Owner::of_event("r_vfs_read_123_456"), Some(Owner { namespace: 0, ..owner }));
        assert_eq!(Owner::of_event("r_f_2_123_456"), Some(Owner { namespace: 0, ..owner }), "a function f_2");
        assert_eq!(Owner::of_event("r_vfs_read"), None);
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let proc = proc(&[("self", "7", INITIAL, 70), ("7", "7", INITIAL, 70), ("9", "9", INITIAL, 90)]);
        let seen = Processes::at(proc.path(), 7);
        assert_eq!(seen.own(), owner(INITIAL, 7, 70));
        for (owner, dead) in [
            (owner(INITIAL, 9, 90), false),
            (owner(INITIAL, 9, 91), true),
            (owner(INITIAL, 8, 90), true),
            (owner(0, 9, 90), false),
            (owner(0, 9, 91), true),
        ] {
            assert_eq!(seen.know_dead(owner), dead, "{owner}");
        }
    }

    #[test]
    fn from_outside_an_agent_in_a_container_is_seen_to_live() {
        let proc = proc(&[("self", "7", INITIAL, 70), ("7", "7", INITIAL, 70), ("900", "900 2", CONTAINER, 90)]);
        let seen = Processes::at(proc.path(), 7);
        assert!(!seen.know_dead(owner(CONTAINER, 2, 90)), "it is process 2 in there");
        assert!(seen.know_dead(owner(CONTAINER, 3, 90)));
        assert!(seen.know_dead(owner(CONTAINER + 1, 2, 90)));
    }

    #[test]
    fn from_inside_nobody_outside_is_known_to_be_dead() {
        let proc = proc(&[("self", "2", CONTAINER, 90), ("2", "2", CONTAINER, 90)]);
        let seen = Processes::at(proc.path(), 2);
        assert!(!seen.know_dead(owner(INITIAL, 7, 70)) && !seen.know_dead(owner(CONTAINER + 1, 7, 70)));
        assert!(seen.know_dead(owner(CONTAINER, 7, 70)));
    }

    #[test]
    fn through_a_proc_file_system_of_outside_the_pids_are_those_of_inside() {
        let proc = proc(&[("self", "900 2", CONTAINER, 90), ("900", "900 2", CONTAINER, 90), ("2", "2", INITIAL, 1)]);
        let seen = Processes::at(proc.path(), 2);
        assert!(!seen.know_dead(owner(CONTAINER, 2, 90)), "itself");
        assert!(seen.know_dead(owner(CONTAINER, 3, 90)));
    }

    #[test]
    fn a_zombie_has_ended_and_an_ancestor_is_known() {
        let proc = proc(&[("self", "7", INITIAL, 70), ("9", "9", INITIAL, 90), ("8", "8", INITIAL, 80)]);
        let stat = |process: &str, state: &str, parent: u32, start: u64| {
            let fields = "0 ".repeat(17);
            let text = format!("1 (a ) b) {state} {parent} {fields}{start} 0\n");
            fs::write(proc.path().join(process).join("stat"), text).expect("its stat");
        };
        stat("self", "R", 9, 70);
        stat("9", "S", 8, 90);
        let seen = Processes::at(proc.path(), 7);
        let descend = |pid, start| seen.descend_from(owner(INITIAL, pid, start));
        assert!(descend(7, 70) && descend(9, 90) && descend(8, 80));
        assert!(!descend(8, 81) && !descend(6, 60) && !descend(1, 1));
        assert!(!seen.know_dead(owner(INITIAL, 9, 90)));
        stat("9", "Z", 8, 90);
        assert!(seen.know_dead(owner(INITIAL, 9, 90)) && !descend(9, 90));
    }

    #[test]
    fn this_process_lives() {
        let seen = Processes::at(Path::new("/proc"), std::process::id());
        assert!(seen.own().start > 0 && !seen.know_dead(seen.own()));
    }
}
