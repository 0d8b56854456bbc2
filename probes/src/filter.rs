//! Whose events count: the filter in the kernel.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use ebpf_process_core::BuildError;

use crate::abi::{FilterSetting, NOBODY, TargetSetting};
use crate::elements::Elements;
use crate::hook::{Attach, Hook};
use crate::object::Object;
use crate::object_maps::ObjectMaps;
use crate::refusal::{REBUILD, try_as_root};
use crate::release::Version;
use crate::target::{CGROUP_KIND, PID_KIND, Target};

/// The filter's two maps.
pub(crate) struct Filter {
    process: ProcessFilter,
    cgroup: Elements,
}

/// That a filter lets nobody through who is not wanted. Nothing is attached without it, and only a filter gives it: what a
/// stranger begins before would be counted when it ends.
#[derive(Debug)]
pub(crate) struct Aimed(());

impl Aimed {
    /// By the process that has loaded the programs.
    pub(crate) const fn by_another() -> Self {
        Self(())
    }

    /// At everybody: for a self-test that cannot tell who it is.
    pub(crate) const fn at_everybody() -> Self {
        Self(())
    }
}

/// Where an object keeps the thread group to let through.
enum ProcessFilter {
    /// In a global variable; the kind of the filter is frozen.
    Core(Elements),
    /// In a map, with the kind.
    Floor(Elements),
}

/// The key of the only element.
const FIRST: [u8; 4] = [0; 4];

impl ProcessFilter {
    fn setting(&self) -> io::Result<TargetSetting> {
        let mut bytes = [0; 16];
        if let Self::Core(variable) = self {
            variable.look_up(&FIRST, &mut bytes)?;
        }
        let word = |half: usize| bytes.as_chunks::<8>().0.get(half).copied().map_or(0, u64::from_ne_bytes);
        Ok(TargetSetting::of_words([word(0), word(1)]))
    }

    /// What an object for kernels with type information has.
    fn set_target(variable: &Elements, target: TargetSetting) -> io::Result<()> {
        let [first, second] = target.words().map(u64::to_ne_bytes);
        variable.update(&FIRST, &[first, second].concat())
    }

    /// What one for the floor has.
    fn set_setting(map: &Elements, setting: FilterSetting) -> io::Result<()> {
        map.update(&FIRST, &setting.map(u32::to_ne_bytes).concat())
    }
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

/// All that guard a filter's target.
pub(crate) fn guards() -> [Hook; 3] {
    [number_again(Object::Core), number_again(Object::Floor), cgroup_again()]
}

fn guard(program: &str, attach: Attach) -> Hook {
    Hook { program: program.to_owned(), attach, proof: Vec::new(), may_lack: false }
}

impl Filter {
    pub(crate) fn of(maps: &ObjectMaps, object: Object) -> Result<Self, BuildError> {
        let elements = |name: &str| {
            let broken = |error| format!("the kernel object is not the one this program was made for: {error}");
            maps.elements(name, None).map_err(|error| BuildError::refused(broken(error), REBUILD))
        };
        let process = match object {
            Object::Core | Object::Who => ProcessFilter::Core(elements(".data.filter")?),
            Object::Floor => ProcessFilter::Floor(elements("filter")?),
        };
        Ok(Self { process, cgroup: elements("filter_cgroup")? })
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
        let set = match &self.process {
            ProcessFilter::Core(_) if kind == PID_KIND => self.set_tgid(NOBODY),
            ProcessFilter::Core(_) => Ok(Aimed(())),
            ProcessFilter::Floor(setting) => {
                let set = closed(kind).map_or(Ok(()), |closed| ProcessFilter::set_setting(setting, closed));
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
        let set = match &self.process {
            ProcessFilter::Core(variable) => self.process.setting().and_then(|setting| {
                if setting.tgid == NOBODY {
                    return Ok(());
                }
                let reborn = if setting.reborn == 0 { now() } else { setting.reborn };
                ProcessFilter::set_target(variable, TargetSetting { tgid: NOBODY, reborn, ..setting })
            }),
            ProcessFilter::Floor(setting) => ProcessFilter::set_setting(setting, [PID_KIND, NOBODY]),
        };
        set.map_err(|error| problem(&error))
    }

    /// At a thread group.
    pub(crate) fn set_tgid(&mut self, tgid: u32) -> Result<Aimed, String> {
        let set = match &self.process {
            ProcessFilter::Core(variable) => {
                ProcessFilter::set_target(variable, TargetSetting { tgid, named: tgid, reborn: 0 })
            }
            ProcessFilter::Floor(setting) => ProcessFilter::set_setting(setting, [PID_KIND, tgid]),
        };
        set.map(Aimed).map_err(|error| problem(&error))
    }

    /// At the tasks of a control group, whatever was let through before.
    pub(crate) fn aim_at_group(&mut self, directory: &File) -> Result<Aimed, String> {
        if let ProcessFilter::Floor(setting) = &self.process {
            ProcessFilter::set_setting(setting, [CGROUP_KIND, 0]).map_err(|error| problem(&error))?;
        }
        self.set_cgroup(directory).map(Aimed)
    }

    pub(crate) fn set_cgroup(&mut self, directory: &File) -> Result<(), String> {
        self.cgroup.update(&FIRST, &directory.as_raw_fd().to_ne_bytes()).map_err(|error| problem(&error))
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

fn problem(error: &io::Error) -> String {
    format!("cannot set the filter: {error}")
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
