//! Lines in datagrams.

use std::time::{Duration, Instant};

use ebpf_process_core::Finding;
use ebpf_process_delivery::{Carrier, Datagrams, Frame, Lookup, Passage, Resolve, Verdict};

use crate::values::too_large;

/// The time between two questions for a name while all is well.
const AGAIN: Duration = Duration::from_secs(300);
/// How long an unknown name is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Datagrams to one receiver.
pub(crate) struct Udp {
    datagrams: Datagrams,
}

impl Udp {
    /// To `HOST:PORT`.
    pub(crate) fn new(address: &str, resolve: Resolve) -> Self {
        Self { datagrams: Datagrams::new(Lookup::new(address, "url", resolve, AGAIN, Instant::now())) }
    }
}

/// Whether the name is known, and whether somebody listens as far as this host can tell.
pub(crate) fn try_out(address: &str, limit: Duration) -> Finding {
    let mut udp = Udp::new(address, Lookup::system());
    let way_out = "start the receiver, or check the option url";
    match udp.datagrams.try_out(Instant::now(), limit) {
        Ok(()) => Finding::fine(format!("there is a way to udp://{address}; over UDP nobody answers")),
        Err(problem) => Finding::warning(problem, way_out),
    }
}

impl Carrier for Udp {
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict {
        let retry = |problem| Verdict::Retry { after: None, problem };
        if let Err(problem) = self.datagrams.begin(Instant::now(), limit.min(PATIENCE)) {
            return retry(problem);
        }
        match self.datagrams.send(frame.bytes()) {
            Passage::Sent => Verdict::Accepted,
            // Whichever was refused: this one, sent again, overwrites itself.
            Passage::Late { problem } | Passage::Lost { problem } => retry(problem),
            Passage::TooLarge { problem } => too_large(frame, format!("{problem}; lower the option max_bytes")),
        }
    }

    fn overwrites(&self) -> bool {
        true
    }
}
