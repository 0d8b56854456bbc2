//! From the delivery to the thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_delivery::{Frame, Submit, Ticket, Verdict};

use crate::batch::Batch;
use crate::flights::Submitted;
use crate::shared::{Program, Shared};
use crate::words::Formats;

/// What a spool's frames are; each says which format it has.
pub(crate) const ENCODINGS: &[&str] = &["exec/1"];

/// Hands batches to the thread that talks to the program, which settles them.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    formats: Formats,
}

impl Link {
    pub(crate) const fn new(shared: Arc<Shared>, formats: Formats) -> Self {
        Self { shared, formats }
    }
}

impl Submit for Link {
    fn submit(&mut self, ticket: Ticket, frame: &Frame, _: Duration) {
        let mut state = self.shared.state();
        match &state.program {
            Program::Down(problem, until) => {
                let after = Some(until.saturating_duration_since(Instant::now()));
                ticket.settle(Verdict::Retry { after, problem: problem.clone() });
            }
            Program::Over(problem) => ticket.settle(Verdict::Retry { after: None, problem: problem.clone() }),
            Program::Starting | Program::Working => {
                let batch = Batch::read(&frame.shared(), self.formats);
                state.submitted.push_back(Submitted { ticket, batch });
                drop(state);
                self.shared.wake();
            }
        }
    }

    fn window(&self) -> usize {
        self.shared.state().window
    }

    fn is_ordered(&self) -> bool {
        self.shared.state().is_ordered
    }

    fn encodings(&self) -> &'static [&'static str] {
        ENCODINGS
    }

    fn overwrites(&self) -> bool {
        // The program knows a batch by its number.
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_as_the_program_wants_it() {
        let (shared, _ears) = Shared::new().expect("descriptors");
        let shared = Arc::new(shared);
        let link = Link::new(Arc::clone(&shared), Formats(&[]));
        assert_eq!((link.window(), link.is_ordered(), link.encodings(), link.overwrites()), (1, true, ENCODINGS, true));
        assert_eq!(ENCODINGS, ["exec/1"], "what earlier versions have left is sent");
        let mut state = shared.state();
        (state.window, state.is_ordered) = (7, false);
        drop(state);
        assert_eq!((link.window(), link.is_ordered()), (7, false));
    }
}
