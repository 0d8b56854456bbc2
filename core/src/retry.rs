//! When what is absent is tried again, and how often that is said.

use std::time::{Duration, Instant};

/// Between the first attempt and the second.
const FIRST: Duration = Duration::from_secs(1);

/// Between two attempts, at most.
const LONGEST: Duration = Duration::from_secs(60);

/// How often the same reason is said again.
const REMINDER: Duration = Duration::from_secs(60 * 60);

/// After so long without a failure the next one counts as the first.
const FORGOTTEN: Duration = Duration::from_secs(60 * 10);

/// The attempts of one sink or probe. Time is given, so an hour is a loop in a test.
#[derive(Debug)]
pub(crate) struct Retry {
    wait: Duration,
    last: Option<Instant>,
    said: Option<(Instant, String)>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { wait: FIRST, last: None, said: None }
    }
}

impl Retry {
    /// An attempt has failed: how long to wait for the next one. Twice as long each time, up to a minute.
    pub(crate) fn failed(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= FORGOTTEN) {
            *self = Self::default();
        }
        self.last = Some(now);
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST);
        wait
    }

    /// Whether a reason is to be said: the first one, another one than before, and the same one once an hour.
    pub(crate) fn is_news(&mut self, now: Instant, reason: &str) -> bool {
        let is_known =
            |(at, known): &(Instant, String)| known == reason && now.saturating_duration_since(*at) < REMINDER;
        if self.said.as_ref().is_some_and(is_known) {
            return false;
        }
        self.said = Some((now, reason.to_owned()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_later_and_later_up_to_once_a_minute() {
        let (mut retry, start) = (Retry::default(), Instant::now());
        let mut now = start;
        let waits: Vec<u64> = (0..9)
            .map(|_| {
                let wait = retry.failed(now);
                now += wait;
                wait.as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(retry.failed(now + FORGOTTEN), FIRST, "it has worked meanwhile");
    }

    #[test]
    fn a_reason_is_said_when_it_is_new_and_once_an_hour() {
        let (mut retry, start) = (Retry::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let said: Vec<u64> = (0..7300).step_by(10).filter(|second| retry.is_news(at(*second), "no disk")).collect();
        assert_eq!(said, [0, 3600, 7200]);
        assert!(retry.is_news(at(7300), "no port") && !retry.is_news(at(7310), "no port"));
        assert!(retry.is_news(at(7320), "no disk"), "another one than before");
    }
}
