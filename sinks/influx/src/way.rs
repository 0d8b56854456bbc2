//! The way that lines take, whichever it is.

use std::time::Duration;

use ebpf_process_delivery::{Carrier, Frame, Peer, Verdict};

/// What a spool's frames are; earlier versions named nothing.
pub(crate) const ENCODINGS: &[&str] = &["influx-lines", ""];

/// Takes frames of lines to a receiver. In a spool they are lines of InfluxDB, whatever the way they would have taken.
pub(crate) struct Way(pub(crate) Box<dyn Carrier>);

impl Carrier for Way {
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict {
        self.0.send(frame, limit)
    }

    fn overwrites(&self) -> bool {
        self.0.overwrites()
    }

    fn encodings(&self) -> &'static [&'static str] {
        ENCODINGS
    }

    fn peer(&mut self) -> Peer {
        self.0.peer()
    }
}
