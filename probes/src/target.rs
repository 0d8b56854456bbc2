//! What `only` names, found when the probe is built.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use ebpf_process_core::BuildError;
use serde::{Deserialize, Serialize};

use crate::abi::CGROUP_NAME;
use crate::cgroup::{NamedCgroup, NamedText};
use crate::named::{Life, NamedProcess};
use crate::only::Only;
use crate::wire::{Incoming, Number, Outgoing};

/// `FILTER_PID` and `FILTER_CGROUP` of abi.h.
pub(crate) const PID_KIND: u32 = 1;
pub(crate) const CGROUP_KIND: u32 = 2;

/// What the filter lets through in the end.
#[derive(Debug)]
pub(crate) enum Target {
    Everything,
    Process(NamedProcess),
    /// With the group that its path names now.
    Cgroup(NamedCgroup, File),
}

impl Target {
    pub(crate) fn open(only: Option<&Only>) -> Result<Self, BuildError> {
        match only {
            None => Ok(Self::Everything),
            Some(Only::Process { pid, start_time }) => NamedProcess::find(*pid, *start_time).map(Self::Process),
            Some(Only::Cgroup(path)) => {
                let opened = NamedCgroup::open(path).map(|(named, directory)| Self::Cgroup(named, directory));
                opened.map_err(|unopened| {
                    let problem = format!("only.cgroup: {}", unopened.problem);
                    let way_out =
                        "name a group of the v2 hierarchy by its path as /proc/PID/cgroup shows it after \"0::\"";
                    BuildError::refused(problem, way_out).passing(unopened.passing)
                })
            }
        }
    }

    /// `enum filter` of abi.h.
    pub(crate) const fn kind(&self) -> u32 {
        match self {
            Self::Everything => 0,
            Self::Process(_) => PID_KIND,
            Self::Cgroup(..) => CGROUP_KIND,
        }
    }

    /// By what the kernel knows a control group that is made anew.
    pub(crate) fn lineage(&self) -> Option<(u64, [u8; CGROUP_NAME])> {
        if let Self::Cgroup(cgroup, _) = self { cgroup.lineage() } else { None }
    }

    /// Whether it is still there when all hooks are in place.
    pub(crate) fn is_there(&self) -> Result<(), BuildError> {
        match self {
            Self::Process(process) if process.life() != Life::Lives => Err(BuildError::refused(
                format!("only.pid: process {} ended while its hooks were attached", process.id()),
                "name the id of a running process",
            )),
            _ => Ok(()),
        }
    }
}

/// A target in a message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum TargetText {
    Everything,
    Process { pid: u32, start_time: Option<u64>, descriptor: Option<Number> },
    Cgroup { group: NamedText, directory: Number },
}

impl Target {
    /// For another process.
    pub(crate) fn into_text(self, outgoing: &mut Outgoing) -> TargetText {
        match self {
            Self::Everything => TargetText::Everything,
            Self::Process(process) => {
                let (pid, start_time) = (process.id(), process.start_time());
                let descriptor = process.into_descriptor().map(|descriptor| outgoing.add(descriptor));
                TargetText::Process { pid, start_time, descriptor }
            }
            Self::Cgroup(group, directory) => {
                TargetText::Cgroup { group: group.text(), directory: outgoing.add(directory) }
            }
        }
    }

    /// What another process has found.
    pub(crate) fn of_text(text: TargetText, incoming: &mut Incoming) -> Result<Self, String> {
        match text {
            TargetText::Everything => Ok(Self::Everything),
            TargetText::Process { pid, start_time, descriptor } => {
                let descriptor = descriptor.map(|descriptor| incoming.take(descriptor)).transpose()?;
                let process = NamedProcess::found_by_another(pid, descriptor, start_time);
                process.map(Self::Process).ok_or_else(|| format!("{pid} is no process"))
            }
            TargetText::Cgroup { group, directory } => {
                Ok(Self::Cgroup(NamedCgroup::of_text(group)?, incoming.take(directory)?.into()))
            }
        }
    }

    /// What it is, in words that no other one has: a number or a path may name another one later. Where that is not known
    /// it has words of its own each time.
    pub(crate) fn identity(&self) -> String {
        static UNKNOWN: AtomicU64 = AtomicU64::new(0);
        let (what, which) = match self {
            Self::Everything => return "everything".to_owned(),
            Self::Process(process) => (format!("process {}", process.id()), process.start_time()),
            Self::Cgroup(group, directory) => {
                let id = rustix::fs::fstat(directory).map(|stat| stat.st_ino);
                (format!("control group {}", group.path().display()), id.ok())
            }
        };
        which.map_or_else(
            || {
                // Those of another process are not these.
                let number = UNKNOWN.fetch_add(1, Ordering::Relaxed);
                format!("{what}, unknown {number} of process {}", std::process::id())
            },
            |which| format!("{what}, {which}"),
        )
    }
}
