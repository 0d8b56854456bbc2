//! The two times that a delivery knows.

use std::fmt;
use std::time::{Duration, Instant};

use ebpf_process_core::engine::{Clock as _, SystemClock};

/// The moment, which never goes back, and the time of day, which outlives a restart.
pub(crate) struct Times {
    now: Box<dyn Fn() -> Instant + Send>,
    /// Where the time of day follows the moment: a moment, and what time it was then.
    start: Option<(Instant, Duration)>,
}

impl Times {
    pub(crate) fn system() -> Self {
        Self { now: Box::new(Instant::now), start: None }
    }

    /// Both follow this clock, from the machine's time of day on.
    pub(crate) fn of(now: impl Fn() -> Instant + Send + 'static) -> Self {
        let start = (now(), SystemClock.now().wall);
        Self { now: Box::new(now), start: Some(start) }
    }

    pub(crate) fn now(&self) -> Instant {
        (self.now)()
    }

    /// Milliseconds since 1970.
    pub(crate) fn wall(&self) -> u64 {
        let wall = match self.start {
            Some((start, wall)) => wall + self.now().saturating_duration_since(start),
            None => SystemClock.now().wall,
        };
        u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Times").field("start", &self.start).finish_non_exhaustive()
    }
}
