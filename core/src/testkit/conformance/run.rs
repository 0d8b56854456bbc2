//! One run of the kit: what it was given, and what it has found out so far.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::reading::Reading;
use super::report::{Finding, Outcome};
use super::row::Row;
use super::words::Words;
use crate::metric::MetricKind;
use crate::options::Options;
use crate::sink::SinkPlugin;

/// Reads back what the receiver has.
pub(super) type ReadBack = Box<dyn FnMut() -> Vec<Reading> + Send>;

/// Sets how the receiver behaves.
pub(super) type SetPeer = Box<dyn FnMut(Peer) -> Result<(), String> + Send>;

/// The type of sink that is tested.
pub(super) type Plugin = Arc<dyn SinkPlugin>;

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// It takes what comes, and says so.
    Well,
    /// It takes its time.
    Slow,
    /// It takes nothing, and says so: what it can answer in its protocol that is no thanks, where it has several such
    /// answers the [next one](super::Kit::refusals) each time.
    Refusing,
    /// It is not there.
    Away,
}

impl Peer {
    /// What the receiver is then.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Slow => "slow",
            Self::Refusing => "refusing",
            Self::Away => "away",
        }
    }
}

/// How far a check goes, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A call of the sink has returned by then, and a batch is settled.
    pub(super) call: Duration,
    /// What was written can be read back by then.
    pub(super) patience: Duration,
    pub(super) rows: usize,
    pub(super) rebuilds: u32,
    pub(super) batches: u32,
    /// Ways to refuse that the receiver has.
    pub(super) refusals: u32,
}

/// A check has ended before its end; what it found is in the book.
#[derive(Debug)]
pub(super) struct Stop;

/// Why a row is thought to have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Something did not arrive: where batches get lost at random, that is why.
    Loss,
    /// A number is too large: where gains are added twice, that is why.
    Surplus,
    /// There are two series for one row: where the output is not pure, that is why.
    Twice,
    /// Anything else.
    Other,
}

/// What was given, and what was found.
pub(super) struct Run {
    pub(super) plugin: Plugin,
    pub(super) options: Options,
    pub(super) read_back: Option<ReadBack>,
    pub(super) set_peer: Option<SetPeer>,
    /// How no receiver of this protocol behaves, and why.
    pub(super) never: Vec<(Peer, String)>,
    pub(super) limits: Limits,
    pub(super) words: Words,
    /// The words of all series of earlier stages.
    pub(super) known: HashSet<String>,
    /// What the receiver had before anything was written.
    pub(super) before: HashSet<String>,
    /// Kinds of numbers that the sink has been seen to deliver, and those that it leaves out without a word because it has none:
    /// who does not settle by himself cannot say so.
    pub(super) delivered: Vec<MetricKind>,
    pub(super) left_out: Vec<MetricKind>,
    /// How often a batch was not settled though nothing more came.
    pub(super) unsettled: u32,
    faults: BTreeMap<Row, Vec<(Sign, String)>>,
    notes: BTreeMap<Row, String>,
    skipped: BTreeMap<Row, (Outcome, String)>,
    done: HashSet<Row>,
    /// Why nothing more is checked.
    over: Option<String>,
}

impl Run {
    pub(super) fn new(plugin: Plugin, options: Options, limits: Limits, seed: u64) -> Self {
        Self {
            plugin,
            options,
            read_back: None,
            set_peer: None,
            never: Vec::new(),
            limits,
            words: Words::new(seed),
            known: HashSet::new(),
            before: HashSet::new(),
            delivered: Vec::new(),
            left_out: Vec::new(),
            unsettled: 0,
            faults: BTreeMap::new(),
            notes: BTreeMap::new(),
            skipped: BTreeMap::new(),
            done: HashSet::new(),
            over: None,
        }
    }

    /// What the receiver has, if somebody can tell.
    pub(super) fn read(&mut self) -> Option<Vec<Reading>> {
        self.read_back.as_mut().map(|read_back| read_back())
    }

    /// Whatever the receiver has by now is none of what is still to be written.
    pub(super) fn look_before(&mut self) {
        let now = self.read().into_iter().flatten().map(|reading| reading.text);
        self.before.extend(now);
    }

    /// Something is not as it should be.
    pub(super) fn blame(&mut self, row: Row, sign: Sign, seen: impl Into<String>) {
        self.faults.entry(row).or_default().push((sign, seen.into()));
    }

    /// Something that whoever reads the table should know.
    pub(super) fn note(&mut self, row: Row, note: impl Into<String>) {
        self.notes.insert(row, note.into());
    }

    /// A check that is not made.
    pub(super) fn skip(&mut self, row: Row, outcome: Outcome, why: impl Into<String>) {
        self.skipped.insert(row, (outcome, why.into()));
    }

    pub(super) fn is_blamed(&self, row: Row) -> bool {
        self.faults.contains_key(&row)
    }

    /// A check was made, whatever it found.
    pub(super) fn finish(&mut self, rows: &[Row]) {
        self.done.extend(rows);
    }

    /// Nothing more is to be checked.
    pub(super) fn end(&mut self, why: impl Into<String>) {
        self.over.get_or_insert(why.into());
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// The table.
    pub(super) fn findings(&self) -> Vec<Finding> {
        Row::ALL.into_iter().map(|row| self.finding(row)).collect()
    }

    fn finding(&self, row: Row) -> Finding {
        let explained = |sign: Sign| {
            let reasons: &[Row] = match (sign, row) {
                (Sign::Loss, Row::Gaps) | (Sign::Other, _) => &[],
                (Sign::Loss, _) => &[Row::Gaps, Row::Order],
                (Sign::Surplus, _) => &[Row::DeltaDoubled],
                (Sign::Twice, _) => &[Row::Purity],
            };
            reasons.iter().copied().find(|reason| row != *reason && self.is_blamed(*reason))
        };
        let faults = self.faults.get(&row).map(Vec::as_slice).unwrap_or_default();
        let own = faults.iter().find(|(sign, _)| explained(*sign).is_none());
        let reason = faults.first().and_then(|(sign, _)| explained(*sign));
        let (outcome, seen) = match (own, reason) {
            (Some((_, seen)), _) => (Outcome::Failed, seen.clone()),
            (None, Some(reason)) => {
                (Outcome::NotRun, format!("what fails \"{}\" hides whether this is right", reason.name()))
            }
            _ if self.skipped.contains_key(&row) => self.skipped[&row].clone(),
            _ if !self.done.contains(&row) => {
                let why = self.over.clone().unwrap_or_else(|| "the test has ended before".to_owned());
                (Outcome::NotRun, why)
            }
            _ if self.read_back.is_none() && row.needs_readings() => {
                (Outcome::NotVerified, "nobody reads back what was delivered".to_owned())
            }
            _ => (Outcome::Passed, self.notes.get(&row).cloned().unwrap_or_default()),
        };
        Finding { row, outcome, seen }
    }
}
