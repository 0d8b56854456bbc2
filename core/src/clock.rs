//! The two clocks, and the thread that turns them into ticks.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::vitals::Vitals;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since the Unix epoch, as the machine believes; it may be set back.
    pub wall: Duration,
    /// Since boot, suspend included; it never goes back.
    pub boottime: Duration,
}

/// Where time comes from. Tests bring their own.
pub trait Clock: Send + Sync {
    /// Both clocks, now.
    fn now(&self) -> Moment;
}

/// The machine's clocks: `CLOCK_REALTIME` and `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment {
            wall: since_zero(clock_gettime(ClockId::Realtime)),
            boottime: since_zero(clock_gettime(ClockId::Boottime)),
        }
    }
}

fn since_zero(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Sends a moment at every multiple of the interval on the wall clock, until it is dropped.
///
/// The receiver's queue has no room: a moment that finds the collecting thread busy is counted as
/// an overrun and not made up for.
#[derive(Debug)]
pub struct Ticker {
    /// Dropping it ends the thread.
    intervals: Sender<Duration>,
}

impl Ticker {
    /// Starts the thread and returns the moments it sends.
    pub fn start(
        clock: Arc<dyn Clock>,
        interval: Duration,
        vitals: Arc<Vitals>,
    ) -> std::io::Result<(Self, Receiver<Moment>)> {
        let (intervals, changes) = bounded(1);
        let (sender, receiver) = bounded(0);
        thread::Builder::new()
            .name("ticker".to_owned())
            .spawn(move || tick(&*clock, interval, &sender, &changes, &vitals))?;
        Ok((Self { intervals }, receiver))
    }

    /// From now on the moments are the multiples of another interval.
    pub fn set_interval(&self, interval: Duration) {
        // The thread takes one at once; where it has ended nobody needs it.
        let _ = self.intervals.send(interval);
    }
}

fn tick(
    clock: &dyn Clock,
    mut interval: Duration,
    ticks: &Sender<Moment>,
    changes: &Receiver<Duration>,
    vitals: &Vitals,
) {
    let mut last = clock.now().boottime;
    loop {
        let now = clock.now();
        let mut wait = until_boundary(now.wall, interval);
        // A clock that runs a little slow wakes us just before the boundary: not a second tick.
        if (now.boottime + wait).saturating_sub(last) < interval / 2 {
            wait += interval;
        }
        match changes.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(other) => {
                interval = other;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let moment = clock.now();
        last = moment.boottime;
        match ticks.try_send(moment) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => vitals.count_overrun(),
            Err(TrySendError::Disconnected(_)) => return,
        }
    }
}

/// From a wall-clock time to the next multiple of the interval.
fn until_boundary(wall: Duration, interval: Duration) -> Duration {
    let interval = interval.as_nanos().max(1);
    let rest = interval - wall.as_nanos() % interval;
    Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_aligned_to_multiples_of_the_interval() {
        let second = Duration::from_secs(1);
        for (wall, wait) in [(1_200, 800), (2_000, 1_000), (2_999, 1)] {
            assert_eq!(until_boundary(Duration::from_millis(wall), second), Duration::from_millis(wait));
        }
    }

    #[test]
    fn a_tick_that_finds_the_collector_busy_is_counted_and_not_queued() {
        let vitals = Arc::new(Vitals::default());
        let (ticker, moments) =
            Ticker::start(Arc::new(SystemClock), Duration::from_millis(1), Arc::clone(&vitals)).expect("a thread");
        // Nobody receives: every tick is an overrun.
        while vitals.overruns() < 3 {
            thread::yield_now();
        }
        assert!(moments.is_empty());
        drop(ticker);
        assert!(moments.iter().count() <= 1);
    }
}
