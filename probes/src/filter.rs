//! Whose events count: the filter in the kernel.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use aya::Ebpf;
use aya::maps::{Array, CgroupArray, MapData};
use ebpf_process_core::{BuildError, chain};

use crate::abi::FilterSetting;
use crate::attachment::Object;
use crate::kernel::{open_cgroup, own_cgroup};
use crate::options::Only;
use crate::refusal::{refused, try_as_root};

/// `FILTER_CGROUP` of abi.h.
const CGROUP_KIND: u32 = 2;

/// What the filter lets through in the end.
pub(crate) enum Target {
    Everything,
    Pid(u32),
    Cgroup(File),
}

impl Target {
    pub(crate) fn open(only: Option<&Only>) -> Result<Self, BuildError> {
        match only {
            None => Ok(Self::Everything),
            Some(Only::Pid(pid)) if std::path::Path::new("/proc").join(pid.to_string()).exists() => Ok(Self::Pid(*pid)),
            Some(Only::Pid(pid)) => Err(refused(
                &format!("probes.only.pid: there is no process {pid}"),
                "name the id of a running process in the initial pid namespace",
            )),
            Some(Only::Cgroup(path)) => open_cgroup(path).map(Self::Cgroup).map_err(|problem| {
                refused(
                    &format!("probes.only.cgroup: {problem}"),
                    "name a path of the v2 hierarchy as /proc/PID/cgroup shows it after \"0::\"",
                )
            }),
        }
    }

    /// `enum filter` of abi.h.
    pub(crate) const fn kind(&self) -> u32 {
        match self {
            Self::Everything => 0,
            Self::Pid(_) => 1,
            Self::Cgroup(_) => CGROUP_KIND,
        }
    }
}

/// The filter's two maps, while they may still change. Programs are loaded with the descriptors of
/// these maps, so it must live until the last one is.
pub(crate) struct Filter {
    process: ProcessFilter,
    cgroup: CgroupArray<MapData>,
}

/// Where an object keeps the thread group to let through.
enum ProcessFilter {
    /// In a global variable; the kind of the filter is frozen.
    Core(Array<MapData, u32>),
    /// In a map, with the kind.
    Floor(Array<MapData, FilterSetting>),
}

impl Filter {
    pub(crate) fn take(ebpf: &mut Ebpf, object: Object) -> Result<Self, BuildError> {
        let broken =
            || refused("the kernel object is not the one this program was made for", "rebuild it: cargo xtask bpf");
        let name = match object {
            Object::Core => ".bss",
            Object::Floor => "filter",
        };
        let process = ebpf.take_map(name).ok_or_else(broken)?;
        let cgroup = ebpf.take_map("filter_cgroup").ok_or_else(broken)?;
        let process = match object {
            Object::Core => process.try_into().map(ProcessFilter::Core),
            Object::Floor => process.try_into().map(ProcessFilter::Floor),
        };
        Ok(Self { process: process.map_err(|_| broken())?, cgroup: cgroup.try_into().map_err(|_| broken())? })
    }

    /// For the self-test: lets our own events through.
    pub(crate) fn aim_at_self(&mut self, target: &Target) -> Result<(), String> {
        match target {
            Target::Everything => Ok(()),
            Target::Pid(_) => self.set_tgid(std::process::id()),
            Target::Cgroup(_) => {
                let own = own_cgroup().ok_or("this process has no control group in the v2 hierarchy")?;
                self.set_cgroup(&open_cgroup(&own)?)
            }
        }
    }

    /// For the self-test of what happens to a child: lets that child's events through.
    pub(crate) fn aim_at_pid(&mut self, target: &Target, pid: u32) -> io::Result<()> {
        match target {
            Target::Pid(_) => self.set_tgid(pid).map_err(io::Error::other),
            Target::Everything | Target::Cgroup(_) => Ok(()),
        }
    }

    /// For good.
    pub(crate) fn aim(&mut self, target: &Target) -> Result<(), BuildError> {
        let aimed = match target {
            Target::Everything => Ok(()),
            Target::Pid(pid) => self.set_tgid(*pid),
            Target::Cgroup(directory) => self.set_cgroup(directory),
        };
        aimed.map_err(|problem| refused(&problem, &try_as_root()))
    }

    fn set_tgid(&mut self, tgid: u32) -> Result<(), String> {
        let set = match &mut self.process {
            ProcessFilter::Core(variable) => variable.set(0, tgid, 0),
            ProcessFilter::Floor(setting) => setting.set(0, [Target::Pid(tgid).kind(), tgid], 0),
        };
        set.map_err(|error| format!("cannot set the filter: {}", chain(&error)))
    }

    fn set_cgroup(&mut self, directory: &File) -> Result<(), String> {
        let mut set = self.cgroup.set(0, directory.as_raw_fd(), 0);
        if let (Ok(()), ProcessFilter::Floor(setting)) = (&set, &mut self.process) {
            set = setting.set(0, [CGROUP_KIND, 0], 0);
        }
        set.map_err(|error| format!("cannot set the filter: {}", chain(&error)))
    }
}
