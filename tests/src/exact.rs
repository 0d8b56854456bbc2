//! Rows of the equality test: one hook tier in one mode, every counter right to the unit.
//!
//! Where the agent says that a hook is not exact on this kernel, a count may lack what the hook says to have missed,
//! and nothing else. What `auto` chooses may lack nothing but releases that the kernel shows to no program.

mod report;
mod row;

pub(crate) use report::explained;
pub use report::{Check, Report};
pub use row::Row;

use crate::agent::Agent;
use crate::cgroup::{Cgroup, Version1};
use crate::expect::{self, Expected};
use crate::held;
use crate::hidden::Hidden;
use crate::rows::ROWS;
use crate::totals::Totals;
use crate::workload::{self, Place, Workload};
use crate::{Failure, Outcome, wait};
use report::checks;
use row::FLOOR_TRACEPOINT;

/// Batches to see after the last event before equality is believed.
const BATCHES_AFTER: usize = 3;

/// The whole workload under a filter for its process.
///
/// # Errors
/// It could not be measured; a wrong number is in the report, not here.
pub fn whole_workload(row: &Row) -> Outcome<Report> {
    Whole::new(row)?.measure(row, Unserved::Wrong)
}

/// The same where some counters may find no hook: those are noted, the others must be right.
///
/// # Errors
/// As [`whole_workload`].
pub fn whole_workload_as_served(row: &Row) -> Outcome<Report> {
    Whole::new(row)?.measure(row, Unserved::Noted)
}

/// The same under two agents at once.
///
/// # Errors
/// As [`whole_workload`].
pub fn whole_workload_by_two(first: &Row, second: &Row) -> Outcome<[Report; 2]> {
    let mut whole = Whole::new(first)?;
    let first = Measurement::start(first, &whole.only())?;
    let second = Measurement::start(second, &whole.only())?;
    whole.run()?;
    // The first one stops while the second one counts.
    Ok([whole.judge(first, Unserved::Wrong)?, whole.judge(second, Unserved::Wrong)?])
}

/// The whole workload, from its start on.
struct Whole {
    target: Workload,
    int80: bool,
    // Outlives the process that works in it.
    _place: Place,
}

impl Whole {
    fn new(row: &Row) -> Outcome<Self> {
        let place = Place::new()?;
        let int80 = row.hooks != FLOOR_TRACEPOINT && workload::int80_works(&place)?;
        Ok(Self { target: place.all(int80)?, int80, _place: place })
    }

    fn measure(mut self, row: &Row, unserved: Unserved) -> Outcome<Report> {
        let measurement = Measurement::start(row, &self.only())?;
        self.run()?;
        self.judge(measurement, unserved)
    }

    /// The filter for its process.
    fn only(&self) -> String {
        format!("{{pid={}}}", self.target.pid())
    }

    fn run(&mut self) -> Outcome<()> {
        self.target.run_to_next_stop()?;
        self.target.run_to_end()
    }

    fn judge(&self, measurement: Measurement<'_>, unserved: Unserved) -> Outcome<Report> {
        let mut report = measurement.finish(&expect::whole_workload(), unserved)?;
        if !self.int80 {
            report.notes.push("no int80 here: its calls went the 64-bit way".into());
        }
        Ok(report)
    }
}

/// A thousand reads beside 64 readers that block, after the hooks are in place, in functions we count.
///
/// # Errors
/// As [`whole_workload`].
pub fn reads_beside_blocked_readers(row: &Row) -> Outcome<Report> {
    const READS: u64 = 1000;
    let place = Place::new()?;
    let mut target = place.reads(READS)?;
    let only = format!("{{pid={}}}", target.pid());
    let drive = || {
        let mut blocked = place.blocked(64)?;
        target.run_to_next_stop()?;
        target.run_to_end()?;
        blocked.run_to_end()
    };
    measure(row, &only, &expect::reads(1, READS), Unserved::Wrong, drive)
}

/// 200,000 reads from each of two processes at once, under a filter for their cgroup.
///
/// # Errors
/// As [`whole_workload`], or there is no cgroup version 2 to make a group in.
pub fn two_processes_in_a_cgroup(row: &Row) -> Outcome<Report> {
    const READS: u64 = 200_000;
    let place = Place::new()?;
    let cgroup = Cgroup::new()?;
    let mut targets = [place.reads(READS)?, place.reads(READS)?];
    for target in &targets {
        cgroup.add(target.pid())?;
    }
    let only = format!("{{cgroup=\"{}\"}}", cgroup.name());
    let drive = || {
        for target in &targets {
            target.resume()?;
        }
        for target in &mut targets {
            target.wait_for_stop()?;
        }
        targets.iter_mut().try_for_each(Workload::run_to_end)
    };
    measure(row, &only, &expect::reads(2, READS), Unserved::Noted, drive)
}

/// A process that does nothing, while others do a lot.
///
/// # Errors
/// As [`whole_workload`].
pub fn an_idle_target(row: &Row) -> Outcome<Report> {
    let place = Place::new()?;
    let target = place.idle()?;
    let only = format!("{{pid={}}}", target.pid());
    let drive = || {
        target.resume()?;
        let mut other = place.all(false)?;
        other.run_to_next_stop()?;
        other.run_to_end()
    };
    measure(row, &only, &expect::nothing(), Unserved::Wrong, drive)
}

/// A process that ends, and another one that gets its number at once: nothing of that one counts.
///
/// # Errors
/// As [`whole_workload`].
pub fn a_number_given_away(row: &Row) -> Outcome<Report> {
    const READS: u64 = 100;
    let place = Place::new()?;
    let mut target = place.reads(READS)?;
    let mut other = place.reborn(target.pid(), 1000)?;
    let mut measurement = Measurement::start(row, &format!("{{pid={}}}", target.pid()))?;
    measurement.wait_for_target(true)?;
    target.run_to_next_stop()?;
    target.run_to_end()?;
    other.run_to_next_stop()?;
    other.run_to_end()?;
    measurement.wait_for_target(false)?;
    measurement.finish(&expect::reads(1, READS), Unserved::Wrong)
}

/// A control group that is removed and made anew under its name, as a service's is at each restart: both count, the new
/// one from its beginning on.
///
/// # Errors
/// As [`two_processes_in_a_cgroup`].
pub fn a_cgroup_made_anew(row: &Row) -> Outcome<Report> {
    cgroup_made_anew(row, Anew::AtOnce)
}

/// The same, where the new group is waited for until the agent says that it counts it.
///
/// # Errors
/// As [`two_processes_in_a_cgroup`].
pub fn a_cgroup_made_anew_and_told(row: &Row) -> Outcome<Report> {
    cgroup_made_anew(row, Anew::Told)
}

/// The same, where a group of another hierarchy gets the name and a parent of the same id right after the new one: it
/// is not what is named.
///
/// # Errors
/// As [`two_processes_in_a_cgroup`]; or no hierarchy of version 1 can be mounted.
pub fn a_cgroup_made_anew_beside_version_1(row: &Row) -> Outcome<Report> {
    cgroup_made_anew(row, Anew::BesideVersion1)
}

/// When something happens in the new group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anew {
    AtOnce,
    Told,
    BesideVersion1,
}

fn cgroup_made_anew(row: &Row, when: Anew) -> Outcome<Report> {
    const READS: u64 = 1000;
    let place = Place::new()?;
    let cgroup = Cgroup::new()?;
    let other = (when == Anew::BesideVersion1).then(Version1::mount).transpose()?;
    let mut measurement = Measurement::start(row, &format!("{{cgroup=\"{}\"}}", cgroup.name()))?;
    // Both are started before: what the second one does comes before the agent looks.
    let (mut first, mut second) = (place.reads(READS)?, place.reads(READS)?);
    measurement.wait_for_target(true)?;
    cgroup.add(first.pid())?;
    first.run_to_next_stop()?;
    first.run_to_end()?;
    cgroup.remove()?;
    if when == Anew::Told {
        measurement.wait_for_target(false)?;
    }
    cgroup.make_anew()?;
    if when == Anew::Told {
        measurement.wait_for_target(true)?;
    }
    if let Some(hierarchy) = &other {
        hierarchy.make(cgroup.name())?;
    }
    cgroup.add(second.pid())?;
    second.run_to_next_stop()?;
    second.run_to_end()?;
    measurement.finish(&expect::reads(2, READS), Unserved::Noted)
}

/// What it means that no hook serves a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unserved {
    /// The row is wrong.
    Wrong,
    /// The filter may be one that a counter cannot honour: then it must not be reported either.
    Noted,
}

fn measure(
    row: &Row,
    only: &str,
    expected: &[Expected],
    unserved: Unserved,
    drive: impl FnOnce() -> Outcome<()>,
) -> Outcome<Report> {
    let measurement = Measurement::start(row, only)?;
    drive()?;
    measurement.finish(expected, unserved)
}

/// An agent that counts.
struct Measurement<'a> {
    row: &'a Row,
    agent: Agent,
    hidden: Hidden,
}

impl<'a> Measurement<'a> {
    fn start(row: &'a Row, only: &str) -> Outcome<Self> {
        let mut settings = row.settings();
        settings.push(format!("probes.only={only}"));
        let hidden = Hidden::start();
        let mut agent = Agent::start(&settings)?;
        agent.wait_for_first_batch()?;
        Ok(Self { row, agent, hidden })
    }

    /// Waits until every probe says that what it counts is there, or is not.
    fn wait_for_target(&mut self, present: bool) -> Outcome<()> {
        let says = |totals: &Totals| {
            let of = |probe| totals.get("target.present", Some(("probe", probe))).map(|value| value > 0.0);
            let told: Vec<bool> = ROWS.iter().filter_map(|rows| of(rows.probe)).collect();
            !told.is_empty() && told.iter().all(|told| *told == present)
        };
        if self.agent.watch(wait::LIMIT, says)? {
            Ok(())
        } else {
            Err(Failure::new(format!("what `only` names is not told to be there: {present} in the end")))
        }
    }

    /// Waits until the numbers are right, and judges the last ones.
    fn finish(mut self, expected: &[Expected], unserved: Unserved) -> Outcome<Report> {
        let row = self.row;
        // What follows is read with the rights that are left.
        held::nothing_but_what_reading_takes(self.agent.pid())?;
        let enough = self.agent.totals()?.batches() + BATCHES_AFTER;
        // The floor reads no structure of the kernel, so it cannot tell whose a released task was.
        let is_noted = unserved == Unserved::Noted || row.is_floor();
        let is_absent = |check: &Check| is_noted && check.layer.is_none() && !check.holds() && check.got.is_none();
        // What can no longer grow when the last event is over, but for a grace period of the kernel.
        let right = |totals: &Totals| {
            let hidden = self.hidden.releases().unwrap_or_default();
            checks(totals, row, expected, hidden).iter().all(|check| check.holds() || is_absent(check))
        };
        // Whether it settled in time is seen in the last totals as well: they are what is judged.
        let settled = self.agent.watch(wait::LIMIT, |totals| totals.batches() >= enough && right(totals))?;
        let (status, totals) = self.agent.stop()?;
        let hidden = self.hidden.releases()?;

        let mut report = Report {
            checks: checks(&totals, row, expected, hidden),
            missed: totals.missed().into_iter().map(|(counter, count)| (counter.to_owned(), count)).collect(),
            tiers: totals.tiers().into_iter().map(str::to_owned).collect(),
            notes: Vec::new(),
        };
        let (absent, checks): (Vec<Check>, Vec<Check>) = report.checks.into_iter().partition(is_absent);
        report.checks = checks;
        report.notes.extend(absent.iter().map(|check| format!("{} is not available", check.metric)));
        if hidden > 0 {
            report.notes.push(format!("the kernel showed {hidden} releases to no program"));
        }
        if status.code() != Some(0) {
            report.notes.push(format!("WRONG: the agent ended with {status}"));
        }
        if !settled && totals.batches() < enough {
            report.notes.push(format!("WRONG: fewer than {BATCHES_AFTER} batches in time after the last event"));
        }
        Ok(report)
    }
}
