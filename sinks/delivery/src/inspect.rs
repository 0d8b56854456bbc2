//! A look at a spool from outside, and what can be saved of a damaged one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use ebpf_process_core::Directory;

use crate::cursor::{self, Mark};
use crate::record::{self, Found, Head};
use crate::segment::{self, Beginning};
use crate::spool::{SpoolError, lock};

/// What is in a segment of a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Segments are numbered in the order of their making.
    pub number: u64,
    /// The name of its frames' encoding, which says what can send them: empty where the sink has named none, or was of an
    /// earlier version. None where it cannot be read.
    pub encoding: Option<String>,
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
    let mark = cursor::peek(directory).map_err(SpoolError::at(&directory.join(cursor::NAME)))?;
    let numbers = segment::list(directory).map_err(SpoolError::at(directory))?;
    let report = |number| {
        let path = segment::path(directory, number);
        let looked = File::open(&path).and_then(|file| look(&file, number, &mark));
        Ok(looked.map_err(SpoolError::at(&path))?.0)
    };
    numbers.into_iter().map(report).collect()
}

/// Writes every segment that is damaged anew, with the whole records that are left in it, which are
/// those that the agent would find as well. Returns what was there before. A spool that an agent is
/// using is refused.
pub fn repair(directory: &Path) -> Result<Vec<SegmentReport>, SpoolError> {
    let opened = Directory::open(directory).map_err(SpoolError::at(directory))?;
    let _lock = lock(&opened)?;
    let reports = inspect(directory)?;
    let mark = cursor::peek(directory).map_err(SpoolError::at(&directory.join(cursor::NAME)))?;
    // One whose beginning is damaged is of the others' encoding.
    let named = |report: &SegmentReport| {
        let file = File::open(segment::path(directory, report.number)).ok()?;
        match Beginning::read(&file).ok()?.0 {
            Beginning::Named(name) if !name.is_empty() => Some(name),
            _ => None,
        }
    };
    let encoding = reports.iter().find_map(named).unwrap_or_default();
    for report in reports.iter().filter(|report| report.damaged > 0) {
        let path = segment::path(directory, report.number);
        rewrite(&path, report.number, &mark, &encoding).map_err(SpoolError::at(&path))?;
    }
    Ok(reports)
}

/// Walks over a segment and finds every whole record in it, behind damage as well.
fn look(file: &File, number: u64, mark: &Mark) -> io::Result<(SegmentReport, Vec<Range<u64>>)> {
    let size = file.metadata()?.len();
    let (beginning, first) = Beginning::read(file)?;
    let start = match number.cmp(&mark.position.segment) {
        std::cmp::Ordering::Less => size,
        std::cmp::Ordering::Equal => mark.position.offset.clamp(first, size.max(first)),
        std::cmp::Ordering::Greater => first,
    };
    let encoding = match &beginning {
        Beginning::Named(name) => Some(name.clone()),
        Beginning::Torn | Beginning::Damaged => None,
    };
    let acknowledged = start.min(size);
    let mut report = SegmentReport { number, encoding, size, acknowledged, ..SegmentReport::default() };
    let mut whole = Vec::new();
    let mut offset = start;
    if number >= mark.position.segment {
        report.damaged = match beginning {
            Beginning::Damaged if start < size => segment::OLD_START,
            Beginning::Torn if number > mark.position.segment => size,
            Beginning::Named(_) | Beginning::Damaged | Beginning::Torn => 0,
        };
        if beginning == Beginning::Torn {
            return Ok((report, whole));
        }
    }
    while offset < size {
        if let Found::Head { head, end } = Head::find(file, offset, size)? {
            // A good head says where the next record is, whatever the damaged frame looks like.
            if head.serial.is_some_and(|serial| mark.has(serial)) {
                report.acknowledged += end - offset;
            } else if head.read_frame(file, offset)?.is_some() {
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
fn rewrite(path: &Path, number: u64, mark: &Mark, encoding: &str) -> io::Result<()> {
    let old = File::open(path)?;
    let (_, whole) = look(&old, number, mark)?;
    let Some(first) = whole.first().map(|range| range.start) else { return fs::remove_file(path) };
    let (beginning, start) = Beginning::read(&old)?;
    let acknowledged = if number == mark.position.segment { mark.position.offset.min(first) } else { 0 };
    let mut head = vec![0; usize::try_from(start.max(acknowledged)).map_err(|_| io::ErrorKind::FileTooLarge)?];
    old.read_exact_at(&mut head, 0)?;
    if let (Beginning::Damaged, Some(mended)) = (beginning, Beginning::of(encoding)) {
        head.resize(head.len().max(mended.len()), 0);
        head[..mended.len()].copy_from_slice(&mended);
    }
    let repaired = path.with_extension("repaired");
    let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&repaired)?;
    new.write_all(&head)?;
    for range in whole {
        let length = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; length];
        old.read_exact_at(&mut bytes, range.start)?;
        new.write_all(&bytes)?;
    }
    new.sync_data()?;
    fs::rename(repaired, path)
}
