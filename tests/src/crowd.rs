//! Many processes at once on few processors: where a hook misses, the misses are counted.
//!
//! On a kernel that preempts tasks inside the kernel, a program that is interrupted is left out for everybody else on
//! that processor. Spinning readers make that happen all the time.

use crate::agent::Agent;
use crate::cgroup::Cgroup;
use crate::exact::Row;
use crate::expect::Mode;
use crate::workload::{Place, Workload};
use crate::{Failure, Outcome};

/// Far more than the processors of any machine that this runs on.
const PROCESSES: u64 = 32;
/// Enough to be preempted many times, also where every instruction is emulated.
const READS: u64 = 1_500;

/// 32 processes spin on one-byte reads, filtered by their control group.
///
/// Where the agent says that the tier is exact on this kernel, the reads counted are those made; elsewhere the counted
/// and the missed add up to them. Nobody else reads meanwhile: a miss is counted before the filter is asked. The one
/// program on the end of all system calls also misses calls that it does not watch, so there the sum may be higher.
///
/// # Errors
/// The numbers are wrong, or could not be had.
pub fn spinning_readers(row: &Row) -> Outcome<String> {
    let place = Place::new()?;
    let cgroup = Cgroup::new()?;
    let mut readers = (0..PROCESSES).map(|_| place.reads(READS)).collect::<Outcome<Vec<Workload>>>()?;
    for reader in &readers {
        cgroup.add(reader.pid())?;
    }
    let mut settings = row.settings();
    // The agent's own reads would be among the missed: it reads when it starts and when it stops.
    settings.push("interval=\"1m\"".into());
    settings.push(format!("probes.only={{cgroup=\"{}\"}}", cgroup.name()));
    let mut agent = Agent::start(&settings)?;
    agent.wait_for_first_batch()?;
    for reader in &readers {
        reader.resume()?;
    }
    for reader in &mut readers {
        reader.wait_for_stop()?;
    }
    let (status, totals) = agent.stop()?;
    readers.iter_mut().try_for_each(Workload::run_to_end)?;

    let value = |name: &str| totals.get(name, Some(("operation", "read")));
    let missed = totals.get("hook.missed", Some(("counter", "vfs.read"))).unwrap_or(f64::NAN);
    let info = |label| totals.label("hook.info", ("counter", "vfs.read"), label).unwrap_or_default();
    let (exact, shared) = (info("exact"), info("layer") == "syscall");
    let counted = value("vfs.calls").unwrap_or(f64::NAN);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let made = (PROCESSES * READS) as f64;
    let details = format!("exact={exact:?}: {counted} counted, {missed} missed of {made}");
    let bytes = row.mode == Mode::Entry || value("vfs.bytes") == Some(counted);
    // Whole numbers, all of them: less than one apart is equal, and what is absent equals nothing.
    let equal = |a: f64, b: f64| (a - b).abs() < 0.5;
    let right = match exact {
        "yes" => equal(counted, made) && equal(missed, 0.0),
        _ if shared => counted <= made && counted + missed >= made,
        _ => equal(counted + missed, made),
    };
    if right && bytes && status.code() == Some(0) { Ok(details) } else { Err(Failure::new(details)) }
}

/// 32 processes delete files, without a filter and in entry mode: there every call is counted on any kernel, also by a
/// program that the kernel leaves out. Nobody else deletes meanwhile.
///
/// # Errors
/// The number is wrong, or could not be had.
pub fn deleting_processes(hooks: &str) -> Outcome<String> {
    const DELETES: u64 = 500;
    let place = Place::new()?;
    let mut deleters = (0..PROCESSES).map(|_| place.deletes(DELETES)).collect::<Outcome<Vec<Workload>>>()?;
    let mut settings = Row { hooks: hooks.into(), mode: Mode::Entry }.settings();
    settings.push("interval=\"1m\"".into());
    let mut agent = Agent::start(&settings)?;
    agent.wait_for_first_batch()?;
    for deleter in &deleters {
        deleter.resume()?;
    }
    for deleter in &mut deleters {
        deleter.wait_for_stop()?;
    }
    let (status, totals) = agent.stop()?;
    deleters.iter_mut().try_for_each(Workload::run_to_end)?;

    let info = |label| totals.label("hook.info", ("counter", "vfs.delete"), label).unwrap_or_default();
    let (tier, exact) = (info("tier"), info("exact"));
    let counted = totals.get("vfs.calls", Some(("operation", "delete")));
    let missed = totals.get("hook.missed", Some(("counter", "vfs.delete")));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let made = (PROCESSES * DELETES) as f64;
    let details = format!("{tier}, exact={exact:?}: {counted:?} counted, {missed:?} missed of {made} deletes");
    // Below 6.7 nobody counts the kprobes that another's bpf(2) would cost, so they do not say to be exact.
    let says = exact == "yes" || tier == "kprobe";
    let right = says && counted == Some(made) && missed == Some(0.0);
    if right && status.code() == Some(0) { Ok(details) } else { Err(Failure::new(details)) }
}
