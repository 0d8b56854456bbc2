//! How long to wait before trying again.

use std::time::Duration;

/// Exponential back-off with full jitter: many agents that lost one receiver do not come back at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// In a row.
    failures: u32,
}

impl Backoff {
    /// The longest pause after the first failure; it doubles with each.
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(30);

    /// The pause after one more failure: anything from none to the longest one.
    pub(crate) fn pause(&mut self) -> Duration {
        let limit = self.limit();
        self.failures = self.failures.saturating_add(1);
        limit.mul_f64(fastrand::f64())
    }

    /// It works again.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    fn limit(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        Self::FIRST.saturating_mul(doubled).min(Self::LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute_and_no_further() {
        let mut backoff = Backoff::default();
        for limit in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            assert_eq!(backoff.limit(), Duration::from_millis(limit));
            assert!(backoff.pause() <= Duration::from_millis(limit));
        }
        for _ in 0..100 {
            assert!(backoff.pause() <= Backoff::LONGEST);
        }
        backoff.reset();
        assert_eq!(backoff.limit(), Backoff::FIRST);
    }

    #[test]
    fn no_two_agents_come_back_together() {
        let pauses: std::collections::BTreeSet<_> = (0..8).map(|_| Backoff { failures: 9 }.pause()).collect();
        assert!(pauses.len() > 1, "{pauses:?}");
    }
}
