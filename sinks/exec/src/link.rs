//! From the delivery to the thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_delivery::{Frame, Submit, Ticket, Verdict};

use crate::encoding::Encoding;
use crate::flights::Submitted;
use crate::shared::{Program, Shared};

/// Hands batches to the thread that talks to the program, which settles them.
#[derive(Debug)]
pub(crate) struct Link(pub(crate) Arc<Shared>);

impl Submit for Link {
    fn submit(&mut self, ticket: Ticket, frame: &Frame, _: Duration) {
        let mut state = self.0.state();
        match &state.program {
            Program::Down(problem, until) => {
                let after = Some(until.saturating_duration_since(Instant::now()));
                ticket.settle(Verdict::Retry { after, problem: problem.clone() });
            }
            Program::Over(problem) => ticket.settle(Verdict::Retry { after: None, problem: problem.clone() }),
            Program::Starting | Program::Working => {
                let known = Encoding::of(frame.bytes());
                let (encoding, body) = known.map_or((None, &[][..]), |(encoding, body)| (Some(encoding), body));
                state.submitted.push_back(Submitted { ticket, body: body.into(), encoding });
                drop(state);
                self.0.wake();
            }
        }
    }

    fn window(&self) -> usize {
        self.0.state().window
    }

    fn is_ordered(&self) -> bool {
        self.0.state().is_ordered
    }

    fn encodings(&self) -> &'static [&'static str] {
        // Each frame says which format it has.
        &["exec/1"]
    }

    fn overwrites(&self) -> bool {
        // The program knows a batch by its number.
        true
    }
}
