//! Rows of the equality test: one hook tier in one mode, every counter right to the unit.

use crate::agent::Agent;
use crate::cgroup::Cgroup;
use crate::expect::{self, Expected, Layer, Metric, Mode};
use crate::totals::Totals;
use crate::workload::{self, Place};
use crate::{Failure, Outcome};
use std::fmt;
use std::time::Duration;

/// How long the totals may take to become right after the last event; in truth a tick or two.
const SETTLE: Duration = Duration::from_secs(5);
/// Batches to see after the last event before equality is believed.
const BATCHES_AFTER: usize = 3;

/// The trace events of system calls do not show 32-bit calls.
const FLOOR_TRACEPOINT: &str = "floor-tracepoint";

/// What is put to the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The configuration's `hooks`: a tier, `auto` or `cheapest`; or `floor`: the object for kernels without type
    /// information, whatever tier that takes; or `floor-tracepoint`: the same object without kprobes.
    pub hooks: String,
    /// The configuration's `mode`.
    pub mode: Mode,
}

impl Row {
    /// The settings that make an agent count this way.
    pub fn settings(&self) -> Vec<String> {
        let (object, hooks) = match self.hooks.as_str() {
            "floor" => ("floor", "auto"),
            FLOOR_TRACEPOINT => ("floor", "tracepoint"),
            hooks => ("auto", hooks),
        };
        vec![format!("probes.mode={}", self.mode), format!("probes.object={object}"), format!("probes.hooks={hooks}")]
    }

    fn is_floor(&self) -> bool {
        self.hooks.starts_with("floor")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.hooks, self.mode)
    }
}

/// One metric, as it should be and as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The metric.
    pub metric: Metric,
    /// Where it was counted; nothing when no hook serves it.
    pub layer: Option<Layer>,
    /// Its right value; nothing when it must not be reported.
    pub expected: Option<u64>,
    /// The value reported, if any.
    pub got: Option<f64>,
}

impl Check {
    /// Whether the value reported is the right one.
    pub fn holds(&self) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "the workload's totals are far below 2^53")]
        let expected = self.expected.map(|value| value as f64);
        self.got == expected
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: Option<f64>| value.map_or("absent".into(), |v| v.to_string());
        let expected = self.expected.map_or("absent".into(), |v| v.to_string());
        let place = match self.layer {
            Some(Layer::Syscall) => "counted at the system call",
            Some(Layer::Kernel) => "counted in the kernel",
            None => "no hook serves it",
        };
        write!(f, "{} is {}, not {expected} ({place})", self.metric, show(self.got))
    }
}

/// The result of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Every metric.
    pub checks: Vec<Check>,
    /// Counters whose hook missed events, with how many.
    pub missed: Vec<(String, f64)>,
    /// The tiers that served.
    pub tiers: Vec<String>,
    /// Anything a reader should know of how it was measured.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether every metric is right.
    pub fn is_exact(&self) -> bool {
        self.notes.iter().all(|note| !note.starts_with("WRONG")) && self.checks.iter().all(Check::holds)
    }

    /// Nothing when every metric is right.
    ///
    /// # Errors
    /// All that is wrong, in one message.
    pub fn verdict(&self) -> Outcome<()> {
        if self.is_exact() { Ok(()) } else { Err(Failure::new(self.to_string())) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tiers={}", self.tiers.join("+"))?;
        for (counter, count) in &self.missed {
            write!(f, "; missed {counter} {count}")?;
        }
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        for check in self.checks.iter().filter(|check| !check.holds()) {
            write!(f, "; {check}")?;
        }
        Ok(())
    }
}

/// The whole workload under a filter for its process.
///
/// # Errors
/// It could not be measured; a wrong number is in the report, not here.
pub fn whole_workload(row: &Row) -> Outcome<Report> {
    let place = Place::new()?;
    let int80 = row.hooks != FLOOR_TRACEPOINT && workload::int80_works(&place)?;
    let mut target = place.all(int80)?;
    let only = format!("{{pid={}}}", target.pid());
    let drive = || {
        target.run_to_next_stop()?;
        target.run_to_end()
    };
    let mut report = measure(row, &only, &expect::whole_workload(), Unserved::Wrong, drive)?;
    if !int80 {
        report.notes.push("no int80 here: its calls went the 64-bit way".into());
    }
    Ok(report)
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
        targets.iter_mut().try_for_each(workload::Workload::run_to_end)
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
    let mut settings = row.settings();
    settings.push(format!("probes.only={only}"));
    let mut agent = Agent::start(&settings)?;
    agent.wait_for_first_batch()?;
    drive()?;

    let enough = agent.totals()?.batches() + BATCHES_AFTER;
    let right = |totals: &Totals| checks(totals, row.mode, expected).iter().all(Check::holds);
    // Whether it settled in time is seen in the last totals as well: they are what is judged.
    let settled = agent.watch(SETTLE, |totals| totals.batches() >= enough && right(totals))?;
    let (status, totals) = agent.stop()?;

    let mut report = Report {
        checks: checks(&totals, row.mode, expected),
        missed: totals.missed().into_iter().map(|(counter, count)| (counter.to_owned(), count)).collect(),
        tiers: totals.tiers().into_iter().map(str::to_owned).collect(),
        notes: Vec::new(),
    };
    // The floor reads no structure of the kernel, so it cannot tell whose a released task was.
    if unserved == Unserved::Noted || row.is_floor() {
        let (absent, checks) =
            report.checks.into_iter().partition(|check| check.layer.is_none() && check.got.is_none());
        report.checks = checks;
        report.notes.extend(absent.iter().map(|check: &Check| format!("{} is not available", check.metric)));
    }
    if status.code() != Some(0) {
        report.notes.push(format!("WRONG: the agent ended with {status}"));
    }
    if !settled && totals.batches() < enough {
        report.notes.push(format!("WRONG: fewer than {BATCHES_AFTER} batches in {SETTLE:?} after the last event"));
    }
    Ok(report)
}

fn checks(totals: &Totals, mode: Mode, expected: &[Expected]) -> Vec<Check> {
    let check = |e: &Expected| {
        let layer = totals.layer(&e.metric);
        let reported = mode == Mode::Return || !e.metric.return_only;
        // Without a hook no value is right: the one for the system call stands for "some value".
        let expected = reported.then(|| e.at(layer.unwrap_or(Layer::Syscall)));
        Check { metric: e.metric, layer, expected, got: totals.get(e.metric.name, e.metric.label) }
    };
    expected.iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(read_calls: u64) -> Totals {
        let mut totals = Totals::default();
        for line in [
            "hook,counter=vfs.read,layer=syscall,tier=tracepoint info=1 1".to_owned(),
            format!("vfs,operation=read calls={read_calls}i,errors=0i,bytes=7i 1"),
        ] {
            totals.read(&line).unwrap();
        }
        totals
    }

    fn wrong(totals: &Totals, mode: Mode) -> Vec<String> {
        let expected: Vec<Expected> =
            expect::reads(1, 7).into_iter().filter(|e| e.metric.label == Some(("operation", "read"))).collect();
        checks(totals, mode, &expected).iter().filter(|c| !c.holds()).map(Check::to_string).collect()
    }

    #[test]
    fn one_unit_too_many_is_wrong() {
        assert_eq!(wrong(&lines(7), Mode::Return), [""; 0]);
        assert_eq!(
            wrong(&lines(8), Mode::Return),
            ["vfs.calls{operation=read} is 8, not 7 (counted at the system call)"]
        );
    }

    #[test]
    fn entry_mode_must_not_invent_errors_or_bytes() {
        assert_eq!(wrong(&lines(7), Mode::Entry).len(), 2);
    }

    #[test]
    fn a_metric_that_is_missing_is_wrong_even_where_zero_is_right() {
        let nothing = checks(&Totals::default(), Mode::Return, &expect::nothing());
        assert!(nothing.iter().all(|check| !check.holds()));
    }
}
