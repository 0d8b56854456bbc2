//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential back-off with full jitter: after the n-th failure in a row anything between nothing
/// and `min * 2^(n-1)`, at most `max`, so that many agents do not come back at the same moment.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// The longest wait that a receiver may ask for.
    pub(crate) const LONGEST_WISH: Duration = Duration::from_secs(3600);

    /// Waits from `min` on, up to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0, random: fastrand::Rng::new() }
    }

    /// From now on the waits depend on this seed alone.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.random.seed(seed);
    }

    /// After a failure; what the receiver asks for comes first, up to an hour.
    pub fn failed(&mut self, after: Option<Duration>) -> Duration {
        let longest = self.min.saturating_mul(1 << self.failures.min(30)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        after.unwrap_or_default().min(Self::LONGEST_WISH) + longest.mul_f64(self.random.f64())
    }

    /// After a failure that waiting does not mend: near the longest wait, from the first time on.
    pub fn misconfigured(&mut self) -> Duration {
        self.max.mul_f64(0.5 + self.random.f64() / 2.0)
    }

    /// After a success the next failure is a first one.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backoff(seed: u64) -> Backoff {
        let mut backoff = Backoff::new(SECOND, 60 * SECOND);
        backoff.reseed(seed);
        backoff
    }

    #[test]
    fn waits_grow_to_the_longest_and_use_all_of_the_room() {
        let mut longest = [Duration::ZERO; 12];
        for seed in 0..1000 {
            let mut backoff = backoff(seed);
            for (failures, longest) in (0_u32..).zip(&mut longest) {
                let wait = backoff.failed(None);
                assert!(wait <= SECOND * 60.min(1 << failures), "{failures}: {wait:?}");
                *longest = (*longest).max(wait);
            }
        }
        for (failures, longest) in (0_u32..).zip(longest) {
            assert!(longest > (SECOND * 60.min(1 << failures)).mul_f64(0.9), "{failures}: {longest:?}");
        }
    }

    #[test]
    fn what_the_receiver_asks_for_is_the_least_up_to_an_hour() {
        for seed in 0..100 {
            let wait = backoff(seed).failed(Some(30 * SECOND));
            assert!((30 * SECOND..=31 * SECOND).contains(&wait), "{wait:?}");
            assert!(backoff(seed).failed(Some(Duration::MAX)) <= Backoff::LONGEST_WISH + SECOND);
        }
    }

    #[test]
    fn a_success_starts_anew_and_a_wrong_configuration_waits_long() {
        for seed in 0..100 {
            let mut backoff = backoff(seed);
            for _ in 0..100 {
                backoff.failed(None);
            }
            assert!((30 * SECOND..=60 * SECOND).contains(&backoff.misconfigured()));
            backoff.succeeded();
            assert!(backoff.failed(None) <= SECOND);
        }
    }

    #[test]
    fn a_seed_decides_the_waits() {
        let waits = |seed| {
            let mut backoff = backoff(seed);
            [(); 3].map(|()| backoff.failed(None))
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
