//! One file of a spool: records, one after another.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::frame::Frame;
use crate::record::{self, Found, Head};

/// How every segment begins: the format's name and version.
pub(crate) const MAGIC: [u8; 8] = *b"ebpfspl1";

/// Where the first record of a segment is.
pub(crate) const START: u64 = MAGIC.len() as u64;

const SUFFIX: &str = ".segment";

/// A segment of which something is still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Segments are numbered in the order of their making.
    pub(crate) number: u64,
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

/// Makes a segment without records. What an earlier attempt left under the number is overwritten.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if let Err(error) = file.write_all(&MAGIC) {
        // On a full disk the file would be empty: no segment, but in the way.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

/// Walks over a segment's heads from an offset, and over damage. Returns what there is to read, and
/// in which state it is.
pub(crate) fn scan(file: &mut File, number: u64, from: u64) -> io::Result<(Segment, Tail)> {
    let size = file.metadata()?.len();
    let mut segment = Segment { number, end: from, samples: 0 };
    let mut magic = [0; MAGIC.len()];
    if size < START {
        return Ok((Segment { end: 0, ..segment }, if size == 0 { Tail::Clean } else { Tail::Torn }));
    }
    file.read_exact(&mut magic)?;
    // Records prove themselves, whatever stands before them.
    let mut tail = if magic == MAGIC { Tail::Clean } else { Tail::Damaged };
    let mut offset = from;
    while offset < size {
        let found = Head::find(file, offset, size)?;
        if let Found::Head { head, end } = found {
            segment.samples = segment.samples.saturating_add(head.samples);
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
    Ok((segment, tail))
}

/// What [`read`] found.
#[derive(Debug)]
pub(crate) enum Step {
    /// A record's frame, which may be damaged; the next record is at `end`.
    Record { frame: Option<Frame>, samples: u64, end: u64 },
    /// Damage; the next record is here.
    Gap(u64),
    /// The rest of the segment cannot be read.
    Lost,
}

/// Reads the record at an offset of a segment whose records end at `size`.
pub(crate) fn read(file: &File, offset: u64, size: u64) -> Step {
    let step = || -> io::Result<Step> {
        Ok(match Head::find(file, offset, size)? {
            Found::Head { head, end } => {
                Step::Record { frame: head.read_frame(file, offset)?, samples: head.samples, end }
            }
            Found::Torn | Found::Damage => record::search(file, offset + 1, size)?.map_or(Step::Lost, Step::Gap),
        })
    };
    step().unwrap_or(Step::Lost)
}
