//! One frame on disk: a head with a checksum of its own, then the frame.
//!
//! The head's checksum tells a torn or overwritten head from a damaged frame: with a good head the
//! next record can be found, and it is known how many samples were lost.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::frame::Frame;
use crate::note::Note;

/// The head's size: length, samples, the frame's checksum, serial number, the frame's number and time, the head's checksum.
const HEAD: usize = 44;
/// Of an earlier version: length, samples, the frame's checksum, the head's checksum.
const OLD_HEAD: usize = 20;

/// What stands before a frame on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) samples: u64,
    /// Records are numbered as they are written. Those of an earlier version are not.
    pub(crate) serial: Option<u64>,
    pub(crate) note: Note,
    length: u32,
    checksum: u32,
}

/// What was found at an offset of a segment.
#[derive(Debug)]
pub(crate) enum Found {
    /// A head whose record lies within the file; the record ends at `end`.
    Head { head: Head, end: u64 },
    /// The end, or a record that was never written completely.
    Torn,
    /// Neither a head nor the end.
    Damage,
}

/// How much is looked at in one go for the next record.
const WINDOW: usize = 64 << 10;

/// Finds the first whole record from an offset on, behind damage.
pub(crate) fn search(file: &File, from: u64, size: u64) -> io::Result<Option<u64>> {
    let mut window = vec![0; WINDOW];
    let mut offset = from;
    while offset + OLD_HEAD as u64 <= size {
        let length = usize::try_from(size - offset).unwrap_or(WINDOW).min(WINDOW);
        let bytes = &mut window[..length];
        file.read_exact_at(bytes, offset)?;
        // Where more follows, the last heads are looked at with what follows.
        let is_last = offset + length as u64 == size;
        let starts = length + 1 - if is_last { OLD_HEAD } else { HEAD };
        for (start, at) in (offset..).zip(0..starts) {
            if Head::from_bytes(&bytes[at..]).is_none() {
                continue;
            }
            let Found::Head { head, .. } = Head::find(file, start, size)? else { continue };
            if head.read_frame(file, start)?.is_some() {
                return Ok(Some(start));
            }
        }
        if is_last {
            break;
        }
        offset += starts as u64;
    }
    Ok(None)
}

/// Serializes a frame as a record into `out`, which is cleared. False if the frame is too large for
/// a record.
pub(crate) fn write(frame: &Frame, serial: u64, note: Note, out: &mut Vec<u8>) -> bool {
    out.clear();
    out.extend_from_slice(&[0; HEAD]);
    if !frame.write_to(out) {
        return false;
    }
    let Ok(length) = u32::try_from(out.len() - HEAD) else { return false };
    let checksum = crc32fast::hash(&out[HEAD..]);
    out[..4].copy_from_slice(&length.to_le_bytes());
    out[4..12].copy_from_slice(&frame.samples().to_le_bytes());
    out[12..16].copy_from_slice(&checksum.to_le_bytes());
    for (place, number) in out[16..40].chunks_exact_mut(8).zip([serial, note.number, note.time]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let own = crc32fast::hash(&out[..40]);
    out[40..HEAD].copy_from_slice(&own.to_le_bytes());
    true
}

impl Head {
    /// Looks for a record at an offset of a file that ends at `size`.
    pub(crate) fn find(file: &File, offset: u64, size: u64) -> io::Result<Found> {
        let room = usize::try_from(size.saturating_sub(offset)).unwrap_or(HEAD).min(HEAD);
        if room < OLD_HEAD {
            return Ok(Found::Torn);
        }
        let mut bytes = [0; HEAD];
        file.read_exact_at(&mut bytes[..room], offset)?;
        let Some(head) = Self::from_bytes(&bytes[..room]) else {
            return Ok(if room < HEAD { Found::Torn } else { Found::Damage });
        };
        let end = offset + head.size() + u64::from(head.length);
        Ok(if end > size { Found::Torn } else { Found::Head { head, end } })
    }

    /// Reads the frame of the record at this offset; `None` if it is damaged.
    pub(crate) fn read_frame(self, file: &File, offset: u64) -> io::Result<Option<Frame>> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, offset + self.size())?;
        let frame = if crc32fast::hash(&bytes) == self.checksum { Frame::read_from(&bytes) } else { None };
        Ok(frame.filter(|frame| frame.samples() == self.samples))
    }

    /// Where the frame begins.
    const fn size(&self) -> u64 {
        (if self.serial.is_some() { HEAD } else { OLD_HEAD }) as u64
    }

    /// A head proves itself and of which version it is, whatever stands before it.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (samples, rest) = rest.split_first_chunk()?;
        let (checksum, rest) = rest.split_first_chunk()?;
        let head = Self {
            samples: u64::from_le_bytes(*samples),
            serial: None,
            note: Note::default(),
            length: u32::from_le_bytes(*length),
            checksum: u32::from_le_bytes(*checksum),
        };
        let own = rest.get(24..).and_then(<[u8]>::first_chunk);
        if own.is_some_and(|own| *own == crc32fast::hash(&bytes[..40]).to_le_bytes()) {
            let (serial, rest) = rest.split_first_chunk()?;
            let (number, rest) = rest.split_first_chunk()?;
            let (time, _) = rest.split_first_chunk()?;
            let note = Note { number: u64::from_le_bytes(*number), time: u64::from_le_bytes(*time) };
            return Some(Self { serial: Some(u64::from_le_bytes(*serial)), note, ..head });
        }
        let (own, _) = rest.split_first_chunk()?;
        (*own == crc32fast::hash(&bytes[..16]).to_le_bytes()).then_some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of a frame with one item.
    fn whole() -> Vec<u8> {
        let mut frame = Frame::default();
        frame.push(b"line", 3);
        let mut record = Vec::new();
        assert!(write(&frame, 7, Note { number: 8, time: 9 }, &mut record));
        record
    }

    /// The same as an earlier version wrote it.
    fn old(record: &[u8]) -> Vec<u8> {
        let mut head = record[..16].to_vec();
        let own = crc32fast::hash(&head);
        head.extend_from_slice(&own.to_le_bytes());
        [&head[..], &record[HEAD..]].concat()
    }

    fn file_of(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(bytes, 0).expect("room");
        file
    }

    #[test]
    fn the_next_whole_record_is_found_wherever_it_begins() {
        let (record, old) = (whole(), old(&whole()));
        for record in [&record, &old] {
            for gap in [5, WINDOW - 7, WINDOW + 3] {
                let mut bytes = vec![0x55; gap];
                bytes.extend_from_slice(record);
                let (file, size) = (file_of(&bytes), bytes.len() as u64);
                let (found, gap) = (|from| search(&file, from, size).expect("a file"), gap as u64);
                assert_eq!((found(3), found(gap), found(gap + 1)), (Some(gap), Some(gap), None));
                // One whose end is missing is none.
                assert_eq!(search(&file, 3, size - 1).expect("a file"), None, "{gap}");
            }
        }
    }

    #[test]
    fn less_than_a_head_is_torn_and_anything_else_that_is_none_is_damage() {
        let record = whole();
        let find = |bytes: &[u8], offset| Head::find(&file_of(bytes), offset, bytes.len() as u64).expect("a file");
        let Found::Head { head, end } = find(&record, 0) else { panic!("it is there") };
        assert_eq!((head.samples, head.serial, head.note), (3, Some(7), Note { number: 8, time: 9 }));
        let frame = head.read_frame(&file_of(&record), 0).expect("a file");
        assert_eq!((end, frame.map(|frame| frame.len())), (record.len() as u64, Some(1)));
        let Found::Head { head, end } = find(&old(&record), 0) else { panic!("it is there") };
        assert_eq!((head.samples, head.serial, end), (3, None, record.len() as u64 - (HEAD - OLD_HEAD) as u64));
        for (length, is_torn) in [(0, true), (19, true), (20, true), (HEAD - 1, true), (HEAD, false), (HEAD + 1, false)]
        {
            let found = find(&vec![0x55; length + 2], 2);
            assert_eq!(matches!(found, Found::Torn), is_torn, "{length}: {found:?}");
        }
        assert!(matches!(find(&record[..record.len() - 1], 0), Found::Torn));
    }
}
