//! What the kit has found out.

use std::fmt;

use serde::Serialize;

use super::row::Row;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It saw what it expected.
    Passed,
    /// It saw something else.
    Failed,
    /// Nothing could be read back, so that nobody knows.
    NotVerified,
    /// It was not made: what it needs was not given, or the test had ended before.
    NotRun,
    /// There is nothing to check: whoever tests the sink [states](super::Kit::not_applicable) why.
    NotApplicable,
}

impl Outcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::NotVerified => "NOT VERIFIED",
            Self::NotRun => "not run",
            Self::NotApplicable => "not applicable",
        }
    }
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub row: Row,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen, or why nothing was.
    pub seen: String,
}

/// The table of all checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub(super) sink: String,
    pub(super) target: String,
    pub(super) seed: u64,
    pub(super) findings: Vec<Finding>,
}

impl Report {
    /// The rows, in the order in which the checks are made.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The checks that failed.
    pub fn failed(&self) -> Vec<Row> {
        self.with(Outcome::Failed)
    }

    /// Whether no check failed, and all that were made could be verified.
    pub fn passed(&self) -> bool {
        self.exit() == 0
    }

    /// 0 where all is well, 1 where a check failed, 3 where none failed but something could not be verified.
    pub fn exit(&self) -> u8 {
        if !self.failed().is_empty() {
            1
        } else if !self.with(Outcome::NotVerified).is_empty() {
            3
        } else {
            0
        }
    }

    /// Stops a test with the table, unless all is well.
    ///
    /// # Panics
    ///
    /// When a check failed, or could not be verified.
    pub fn assert_passed(&self) {
        assert!(self.passed(), "{self}");
    }

    /// The table as JSON on one line.
    pub fn to_json(&self) -> String {
        let rows = self.findings.iter().map(|finding| Line {
            check: finding.row.name(),
            outcome: finding.outcome,
            expected: finding.row.expected(),
            seen: &finding.seen,
        });
        let page =
            Page { sink: &self.sink, target: &self.target, seed: self.seed, exit: self.exit(), checks: rows.collect() };
        serde_json::to_string(&page).unwrap_or_default()
    }

    fn with(&self, outcome: Outcome) -> Vec<Row> {
        self.findings.iter().filter(|finding| finding.outcome == outcome).map(|finding| finding.row).collect()
    }
}

#[derive(Serialize)]
struct Page<'a> {
    sink: &'a str,
    target: &'a str,
    seed: u64,
    exit: u8,
    checks: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    check: &'a str,
    outcome: Outcome,
    expected: &'a str,
    seen: &'a str,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sink {}, target {}, seed {}", self.sink, self.target, self.seed)?;
        let width = Row::ALL.iter().map(|row| row.name().len()).max().unwrap_or_default();
        for Finding { row, outcome, seen } in &self.findings {
            writeln!(f, "{:14} {:width$}  {}", outcome.word(), row.name(), row.expected())?;
            if !seen.is_empty() {
                writeln!(f, "{:14} {:width$}  seen: {seen}", "", "")?;
            }
        }
        let count = |outcome| self.with(outcome).len();
        let [passed, failed] = [Outcome::Passed, Outcome::Failed].map(count);
        let [unverified, left, never] = [Outcome::NotVerified, Outcome::NotRun, Outcome::NotApplicable].map(count);
        write!(f, "{passed} passed, {failed} failed, {unverified} not verified, {left} not run, {never} not applicable")
    }
}
