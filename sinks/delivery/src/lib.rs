//! Delivery to a receiver that may be away, slow, or of another opinion: what a network sink builds
//! on.
//!
//! ```text
//! Sink::write -> Packer -> Frame -> Delivery::offer -> memory -> spool
//!                                   Delivery::work  -> Submit::submit -> Ticket -> Verdict -> ledger
//! ```
//!
//! * A [`Frame`] is what is sent at once: whole items (lines, packets), each with its samples.
//! * A [`Carrier`] does the I/O and says what became of a frame: a [`Verdict`]. Who learns that later takes a [`Ticket`]
//!   for each frame ([`Submit`]), and has more than one under way; any thread settles it, which calls the sink
//!   ([`Waker`](ebpf_process_core::Waker)).
//! * A [`Delivery`] keeps frames until there is a final verdict, in order, in bounded memory and a
//!   bounded [`Spool`] on disk, and enters each sample in the sink's ledger.
//! * A [`PackedSink`] is all of the above, for whoever turns views into [`Items`].
//!
//! What is the same for every carrier over a network is here as well: a [`Lookup`] asks for a name's
//! addresses on a thread of its own, since asking may take longer than any deadline, and
//! [`Datagrams`] are UDP that follows its receiver. So are the ways on this host: a [`Printer`] is the sink that
//! prints, a [`LineFile`] takes whole lines, and [`Unread`] knows what a pipe still holds.
//!
//! A frame is delivered at least once. It is sent twice only where its fate is not known: the
//! answer was lost, or the agent was killed between the answer and the note on disk.
//!
//! ```
//! use std::time::Duration;
//!
//! use ebpf_process_core::testkit::context;
//! use ebpf_process_delivery::{Carrier, Delivery, DeliveryOptions, Frame, Verdict};
//!
//! /// A receiver that is busy at first.
//! struct Busy(u32, Vec<u8>);
//!
//! impl Carrier for Busy {
//!     fn send(&mut self, frame: &Frame, _: Duration) -> Verdict {
//!         if self.0 > 0 {
//!             self.0 -= 1;
//!             return Verdict::Retry { after: None, problem: "busy".to_owned() };
//!         }
//!         self.1.extend_from_slice(frame.bytes());
//!         Verdict::Accepted
//!     }
//! }
//!
//! let mut delivery = Delivery::new(Busy(1, Vec::new()), &DeliveryOptions::default(), &context("mine"))?;
//! let mut frame = Frame::default();
//! frame.push(b"one line\n", 1);
//! delivery.offer(frame);
//! delivery.work();
//! assert!(delivery.due().is_some(), "it is tried again later");
//! # Ok::<(), ebpf_process_core::BuildError>(())
//! ```

mod aside;
mod backoff;
mod carrier;
mod connected;
mod cursor;
mod datagrams;
mod delivery;
mod doubt;
mod frame;
mod front;
mod hand;
mod health;
mod inspect;
mod line_file;
mod lookup;
mod note;
mod numbers;
mod options;
mod packed;
mod packer;
mod print;
mod queue;
mod reason;
mod record;
mod segment;
mod spool;
mod storage;
mod submit;
mod ticket;
mod times;
mod trial;
mod undelivered;
mod unread;
mod verdict;
mod window;

pub use backoff::Backoff;
pub use carrier::Carrier;
pub use datagrams::{Datagrams, Passage};
pub use delivery::Delivery;
pub use doubt::{Doubt, Peer, look_for_close};
pub use frame::Frame;
pub use inspect::{SegmentReport, inspect, repair};
pub use line_file::LineFile;
pub use lookup::{Lookup, Resolve};
pub use options::DeliveryOptions;
pub use packed::{Items, PackedSink};
pub use packer::{Limits, Packer};
pub use print::{Print, Printed, Printer};
pub use spool::{Losses, Recovery, Spool, SpoolError, Taken, is_of_a_spool};
pub use submit::Submit;
pub use ticket::Ticket;
pub use undelivered::Undelivered;
pub use unread::Unread;
pub use verdict::Verdict;
