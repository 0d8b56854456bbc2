//! Batches of lines, one behind the other.

use ebpf_process_delivery::Frame;

use crate::encoded::Encoded;
use crate::item::{self, Item};
use crate::reason;
use crate::text::digits;

/// What the numbers of bytes and lines take behind the rest of a header, at most.
const NUMBERS: usize = 64;

/// Takes the lines of a view, and puts them into batches.
///
/// Each sample is said once: in lines, or by what else becomes of it.
#[derive(Debug)]
pub struct LineBatches {
    /// Says in memory and on disk which format a batch has.
    mark: Vec<u8>,
    /// The header of each batch of the view, up to its numbers.
    head: Vec<u8>,
    /// Bytes of a batch's lines at most.
    limit: usize,
    heading: Vec<u8>,
    /// Whether the heading is to stand before the next lines.
    heading_is_due: bool,
    room: Room,
    samples: u32,
    encoded: Encoded,
}

/// The lines of the batch in the making, whose memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Room {
    text: Vec<u8>,
    items: Vec<Item>,
}

impl LineBatches {
    /// Batches that begin so and have so many bytes at most.
    pub(crate) fn new(mark: Vec<u8>, head: Vec<u8>, limit: usize, room: Room) -> Self {
        let limit = limit.saturating_sub(head.len() + NUMBERS);
        let (heading, heading_is_due) = (Vec::new(), false);
        Self { mark, head, limit, heading, heading_is_due, room, samples: 0, encoded: Encoded::default() }
    }

    /// All batches, and the memory.
    pub(crate) fn end(mut self) -> (Encoded, Room) {
        self.finish();
        (self.encoded, self.room)
    }

    /// Whole lines that belong before those that follow, up to the next heading: they carry nothing, and each batch that has
    /// some of these has them.
    pub fn heading(&mut self, lines: &[u8]) {
        self.heading.clear();
        push_whole(lines, &mut self.heading);
        self.heading_is_due = !lines.is_empty();
    }

    /// Whole lines that carry so many samples and stand and fall together: a program that rejects one rejects all. A line
    /// break at their end may be left out.
    pub fn push(&mut self, lines: &[u8], samples: u32) {
        let length = lines.len() + 1;
        if !self.room.items.is_empty() && self.room.text.len() + self.due() + length > self.limit {
            self.finish();
        }
        if self.due() + length > self.limit {
            self.rejected(samples.into(), reason::LINES_TOO_LARGE);
            return;
        }
        if std::mem::take(&mut self.heading_is_due) {
            self.room.text.extend_from_slice(&self.heading);
            self.room.items.push(Item { lines: count(&self.heading), samples: 0 });
        }
        let start = self.room.text.len();
        push_whole(lines, &mut self.room.text);
        self.room.items.push(Item { lines: count(&self.room.text[start..]), samples });
        self.samples += samples;
    }

    /// So many samples have nothing to tell: all that they are is told already. They are as good as written.
    pub const fn unchanged(&mut self, samples: u64) {
        self.encoded.unchanged += samples;
    }

    /// So many samples are worth nothing by what this view tells otherwise.
    pub const fn superseded(&mut self, samples: u64) {
        self.encoded.superseded += samples;
    }

    /// So many samples cannot be said in this format: why, in a few words.
    pub fn rejected(&mut self, samples: u64, reason: &'static str) {
        if samples > 0 {
            self.encoded.rejected.push((samples, reason));
        }
    }

    /// What of the heading stands before the next lines.
    const fn due(&self) -> usize {
        if self.heading_is_due { self.heading.len() } else { 0 }
    }

    /// The batch is full, or the last one.
    fn finish(&mut self) {
        if self.room.items.is_empty() {
            return;
        }
        let mut batch = self.mark.clone();
        item::write(&self.room.items, &mut batch);
        batch.extend_from_slice(&self.head);
        batch.extend_from_slice(b",\"bytes\":");
        digits(self.room.text.len() as u64, &mut batch);
        batch.extend_from_slice(b",\"lines\":");
        digits(self.room.items.iter().map(|item| u64::from(item.lines)).sum(), &mut batch);
        batch.extend_from_slice(b"}\n");
        batch.extend_from_slice(&self.room.text);
        let mut frame = Frame::default();
        frame.push(&batch, std::mem::take(&mut self.samples));
        self.encoded.frames.push(frame);
        self.room.text.clear();
        self.room.items.clear();
        self.heading_is_due = !self.heading.is_empty();
    }
}

fn push_whole(lines: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(lines);
    if lines.last().is_some_and(|last| *last != b'\n') {
        to.push(b'\n');
    }
}

#[expect(clippy::naive_bytecount, reason = "most are a single short line")]
fn count(lines: &[u8]) -> u32 {
    let breaks = lines.iter().filter(|byte| **byte == b'\n').count();
    // No batch is that large.
    u32::try_from(breaks).unwrap_or(u32::MAX)
}
