//! The rights that a running process holds, as the kernel shows them for each of its threads.

use crate::{Failure, Outcome};
use rustix::thread::CapabilitySet;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

/// The fields with capabilities in `/proc/PID/task/TID/status`.
const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// What a thread may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// User and group: real, effective, saved, of files.
    pub users: [String; 2],
    /// Inheritable, permitted, effective, bounding, ambient.
    pub sets: [CapabilitySet; 5],
    /// Whether no exec gives it more than it has.
    pub no_new_privileges: bool,
}

impl Held {
    /// What the text of a `status` file says.
    ///
    /// # Errors
    /// Something is not in it.
    pub fn read(text: &str) -> Outcome<Self> {
        let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(":\t")).collect();
        let field = |name: &str| {
            fields.get(name).map(|value| (*value).trim()).ok_or_else(|| Failure::new(format!("no {name} in {text:?}")))
        };
        let mut sets = [CapabilitySet::empty(); 5];
        for (set, name) in sets.iter_mut().zip(SETS) {
            let bits = u64::from_str_radix(field(name)?, 16).map_err(Failure::at(name))?;
            *set = CapabilitySet::from_bits_retain(bits);
        }
        Ok(Self {
            users: [field("Uid")?.to_owned(), field("Gid")?.to_owned()],
            sets,
            no_new_privileges: field("NoNewPrivs")? == "1",
        })
    }

    /// What each thread of a process holds; one that ends meanwhile is passed over.
    ///
    /// # Errors
    /// It has ended.
    pub fn of_threads(pid: u32) -> Outcome<Vec<Self>> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(Failure::at("its threads"))?;
        let paths = tasks.map(|task| task.map(|task| task.path().join("status")));
        let paths: Vec<PathBuf> = paths.collect::<io::Result<_>>().map_err(Failure::at("a thread"))?;
        let texts = paths.iter().filter_map(|path| match fs::read_to_string(path) {
            Err(error) if has_ended(&error) => None,
            text => Some(text.map_err(Failure::at(path.display()))),
        });
        let held: Vec<Self> = texts.map(|text| Self::read(&text?)).collect::<Outcome<_>>()?;
        if held.is_empty() { Err(Failure::new(format!("process {pid} has ended"))) } else { Ok(held) }
    }

    /// Whether it is what a process that was root's holds when it has kept `kept` alone, is root no more, and can get
    /// nothing back.
    pub fn is_no_more_than(&self, kept: CapabilitySet) -> bool {
        let none = CapabilitySet::empty();
        let of_root = |users: &String| users.split_whitespace().any(|id| id == "0");
        self.sets == [none, kept, kept, none, none] && self.no_new_privileges && !self.users.iter().any(of_root)
    }
}

/// The broker of an agent, if it has one.
///
/// # Errors
/// `/proc` cannot be read.
pub fn broker_of(agent: u32) -> Outcome<Option<u32>> {
    let processes = fs::read_dir("/proc").map_err(Failure::at("processes"))?;
    let mut numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Ok(numbers.find(|number| {
        // It may have ended meanwhile.
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split_whitespace().nth(1));
        stat.contains(" (ebpf-broker) ") && parent == Some(&*agent.to_string())
    }))
}

/// What the kernel says of a thread that ends before its file is opened, or before it is read.
fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// What an agent with a broker keeps by itself on the running kernel: what only attaches is its broker's.
pub fn kept_with_broker() -> CapabilitySet {
    kept_without_broker() - CapabilitySet::PERFMON
}

/// What an agent keeps that has no broker, since it was started setuid or with file capabilities: from Linux 5.19 on the descriptors of maps and
/// programs are enough to read them; before 5.8 there is one capability for everything.
pub fn kept_without_broker() -> CapabilitySet {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
        (5, 8..19) => CapabilitySet::BPF | CapabilitySet::PERFMON,
        version if version < (5, 8) => CapabilitySet::SYS_ADMIN,
        _ => CapabilitySet::PERFMON,
    }
}

/// Every thread of an agent that root has started holds what reading takes and nothing else.
///
/// # Errors
/// One holds more, or less.
pub fn nothing_but_what_reading_takes(pid: u32) -> Outcome<()> {
    let kept = kept_with_broker();
    match Held::of_threads(pid)?.into_iter().find(|held| !held.is_no_more_than(kept)) {
        None => Ok(()),
        Some(held) => Err(Failure::new(format!("wanted {kept:?} and nothing else, a thread holds {held:?}"))),
    }
}

/// The threads of an agent that the unit has started hold no capability; its broker keeps what the unit grants, and no
/// more.
///
/// # Errors
/// One holds more, or less, or there is no broker.
pub fn what_the_unit_leaves(agent: u32) -> Outcome<()> {
    let (none, kept) = (CapabilitySet::empty(), kept_with_broker());
    let granted = CapabilitySet::BPF | CapabilitySet::PERFMON;
    let expect = |what: &str, pid: u32, sets: [CapabilitySet; 5]| match Held::of_threads(pid)?
        .into_iter()
        .find(|held| held.sets != sets || !held.no_new_privileges)
    {
        None => Ok(()),
        Some(held) => Err(Failure::new(format!("a thread of the {what} holds {held:?}"))),
    };
    expect("agent", agent, [none, kept, kept, granted, none])?;
    let broker = broker_of(agent)?.ok_or_else(|| Failure::new("it has no broker"))?;
    expect("broker", broker, [none, granted, granted, granted, none])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_counts() {
        let text = "Uid:\t7\t7\t7\t7\nGid:\t7\t7\t7\t7\nCapInh:\t0000000000000000\nCapPrm:\t0000004000000000\n\
                    CapEff:\t0000004000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";
        assert!(Held::read(text).unwrap().is_no_more_than(CapabilitySet::PERFMON));
        for (field, other) in [
            ("Uid:\t7\t7\t7", "Uid:\t7\t7\t0"),
            ("Gid:\t7", "Gid:\t0"),
            ("CapInh:\t0", "CapInh:\t1"),
            ("CapPrm:\t0000004", "CapPrm:\t0000104"),
            ("CapEff:\t0000004", "CapEff:\t0000000"),
            ("CapBnd:\t0000000", "CapBnd:\t0000040"),
            ("CapAmb:\t0", "CapAmb:\t1"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
        ] {
            let other = text.replace(field, other);
            assert!(!Held::read(&other).unwrap().is_no_more_than(CapabilitySet::PERFMON), "{other}");
        }
        assert!(Held::read("Uid:\t0\n").is_err());
    }
}
