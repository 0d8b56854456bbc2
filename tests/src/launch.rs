//! The kernel probes of somebody else (`tests/out-of-tree-probe`), beside a process of known numbers: links made and
//! refused, programs started, and how many arguments they got.

use crate::agent::Agent;
use crate::exact::Row;
use crate::totals::Totals;
use crate::workload::{Launch, Place};
use crate::{Failure, Outcome, wait};
use std::collections::BTreeMap;
use std::env;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// Batches to see after the last event before equality is believed.
const BATCHES_AFTER: usize = 3;
/// The last slot that the probe's histogram has.
const LAST_SLOT: u32 = 11;

/// Where their agent is: `STRANGERS_AGENT`.
///
/// # Errors
/// Nobody says where.
pub fn agent() -> Outcome<PathBuf> {
    let path = env::var_os("STRANGERS_AGENT").map(PathBuf::from);
    path.ok_or_else(|| Failure::new("STRANGERS_AGENT does not say where the agent of tests/out-of-tree-probe is"))
}

/// Everything equal to a known workload; returns what served.
///
/// # Errors
/// It could not be measured, or a number is wrong.
pub fn counts(row: &Row) -> Outcome<String> {
    let launch = Launch { made: 211, existing: 37, refused: if sysfs_refuses() { 29 } else { 0 }, programs: 101 };
    let place = Place::new()?;
    let mut target = place.launch(&launch)?;
    let mut settings = row.settings();
    settings.push(format!("probes.only={{pid={}}}", target.pid()));
    settings.push("probes.users.enabled=true".to_owned());
    let mut agent = Agent::start_program(&agent()?, &settings)?;
    agent.wait_for_first_batch()?;
    target.run_to_next_stop()?;
    target.run_to_end()?;
    let enough = agent.totals()?.batches() + BATCHES_AFTER;
    agent.watch(wait::LIMIT, |totals| totals.batches() >= enough && wrong(&launch, row, totals).is_empty())?;
    let (status, totals) = agent.stop()?;
    let wrong = wrong(&launch, row, &totals);
    if !wrong.is_empty() || status.code() != Some(0) {
        return Err(Failure::new(format!("{status}: {}", wrong.join("; "))));
    }
    let hook = |counter| totals.label("hook.info", ("counter", counter), "function").unwrap_or("none").to_owned();
    Ok(format!("links by {}, programs by {}", hook("symlink.make"), hook("exec.calls")))
}

/// Whether a link in sysfs is refused by the function that makes links; a container's is often read-only.
fn sysfs_refuses() -> bool {
    symlink("nowhere", "/sys/kernel/ebpf-process").is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// What is not as it must be.
#[expect(clippy::cast_precision_loss, reason = "the numbers are far below 2^53")]
fn wrong(launch: &Launch, row: &Row, totals: &Totals) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |name: &str, label: Option<(&str, &str)>, wanted: Option<u64>| {
        let got = totals.get(name, label);
        if got != wanted.map(|wanted| wanted as f64) {
            wrong.push(format!("{name} {label:?} is {got:?}, not {wanted:?}"));
        }
    };
    let layer = totals.label("hook.info", ("counter", "symlink.make"), "layer");
    // A name that is taken is found before the function.
    let early = if layer == Some("syscall") { launch.existing } else { 0 };
    let in_return_mode = row.mode == crate::expect::Mode::Return;
    let make = Some(("operation", "make"));
    check("symlink.calls", make, Some(launch.made + launch.refused + early));
    check("symlink.errors", make, in_return_mode.then_some(launch.refused + early));
    // Programs are told by a tracepoint alone, and without it there is no number at all.
    let traced = matches!(row.hooks.as_str(), "auto" | "tracepoint" | "cheapest");
    let if_traced = |number: u64| traced.then_some(number);
    check("exec.calls", None, if_traced(launch.programs));
    check("user.started", Some(("uid", "0")), if_traced(launch.programs));
    check("exec.unplaced", None, if_traced(0));
    let arguments: Vec<u64> = (0..launch.programs).map(|left| 3 + left).collect();
    check("exec.arguments_count", None, if_traced(launch.programs));
    check("exec.arguments_sum", None, if_traced(arguments.iter().sum()));
    let mut slots: BTreeMap<u32, u64> = BTreeMap::new();
    for count in &arguments {
        *slots.entry(count.ilog2().min(LAST_SLOT)).or_default() += 1;
    }
    for slot in 0..LAST_SLOT {
        let wanted = slots.get(&slot).copied().filter(|_| traced);
        check(&format!("exec.arguments_le_{}", (2_u64 << slot) - 1), None, wanted);
    }
    wrong
}
