//! What the sink and the thread that talks to the program both know.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use ebpf_process_peer::{Bell, Ears};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::flights::Submitted;
use crate::words::Words;

/// The state of both, and how each hears of what the other has changed.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    bell: Bell,
}

/// How things stand.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) program: Program,
    /// What the delivery has for it.
    pub(crate) submitted: VecDeque<Submitted>,
    /// How many batches it may have unanswered, and whether one that comes again holds back the newer ones.
    pub(crate) window: usize,
    pub(crate) is_ordered: bool,
    /// As the program last wanted it.
    pub(crate) words: Option<Words>,
    /// The times of the end, once the sink ends.
    pub(crate) ends: Option<Ends>,
}

/// Until when the end may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// What waits may still be sent, and answered.
    pub(crate) sending: Instant,
    /// The program may still end by itself.
    pub(crate) closing: Instant,
    /// It may still end as it was asked to.
    pub(crate) killing: Instant,
}

impl Ends {
    /// Within so much time from now.
    pub(crate) fn within(limit: Duration) -> Self {
        let now = Instant::now();
        Self { sending: now + limit.mul_f64(0.5), closing: now + limit.mul_f64(0.7), killing: now + limit.mul_f64(0.9) }
    }
}

/// How the program fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// It was started, and has not said what it wants.
    Starting,
    /// It takes batches.
    Working,
    /// It is started again: why, and when.
    Down(String, Instant),
    /// It is not started again: why.
    Over(String),
}

impl Shared {
    /// The state, and what hears that the sink has changed it.
    pub(crate) fn new() -> io::Result<(Self, Ears)> {
        let (bell, ears) = Bell::new()?;
        let state = State {
            program: Program::Starting,
            submitted: VecDeque::new(),
            window: 1,
            is_ordered: true,
            words: None,
            ends: None,
        };
        Ok((Self { state: Mutex::new(state), changed: Condvar::new(), bell }, ears))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Tells the thread that there is something new.
    pub(crate) fn wake(&self) {
        self.bell.ring();
    }

    /// Says how the program fares; returns what was submitted for it until then.
    pub(crate) fn program_is(&self, program: Program) -> VecDeque<Submitted> {
        let mut state = self.state();
        state.program = program;
        let submitted = std::mem::take(&mut state.submitted);
        drop(state);
        self.changed.notify_all();
        submitted
    }

    /// Waits for a change of how the program fares, no longer than the limit.
    pub(crate) fn wait(&self, state: &mut MutexGuard<'_, State>, limit: Duration) {
        self.changed.wait_for(state, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_has_its_parts_in_order() {
        let (before, limit) = (Instant::now(), Duration::from_secs(100));
        let Ends { sending, closing, killing } = Ends::within(limit);
        assert!(sending >= before + limit / 2);
        assert_eq!((closing - sending, killing - closing), (Duration::from_secs(20), Duration::from_secs(20)));
    }
}
