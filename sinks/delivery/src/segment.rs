//! One file of a spool: records, one after another.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::cursor::Mark;
use crate::frame::Frame;
use crate::record::{self, Found, Head};

/// How every segment begins: the format's name and version. Then come the name of its frames' encoding and a checksum.
const MAGIC: [u8; 8] = *b"ebpfspl2";
/// How those of an earlier version begin: with nothing else.
const OLD_MAGIC: [u8; 8] = *b"ebpfspl1";

/// Where the first record of a segment is.
pub(crate) const START: u64 = SIZE as u64;
/// Where it is in a segment of an earlier version.
pub(crate) const OLD_START: u64 = OLD_MAGIC.len() as u64;

/// What stands before the records: magic, name, checksum.
const SIZE: usize = 64;
const NAMED: usize = SIZE - 4;

const SUFFIX: &str = ".segment";

/// A segment of which something is still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Segments are numbered in the order of their making.
    pub(crate) number: u64,
    /// Where its records begin.
    pub(crate) start: u64,
    /// Where its records end.
    pub(crate) end: u64,
    /// The samples in its records that nobody has read yet.
    pub(crate) samples: u64,
}

/// What a walk over a segment's records says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing but records.
    Clean,
    /// It ends in a record that was never written completely.
    Torn,
    /// Some of its bytes are no record.
    Damaged,
}

/// Where a segment's file is.
pub(crate) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(name(number))
}

fn name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// The numbers of the segments in a directory, oldest first. Other files are not looked at.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let found = entry?.file_name();
        let number = found.to_str().and_then(|found| found.strip_suffix(SUFFIX)?.parse().ok());
        numbers.extend(number.filter(|number| *found == *name(*number)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whether a file of this name is a segment, or one that is being repaired.
pub(crate) fn is_name(found: &OsStr) -> bool {
    let Some((stem, end)) = found.to_str().and_then(|found| found.split_once('.')) else { return false };
    stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit()) && ["segment", "repaired"].contains(&end)
}

/// What stands before a segment's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// The name of its frames' encoding; none in a segment of an earlier version, which is no name at all.
    Named(String),
    /// None, or one that was never written completely.
    Torn,
    /// Something else. Records prove themselves, whatever stands before them.
    Damaged,
}

impl Beginning {
    /// Reads it, and where the records begin.
    pub(crate) fn read(file: &File) -> io::Result<(Self, u64)> {
        let mut bytes = [0; SIZE];
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(bytes.len()).min(bytes.len());
        file.read_exact_at(&mut bytes[..length], 0)?;
        let is = |magic: [u8; 8]| bytes[..length].starts_with(&magic);
        if is(OLD_MAGIC) {
            return Ok((Self::Named(String::new()), OLD_START));
        }
        let named = &bytes[MAGIC.len()..NAMED];
        let end = named.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let name = std::str::from_utf8(&named[..end]).ok().filter(|_| is(MAGIC));
        Ok(match name {
            _ if length < MAGIC.len() || (length < bytes.len() && is(MAGIC)) => (Self::Torn, START),
            Some(name) if bytes[NAMED..] == crc32fast::hash(&bytes[..NAMED]).to_le_bytes() => {
                (Self::Named(name.to_owned()), START)
            }
            _ => (Self::Damaged, OLD_START),
        })
    }

    /// What stands before records whose encoding has this name. None where the name is too long.
    pub(crate) fn of(encoding: &str) -> Option<[u8; SIZE]> {
        let mut bytes = [0; SIZE];
        bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
        bytes[MAGIC.len()..NAMED].get_mut(..encoding.len())?.copy_from_slice(encoding.as_bytes());
        let checksum = crc32fast::hash(&bytes[..NAMED]);
        bytes[NAMED..].copy_from_slice(&checksum.to_le_bytes());
        Some(bytes)
    }
}

/// Makes a segment without records. What an earlier attempt left under the number is overwritten.
pub(crate) fn create(path: &Path, encoding: &str) -> io::Result<File> {
    let beginning = Beginning::of(encoding)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{encoding}: the name is too long")))?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if let Err(error) = file.write_all(&beginning) {
        // On a full disk the file would be empty: no segment, but in the way.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

/// What a walk over a segment's heads has found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan {
    pub(crate) segment: Segment,
    pub(crate) tail: Tail,
    /// The highest serial number of a record, and of a frame.
    pub(crate) serial: Option<u64>,
    pub(crate) frame: u64,
}

/// Walks over a segment's heads from an offset on, or from its first one, and over damage. Records that are acknowledged
/// count no samples.
pub(crate) fn scan(file: &File, number: u64, from: u64, mark: &Mark) -> io::Result<Scan> {
    let size = file.metadata()?.len();
    let (beginning, start) = Beginning::read(file)?;
    let mut segment = Segment { number, start, end: from.max(start), samples: 0 };
    let mut tail = match beginning {
        Beginning::Named(_) => Tail::Clean,
        Beginning::Damaged => Tail::Damaged,
        Beginning::Torn => {
            let tail = if size == 0 { Tail::Clean } else { Tail::Torn };
            return Ok(Scan { segment: Segment { end: 0, ..segment }, tail, serial: None, frame: 0 });
        }
    };
    let (mut serial, mut frame) = (None, 0);
    let mut offset = segment.end;
    while offset < size {
        let found = Head::find(file, offset, size)?;
        if let Found::Head { head, end } = found {
            if !head.serial.is_some_and(|serial| mark.has(serial)) {
                segment.samples = segment.samples.saturating_add(head.samples);
            }
            (serial, frame) = (serial.max(head.serial), frame.max(head.note.number));
            segment.end = end;
            offset = end;
        } else if let Some(next) = record::search(file, offset + 1, size)? {
            tail = Tail::Damaged;
            offset = next;
        } else {
            let torn = tail == Tail::Clean && matches!(found, Found::Torn);
            tail = if torn { Tail::Torn } else { Tail::Damaged };
            break;
        }
    }
    Ok(Scan { segment, tail, serial, frame })
}

/// What [`read`] found.
#[derive(Debug)]
pub(crate) enum Step {
    /// A record, whose frame may be damaged; the next record is at `end`.
    Record { head: Head, frame: Option<Frame>, end: u64 },
    /// Damage; the next record is here.
    Gap(u64),
    /// The rest of the segment cannot be read.
    Lost,
}

/// Reads the record at an offset of a segment whose records end at `size`.
pub(crate) fn read(file: &File, offset: u64, size: u64) -> Step {
    let step = || -> io::Result<Step> {
        Ok(match Head::find(file, offset, size)? {
            Found::Head { head, end } => Step::Record { head, frame: head.read_frame(file, offset)?, end },
            Found::Torn | Found::Damage => record::search(file, offset + 1, size)?.map_or(Step::Lost, Step::Gap),
        })
    };
    step().unwrap_or(Step::Lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_known_by_its_name() {
        assert!(is_name(OsStr::new(&name(7))));
        assert!(is_name(OsStr::new("00000000000000000007.repaired")));
        for wrong in
            ["7.segment", "0000000000000000000x.segment", "00000000000000000007.old", "00000000000000000007", "lock"]
        {
            assert!(!is_name(OsStr::new(wrong)), "{wrong}");
        }
    }

    #[test]
    fn a_beginning_is_whole_torn_or_damaged() {
        let whole = Beginning::of("rows/1").expect("a short name");
        let mut damaged = whole;
        damaged[9] ^= 1;
        let named = |name: &str| (Beginning::Named(name.to_owned()), START);
        let file = tempfile::tempfile().expect("a file");
        for (bytes, expected) in [
            (&b""[..], (Beginning::Torn, START)),
            (b"garbage", (Beginning::Torn, START)),
            (b"garbage!", (Beginning::Damaged, OLD_START)),
            (&MAGIC, (Beginning::Torn, START)),
            (&whole[..SIZE - 1], (Beginning::Torn, START)),
            (&whole, named("rows/1")),
            (&Beginning::of("").expect("a short name"), named("")),
            (&damaged, (Beginning::Damaged, OLD_START)),
            (&OLD_MAGIC, (Beginning::Named(String::new()), OLD_START)),
        ] {
            file.set_len(0).and_then(|()| file.write_all_at(bytes, 0)).expect("room");
            assert_eq!(Beginning::read(&file).expect("a file"), expected, "{bytes:?}");
        }
        assert_eq!(Beginning::of(&"x".repeat(NAMED - MAGIC.len() + 1)), None);
        // Of a torn one nothing is kept, and one of no bytes has lost none.
        for (length, tail) in [(0, Tail::Clean), (7, Tail::Torn), (SIZE - 1, Tail::Torn)] {
            file.set_len(0).and_then(|()| file.write_all_at(&whole[..length], 0)).expect("room");
            let scan = scan(&file, 3, 0, &Mark::default()).expect("a file");
            assert_eq!((scan.tail, scan.segment.end), (tail, 0), "{length}");
        }
    }
}
