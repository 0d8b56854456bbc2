//! The way to a receiver that answers later.

use std::time::Duration;

use crate::carrier::Carrier;
use crate::doubt::Peer;
use crate::frame::Frame;
use crate::ticket::Ticket;

/// Takes frames to a receiver without waiting for its answers: what a [`Delivery`](crate::Delivery) works with. Every
/// [`Carrier`] is one that answers at once.
///
/// ```
/// use std::sync::mpsc::{Sender, channel};
/// use std::time::Duration;
///
/// use ebpf_process_core::testkit::{context, offer};
/// use ebpf_process_delivery::{Delivery, DeliveryOptions, Frame, Submit, Ticket, Verdict};
///
/// /// Hands frames to a thread that answers when it likes.
/// struct Away(Sender<(Ticket, Vec<u8>)>);
///
/// impl Submit for Away {
///     fn submit(&mut self, ticket: Ticket, frame: &Frame, _: Duration) {
///         // Where the thread is gone the ticket comes back, and says so.
///         if let Err(error) = self.0.send((ticket, frame.bytes().to_owned())) {
///             let problem = "the thread is gone".to_owned();
///             error.0.0.settle(Verdict::Retry { after: None, problem });
///         }
///     }
///
///     fn window(&self) -> usize {
///         8
///     }
///
///     fn overwrites(&self) -> bool {
///         true
///     }
/// }
///
/// let (sender, frames) = channel();
/// let context = context("mine");
/// let mut delivery = Delivery::new(Away(sender), &DeliveryOptions::default(), &context)?;
/// for line in ["one\n", "two\n"] {
///     let mut frame = Frame::default();
///     frame.push(line.as_bytes(), 1);
///     offer(&context.ledger, frame.samples());
///     delivery.offer(frame);
///     delivery.work();
/// }
/// assert_eq!(context.ledger.tally().queued, 2, "both are under way");
/// for (ticket, _) in frames.try_iter() {
///     ticket.settle(Verdict::Accepted);
/// }
/// delivery.work();
/// assert_eq!(context.ledger.tally().written, 2);
/// # Ok::<(), ebpf_process_core::BuildError>(())
/// ```
pub trait Submit: Send {
    /// Begins to send a frame, or a piece of one. What becomes of it is said by the ticket, at once or later, from any
    /// thread; that the receiver never answers is for the carrier to notice, and a [`Retry`](crate::Verdict::Retry) too.
    /// A carrier that waits here does so no longer than `limit`, which is longer than nothing. Called on the sink's thread.
    fn submit(&mut self, ticket: Ticket, frame: &Frame, limit: Duration);

    /// How many frames may be unanswered, up to [`Delivery::WINDOW`](crate::Delivery::WINDOW). Only where frames
    /// [overwrite themselves](Self::overwrites) it is more than one: frames of one series may overtake one another where
    /// one of them has to be sent again, and one that is sent again would count twice. While the receiver is failing it is
    /// one as well.
    fn window(&self) -> usize {
        1
    }

    /// Whether a frame that has to be sent again holds back the later ones. Those that were under way by then the receiver
    /// answers as it likes; no other is sent before it. Where it does not, the others pass a frame whose
    /// [`Retry`](crate::Verdict::Retry) names a time, until that time has come; as many as the window has places.
    fn is_ordered(&self) -> bool {
        true
    }

    /// Whether a frame that is sent again overwrites itself at the receiver, or is known there by its number, so that
    /// nothing is counted twice and an older frame harms nothing behind a newer one.
    fn overwrites(&self) -> bool {
        false
    }

    /// The names of encodings: first the one of the frames that it is offered, then those of frames that it can send as
    /// well, left in a spool by an earlier version. "" is the name of what has none. Frames in a spool say which they are
    /// of, and one with others in it is refused: up to 52 bytes each, such as "exec-rows/1".
    fn encodings(&self) -> &'static [&'static str] {
        &[""]
    }

    /// As [`Carrier::peer`].
    fn peer(&mut self) -> Peer {
        Peer::Here
    }
}

impl<C: Carrier> Submit for C {
    fn submit(&mut self, ticket: Ticket, frame: &Frame, limit: Duration) {
        ticket.settle(self.send(frame, limit));
    }

    fn overwrites(&self) -> bool {
        Carrier::overwrites(self)
    }

    fn encodings(&self) -> &'static [&'static str] {
        Carrier::encodings(self)
    }

    fn peer(&mut self) -> Peer {
        Carrier::peer(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Submit for Plain {
        fn submit(&mut self, ticket: Ticket, _: &Frame, _: Duration) {
            drop(ticket);
        }
    }

    struct Rows;

    impl Carrier for Rows {
        fn send(&mut self, _: &Frame, _: Duration) -> crate::Verdict {
            crate::Verdict::Accepted
        }

        fn encodings(&self) -> &'static [&'static str] {
            &["rows/1"]
        }
    }

    #[test]
    fn what_is_not_said_of_a_way_is_the_safe_answer() {
        let said = (Plain.window(), Plain.is_ordered(), Plain.overwrites(), Plain.encodings(), Plain.peer());
        assert_eq!(said, (1, true, false, &[""][..], Peer::Here));
        assert_eq!((Submit::window(&Rows), Submit::encodings(&Rows)), (1, &["rows/1"][..]));
    }
}
