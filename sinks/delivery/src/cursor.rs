//! How far a spool is acknowledged, kept across restarts.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The file's name in the spool's directory.
pub(crate) const NAME: &str = "cursor";

/// A slot: sequence, segment, offset, checksum, and room up to the next power of two.
const SLOT: usize = 32;

/// Everything before this is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// A file of two slots that are written in turn: while one is being written, the other one is whole.
#[derive(Debug)]
pub(crate) struct Cursor {
    file: File,
    sequence: u64,
    position: Position,
}

impl Cursor {
    /// Opens or makes the file. Where neither slot can be read, nothing is acknowledged.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(directory.join(NAME))?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if let Some(missing) = [0; 2 * SLOT].get(size..) {
            // The room is taken now: an acknowledgement must not fail on a full disk.
            file.write_all_at(missing, size as u64)?;
        }
        let (sequence, position) = newest(&file)?;
        Ok(Self { file, sequence, position })
    }

    /// Whether this is still the directory's cursor.
    pub(crate) fn is_in(&self, directory: &Path) -> bool {
        let there = fs::metadata(directory.join(NAME)).ok().zip(self.file.metadata().ok());
        there.is_some_and(|(there, ours)| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
    }

    /// What is acknowledged.
    pub(crate) const fn position(&self) -> Position {
        self.position
    }

    /// Acknowledges up to a position. It holds for this process even where it cannot be written.
    pub(crate) fn store(&mut self, position: Position) -> io::Result<()> {
        self.position = position;
        self.sequence = self.sequence.wrapping_add(1);
        self.file.write_all_at(&to_slot(self.sequence, position), self.sequence % 2 * SLOT as u64)
    }
}

/// What a directory's cursor says, without touching it.
pub(crate) fn peek(directory: &Path) -> io::Result<Position> {
    match File::open(directory.join(NAME)) {
        Ok(file) => newest(&file).map(|(_, position)| position),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Position::default()),
        Err(error) => Err(error),
    }
}

fn newest(file: &File) -> io::Result<(u64, Position)> {
    let mut best = (0, Position::default());
    for slot in 0..2 {
        let mut bytes = [0; SLOT];
        match file.read_exact_at(&mut bytes, slot * SLOT as u64) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(error) => return Err(error),
        }
        if let Some((sequence, position)) = from_slot(&bytes)
            && sequence > best.0
        {
            best = (sequence, position);
        }
    }
    Ok(best)
}

fn to_slot(sequence: u64, position: Position) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    for (place, number) in slot.chunks_exact_mut(8).zip([sequence, position.segment, position.offset]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let checksum = crc32fast::hash(&slot[..24]);
    slot[24..28].copy_from_slice(&checksum.to_le_bytes());
    slot
}

fn from_slot(slot: &[u8; SLOT]) -> Option<(u64, Position)> {
    if slot[24..28] != crc32fast::hash(&slot[..24]).to_le_bytes() {
        return None;
    }
    let (sequence, rest) = slot.split_first_chunk()?;
    let (segment, rest) = rest.split_first_chunk()?;
    let (offset, _) = rest.split_first_chunk()?;
    let [sequence, segment, offset] = [*sequence, *segment, *offset].map(u64::from_le_bytes);
    Some((sequence, Position { segment, offset }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_falls_back_to_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cursor = Cursor::open(folder.path()).expect("a cursor");
        assert_eq!(cursor.position(), Position::default());
        for offset in 1..10 {
            cursor.store(Position { segment: 3, offset }).expect("a write");
        }
        let path = folder.path().join(NAME);
        let whole = fs::read(&path).expect("the file");
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 0x40;
            fs::write(&path, damaged).expect("a write");
            let position = peek(folder.path()).expect("a cursor");
            assert_eq!(position.segment, 3);
            assert!([8, 9].contains(&position.offset), "{byte}: {position:?}");
            fs::write(&path, &whole[..byte]).expect("a write");
            let position = Cursor::open(folder.path()).expect("a cursor").position();
            assert!([0, 8, 9].contains(&position.offset), "{byte}: {position:?}");
        }
    }
}
