//! What `only` names: found when the probe is built, and watched while it counts.

use std::fs::File;

use ebpf_process_core::{BuildError, ColumnId, ProbeError, Recorder, Refused, RowId};
use tracing::{info, warn};

use crate::abi::CGROUP_NAME;
use crate::catalog::presence;
use crate::cgroup::{self, Change, NamedCgroup};
use crate::filter::{CGROUP_KIND, Filter, PID_KIND};
use crate::named::{Life, NamedProcess};
use crate::only::Only;

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
                opened.map_err(|unopened| BuildError::Refused {
                    problem: format!("only.cgroup: {}", unopened.problem),
                    way_out: "name a group of the v2 hierarchy by its path as /proc/PID/cgroup shows it after \"0::\""
                        .to_owned(),
                    passing: unopened.passing,
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
            Self::Process(process) if process.life() != Life::Lives => Err(crate::refusal::refused(
                &format!("only.pid: process {} ended while its hooks were attached", process.id()),
                "name the id of a running process",
            )),
            _ => Ok(()),
        }
    }
}

/// Follows what a probe counts: says when it is gone, and counts it again when it comes back.
pub(crate) struct Watch {
    filter: Filter,
    target: Watched,
    present: bool,
    cell: Option<(RowId, ColumnId)>,
}

/// What can change.
enum Watched {
    Process { process: NamedProcess, is_released: bool },
    Cgroup(NamedCgroup),
}

impl Watch {
    /// A watch where there is something to watch.
    pub(crate) fn new(filter: Filter, target: Target) -> Option<Self> {
        let target = match target {
            Target::Everything => return None,
            Target::Process(process) => Watched::Process { process, is_released: false },
            Target::Cgroup(cgroup, _) => Watched::Cgroup(cgroup),
        };
        Some(Self { filter, target, present: true, cell: None })
    }

    /// Makes the cell that tells.
    pub(crate) fn tell(&mut self, recorder: &mut Recorder, probe: &str) -> Result<(), Refused> {
        let what = match &self.target {
            Watched::Process { process, .. } => format!("pid {}", process.id()),
            Watched::Cgroup(cgroup) => format!("cgroup {}", cgroup.path().display()),
        };
        self.cell = Some(presence(recorder, probe, &what)?);
        Ok(())
    }

    /// Looks at the target, and aims the filter at what is there now.
    pub(crate) fn look(&mut self, recorder: &mut Recorder, probe: &str) -> Result<(), ProbeError> {
        let outcome = match &mut self.target {
            Watched::Process { is_released: true, .. } => Ok(()),
            Watched::Process { process, is_released } => {
                let life = process.life();
                if life != Life::Lives && self.present {
                    self.present = false;
                    warn!(
                        probe,
                        "process {}, which is all that counts here, has ended: its totals stay as they are",
                        process.id()
                    );
                }
                if life == Life::Released {
                    // Tried again at the next look where it fails.
                    let shut = self.filter.let_nobody_through();
                    *is_released = shut.is_ok();
                    shut
                } else {
                    Ok(())
                }
            }
            Watched::Cgroup(cgroup) => match cgroup.look() {
                Change::None => Ok(()),
                Change::Gone => {
                    self.present = false;
                    let path = cgroup::shown(cgroup.path());
                    warn!(
                        probe,
                        "control group {path}, which is all that counts here, is gone: waiting for it to come back"
                    );
                    Ok(())
                }
                Change::Anew(directory) => {
                    let aimed = self.filter.set_cgroup(&directory);
                    self.present = aimed.is_ok();
                    if aimed.is_ok() {
                        info!(probe, "control group {} was made anew and counts again", cgroup::shown(cgroup.path()));
                    } else {
                        cgroup.forget();
                    }
                    aimed
                }
            },
        };
        if let Some((row, column)) = self.cell {
            recorder.gauge(row, column, f64::from(u8::from(self.present)));
        }
        outcome.map_err(ProbeError::new)
    }
}
