//! Which batches are a sink's, and when it writes them.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use crate::batch::Tick;

/// Picks a sink's batches out of all: those at the multiples of its interval on the wall clock.
#[derive(Debug)]
pub(crate) struct Pace {
    base: Duration,
    interval: Duration,
    last: Option<Tick>,
}

impl Pace {
    /// For a sink with an interval of its own, or with every batch.
    pub(crate) const fn new(base: Duration, interval: Option<Duration>) -> Self {
        let interval = match interval {
            Some(interval) => interval,
            None => base,
        };
        Self { base, interval, last: None }
    }

    /// Whether this tick's batch is the sink's. The first one always is.
    pub(crate) fn takes(&self, tick: Tick) -> bool {
        let Some(last) = self.last.filter(|_| self.interval > self.base) else { return true };
        // A clock that was set back must not starve the sink: time since boot decides as well.
        self.period(tick) != self.period(last) || tick.boottime.saturating_sub(last.boottime) >= self.interval
    }

    /// Notes that the sink was given this tick's batch; returns the time since the one before.
    pub(crate) fn take(&mut self, tick: Tick) -> Option<Duration> {
        self.last.replace(tick).map(|last| tick.boottime.saturating_sub(last.boottime))
    }

    /// How many whole intervals the wall clock shows; a tick may be a little early.
    fn period(&self, tick: Tick) -> u128 {
        (tick.wall + self.base / 2).as_nanos() / self.interval.as_nanos().max(1)
    }
}

/// A random part of a jitter: from nothing up to almost all of it.
pub(crate) fn random_part(jitter: Duration) -> Duration {
    // Every map of the standard library is seeded at random; so is this hasher.
    part(jitter, RandomState::new().build_hasher().finish())
}

fn part(whole: Duration, random: u64) -> Duration {
    let nanoseconds = (whole.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn tick(wall: f64, boottime: f64) -> Tick {
        Tick { seq: 0, wall: Duration::from_secs_f64(wall), boottime: Duration::from_secs_f64(boottime) }
    }

    /// Which of these ticks an interval of five seconds takes.
    fn taken(walls: &[(f64, f64)]) -> Vec<f64> {
        let mut pace = Pace::new(SECOND, Some(5 * SECOND));
        let ticks = walls.iter().filter(|(wall, boottime)| {
            let tick = tick(*wall, *boottime);
            let takes = pace.takes(tick);
            if takes {
                pace.take(tick);
            }
            takes
        });
        ticks.map(|(wall, _)| *wall).collect()
    }

    #[test]
    fn the_first_tick_and_those_at_multiples_are_taken() {
        let every_second: Vec<_> = (3..17).map(|second| (f64::from(second), f64::from(second))).collect();
        assert_eq!(taken(&every_second), [3.0, 5.0, 10.0, 15.0]);
        assert_eq!(taken(&[(3.7, 0.7), (4.999, 2.0), (6.0, 3.0), (9.01, 6.0), (10.02, 7.0)]), [3.7, 4.999, 10.02]);
        // A boundary that fell into an overrun or a suspend is made up for by the next tick.
        assert_eq!(taken(&[(5.0, 5.0), (9.0, 9.0), (11.0, 11.0), (12.0, 12.0), (47.0, 47.0)]), [5.0, 11.0, 47.0]);
    }

    #[test]
    fn a_clock_that_was_set_back_starves_no_sink() {
        // The batches' wall clock stands still until the machine's has caught up.
        let standing: Vec<_> = (0..12).map(|second| (100.0, f64::from(second))).collect();
        assert_eq!(taken(&standing).len(), 3);
    }

    #[test]
    fn a_part_is_never_more_than_the_whole() {
        assert_eq!(part(2 * SECOND, 0), Duration::ZERO);
        assert_eq!(part(2 * SECOND, 1 << 63), SECOND);
        assert!(part(2 * SECOND, u64::MAX) < 2 * SECOND);
        assert!(random_part(SECOND) < SECOND);
        assert_eq!(random_part(Duration::ZERO), Duration::ZERO);
    }
}
