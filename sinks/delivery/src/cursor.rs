//! How far a spool is acknowledged, kept across restarts.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The file's name in the spool's directory.
pub(crate) const NAME: &str = "cursor";

/// How many records above the oldest that is not acknowledged may be.
pub(crate) const SPAN: u64 = u64::BITS as u64;

/// A slot: its sequence and the mark, and a checksum.
const SLOT: usize = 68;
/// What an earlier version wrote: a slot with sequence, segment, offset and checksum.
const OLD_SLOT: usize = 28;
/// Where the slots are.
const SLOTS: [u64; 2] = [64, 192];
const OLD_SLOTS: [u64; 2] = [0, 32];
const SIZE: usize = 320;

/// Everything before this is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// What is known of a spool's records and of their frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The low-water mark.
    pub(crate) position: Position,
    /// The serial number of the first record behind it.
    pub(crate) low: u64,
    /// Which records behind it are acknowledged as well: the bit 0 stands for `low`.
    pub(crate) settled: u64,
    /// The highest number of a frame that was sent.
    pub(crate) sent: u64,
    /// In which frames' numbers rise; drawn when the cursor was made.
    pub(crate) stream: u128,
}

impl Mark {
    /// Whether a record is acknowledged, of those behind the low-water mark.
    pub(crate) fn has(&self, serial: u64) -> bool {
        serial.checked_sub(self.low).filter(|bit| *bit < SPAN).is_some_and(|bit| self.settled >> bit & 1 == 1)
    }

    /// Whether it can be noted that a record is acknowledged.
    pub(crate) fn reaches(&self, serial: u64) -> bool {
        serial.checked_sub(self.low).is_some_and(|bit| bit < SPAN)
    }

    /// A record behind the low-water mark is acknowledged.
    pub(crate) fn settle(&mut self, serial: u64) {
        if self.reaches(serial) {
            self.settled |= 1 << (serial - self.low);
        }
    }

    /// The low-water mark is at this record now.
    pub(crate) fn move_to(&mut self, serial: u64) {
        let shift = serial.checked_sub(self.low).and_then(|shift| u32::try_from(shift).ok());
        self.settled = shift.and_then(|shift| self.settled.checked_shr(shift)).unwrap_or(0);
        self.low = serial;
    }

    /// A serial number that no record has had of which this knows.
    pub(crate) fn beyond(&self) -> u64 {
        self.low.saturating_add(if self.settled == 0 { 0 } else { SPAN })
    }
}

/// A file of two slots that are written in turn: while one is being written, the other one is whole.
#[derive(Debug)]
pub(crate) struct Cursor {
    file: File,
    sequence: u64,
    mark: Mark,
}

impl Cursor {
    /// Opens or makes the file. Where no slot can be read, nothing is acknowledged, and another stream begins.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(directory.join(NAME))?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if let Some(missing) = [0; SIZE].get(size..) {
            // The room is taken now: an acknowledgement must not fail on a full disk.
            file.write_all_at(missing, size as u64)?;
        }
        let (sequence, mark) = newest(&file)?;
        let mut cursor = Self { file, sequence, mark };
        if mark.stream == 0 {
            cursor.store(Mark { stream: draw_stream(), ..mark })?;
        }
        Ok(cursor)
    }

    /// Whether this is still the directory's cursor.
    pub(crate) fn is_in(&self, directory: &Path) -> bool {
        let there = fs::metadata(directory.join(NAME)).ok().zip(self.file.metadata().ok());
        there.is_some_and(|(there, ours)| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
    }

    /// What was noted last.
    pub(crate) const fn mark(&self) -> Mark {
        self.mark
    }

    /// Notes it until it is [stored](Self::store) the next time.
    pub(crate) const fn set(&mut self, mark: Mark) {
        self.mark = mark;
    }

    /// Notes it. It holds for this process even where it cannot be written.
    pub(crate) fn store(&mut self, mark: Mark) -> io::Result<()> {
        self.mark = mark;
        self.sequence = self.sequence.wrapping_add(1);
        let [even, odd] = SLOTS;
        self.file.write_all_at(&to_slot(self.sequence, &mark), if self.sequence % 2 == 0 { even } else { odd })
    }
}

/// 128 bits that nobody else has drawn.
pub(crate) fn draw_stream() -> u128 {
    // Their keys come from the kernel.
    let [high, low] = [RandomState::new(), RandomState::new()].map(|keys| keys.hash_one(0));
    (u128::from(high) << 64 | u128::from(low)).max(1)
}

/// What a directory's cursor says, without touching it.
pub(crate) fn peek(directory: &Path) -> io::Result<Mark> {
    match File::open(directory.join(NAME)) {
        Ok(file) => newest(&file).map(|(_, mark)| mark),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Mark::default()),
        Err(error) => Err(error),
    }
}

fn newest(file: &File) -> io::Result<(u64, Mark)> {
    let mut best = (0, Mark::default());
    for (slot, old_slot) in SLOTS.into_iter().zip(OLD_SLOTS) {
        let found = read(file, slot)?.and_then(|bytes| from_slot(&bytes));
        let old = read(file, old_slot)?.and_then(|bytes| from_old_slot(&bytes));
        for (sequence, mark) in found.into_iter().chain(old) {
            if sequence > best.0 {
                best = (sequence, mark);
            }
        }
    }
    Ok(best)
}

/// None where the file ends before.
fn read<const N: usize>(file: &File, offset: u64) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn to_slot(sequence: u64, mark: &Mark) -> [u8; SLOT] {
    let Mark { position: Position { segment, offset }, low, settled, sent, stream } = *mark;
    let mut slot = [0; SLOT];
    for (place, number) in slot.chunks_exact_mut(8).zip([sequence, segment, offset, low, settled, sent]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    slot[48..64].copy_from_slice(&stream.to_le_bytes());
    let checksum = crc32fast::hash(&slot[..64]);
    slot[64..].copy_from_slice(&checksum.to_le_bytes());
    slot
}

fn from_slot(slot: &[u8; SLOT]) -> Option<(u64, Mark)> {
    if slot[64..] != crc32fast::hash(&slot[..64]).to_le_bytes() {
        return None;
    }
    let [sequence, segment, offset, low, settled, sent] = numbers(slot)?;
    let stream = u128::from_le_bytes(slot[48..64].try_into().ok()?);
    Some((sequence, Mark { position: Position { segment, offset }, low, settled, sent, stream }))
}

fn from_old_slot(slot: &[u8; OLD_SLOT]) -> Option<(u64, Mark)> {
    if slot[24..] != crc32fast::hash(&slot[..24]).to_le_bytes() {
        return None;
    }
    let [sequence, segment, offset] = numbers(slot)?;
    Some((sequence, Mark { position: Position { segment, offset }, ..Mark::default() }))
}

/// The numbers that bytes begin with.
fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(offset: u64) -> Mark {
        Mark { position: Position { segment: 3, offset }, stream: 7, ..Mark::default() }
    }

    #[test]
    fn a_torn_slot_falls_back_to_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cursor = Cursor::open(folder.path()).expect("a cursor");
        assert_eq!(cursor.mark().position, Position::default());
        for offset in 1..10 {
            cursor.store(at(offset)).expect("a write");
        }
        let path = folder.path().join(NAME);
        let whole = fs::read(&path).expect("the file");
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 0x40;
            fs::write(&path, damaged).expect("a write");
            let Position { segment, offset } = peek(folder.path()).expect("a cursor").position;
            assert_eq!(segment, 3);
            assert!([8, 9].contains(&offset), "{byte}: {offset}");
            fs::write(&path, &whole[..byte]).expect("a write");
            let offset = Cursor::open(folder.path()).expect("a cursor").mark().position.offset;
            assert!([0, 8, 9].contains(&offset), "{byte}: {offset}");
        }
    }

    #[test]
    fn what_an_earlier_version_wrote_is_read_and_gone_on_from() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut old = [0; 64];
        for (slot, numbers) in old.chunks_exact_mut(32).zip([[8, 3, 100], [7, 3, 50]]) {
            for (place, number) in slot.chunks_exact_mut(8).zip(numbers) {
                place.copy_from_slice(&u64::to_le_bytes(number));
            }
            let checksum = crc32fast::hash(&slot[..24]);
            slot[24..28].copy_from_slice(&checksum.to_le_bytes());
        }
        fs::write(folder.path().join(NAME), old).expect("a write");
        let mut cursor = Cursor::open(folder.path()).expect("a cursor");
        assert_eq!(cursor.mark().position, Position { segment: 3, offset: 100 });
        assert_ne!(cursor.mark().stream, 0);
        let mark = Mark { sent: 4, ..at(120) };
        cursor.store(mark).expect("a write");
        assert_eq!(peek(folder.path()).expect("a cursor"), mark);
    }

    #[test]
    fn a_mark_reaches_as_far_as_it_has_bits() {
        let mut mark = Mark { low: 10, ..Mark::default() };
        assert_eq!((mark.reaches(9), mark.reaches(10), mark.reaches(73), mark.reaches(74)), (false, true, true, false));
        assert_eq!(mark.beyond(), 10, "nothing behind it is known");
        for serial in [9, 12, 73, 74] {
            mark.settle(serial);
        }
        assert_eq!((mark.settled, mark.beyond()), (1 << 2 | 1 << 63, 74));
        mark.move_to(12);
        assert_eq!((mark.low, mark.settled), (12, 1 | 1 << 61));
        mark.move_to(200);
        assert_eq!((mark.low, mark.settled), (200, 0));
    }

    #[test]
    fn slots_are_written_in_turn_and_what_is_set_is_not_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cursor = Cursor::open(folder.path()).expect("a cursor");
        let slots = || {
            let file = File::open(folder.path().join(NAME)).expect("a file");
            SLOTS.map(|slot| read::<SLOT>(&file, slot).expect("a file").and_then(|bytes| from_slot(&bytes)))
        };
        for (offset, sequences) in [(1, [2, 1]), (2, [2, 3]), (3, [4, 3])] {
            cursor.store(at(offset)).expect("a write");
            assert_eq!(slots().map(|slot| slot.expect("a slot").0), sequences);
        }
        cursor.set(at(4));
        assert_eq!((cursor.mark(), peek(folder.path()).expect("a cursor")), (at(4), at(3)));
        assert!(cursor.is_in(folder.path()));
        fs::rename(folder.path().join(NAME), folder.path().join("other")).expect("another name");
        assert!(!cursor.is_in(folder.path()));
        fs::write(folder.path().join(NAME), "").expect("a file");
        assert!(!cursor.is_in(folder.path()), "it is another file");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_what_is_not_there_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(peek(folder.path()).expect("nothing is acknowledged"), Mark::default());
        let path = folder.path().join(NAME);
        fs::create_dir(&path).expect("a directory");
        assert!(peek(folder.path()).is_err());
        fs::remove_dir(&path).expect("it was there");
        std::os::unix::fs::symlink(NAME, &path).expect("a link");
        assert!(peek(folder.path()).is_err(), "it leads to itself");
    }

    #[test]
    fn streams_are_drawn_from_all_128_bits() {
        let [one, other] = [(); 2].map(|()| draw_stream());
        assert_ne!(one, other);
        assert!(one >> 64 != 0 && one << 64 != 0, "{one:x}");
    }

    proptest! {
        #[test]
        fn a_mark_knows_which_records_are_acknowledged(
            serials in prop::collection::vec(0..200_u64, 0..100),
            moves in prop::collection::vec(0..40_u64, 0..6),
        ) {
            let mut mark = Mark::default();
            let mut known = std::collections::BTreeSet::new();
            for (serial, step) in serials.iter().zip(moves.iter().chain(std::iter::repeat(&0))) {
                mark.move_to(mark.low + step);
                if mark.reaches(*serial) {
                    known.insert(*serial);
                }
                mark.settle(*serial);
                for serial in 0..300 {
                    prop_assert_eq!(mark.has(serial), serial >= mark.low && known.contains(&serial));
                    prop_assert!(!mark.has(serial) || serial < mark.beyond());
                }
            }
            prop_assert_eq!(from_slot(&to_slot(9, &mark)), Some((9, mark)));
        }
    }
}
