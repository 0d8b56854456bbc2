//! What the probe and the thread that talks to the program both know.

use std::io;
use std::time::{Duration, Instant};

use ebpf_process_peer::{Bell, Ears, LAST_CHANCE};
use parking_lot::Mutex;

use crate::answer::Answer;
use crate::question::Question;

/// The state of both, and how the thread hears of what the probe has changed.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    bell: Bell,
}

#[derive(Debug)]
struct State {
    /// What is to be asked next.
    question: Option<Question>,
    /// The tick of the last question.
    tick: u64,
    /// The newest whole answer that was not taken.
    answer: Option<Answer>,
    standing: Standing,
    ends: Option<Ends>,
}

/// How the program fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not said what it has.
    Starting,
    /// It is asked.
    Working,
    /// What it said last was no answer, and why; it is asked again.
    Wrong(String),
    /// It is started again: why.
    Down(String),
    /// It is not started again: why.
    Over(String),
}

/// Until when the end may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The program may still end by itself.
    pub(crate) closing: Instant,
    /// It may still end as it was asked to.
    pub(crate) killing: Instant,
}

impl Shared {
    /// The state, and what hears that the probe has changed it.
    pub(crate) fn new() -> io::Result<(Self, Ears)> {
        let (bell, ears) = Bell::new()?;
        let state = State { question: None, tick: 0, answer: None, standing: Standing::Starting, ends: None };
        Ok((Self { state: Mutex::new(state), bell }, ears))
    }

    /// Asks; takes the answer to this question or the one before, or says how the program fares.
    pub(crate) fn ask(&self, question: Question) -> Result<Answer, Standing> {
        let mut state = self.state.lock();
        (state.question, state.tick) = (Some(question), question.tick);
        let answer = state.answer.take().filter(|answer| answer.tick + 1 >= question.tick);
        let taken = answer.ok_or_else(|| state.standing.clone());
        drop(state);
        self.bell.ring();
        taken
    }

    /// The end begins.
    pub(crate) fn end(&self, close: Duration) {
        let closing = Instant::now() + close;
        self.state.lock().ends = Some(Ends { closing, killing: closing + LAST_CHANCE });
        self.bell.ring();
    }

    /// The times of the end, once that has begun.
    pub(crate) fn ends(&self) -> Option<Ends> {
        self.state.lock().ends
    }

    /// What is to be asked, once.
    pub(crate) fn question(&self) -> Option<Question> {
        self.state.lock().question.take()
    }

    /// The program has ended without an answer: the next one is asked, unless there is a newer question.
    pub(crate) fn ask_again(&self, question: Question) {
        self.state.lock().question.get_or_insert(question);
    }

    /// The tick of the last question.
    pub(crate) fn tick(&self) -> u64 {
        self.state.lock().tick
    }

    /// Whether nobody has taken the last answer so far.
    #[cfg(test)]
    pub(crate) fn is_untaken(&self) -> bool {
        self.state.lock().answer.is_some()
    }

    /// There is a new answer.
    pub(crate) fn answer(&self, answer: Answer) {
        let mut state = self.state.lock();
        state.standing = Standing::Working;
        let former = state.answer.replace(answer);
        drop(state);
        // It may be large.
        drop(former);
    }

    /// How the program fares.
    #[cfg(test)]
    pub(crate) fn standing(&self) -> Standing {
        self.state.lock().standing.clone()
    }

    /// Says how the program fares. What it has answered before it ended is still taken.
    pub(crate) fn program_is(&self, standing: Standing) {
        self.state.lock().standing = standing;
    }
}
