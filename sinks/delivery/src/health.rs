//! What the log hears of a delivery: each change of its state, once.

use std::path::Path;
use std::time::{Duration, Instant};

use ebpf_process_core::{chain, explain};
use tracing::{error, info, warn};

use crate::reason;
use crate::spool::{Recovery, SpoolError};

/// Rejections, and losses of each kind, are said this often at most; the ledger counts all of them.
const AGAIN: Duration = Duration::from_secs(3600);

/// How a delivery fares.
#[derive(Debug)]
pub(crate) struct Health {
    sink: String,
    state: State,
    /// When a rejection or a loss of each kind was said last.
    losses: Vec<(&'static str, Instant)>,
    spool_fails: bool,
    /// Why there is no spool, as it was said last.
    spool_lacks: Option<(String, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fine,
    Failing,
    Misconfigured,
}

impl Health {
    pub(crate) fn new(sink: &str) -> Self {
        Self { sink: sink.to_owned(), state: State::Fine, losses: Vec::new(), spool_fails: false, spool_lacks: None }
    }

    /// Whether the last attempt failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.state != State::Fine
    }

    pub(crate) fn works(&mut self) {
        if self.is_failing() {
            self.state = State::Fine;
            info!(sink = %self.sink, "the receiver takes data again");
        }
    }

    pub(crate) fn fails(&mut self, problem: &str) {
        if self.state != State::Failing {
            self.state = State::Failing;
            warn!(sink = %self.sink, "{problem}; the data is kept and sent again, further failures are not logged");
        }
    }

    pub(crate) fn is_misconfigured(&mut self, problem: &str) {
        if self.state != State::Misconfigured {
            self.state = State::Misconfigured;
            error!(sink = %self.sink, "{problem}; until then the data is kept and sent again now and then");
        }
    }

    pub(crate) fn rejects(&mut self, samples: u64, reason: &'static str, problem: &str, now: Instant) {
        if samples > 0 && self.is_news(reason, now) {
            warn!(sink = %self.sink, samples, "rejected: {problem}; further rejections are counted, logged once an hour");
        }
    }

    /// Whether a loss of this kind has to be said: the first one, and again after an hour.
    fn is_news(&mut self, reason: &'static str, now: Instant) -> bool {
        match self.losses.iter_mut().find(|(said, _)| *said == reason) {
            Some((_, said)) if now.saturating_duration_since(*said) < AGAIN => return false,
            Some((_, said)) => *said = now,
            None => self.losses.push((reason, now)),
        }
        true
    }

    /// Samples were given up for this reason.
    pub(crate) fn drops(&mut self, samples: u64, reason: &'static str, now: Instant) {
        if samples == 0 || !self.is_news(reason, now) {
            return;
        }
        let more = "further losses of this kind are counted, logged once an hour";
        let sink = &self.sink;
        match reason {
            reason::STOPPED => {
                warn!(%sink, samples, "dropped: {reason}; set delivery.spool to keep what a stop leaves");
            }
            reason::MEMORY => {
                warn!(%sink, samples, "dropped: {reason}; raise delivery.memory, or set delivery.spool; {more}");
            }
            reason::SPOOL => warn!(%sink, samples, "dropped: {reason}; raise delivery.spool_size; {more}"),
            _ => warn!(%sink, samples, "dropped: {reason}; {more}"),
        }
    }

    /// Samples are counted as failed for this reason.
    pub(crate) fn loses(&mut self, samples: u64, reason: &'static str, now: Instant) {
        if samples > 0 && self.is_news(reason, now) {
            let sink = &self.sink;
            warn!(%sink, samples, "lost: {reason}; further losses of this kind are counted, logged once an hour");
        }
    }

    pub(crate) fn spool_opened(&self, recovery: Recovery) {
        let Recovery { samples, torn, damaged } = recovery;
        if recovery != Recovery::default() {
            info!(sink = %self.sink, samples, "an earlier run left data in the spool: it goes first");
        }
        if torn > 0 {
            info!(sink = %self.sink, "the spool ended in the middle of a record, which was cut off");
        }
        if damaged > 0 {
            warn!(sink = %self.sink, "{damaged} segments of the spool are damaged: what is whole in them is sent");
        }
    }

    /// The spool could not be used before.
    pub(crate) fn spool_is_there(&self, directory: &Path) {
        info!(sink = %self.sink, "the spool {} can be used now", directory.display());
    }

    /// Something of what a predecessor left on disk stays there: it has no room here, or cannot be read.
    pub(crate) fn spool_is_left(&self, directory: &Path, error: Option<&SpoolError>) {
        let why = error.map_or_else(|| "there is no room for it".to_owned(), |error| chain(error));
        warn!(
            sink = %self.sink,
            "what waits in the spool {} stays there: {why}; set delivery.spool to that directory to have it sent",
            directory.display()
        );
    }

    /// The spool cannot be used: said at first, whenever the reason is another one, and each hour.
    pub(crate) fn spool_missing(&mut self, error: &SpoolError, now: Instant) {
        let problem = match error {
            SpoolError::Unusable(path, error) => format!("cannot use {}: {}", path.display(), explain(error)),
            SpoolError::Locked(_) | SpoolError::Foreign(..) => chain(error),
        };
        if self.is_another_lack(&problem, now) {
            error!(sink = %self.sink, "{problem}; data waits in memory only, and the spool is tried again");
        }
    }

    fn is_another_lack(&mut self, problem: &str, now: Instant) -> bool {
        let is_known = |(known, said): &(String, Instant)| known == problem && now.duration_since(*said) < AGAIN;
        let is_news = !self.spool_lacks.as_ref().is_some_and(is_known);
        if is_news {
            self.spool_lacks = Some((problem.to_owned(), now));
        }
        is_news
    }

    pub(crate) fn spool_works(&mut self) {
        if std::mem::take(&mut self.spool_fails) {
            info!(sink = %self.sink, "the spool can be written again");
        }
    }

    pub(crate) fn spool_fails(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.spool_fails, true) {
            let error = explain(error);
            error!(sink = %self.sink, "cannot write to the spool: {error}; data waits in memory meanwhile");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use ebpf_process_core::testkit;

    use super::*;

    /// What is logged meanwhile, without its fields.
    fn logged(act: impl FnOnce()) -> Vec<String> {
        testkit::logged(act).into_iter().map(|line| line.said).collect()
    }

    #[test]
    fn the_first_loss_of_each_kind_is_said_when_it_happens_and_again_after_an_hour() {
        let start = Instant::now();
        let mut health = Health::new("db");
        for (reason, later, said) in [
            (reason::MEMORY, Duration::ZERO, true),
            (reason::MEMORY, Duration::from_secs(1), false),
            (reason::SPOOL, Duration::from_secs(1), true),
            (reason::MEMORY, AGAIN, true),
            (reason::SPOOL, AGAIN, false),
            (reason::STOPPED, AGAIN, true),
        ] {
            assert_eq!(health.is_news(reason, start + later), said, "{reason} after {later:?}");
        }
    }

    #[test]
    fn why_there_is_no_spool_is_said_at_first_when_it_is_another_reason_and_again_after_an_hour() {
        let start = Instant::now();
        let mut health = Health::new("db");
        for (problem, later, said) in [
            ("read-only", Duration::ZERO, true),
            ("read-only", Duration::from_secs(1), false),
            ("permission denied", Duration::from_secs(2), true),
            ("permission denied", AGAIN, false),
            ("permission denied", AGAIN + Duration::from_secs(2), true),
        ] {
            assert_eq!(health.is_another_lack(problem, start + later), said, "{problem} after {later:?}");
        }
    }

    #[test]
    fn each_change_is_said_once() {
        let mut health = Health::new("db");
        let lines = logged(|| {
            for _ in 0..2 {
                health.works();
            }
            for _ in 0..2 {
                health.fails("it is away");
            }
            for _ in 0..2 {
                health.works();
            }
            for _ in 0..2 {
                health.is_misconfigured("no token");
            }
            health.fails("it is away");
        });
        let fails = "WARN it is away; the data is kept and sent again, further failures are not logged";
        let misconfigured = "ERROR no token; until then the data is kept and sent again now and then";
        assert_eq!(lines, [fails, "INFO the receiver takes data again", misconfigured, fails]);
    }

    #[test]
    fn what_is_lost_is_said_with_the_way_out_and_nothing_is_no_loss() {
        let (mut health, now) = (Health::new("db"), Instant::now());
        let mut lose = |samples| {
            logged(|| {
                health.rejects(samples, "malformed", "no such column", now);
                health.loses(samples, "forgotten", now);
                for reason in [reason::STOPPED, reason::MEMORY, reason::SPOOL, reason::DAMAGE] {
                    health.drops(samples, reason, now);
                }
            })
        };
        assert!(lose(0).is_empty());
        let lines = lose(3);
        assert!(lose(3).is_empty(), "it is said already");
        let more = "further losses of this kind are counted, logged once an hour";
        let (stopped, memory, spool, damage) = (reason::STOPPED, reason::MEMORY, reason::SPOOL, reason::DAMAGE);
        assert_eq!(
            lines,
            [
                "WARN rejected: no such column; further rejections are counted, logged once an hour".to_owned(),
                format!("WARN lost: forgotten; {more}"),
                format!("WARN dropped: {stopped}; set delivery.spool to keep what a stop leaves"),
                format!("WARN dropped: {memory}; raise delivery.memory, or set delivery.spool; {more}"),
                format!("WARN dropped: {spool}; raise delivery.spool_size; {more}"),
                format!("WARN dropped: {damage}; {more}"),
            ]
        );
    }

    #[test]
    fn what_a_spool_has_and_how_it_fares_is_said() {
        let (mut health, now) = (Health::new("db"), Instant::now());
        let lines = logged(|| {
            health.spool_opened(Recovery::default());
            health.spool_opened(Recovery { samples: 1, ..Recovery::default() });
            health.spool_opened(Recovery { torn: 1, damaged: 2, ..Recovery::default() });
            health.spool_is_there(Path::new("/s"));
            health.spool_is_left(Path::new("/s"), None);
            health.spool_missing(&SpoolError::Locked("/s".into()), now);
            health.spool_fails(&io::Error::other("no disk"));
        });
        let again = logged(|| {
            health.spool_missing(&SpoolError::Locked("/s".into()), now);
            health.spool_fails(&io::Error::other("no disk"));
        });
        assert!(again.is_empty(), "it is said already");
        assert_eq!(logged(|| health.spool_works()), ["INFO the spool can be written again"]);
        assert!(logged(|| health.spool_works()).is_empty());
        let first = "INFO an earlier run left data in the spool: it goes first";
        assert_eq!(
            lines,
            [
                first,
                first,
                "INFO the spool ended in the middle of a record, which was cut off",
                "WARN 2 segments of the spool are damaged: what is whole in them is sent",
                "INFO the spool /s can be used now",
                "WARN what waits in the spool /s stays there: there is no room for it; set delivery.spool to that \
                 directory to have it sent",
                "ERROR the spool /s belongs to another sink or agent; data waits in memory only, and the spool is tried \
                 again",
                "ERROR cannot write to the spool: no disk; data waits in memory meanwhile",
            ]
        );
    }
}
