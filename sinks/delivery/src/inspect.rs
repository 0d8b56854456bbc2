//! A look at a spool from outside, and what can be saved of a damaged one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::cursor::{self, Position};
use crate::record::{self, Found, Head};
use crate::segment;
use crate::spool::{SpoolError, lock};

/// What is in a segment of a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// Segments are numbered in the order of their making.
    pub number: u64,
    /// The file's size in bytes.
    pub size: u64,
    /// Bytes that are acknowledged and not sent again.
    pub acknowledged: u64,
    /// Whole records that wait.
    pub records: u64,
    /// Their samples.
    pub samples: u64,
    /// Bytes that are no whole record: lost.
    pub damaged: u64,
}

/// Reads a spool without touching it, oldest segment first; an agent may be using it, and the
/// record that it is just writing is then counted as damaged.
pub fn inspect(directory: &Path) -> Result<Vec<SegmentReport>, SpoolError> {
    let position = cursor::peek(directory).map_err(SpoolError::at(&directory.join(cursor::NAME)))?;
    let numbers = segment::list(directory).map_err(SpoolError::at(directory))?;
    let report = |number| {
        let path = segment::path(directory, number);
        let looked = File::open(&path).and_then(|file| look(&file, number, position));
        Ok(looked.map_err(SpoolError::at(&path))?.0)
    };
    numbers.into_iter().map(report).collect()
}

/// Writes every segment that is damaged anew, with the whole records that are left in it, which are
/// those that the agent would find as well. Returns what was there before. A spool that an agent is
/// using is refused.
pub fn repair(directory: &Path) -> Result<Vec<SegmentReport>, SpoolError> {
    if !directory.is_dir() {
        return Err(SpoolError::Unusable(directory.to_owned(), io::ErrorKind::NotADirectory.into()));
    }
    let _lock = lock(directory)?;
    let reports = inspect(directory)?;
    let position = cursor::peek(directory).map_err(SpoolError::at(&directory.join(cursor::NAME)))?;
    for report in reports.iter().filter(|report| report.damaged > 0) {
        let path = segment::path(directory, report.number);
        rewrite(&path, report.number, position).map_err(SpoolError::at(&path))?;
    }
    Ok(reports)
}

/// Walks over a segment and finds every whole record in it, behind damage as well.
fn look(file: &File, number: u64, position: Position) -> io::Result<(SegmentReport, Vec<Range<u64>>)> {
    let size = file.metadata()?.len();
    let start = match number.cmp(&position.segment) {
        std::cmp::Ordering::Less => size,
        std::cmp::Ordering::Equal => position.offset.clamp(segment::START, size.max(segment::START)),
        std::cmp::Ordering::Greater => segment::START,
    };
    let mut report = SegmentReport { number, size, acknowledged: start.min(size), ..SegmentReport::default() };
    let mut whole = Vec::new();
    let mut offset = start;
    if start < size {
        let mut magic = [0; segment::MAGIC.len()];
        file.read_exact_at(&mut magic, 0)?;
        report.damaged += if magic == segment::MAGIC { 0 } else { segment::START };
    } else if number > position.segment && size < segment::START {
        report.damaged = size;
    }
    while offset < size {
        if let Found::Head { head, end } = Head::find(file, offset, size)? {
            // A good head says where the next record is, whatever the damaged frame looks like.
            if head.read_frame(file, offset)?.is_some() {
                report.records += 1;
                report.samples = report.samples.saturating_add(head.samples);
                whole.push(offset..end);
            } else {
                report.damaged += end - offset;
            }
            offset = end;
        } else {
            let next = record::search(file, offset + 1, size)?.unwrap_or(size);
            report.damaged += next - offset;
            offset = next;
        }
    }
    Ok((report, whole))
}

/// Puts a segment without its damage in its place. What is acknowledged keeps its place, so that
/// the cursor stays right.
fn rewrite(path: &Path, number: u64, position: Position) -> io::Result<()> {
    let old = File::open(path)?;
    let (report, whole) = look(&old, number, position)?;
    if whole.is_empty() {
        return fs::remove_file(path);
    }
    let repaired = path.with_extension("repaired");
    let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&repaired)?;
    new.write_all(&segment::MAGIC)?;
    for range in std::iter::once(segment::START..report.acknowledged).chain(whole) {
        let length = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; length];
        old.read_exact_at(&mut bytes, range.start)?;
        new.write_all(&bytes)?;
    }
    new.sync_data()?;
    fs::rename(repaired, path)
}
