//! What `only` names, watched while it counts.

use std::sync::Arc;

use ebpf_process_core::{ColumnId, ProbeError, Recorder, Refused, RowId};
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::calls::Calls;
use crate::catalog::presence;
use crate::cgroup::{self, Change, NamedCgroup};
use crate::filter::Filter;
use crate::named::{Life, NamedProcess};
use crate::target::Target;

/// Follows what a probe counts: says when it is gone, and counts it again when it comes back.
pub(crate) struct Watch {
    filters: Filters,
    target: Watched,
    present: bool,
    cell: Option<(RowId, ColumnId)>,
}

/// The filters of a probe: of its own object, and of that of system calls, where it uses them.
pub(crate) struct Filters {
    pub(crate) own: Option<Filter>,
    pub(crate) calls: Option<Arc<Mutex<Calls>>>,
}

impl Filters {
    /// Sets both, and tells the first error. What others that share one have set already is set once more.
    fn set(&mut self, mut set: impl FnMut(&mut Filter) -> Result<(), String>) -> Result<(), String> {
        let own = self.own.as_mut().map_or(Ok(()), &mut set);
        let calls = self.calls.as_ref().map_or(Ok(()), |calls| set(&mut calls.lock().filter));
        own.and(calls)
    }
}

/// What can change.
enum Watched {
    Process { process: NamedProcess, is_released: bool },
    Cgroup(NamedCgroup),
}

impl Watch {
    /// A watch where there is something to watch.
    pub(crate) fn new(filters: Filters, target: Target) -> Option<Self> {
        let target = match target {
            Target::Everything => return None,
            Target::Process(process) => Watched::Process { process, is_released: false },
            Target::Cgroup(cgroup, _) => Watched::Cgroup(cgroup),
        };
        Some(Self { filters, target, present: true, cell: None })
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
                    let shut = self.filters.set(Filter::let_nobody_through);
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
                    let aimed = self.filters.set(|filter| filter.set_cgroup(&directory));
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
