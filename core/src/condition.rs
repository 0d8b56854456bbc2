//! How a sink fares, for the status and for `agent.sink_state`.

use parking_lot::Mutex;

/// How a sink fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SinkState {
    /// It could not be built, or another agent has its destination.
    Absent,
    /// What it was given last it took.
    #[default]
    Working,
    /// What it was given last it could not deliver.
    Failing,
    /// It is over, and is given nothing more.
    Closed,
}

impl SinkState {
    /// The word for it in a status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Working => "working",
            Self::Failing => "failing",
            Self::Closed => "closed",
        }
    }

    /// The number for it in `agent.sink_state`.
    pub const fn number(self) -> u32 {
        match self {
            Self::Absent => 0,
            Self::Working => 1,
            Self::Failing => 2,
            Self::Closed => 3,
        }
    }
}

/// A sink's state and, unless it works, the reason.
#[derive(Debug, Default)]
pub(crate) struct Condition(Mutex<(SinkState, String)>);

impl Condition {
    pub(crate) fn state(&self) -> SinkState {
        self.0.lock().0
    }

    pub(crate) fn look(&self) -> (SinkState, Option<String>) {
        let (state, reason) = self.0.lock().clone();
        (state, (state != SinkState::Working).then_some(reason))
    }

    /// What is closed stays so.
    pub(crate) fn become_state(&self, state: SinkState, reason: &str) {
        let mut condition = self.0.lock();
        if condition.0 != SinkState::Closed {
            condition.0 = state;
            condition.1.clear();
            condition.1.push_str(reason);
        }
    }
}
