//! What the kit is given, and its run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::checks;
use super::reading::Reading;
use super::report::{Finding, Outcome, Report};
use super::row::Row;
use super::run::{Limits, Peer, Run, Sign};
use super::words::Words;
use crate::error::said;
use crate::options::Options;
use crate::sink::SinkPlugin;

/// A test of a sink: which one, with which options, and how what it delivers is read back.
pub struct Kit {
    run: Run,
    seed: u64,
    target: Option<String>,
    /// By then a check has ended.
    check: Duration,
}

impl std::fmt::Debug for Kit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kit").field("sink", &self.run.plugin.name()).field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Kit {
    /// A test of a sink of this type. All sinks of the test have these options, one after the other.
    pub fn new(plugin: impl SinkPlugin + 'static, options: Options) -> Self {
        Self::of(Arc::new(plugin), options)
    }

    /// The same of a type that a [`Registry`](crate::Registry) has.
    pub fn of(plugin: Arc<dyn SinkPlugin>, options: Options) -> Self {
        let limits = Limits {
            call: Duration::from_secs(10),
            patience: Duration::from_secs(3),
            rows: 10_000,
            rebuilds: 1000,
            batches: 40,
            refusals: 1,
        };
        let seed = 1;
        Self { run: Run::new(plugin, options, limits, seed), seed, target: None, check: Duration::from_secs(60 * 5) }
    }

    /// Says what the receiver has by now, of all that it ever got from these sinks: see [`Reading`]. Without this the rows
    /// that are about delivery are not verified.
    #[must_use]
    pub fn read_back(mut self, read_back: impl FnMut() -> Vec<Reading> + Send + 'static) -> Self {
        self.run.read_back = Some(Box::new(read_back));
        self
    }

    /// Tells the receiver how to behave. Without this, `slow peer` and `each verdict` are not run. An error says why it
    /// cannot behave so, and fails the check that asks for it.
    #[must_use]
    pub fn peer(mut self, set_peer: impl FnMut(Peer) -> Result<(), String> + Send + 'static) -> Self {
        self.run.set_peer = Some(Box::new(set_peer));
        self
    }

    /// How many ways to refuse the receiver has: so often it is told to be [`Peer::Refusing`], each time in the next way.
    /// One unless it is set.
    #[must_use]
    pub const fn refusals(mut self, ways: u32) -> Self {
        self.run.limits.refusals = ways;
        self
    }

    /// States that no receiver of this protocol can behave so as far as a sink can tell, and why. `slow peer` or
    /// `each verdict` is not applicable, with that reason in the table, where this leaves nothing of it.
    ///
    /// # Panics
    ///
    /// When there is no reason, and for [`Peer::Well`]: every receiver can be well.
    #[must_use]
    pub fn not_applicable(mut self, peer: Peer, why: impl Into<String>) -> Self {
        let why = why.into();
        assert!(peer != Peer::Well && !why.trim().is_empty(), "{peer:?} is not applicable: say why");
        self.run.never.push((peer, why));
        self
    }

    /// From what names and numbers are made: the same seed makes the same ones. 1 unless it is set.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.run.words = Words::new(seed);
        self
    }

    /// What the table calls the receiver: the sink's destination unless it is set.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// By then a call of the sink has returned, and by then it has closed: ten seconds unless it is set. The first check
    /// that waits in vain ends the test.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.run.limits.call = limit;
        self
    }

    /// By then what was written can be read back: three seconds unless it is set. Only what is not there is waited for.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.run.limits.patience = patience;
        self
    }

    /// Rows of the check `10,000 rows`, if not so many.
    #[must_use]
    pub const fn rows(mut self, rows: usize) -> Self {
        self.run.limits.rows = rows;
        self
    }

    /// How often a sink is built anew for `no growth`: a thousand times unless it is set.
    #[must_use]
    pub const fn rebuilds(mut self, rebuilds: u32) -> Self {
        self.run.limits.rebuilds = rebuilds;
        self
    }

    /// Makes the checks. A sink that does not come back is left behind on its thread.
    pub fn run(self) -> Report {
        let Self { mut run, seed, target, check } = self;
        let sink = run.plugin.name().to_owned();
        let target =
            target.or_else(|| run.plugin.destination(&run.options)).unwrap_or_else(|| "this process".to_owned());
        // One place: whoever is slow to read the last message gets it all the same.
        let call = run.limits.call;
        let (tell, told) = bounded(2);
        let spawned = thread::Builder::new().name("conformance".to_owned()).spawn(move || {
            let tell_row = tell.clone();
            let made = catch_unwind(AssertUnwindSafe(|| {
                run.look_before();
                checks::make(&mut run, |run, row| drop(tell_row.send((row, run.findings()))));
            }));
            if let Err(panic) = made {
                run.blame(Row::Panic, Sign::Other, format!("a panic ends the test: {}", said(&*panic)));
                run.end("a panic has ended the test");
            }
            drop(tell.send((Row::NoGrowth, run.findings())));
        });
        let mut findings = Vec::new();
        let mut row = Row::CheckHasNoEffect;
        if let Err(error) = spawned {
            findings = vec![Finding { row, outcome: Outcome::Failed, seen: format!("no thread: {error}") }];
        } else {
            loop {
                // The first checks are short, or there is nobody to test.
                let is_early = matches!(row, Row::CheckHasNoEffect | Row::Refusal | Row::InTime);
                let limit = if is_early { call * 5 / 2 } else { check };
                match told.recv_timeout(limit) {
                    Ok(now) => (row, findings) = now,
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        let seen =
                            format!("the check \"{}\" does not end: a call has not returned in {limit:?}", row.name());
                        for finding in findings.iter_mut().filter(|finding| finding.row == Row::InTime) {
                            *finding = Finding { row: Row::InTime, outcome: Outcome::Failed, seen: seen.clone() };
                        }
                        break;
                    }
                }
            }
        }
        Report { sink, target, seed, findings }
    }
}
