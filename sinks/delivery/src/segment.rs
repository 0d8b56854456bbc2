//! One file of a spool: records, one after another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::frame::Frame;
use crate::record::{Found, Head};

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

/// How a walk over a segment's records ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Behind the last record.
    Clean,
    /// At a record that was never written completely.
    Torn,
    /// At bytes that are no record.
    Damaged,
}

/// Where a segment's file is.
pub(crate) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}{SUFFIX}"))
}

/// The numbers of the segments in a directory, oldest first. Other files are not looked at.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
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

/// Walks over a segment's heads from an offset. Returns what there is to read, and what ends it.
pub(crate) fn scan(file: &mut File, number: u64, from: u64) -> io::Result<(Segment, Tail)> {
    let size = file.metadata()?.len();
    let mut segment = Segment { number, end: from, samples: 0 };
    let mut magic = [0; MAGIC.len()];
    if size < START {
        return Ok((Segment { end: 0, ..segment }, if size == 0 { Tail::Clean } else { Tail::Torn }));
    }
    file.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Ok((Segment { end: 0, ..segment }, Tail::Damaged));
    }
    while segment.end < size {
        match Head::find(file, segment.end, size)? {
            Found::Head { head, end } => {
                segment.samples = segment.samples.saturating_add(head.samples);
                segment.end = end;
            }
            Found::Torn => return Ok((segment, Tail::Torn)),
            Found::Damage => return Ok((segment, Tail::Damaged)),
        }
    }
    Ok((segment, Tail::Clean))
}

/// What [`read`] found.
#[derive(Debug)]
pub(crate) enum Step {
    /// A record's frame, which may be damaged; the next record is at `end`.
    Record { frame: Option<Frame>, samples: u64, end: u64 },
    /// The rest of the segment cannot be read.
    Lost,
}

/// Reads the record at an offset of a segment that ends at `size`.
pub(crate) fn read(file: &File, offset: u64, size: u64) -> Step {
    match Head::find(file, offset, size) {
        Ok(Found::Head { head, end }) => match head.read_frame(file, offset) {
            Ok(frame) => Step::Record { frame, samples: head.samples, end },
            Err(_) => Step::Lost,
        },
        Ok(Found::Torn | Found::Damage) | Err(_) => Step::Lost,
    }
}
