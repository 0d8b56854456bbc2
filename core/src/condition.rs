//! How a sink or a probe fares, for the status and for `agent.sink_state` and `agent.probe_state`.

use std::time::Instant;

use parking_lot::Mutex;

/// How a sink or a probe fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// What it needs is not there: it is tried again, later and later.
    Absent,
    /// What was asked of it last it did.
    #[default]
    Working,
    /// What was asked of it last it could not do; it is asked again.
    Failing,
    /// It is over, and nothing more is asked of it before a reload or a restart.
    Closed,
}

impl State {
    /// The word for it in a status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Working => "working",
            Self::Failing => "failing",
            Self::Closed => "closed",
        }
    }

    /// The number for it in a metric.
    pub const fn number(self) -> u32 {
        match self {
            Self::Absent => 0,
            Self::Working => 1,
            Self::Failing => 2,
            Self::Closed => 3,
        }
    }
}

/// A state, since when and, unless all is well, why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Condition {
    /// How it fares.
    pub state: State,
    /// Why it does not work; none where it does.
    pub reason: Option<String>,
    /// Since when it is in this state.
    pub since: Instant,
}

impl Default for Condition {
    fn default() -> Self {
        Self { state: State::Working, reason: None, since: Instant::now() }
    }
}

/// A condition that several threads look at.
#[derive(Debug, Default)]
pub(crate) struct SharedCondition(Mutex<Condition>);

impl SharedCondition {
    pub(crate) fn state(&self) -> State {
        self.0.lock().state
    }

    pub(crate) fn look(&self) -> Condition {
        self.0.lock().clone()
    }

    /// What is closed stays so.
    pub(crate) fn become_state(&self, state: State, reason: &str) {
        let condition = &mut *self.0.lock();
        if condition.state == State::Closed {
            return;
        }
        if condition.state != state {
            condition.since = Instant::now();
        }
        condition.state = state;
        match (&mut condition.reason, state) {
            (reason, State::Working) => *reason = None,
            // A failure that goes on is said at each attempt.
            (Some(known), _) => {
                known.clear();
                known.push_str(reason);
            }
            (none, _) => *none = Some(reason.to_owned()),
        }
    }
}
