//! The way of frames to a server: one request for each.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use ebpf_process_core::{BuildError, SinkContext};
use ebpf_process_delivery::{Carrier, Frame, Lookup, Resolve, Verdict};
use flate2::Compression;
use flate2::write::GzEncoder;
use tracing::warn;
use ureq::Error;

use crate::client::Client;
use crate::protocol::{Errand, Protocol};
use crate::server::Server;
use crate::silence::is_hang_up;

/// A body that is smaller is not worth compressing.
const WORTH_COMPRESSING: usize = 1024;
/// So many frames in a row are refused compressed and taken plain before nothing is compressed any more.
const CONVINCING: u32 = 2;

/// Carries frames to one server, for a [`Delivery`](ebpf_process_delivery::Delivery): a frame is the body of a request.
#[derive(Debug)]
pub struct HttpCarrier<P> {
    protocol: P,
    client: Client,
    /// Whether bodies are compressed.
    packs: bool,
    /// The connection over which a compressed body was understood.
    unpacks: Option<u64>,
    /// How many frames in a row were refused compressed and taken plain.
    refused_packed: u32,
    compressed: Vec<u8>,
    /// The number of the answer to the last request; 0 if there was none.
    status: u16,
}

impl<P: Protocol> HttpCarrier<P> {
    /// Reads secrets and certificates; connects to nothing yet.
    pub fn new(server: Server, protocol: P, context: &SinkContext) -> Result<Self, BuildError> {
        Self::with_names(server, protocol, context, Lookup::system())
    }

    /// The same with another way from names to addresses.
    fn with_names(server: Server, protocol: P, context: &SinkContext, resolve: Resolve) -> Result<Self, BuildError> {
        let request = protocol.request(&*context.opener)?;
        let packs = server.compresses();
        let client = Client::new(server, request, context, resolve)?;
        Ok(Self { protocol, client, packs, unpacks: None, refused_packed: 0, compressed: Vec::new(), status: 0 })
    }

    /// The number of the answer to the last request; 0 if there was none.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Sends a frame as it is, no longer than `limit`, and says what became of it.
    pub(crate) fn send_plain(&mut self, frame: &Frame, limit: Duration) -> Verdict {
        let end = self.client.end(limit);
        self.request(frame, true, end)
    }

    /// What would be made by itself after the last answer.
    pub(crate) fn mends(&self) -> Option<String> {
        self.protocol.mends(self.status)
    }

    /// Sends a frame until `end`, and once more over a new connection where an old one turned out to be closed: a
    /// server gives idle connections up when it likes.
    fn exchange(&mut self, frame: &Frame, end: Instant) -> Verdict {
        let plain = !self.packs || frame.bytes().len() <= WORTH_COMPRESSING;
        let verdict = self.request(frame, plain, end);
        if plain || self.protocol.is_unpacked_everywhere() {
            return verdict;
        }
        if matches!(verdict, Verdict::Accepted) {
            self.unpacks = Some(self.client.made());
            self.refused_packed = 0;
            return verdict;
        }
        let nothing_kept = match &verdict {
            Verdict::Rejected { .. } | Verdict::Doubtful { .. } => true,
            Verdict::Partly { rejected, .. } => *rejected >= frame.samples(),
            Verdict::Again { pieces, .. } => pieces.samples() >= frame.samples(),
            _ => false,
        };
        // Nobody has unpacked anything on this way yet: are the lines to blame, or how they came?
        if nothing_kept && self.unpacks != Some(self.client.made()) {
            let plainly = self.request(frame, true, end);
            if matches!(plainly, Verdict::Accepted) {
                self.refused_packed += 1;
                // Once may be a server that was only just getting ready.
                if self.refused_packed >= CONVINCING {
                    self.packs = false;
                    warn!(
                        sink = %self.client.sink(),
                        "{} does not unpack what is compressed: something on the way loses the header that says so; \
                         nothing is compressed from now on; set the option gzip = false",
                        self.client.server.name()
                    );
                }
            }
            return plainly;
        }
        verdict
    }

    fn request(&mut self, frame: &Frame, plain: bool, end: Instant) -> Verdict {
        self.status = 0;
        let before = self.client.begin();
        let outcome = match self.attempt(frame, plain, end) {
            Err(error) if is_hang_up(&error) && self.client.made() == before => {
                self.client.begin();
                self.attempt(frame, plain, end)
            }
            outcome => outcome,
        };
        match outcome {
            Ok(verdict) => {
                self.client.trust();
                verdict
            }
            Err(error) => self.client.doubt(&error),
        }
    }

    fn attempt(&mut self, frame: &Frame, plain: bool, end: Instant) -> Result<Verdict, Error> {
        let reply = if plain {
            self.client.post(frame.bytes(), false, end)?
        } else {
            compress(frame.bytes(), &mut self.compressed)?;
            self.client.post(&self.compressed, true, end)?
        };
        self.status = reply.status;
        Ok(self.protocol.verdict(&reply, frame))
    }

    /// Reads again what lets us in; whether it has changed.
    fn read_again(&mut self) -> Result<bool, BuildError> {
        let request = self.protocol.request(&**self.client.opener())?;
        self.client.read_again(request)
    }
}

impl<P: Protocol> Carrier for HttpCarrier<P> {
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict {
        let end = self.client.end(limit);
        let verdict = self.exchange(frame, end);
        let Verdict::Misconfigured { problem } = &verdict else { return verdict };
        if self.mends().is_some() {
            return match self.protocol.mend(&Errand { client: &self.client, end }) {
                Ok(()) => self.exchange(frame, end),
                Err(problem) => Verdict::Misconfigured { problem },
            };
        }
        // A secret or a certificate may have been replaced since it was read.
        match self.read_again() {
            Ok(false) => verdict,
            Ok(true) => self.exchange(frame, end),
            Err(error) => Verdict::Misconfigured { problem: format!("{problem}; {error}") },
        }
    }

    fn overwrites(&self) -> bool {
        self.protocol.overwrites()
    }

    fn encodings(&self) -> &'static [&'static str] {
        self.protocol.encodings()
    }
}

fn compress(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    let mut encoder = GzEncoder::new(out, Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish().map(drop)
}

#[cfg(test)]
mod tests;
