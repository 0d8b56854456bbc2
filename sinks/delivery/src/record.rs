//! One frame on disk: a head with a checksum of its own, then the frame.
//!
//! The head's checksum tells a torn or overwritten head from a damaged frame: with a good head the
//! next record can be found, and it is known how many samples were lost.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::frame::Frame;

/// The head's size: length, samples, the frame's checksum, the head's checksum.
const HEAD: usize = 20;

/// What stands before a frame on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) samples: u64,
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
    while offset + HEAD as u64 <= size {
        let length = usize::try_from(size - offset).unwrap_or(WINDOW).min(WINDOW);
        let bytes = &mut window[..length];
        file.read_exact_at(bytes, offset)?;
        for (start, head) in (offset..).zip(bytes.array_windows()) {
            if Head::from_bytes(head).is_some()
                && let Found::Head { head, .. } = Head::find(file, start, size)?
                && head.read_frame(file, start)?.is_some()
            {
                return Ok(Some(start));
            }
        }
        offset += (length - HEAD + 1) as u64;
    }
    Ok(None)
}

/// Serializes a frame as a record into `out`, which is cleared. False if the frame is too large for
/// a record.
pub(crate) fn write(frame: &Frame, out: &mut Vec<u8>) -> bool {
    out.clear();
    out.extend_from_slice(&[0; HEAD]);
    if !frame.write_to(out) {
        return false;
    }
    let Ok(length) = u32::try_from(out.len() - HEAD) else { return false };
    let head = Head { samples: frame.samples(), length, checksum: crc32fast::hash(&out[HEAD..]) };
    out[..HEAD].copy_from_slice(&head.to_bytes());
    true
}

impl Head {
    /// Looks for a record at an offset of a file that ends at `size`.
    pub(crate) fn find(file: &File, offset: u64, size: u64) -> io::Result<Found> {
        let start = offset + HEAD as u64;
        if start > size {
            return Ok(Found::Torn);
        }
        let mut bytes = [0; HEAD];
        file.read_exact_at(&mut bytes, offset)?;
        let Some(head) = Self::from_bytes(&bytes) else { return Ok(Found::Damage) };
        let end = start + u64::from(head.length);
        Ok(if end > size { Found::Torn } else { Found::Head { head, end } })
    }

    /// Reads the frame of the record at this offset; `None` if it is damaged.
    pub(crate) fn read_frame(self, file: &File, offset: u64) -> io::Result<Option<Frame>> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, offset + HEAD as u64)?;
        let frame = if crc32fast::hash(&bytes) == self.checksum { Frame::read_from(&bytes) } else { None };
        Ok(frame.filter(|frame| frame.samples() == self.samples))
    }

    fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.samples.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.checksum.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; HEAD]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (samples, rest) = rest.split_first_chunk()?;
        let (checksum, own) = rest.split_first_chunk()?;
        (own == crc32fast::hash(&bytes[..16]).to_le_bytes()).then_some(Self {
            length: u32::from_le_bytes(*length),
            samples: u64::from_le_bytes(*samples),
            checksum: u32::from_le_bytes(*checksum),
        })
    }
}
