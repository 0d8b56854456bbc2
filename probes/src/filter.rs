//! Whose events count: the filter in the kernel.

use std::fs::File;
use std::os::fd::AsRawFd;

use aya::Ebpf;
use aya::maps::{Array, CgroupArray, MapData};
use ebpf_process_core::{BuildError, chain};

use crate::abi::{FilterSetting, NOBODY, TargetSetting};
use crate::hook::{Attach, Hook};
use crate::object::Object;
use crate::refusal::{REBUILD, try_as_root};
use crate::release::Version;
use crate::target::{CGROUP_KIND, PID_KIND, Target};

/// The filter's two maps. Programs are loaded with the descriptors of these maps, so it must live until the last one is;
/// it lives on where the target may end or be made anew.
pub(crate) struct Filter {
    process: ProcessFilter,
    cgroup: CgroupArray<MapData>,
}

/// That a filter lets nobody through who is not wanted. Nothing is attached without it, and only a filter gives it: what a
/// stranger begins before would be counted when it ends.
#[derive(Debug)]
pub(crate) struct Aimed(());

impl Aimed {
    /// At everybody: for a self-test that cannot tell who it is.
    pub(crate) const fn at_everybody() -> Self {
        Self(())
    }
}

/// Where an object keeps the thread group to let through.
enum ProcessFilter {
    /// In a global variable; the kind of the filter is frozen.
    Core(Array<MapData, [u64; 2]>),
    /// In a map, with the kind.
    Floor(Array<MapData, FilterSetting>),
}

/// The program that notices when another process gets the number of the one that counts.
fn number_again(object: Object) -> Hook {
    match object {
        Object::Core | Object::Who => guard("number_again", Attach::Tracepoint("task_newtask")),
        Object::Floor => guard("number_again__event", Attach::Event("task/task_newtask".to_owned())),
    }
}

/// The program that notices when the control group that counts is made anew.
fn cgroup_again() -> Hook {
    guard("cgroup_again", Attach::Tracepoint("cgroup_mkdir"))
}

fn guard(program: &str, attach: Attach) -> Hook {
    Hook { program: program.to_owned(), attach, proof: Vec::new(), may_lack: false }
}

impl Filter {
    pub(crate) fn take(ebpf: &mut Ebpf, object: Object) -> Result<Self, BuildError> {
        let broken = || BuildError::refused("the kernel object is not the one this program was made for", REBUILD);
        let name = match object {
            Object::Core | Object::Who => ".data.filter",
            Object::Floor => "filter",
        };
        let process = ebpf.take_map(name).ok_or_else(broken)?;
        let cgroup = ebpf.take_map("filter_cgroup").ok_or_else(broken)?;
        let process = match object {
            Object::Core | Object::Who => process.try_into().map(ProcessFilter::Core),
            Object::Floor => process.try_into().map(ProcessFilter::Floor),
        };
        Ok(Self { process: process.map_err(|_| broken())?, cgroup: cgroup.try_into().map_err(|_| broken())? })
    }

    /// What has to be attached for this target besides the counters' programs.
    pub(crate) fn guard(&self, target: &Target, version: Version) -> Option<Hook> {
        match (target, &self.process) {
            (Target::Process(_), ProcessFilter::Core(_)) => Some(number_again(Object::Core)),
            // Before 4.15 a second program on a trace event stops the first: then the watch alone notices, each tick.
            (Target::Process(_), ProcessFilter::Floor(_)) => {
                (version >= Version(4, 15)).then(|| number_again(Object::Floor))
            }
            (Target::Cgroup(..), ProcessFilter::Core(_)) => Some(cgroup_again()),
            (Target::Everything, _) | (Target::Cgroup(..), ProcessFilter::Floor(_)) => None,
        }
    }

    /// For the time before anything is attached. Where the kind of the filter is no constant it lets everybody through
    /// until it is set, and what a stranger has begun meanwhile is counted when it ends.
    pub(crate) fn close(&mut self, target: &Target) -> Result<Aimed, BuildError> {
        let kind = target.kind();
        let set = match &mut self.process {
            ProcessFilter::Core(_) if kind == PID_KIND => self.set_tgid(NOBODY),
            ProcessFilter::Core(_) => Ok(Aimed(())),
            ProcessFilter::Floor(setting) => {
                let set = closed(kind).map_or(Ok(()), |closed| setting.set(0, closed, 0));
                set.map(Aimed).map_err(|error| problem(&error))
            }
        };
        set.map_err(|problem| BuildError::refused(problem, try_as_root()))
    }

    /// At what is wanted.
    pub(crate) fn aim(&mut self, target: &Target) -> Result<(), BuildError> {
        let aimed = match target {
            Target::Everything => Ok(()),
            Target::Process(process) => self.set_tgid(process.id()).map(drop),
            Target::Cgroup(_, directory) => self.set_cgroup(directory),
        };
        aimed.map_err(|problem| BuildError::refused(problem, try_as_root()))
    }

    /// At nobody: the process that counted has ended and its number may be another's. What is released later of its tasks
    /// still counts. The kernel side has done it already where the number was given away.
    pub(crate) fn let_nobody_through(&mut self) -> Result<(), String> {
        let set = match &mut self.process {
            ProcessFilter::Core(variable) => variable.get(&0, 0).and_then(|words| {
                let setting = TargetSetting::of_words(words);
                if setting.tgid == NOBODY {
                    return Ok(());
                }
                let reborn = if setting.reborn == 0 { now() } else { setting.reborn };
                variable.set(0, TargetSetting { tgid: NOBODY, reborn, ..setting }.words(), 0)
            }),
            ProcessFilter::Floor(setting) => setting.set(0, [PID_KIND, NOBODY], 0),
        };
        set.map_err(|error| problem(&error))
    }

    /// At a thread group.
    pub(crate) fn set_tgid(&mut self, tgid: u32) -> Result<Aimed, String> {
        let set = match &mut self.process {
            ProcessFilter::Core(variable) => variable.set(0, TargetSetting { tgid, named: tgid, reborn: 0 }.words(), 0),
            ProcessFilter::Floor(setting) => setting.set(0, [PID_KIND, tgid], 0),
        };
        set.map(Aimed).map_err(|error| problem(&error))
    }

    /// At the tasks of a control group, whatever was let through before.
    pub(crate) fn aim_at_group(&mut self, directory: &File) -> Result<Aimed, String> {
        if let ProcessFilter::Floor(setting) = &mut self.process {
            setting.set(0, [CGROUP_KIND, 0], 0).map_err(|error| problem(&error))?;
        }
        self.set_cgroup(directory).map(Aimed)
    }

    pub(crate) fn set_cgroup(&mut self, directory: &File) -> Result<(), String> {
        self.cgroup.set(0, directory.as_raw_fd(), 0).map_err(|error| problem(&error))
    }
}

/// The floor's setting that lets nobody through, where not everybody counts: of that kind, without a process, and of a
/// control group that is not in the map yet.
const fn closed(kind: u32) -> Option<FilterSetting> {
    match kind {
        PID_KIND => Some([PID_KIND, NOBODY]),
        CGROUP_KIND => Some([CGROUP_KIND, 0]),
        _ => None,
    }
}

fn problem(error: &aya::maps::MapError) -> String {
    format!("cannot set the filter: {}", chain(error))
}

/// Of the clock that a task's start is taken from, in nanoseconds.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanoseconds = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That it is so before anything is attached is [`Aimed`]'s to say.
    #[test]
    fn what_is_closed_lets_nobody_through() {
        assert_eq!(closed(PID_KIND), Some([PID_KIND, NOBODY]));
        assert_eq!(closed(CGROUP_KIND), Some([CGROUP_KIND, 0]));
        assert_eq!(closed(Target::Everything.kind()), None);
    }
}
