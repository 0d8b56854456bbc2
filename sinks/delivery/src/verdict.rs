//! What became of a frame.

use std::time::Duration;

use crate::frame::Frame;

/// What a receiver made of a frame. Reasons are few and fixed: they are columns of the ledger. Those that are a receiver's own
/// words the ledger makes so ([`Ledger::reason`](ebpf_process_core::Ledger::reason)).
/// Problems are for people: what went wrong and the way out, on one line, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The receiver has all of it, and says so.
    Accepted,
    /// It is on its way over a connection, and nothing acknowledges it: whether it is written depends on
    /// the connection ([`Carrier::peer`](crate::Carrier::peer)). It is not sent again.
    Sent,
    /// The receiver kept the rest and does not want these; which of them they are, it may not say.
    Partly {
        /// How many samples it refused.
        rejected: u64,
        /// Why.
        reason: &'static str,
        /// In its words.
        problem: String,
    },
    /// The receiver kept the rest, if there is one, and refused these items, perhaps for a part of them: they are sent
    /// again in these smaller ones. That is done so many times for a frame; then they are rejected.
    Again {
        /// The items that take their place, with no more samples than the frame has.
        pieces: Frame,
        /// Why, should they be rejected.
        reason: &'static str,
        /// In its words.
        problem: String,
    },
    /// The content is refused, and nothing of it was kept. Where
    /// [`Carrier::overwrites`](crate::Carrier::overwrites), the frame is halved until the item that
    /// is to blame stands alone, and that one is rejected; elsewhere the frame is.
    Rejected {
        /// Why.
        reason: &'static str,
        /// In its words.
        problem: String,
    },
    /// Refused, but hardly by the receiver itself: somebody on the way to it, or something else at its
    /// address. The frame is kept and sent again, later each time. Where other frames get through
    /// meanwhile it is to blame itself, and is treated as [`Rejected`](Self::Rejected); while nothing
    /// gets through, one frame an hour is given up, the oldest. Other frames pass it meanwhile; of frames
    /// that were on disk as many are passed as fit into half of `delivery.memory`.
    Doubtful {
        /// Why, should it be to blame.
        reason: &'static str,
        /// What it looks like.
        problem: String,
    },
    /// The frame is too large, and nothing of it was kept. It is halved; a single item is rejected.
    TooLarge {
        /// In its words.
        problem: String,
    },
    /// Not now: the receiver is away or busy. The frame is kept and sent again, later each time.
    Retry {
        /// How long the receiver wants to be left alone, at least.
        after: Option<Duration>,
        /// What is wrong.
        problem: String,
    },
    /// Not before a person does something: wrong credentials, no such database. The frame is kept
    /// and sent again, rarely.
    Misconfigured {
        /// What is wrong.
        problem: String,
    },
}
