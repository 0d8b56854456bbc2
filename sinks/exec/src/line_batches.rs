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
        self.encoded.frames.push(Frame::of(batch, std::mem::take(&mut self.samples)));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of so many bytes of lines.
    fn batches(limit: usize) -> LineBatches {
        LineBatches::new(b"L".to_vec(), b"{".to_vec(), limit + 1 + NUMBERS, Room::default())
    }

    /// A batch's items, each with its lines and its samples, and its text with the header.
    type Batch = (Vec<(u32, u32)>, String);

    fn read(batches: LineBatches) -> (Encoded, Vec<Batch>) {
        let (encoded, room) = batches.end();
        assert!(room.text.is_empty() && room.items.is_empty());
        let read = |frame: &Frame| {
            let (items, rest) = item::read(&frame.bytes()[1..]).expect("items");
            assert_eq!(frame.samples(), items.iter().map(|item| u64::from(item.samples)).sum::<u64>());
            let items = items.iter().map(|item| (item.lines, item.samples)).collect();
            (items, String::from_utf8(rest.to_vec()).expect("text"))
        };
        let all = encoded.frames.iter().map(read).collect();
        (encoded, all)
    }

    #[test]
    fn a_batch_has_as_many_bytes_as_it_may_and_no_more() {
        let mut it = batches(20);
        for _ in 0..3 {
            it.push(b"123456789", 2);
        }
        // The heading is in the way of a second one.
        it.heading(b"# h");
        it.push(b"12345", 1);
        it.push(b"12345", 1);
        it.push(b"12345", 1);
        // And this one with its heading.
        it.heading(b"#");
        it.push(b"12", 1);
        let (encoded, all) = read(it);
        assert_eq!(
            all,
            [
                (vec![(1, 2), (1, 2)], "{,\"bytes\":20,\"lines\":2}\n123456789\n123456789\n".to_owned()),
                (vec![(1, 2), (1, 0), (1, 1)], "{,\"bytes\":20,\"lines\":3}\n123456789\n# h\n12345\n".to_owned()),
                (vec![(1, 0), (1, 1), (1, 1)], "{,\"bytes\":16,\"lines\":3}\n# h\n12345\n12345\n".to_owned()),
                (vec![(1, 0), (1, 1)], "{,\"bytes\":5,\"lines\":2}\n#\n12\n".to_owned()),
            ]
        );
        assert!(encoded.rejected.is_empty());
    }

    #[test]
    fn lines_that_fill_a_batch_are_taken_and_longer_ones_rejected() {
        let mut it = batches(20);
        it.push(&[b'x'; 19], 1);
        it.push(&[b'x'; 20], 3);
        it.heading(b"1234\n");
        it.push(&[b'y'; 15], 4);
        it.push(&[b'y'; 14], 5);
        it.heading(b"");
        it.push(b"a\nb\n", 6);
        let (encoded, all) = read(it);
        let items: Vec<_> = all.into_iter().map(|(items, _)| items).collect();
        assert_eq!(items, [vec![(1, 1)], vec![(1, 0), (1, 5)], vec![(2, 6)]]);
        assert_eq!(encoded.rejected, [(3, reason::LINES_TOO_LARGE), (4, reason::LINES_TOO_LARGE)]);
    }

    #[test]
    fn what_is_in_no_line_is_counted() {
        let mut it = batches(20);
        for samples in [0, 2, 3] {
            it.unchanged(samples);
            it.superseded(2 * samples);
            it.rejected(samples, "no number");
        }
        let (encoded, all) = read(it);
        assert_eq!((encoded.unchanged, encoded.superseded, all.len()), (5, 10, 0));
        assert_eq!(encoded.rejected, [(2, "no number"), (3, "no number")]);
    }
}
