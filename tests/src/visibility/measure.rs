//! The rows of the table, each done by a process between two stops, and what the agent saw of it.

use super::{Group, Need, Operation, groups};
use crate::agent::Agent;
use crate::exact::explained;
use crate::expect::{self, Layer, Metric, RELEASES};
use crate::hidden::Hidden;
use crate::known::has_call;
use crate::rows;
use crate::totals::Totals;
use crate::workload::{Place, Workload};
use crate::{Failure, Outcome, wait};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How often each operation is done.
const TIMES: u64 = 10;
/// The batch that was being collected when the process stopped may be incomplete, the one after it is not.
const BATCHES_AFTER: usize = 2;

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows that were tried.
    pub tried: usize,
    /// What was not as the table says: row and difference.
    pub wrong: Vec<String>,
    /// Rows that could not be tried on this kernel, and why.
    pub lacking: Vec<String>,
}

impl Report {
    /// How many rows are right.
    ///
    /// # Errors
    /// All that is wrong, in one message.
    pub fn verdict(&self) -> Outcome<String> {
        let lacking = if self.lacking.is_empty() { String::new() } else { format!(" ({})", self.lacking.join("; ")) };
        if self.wrong.is_empty() {
            Ok(format!("{} rows{lacking}", self.tried))
        } else {
            Err(Failure::new(format!("{}{lacking}", self.wrong.join("; "))))
        }
    }
}

/// Tries all rows by hooks of one tier (the configuration's `hooks`) in return mode.
///
/// # Errors
/// They could not be measured; a wrong number is in the report, not here.
pub fn all(hooks: &str) -> Outcome<Report> {
    let place = Place::new()?;
    let stacked = Stacked::new(place.path());
    let folder = stacked.as_ref().map_or(Path::new("-"), |stacked| stacked.folder.as_path());
    let mut report = Report::default();
    for group in groups() {
        let mut rows: Vec<&Operation> = Vec::new();
        let here = |operation: &&Operation| !matches!(operation.needs, Need::Call(name) if !has_call(name));
        for operation in group.operations.iter().filter(here) {
            let reason = match (operation.needs, &stacked) {
                (Need::Stacked, Err(failure)) => Some(failure.clone()),
                (Need::Nothing | Need::Stacked | Need::Call(_), _) => None,
                // Tried, not read from a version: kernels are built and booted in many ways.
                (Need::Int80 | Need::Uring | Need::Aio | Need::Ptrace | Need::Mounts, _) => {
                    alone(&place, folder, operation).err()
                }
            };
            match reason {
                None => rows.push(operation),
                Some(reason) => report.lacking.push(format!("not {}: {reason}", operation.name)),
            }
        }
        run(hooks, &place, folder, group, &rows, &mut report)?;
    }
    Ok(report)
}

/// Does one operation without an agent.
fn alone(place: &Place, stacked: &Path, operation: &Operation) -> Outcome<()> {
    let mut process = place.operations(stacked, TIMES, &[operation.name])?;
    process.run_to_next_stop()?;
    process.run_to_end()
}

fn run(
    hooks: &str,
    place: &Place,
    stacked: &Path,
    group: &Group,
    rows: &[&Operation],
    report: &mut Report,
) -> Outcome<()> {
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    let mut process = place.operations(stacked, TIMES, &names)?;
    let mut settings = vec![
        "probes.mode=return".to_owned(),
        format!("probes.hooks={hooks}"),
        format!("probes.only={{pid={}}}", process.pid()),
    ];
    settings.extend(rows::switched_on());
    let mut agent = Agent::start(&settings)?;
    agent.wait_for_whole_batch()?;
    let metrics: Vec<Metric> = expect::nothing().into_iter().map(|e| e.metric).collect();
    let mut before = agent.totals()?.clone();
    for row in rows {
        let hidden = Hidden::start();
        finish(&mut process, row).map_err(Failure::at(row.name))?;
        let enough = agent.totals()?.batches() + BATCHES_AFTER;
        let differences =
            |now: &Totals| differences(row, &metrics, [&before, now], hidden.releases().unwrap_or_default());
        agent.watch(wait::LIMIT, |now| now.batches() >= enough && differences(now).is_empty())?;
        let now = agent.totals()?.clone();
        report.tried += 1;
        let wrong = differences(&now);
        report.wrong.extend(wrong.iter().map(|difference| format!("{}: {difference}", row.name)));
        before = now;
    }
    let (status, _) = agent.stop()?;
    if status.code() == Some(0) {
        Ok(())
    } else {
        Err(Failure::new(format!("{}: the agent ended with {status}", group.name)))
    }
}

fn finish(process: &mut Workload, row: &Operation) -> Outcome<()> {
    if row.once { process.run_to_end() } else { process.run_to_next_stop() }
}

/// What is wrong, where so many releases may have been hidden in between.
fn differences(row: &Operation, metrics: &[Metric], [before, now]: [&Totals; 2], hidden: u32) -> Vec<String> {
    let times = if row.once { 1 } else { TIMES };
    let difference = |metric: &Metric| {
        let label = metric.label.map_or("", |(_, value)| value);
        let effect = row.effects.iter().find(|effect| (effect.metric, effect.label) == (metric.name, label));
        let Some(hook) = now.hook(metric) else { return Some(format!("{metric}: no hook serves it")) };
        let wanted = effect.map_or(0, |effect| effect.at(hook.layer) * times);
        let value = |totals: &Totals| totals.get(metric.name, metric.label);
        let (Some(old), Some(new)) = (value(before), value(now)) else { return Some(format!("{metric} is absent")) };
        let missed = hook.lacking - before.hook(metric).map_or(0.0, |hook| hook.lacking);
        let lacking = if metric.name == RELEASES { missed + f64::from(hidden) } else { missed };
        let right = explained(metric, wanted, new - old, lacking);
        let place = if hook.layer == Layer::Syscall { "at the system call" } else { "in the kernel" };
        (!right).then(|| format!("{metric} grew by {}, not {wanted} ({place})", new - old))
    };
    metrics.iter().filter_map(difference).collect()
}

/// An overlayfs of one lower and one upper folder, both on the tmpfs of a place; unmounted when it is dropped.
#[derive(Debug)]
struct Stacked {
    folder: PathBuf,
    _layers: TempDir,
}

impl Stacked {
    fn new(place: &Path) -> Outcome<Self> {
        let layers = tempfile::tempdir_in(place).map_err(Failure::at("a folder for the layers"))?;
        let [lower, upper, work, folder] = ["lower", "upper", "work", "merged"].map(|name| layers.path().join(name));
        for each in [&lower, &upper, &work, &folder] {
            fs::create_dir(each).map_err(Failure::at(each.display()))?;
        }
        let data = [("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)]
            .map(|(key, path)| [key.as_bytes(), b"=", path.as_os_str().as_bytes()].concat())
            .join(&b","[..]);
        let data = CString::new(data).map_err(Failure::at("the mount's options"))?;
        mount("overlay", &folder, "overlay", MountFlags::empty(), data.as_c_str())
            .map_err(Failure::at("mounting an overlayfs"))?;
        Ok(Self { folder, _layers: layers })
    }
}

impl Drop for Stacked {
    fn drop(&mut self) {
        // A process that was killed may hold it for a moment: it goes when that does.
        let _ = unmount(&self.folder, UnmountFlags::DETACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(reads: u64, opens: u64) -> Totals {
        let mut totals = Totals::default();
        for metric in expect::nothing().iter().map(|e| e.metric) {
            let (area, what) = metric.name.split_once('.').unwrap();
            let tag = metric.label.map_or(String::new(), |(key, value)| format!(",{key}={value}"));
            let value = match (metric.name, metric.label) {
                ("vfs.calls", Some((_, "read"))) => reads,
                ("vfs.bytes", Some((_, "read"))) => 3 * reads,
                ("file.calls", Some((_, "open"))) => opens,
                _ => 0,
            };
            totals.read(&format!("{area}{tag} {what}={value}i 1")).unwrap();
            totals.read(&format!("hook,counter={},layer=syscall info=1 1", metric.counters[0])).unwrap();
        }
        totals
    }

    #[test]
    fn a_counter_that_the_row_does_not_name_must_stand_still() {
        let read = groups().flat_map(|group| group.operations).find(|row| row.name == "read").unwrap();
        let metrics: Vec<Metric> = expect::nothing().into_iter().map(|e| e.metric).collect();
        let wrong = |now: &Totals| differences(read, &metrics, [&totals(0, 0), now], 0);
        assert_eq!(wrong(&totals(10, 0)), [""; 0]);
        assert_eq!(wrong(&totals(10, 1)), ["file.calls{operation=open} grew by 1, not 0 (at the system call)"]);
        assert_eq!(wrong(&totals(9, 0)).len(), 2);
    }
}
