//! Lines packed into packets: a datagram each, or a piece of a stream.

use ebpf_process_core::SeriesId;

/// What is known of a packet after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on its way, and no refusal is known.
    Sent,
    /// It is on its way, but one before it was refused: it counts as failed in that one's place.
    Late,
    /// Only so many of its bytes are on their way. The lines within them are not sent again.
    Cut(usize),
    /// It certainly did not arrive: what it carried is still due.
    Lost,
}

/// A counter's total that a line takes along.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) id: SeriesId,
    /// Which slot of a histogram; 0 for a counter.
    pub(crate) slot: usize,
    pub(crate) total: u64,
}

/// Where a finished line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// In the packet.
    Inside,
    /// Behind it: what stands before it has to go first.
    Behind,
    /// Nowhere: it is longer than a packet may be.
    TooLong,
}

/// The packet in the making. A line is written to its end first; then it is seen whether it
/// fits.
#[derive(Debug)]
pub(crate) struct Packet {
    bytes: Vec<u8>,
    /// Where the last line starts; a line break stands before it, if a line does.
    line: usize,
    limit: usize,
    /// What its lines take along, each with the end of its line.
    pub(crate) carried: Vec<(usize, Due)>,
    /// Samples that end in here.
    pub(crate) samples: u64,
}

impl Packet {
    /// An empty packet that may have so many bytes.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), line: 0, limit, carried: Vec::new(), samples: 0 }
    }

    /// Starts a line: its bytes are to be added to what is returned.
    pub(crate) fn start_line(&mut self) -> &mut Vec<u8> {
        if !self.bytes.is_empty() {
            self.bytes.push(b'\n');
        }
        self.line = self.bytes.len();
        &mut self.bytes
    }

    /// Whether the last line fits.
    pub(crate) const fn fit(&self) -> Fit {
        if self.bytes.len() <= self.limit {
            Fit::Inside
        } else if self.bytes.len() - self.line <= self.limit {
            Fit::Behind
        } else {
            Fit::TooLong
        }
    }

    /// Enters what the last line takes along.
    pub(crate) fn carry(&mut self, due: Option<Due>) {
        let end = self.bytes.len();
        self.carried.extend(due.map(|due| (end, due)));
    }

    /// Takes the last line back.
    pub(crate) fn drop_line(&mut self) {
        self.bytes.truncate(self.line.saturating_sub(1));
        self.line = self.bytes.len();
    }

    /// The lines before the last one.
    pub(crate) fn before_line(&self) -> &[u8] {
        &self.bytes[..self.line.saturating_sub(1)]
    }

    /// All lines.
    pub(crate) fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// Starts the next packet with the last line.
    pub(crate) fn keep_line(&mut self) {
        self.bytes.drain(..self.line);
        self.line = 0;
    }

    /// Starts the next packet without a line.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.line = 0;
    }
}
