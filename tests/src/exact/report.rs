//! What a row found: every metric as it should be and as it was, and whether the difference is accounted for.

use super::row::Row;
use crate::expect::{Expected, Layer, Metric, Mode, RELEASES};
use crate::totals::Totals;
use crate::{Failure, Outcome};
use std::fmt;

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
    /// Events that the value may lack.
    pub lacking: f64,
}

impl Check {
    /// Whether the value reported is the right one.
    pub fn holds(&self) -> bool {
        match (self.expected, self.got) {
            (Some(expected), Some(got)) => explained(&self.metric, expected, got, self.lacking),
            (expected, got) => expected.is_none() && got.is_none(),
        }
    }
}

/// Whether a value is the expected one, or lacks no more than the events that its hook has missed.
pub(crate) fn explained(metric: &Metric, expected: u64, got: f64, lacking: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "the workload's totals are far below 2^53")]
    let lost = expected as f64 - got;
    // How many bytes a missed call moved is not known to anybody.
    let bytes = metric.name == "vfs.bytes" && lacking > 0.0;
    lost >= 0.0 && (lost <= lacking || bytes)
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

    /// What was reported for a metric with this label's value.
    pub fn got(&self, name: &str, label: &str) -> Option<f64> {
        let is = |metric: &Metric| metric.name == name && metric.label.is_some_and(|(_, value)| value == label);
        self.checks.iter().find(|check| is(&check.metric))?.got
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

/// Every metric of a row against what is expected, where so many releases may have been hidden.
pub(super) fn checks(totals: &Totals, row: &Row, expected: &[Expected], hidden: u32) -> Vec<Check> {
    let check = |e: &Expected| {
        let hook = totals.hook(&e.metric);
        let layer = hook.map(|hook| hook.layer);
        let reported = row.mode == Mode::Return || !e.metric.return_only;
        // Without a hook no value is right: the one for the system call stands for "some value".
        let expected = reported.then(|| e.at(layer.unwrap_or(Layer::Syscall)));
        let missed = hook.map_or(0.0, |hook| if row.hooks == "auto" { 0.0 } else { hook.lacking });
        let lacking = if e.metric.name == RELEASES { missed + f64::from(hidden) } else { missed };
        Check { metric: e.metric, layer, expected, got: totals.get(e.metric.name, e.metric.label), lacking }
    };
    expected.iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect;

    fn lines(read_calls: u64, missed: u64, exact: &str) -> Totals {
        let mut totals = Totals::default();
        for line in [
            format!("hook,counter=vfs.read,layer=syscall,tier=tracepoint,exact={exact} info=1 1"),
            format!("hook,counter=vfs.read missed={missed}i 1"),
            format!("vfs,operation=read calls={read_calls}i,errors=0i,interrupted=0i,bytes=7i 1"),
        ] {
            totals.read(&line).unwrap();
        }
        totals
    }

    fn wrong(totals: &Totals, hooks: &str, mode: Mode) -> Vec<String> {
        let expected: Vec<Expected> =
            expect::reads(1, 7).into_iter().filter(|e| e.metric.label == Some(("operation", "read"))).collect();
        let row = Row { hooks: hooks.into(), mode };
        checks(totals, &row, &expected, 0).iter().filter(|c| !c.holds()).map(Check::to_string).collect()
    }

    #[test]
    fn one_unit_too_many_is_wrong() {
        assert_eq!(wrong(&lines(7, 0, "yes"), "tracepoint", Mode::Return), [""; 0]);
        assert_eq!(
            wrong(&lines(8, 0, "yes"), "tracepoint", Mode::Return),
            ["vfs.calls{operation=read} is 8, not 7 (counted at the system call)"]
        );
    }

    #[test]
    fn entry_mode_must_not_invent_errors_interrupted_calls_or_bytes() {
        assert_eq!(wrong(&lines(7, 0, "yes"), "tracepoint", Mode::Entry).len(), 3);
    }

    #[test]
    fn what_lacks_must_have_been_missed_by_a_hook_that_is_not_exact() {
        let wrong =
            |calls, missed, exact: &str, hooks: &str| wrong(&lines(calls, missed, exact), hooks, Mode::Return).len();
        assert_eq!(wrong(5, 2, "no", "tracepoint"), 0);
        assert_eq!(wrong(5, 3, "no", "tracepoint"), 0, "somebody else's may be among the missed");
        assert_eq!(wrong(5, 1, "no", "tracepoint"), 1);
        assert_eq!(wrong(8, 9, "no", "tracepoint"), 1);
        assert_eq!(wrong(5, 2, "yes", "kprobe"), 1);
        assert_eq!(wrong(5, 2, "no", "auto"), 1);
    }

    #[test]
    fn only_releases_may_have_been_hidden() {
        let mut totals = Totals::default();
        totals.read("task exits=3i,releases=3i 1").unwrap();
        let expected: Vec<Expected> =
            expect::reads(4, 7).into_iter().filter(|e| ["task.exits", RELEASES].contains(&e.metric.name)).collect();
        let row = Row { hooks: "auto".into(), mode: Mode::Return };
        let wrong = |hidden| checks(&totals, &row, &expected, hidden).iter().filter(|c| !c.holds()).count();
        assert_eq!((wrong(0), wrong(1)), (2, 1));
    }

    #[test]
    fn a_metric_that_is_missing_is_wrong_even_where_zero_is_right() {
        let row = Row { hooks: "auto".into(), mode: Mode::Return };
        let nothing = checks(&Totals::default(), &row, &expect::nothing(), 0);
        assert!(nothing.iter().all(|check| !check.holds()));
    }
}
