//! Frames on disk, waiting for the receiver.
//!
//! A directory with a `lock`, a `cursor` and numbered segments. Frames are appended to the newest
//! segment and taken from the oldest one; a segment goes when all of it is acknowledged, or when
//! room is needed. A process that is killed at any moment leaves at most a torn record at the end
//! of one segment, which the next one cuts off. Segments are handed to the disk when they are
//! full; a power failure may cost the newest one.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io, mem};

use ebpf_process_core::{Direct, Opener};

use crate::cursor::{Cursor, Position};
use crate::frame::Frame;
use crate::segment::{self, Segment, Step, Tail};
use crate::{cursor, record};

/// The largest segment: what is lost at once when room is needed.
const SEGMENT: u64 = 1 << 20;
/// The fewest segments that a full spool has.
const SEGMENTS: u64 = 16;

pub(crate) const LOCK: &str = "lock";

/// A bounded queue of frames in a directory that one process owns.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    opener: Arc<dyn Opener>,
    /// Held as long as the file is open.
    lock: File,
    /// Whether everything in the directory has been taken over since it was locked.
    adopted: bool,
    limit: u64,
    cursor: Cursor,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The newest segment, while frames are appended to it.
    writer: Option<File>,
    /// The oldest segment, while frames are taken from it.
    reader: Option<(u64, File)>,
    taken: Option<Taken>,
    losses: Losses,
    found: u64,
    last: u64,
    buffer: Vec<u8>,
}

/// The record that is in the sender's hands.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// None once it is no longer in the directory.
    segment: Option<u64>,
    samples: u64,
    end: u64,
}

/// Samples that a spool gave up, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// There was no room.
    pub full: u64,
    /// They could not be read back.
    pub damaged: u64,
}

/// What was found in a directory when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Samples that an earlier process left.
    pub samples: u64,
    /// Segments that ended in a record which was never written completely; it was cut off.
    pub torn: u64,
    /// Segments of which a part cannot be read.
    pub damaged: u64,
}

/// Why a directory cannot be a spool.
#[derive(Debug)]
pub enum SpoolError {
    /// Another process, or another sink, has it.
    Locked(PathBuf),
    /// Something in it cannot be made, read or written.
    Unusable(PathBuf, io::Error),
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(path) => write!(f, "the spool {} belongs to another sink or agent", path.display()),
            Self::Unusable(path, _) => write!(f, "cannot use {}", path.display()),
        }
    }
}

impl std::error::Error for SpoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Locked(_) => None,
            Self::Unusable(_, error) => Some(error),
        }
    }
}

impl SpoolError {
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        |error| Self::Unusable(path, error)
    }
}

/// Makes sure that nobody else has the directory, as long as the file is open.
pub(crate) fn lock(directory: &Path) -> Result<File, SpoolError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(SpoolError::at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(SpoolError::Unusable(path, error)),
    }
}

/// Whether a spool makes files of this name.
pub fn is_of_a_spool(name: &OsStr) -> bool {
    name == LOCK || name == cursor::NAME || segment::is_name(name)
}

impl Spool {
    /// Opens a directory, making it if need be, and takes over what an earlier process left there.
    /// `limit` is what its segments may take, in bytes.
    pub fn open(directory: &Path, limit: u64) -> Result<(Self, Recovery), SpoolError> {
        Self::open_by(Arc::new(Direct::default()), directory, limit)
    }

    /// The same where the directory may have to be made by somebody who has more rights.
    pub fn open_by(opener: Arc<dyn Opener>, directory: &Path, limit: u64) -> Result<(Self, Recovery), SpoolError> {
        opener.directory(directory).map_err(SpoolError::at(directory))?;
        let lock = lock(directory)?;
        let cursor = Cursor::open(directory).map_err(SpoolError::at(&directory.join(cursor::NAME)))?;
        let mut spool = Self {
            directory: directory.to_owned(),
            opener,
            lock,
            adopted: true,
            limit,
            last: cursor.position().segment,
            cursor,
            segments: VecDeque::new(),
            writer: None,
            reader: None,
            taken: None,
            losses: Losses::default(),
            found: 0,
            buffer: Vec::new(),
        };
        let mut recovery = Recovery::default();
        for number in segment::list(directory).map_err(SpoolError::at(directory))? {
            let path = segment::path(directory, number);
            spool.adopt(number, &path, &mut recovery).map_err(SpoolError::at(&path))?;
        }
        recovery.samples = spool.samples();
        while spool.size() > limit && spool.drop_oldest() {}
        Ok((spool, recovery))
    }

    /// Takes over a segment of an earlier process; what is acknowledged already is removed.
    fn adopt(&mut self, number: u64, path: &Path, recovery: &mut Recovery) -> io::Result<()> {
        self.last = self.last.max(number);
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let (segment, tail) = segment::scan(&mut file, number, self.start_of(number))?;
        match tail {
            Tail::Clean => {}
            Tail::Torn => {
                recovery.torn += 1;
                file.set_len(segment.end)?;
            }
            Tail::Damaged => recovery.damaged += 1,
        }
        if number < self.cursor.position().segment || segment.end <= self.start_of(number) {
            return fs::remove_file(path);
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// Appends a frame. Where there is no room the oldest segments go first. An error leaves the
    /// spool as it was, save for those.
    pub fn append(&mut self, frame: &Frame) -> io::Result<()> {
        self.hold()?;
        if !record::write(frame, &mut self.buffer) {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the frame is too large for a record"));
        }
        let length = self.buffer.len() as u64;
        if segment::START + length > self.limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the frame is larger than the spool may be"));
        }
        if let Some(newest) = self.segments.back()
            && newest.end + length > SEGMENT.min(self.limit / SEGMENTS)
        {
            self.seal()?;
        }
        while self.size() + segment::START + length > self.limit && self.drop_oldest() {}
        self.begin()?;
        let (Some(writer), Some(newest)) = (&self.writer, self.segments.back_mut()) else { return Ok(()) };
        // Whatever is written to a file that was removed is lost; nobody would notice.
        let written = match writer.metadata()?.nlink() {
            0 => Err(io::Error::new(io::ErrorKind::NotFound, "the segment was removed")),
            _ => writer.write_all_at(&self.buffer, newest.end),
        };
        if let Err(error) = written {
            // Half a record in the middle would hide what follows it.
            if error.kind() == io::ErrorKind::NotFound || writer.set_len(newest.end).is_err() {
                self.writer = None;
            }
            return Err(error);
        }
        newest.end += length;
        newest.samples += frame.samples();
        Ok(())
    }

    /// The oldest frame that is not taken; `None` if there is none. It stays until it is
    /// [acknowledged](Self::acknowledge), and one frame is taken at a time. What cannot be read is
    /// skipped and entered in the losses.
    pub fn take(&mut self) -> Option<Frame> {
        if !self.segments.is_empty() {
            // Where the directory is somebody else's by now, nothing is left to take. Whatever else is wrong, what
            // can be read is read.
            let _ = self.hold();
        }
        loop {
            let oldest = *self.segments.front()?;
            let start = self.start_of(oldest.number);
            if start >= oldest.end {
                self.finish_oldest();
                continue;
            }
            let step = match self.reader(oldest.number) {
                Ok(reader) => segment::read(reader, start, oldest.end),
                Err(_) => Step::Lost,
            };
            let segment = self.segments.front_mut()?;
            match step {
                Step::Record { frame, samples, end } => {
                    segment.samples -= samples.min(segment.samples);
                    self.taken = Some(Taken { segment: Some(oldest.number), samples, end });
                    if frame.is_some() {
                        return frame;
                    }
                    self.losses.damaged = self.losses.damaged.saturating_add(samples);
                    // Where it cannot be stored the next process finds the same damage once more.
                    let _ = self.acknowledge_taken();
                }
                Step::Gap(next) => {
                    // As above.
                    let _ = self.cursor.store(Position { segment: oldest.number, offset: next });
                }
                Step::Lost => self.finish_oldest(),
            }
        }
    }

    /// The taken frame has been dealt with and is not sent again, not by a later process either. An
    /// error means that a later process may.
    pub fn acknowledge(&mut self) -> io::Result<()> {
        if self.taken.is_some() {
            // As above.
            let _ = self.hold();
        }
        self.acknowledge_taken()
    }

    fn acknowledge_taken(&mut self) -> io::Result<()> {
        let (Some(taken), Some(oldest)) = (self.taken.take(), self.segments.front()) else { return Ok(()) };
        if taken.segment != Some(oldest.number) {
            // Its segment is gone with the whole directory.
            return Ok(());
        }
        let stored = self.cursor.store(Position { segment: oldest.number, offset: taken.end });
        if taken.end >= oldest.end {
            self.finish_oldest();
        }
        stored
    }

    /// Whether a frame is taken and neither acknowledged nor given up.
    pub const fn is_taken(&self) -> bool {
        self.taken.is_some()
    }

    /// Whether the taken frame is no longer in the directory: then it is only where it was taken to, and is no
    /// more the spool's.
    pub(crate) fn disowns_taken(&mut self) -> bool {
        self.taken.take_if(|taken| taken.segment.is_none()).is_some()
    }

    /// Whether there is neither a taken frame nor one to take.
    pub fn is_empty(&self) -> bool {
        self.segments.iter().all(|segment| self.start_of(segment.number) >= segment.end)
    }

    /// The samples in it, the taken frame's included.
    pub fn samples(&self) -> u64 {
        let waiting = self.segments.iter().fold(0_u64, |sum, segment| sum.saturating_add(segment.samples));
        waiting.saturating_add(self.taken.map_or(0, |taken| taken.samples))
    }

    /// What its segments take on disk, in bytes.
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }

    /// What was given up since the last call; the taken frame's samples are not in it.
    pub fn take_losses(&mut self) -> Losses {
        mem::take(&mut self.losses)
    }

    /// Hands everything to the disk; the next frame begins a new segment.
    pub fn seal(&mut self) -> io::Result<()> {
        self.writer.take().map_or(Ok(()), |writer| writer.sync_data())
    }

    /// Makes sure that the directory is still ours. Where it was removed it is made again, and where somebody else
    /// has made it, it has to be locked again: our lock is on a file that nobody finds any more. What was in it is
    /// lost; what is in the new one is taken over. As long as somebody else has it no file in it is touched.
    fn hold(&mut self) -> io::Result<()> {
        let ours = self.lock.metadata()?;
        let there = fs::metadata(self.directory.join(LOCK));
        let is_ours = there.as_ref().is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        if !is_ours {
            self.opener.directory(&self.directory)?;
            self.lock = match lock(&self.directory) {
                Ok(lock) => lock,
                Err(SpoolError::Unusable(_, error)) => return Err(error),
                Err(locked @ SpoolError::Locked(_)) => {
                    self.leave();
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, locked.to_string()));
                }
            };
            // Where nothing but the lock was removed, and nobody had the directory meanwhile, all is as it was.
            if there.is_ok() || !self.cursor.is_in(&self.directory) {
                self.leave();
            }
        }
        if !self.adopted {
            self.enter()?;
        }
        Ok(())
    }

    /// The directory is no longer the one that we had: what was in it is lost.
    fn leave(&mut self) {
        self.adopted = false;
        self.writer = None;
        self.reader = None;
        if let Some(taken) = &mut self.taken {
            taken.segment = None;
        }
        let lost: u64 = mem::take(&mut self.segments).iter().map(|segment| segment.samples).sum();
        self.losses.damaged = self.losses.damaged.saturating_add(lost);
    }

    /// Takes over what is in a directory that we have locked. After an error it is tried again, from the start.
    fn enter(&mut self) -> io::Result<()> {
        self.cursor = Cursor::open(&self.directory)?;
        self.last = self.last.max(self.cursor.position().segment);
        let mut recovery = Recovery::default();
        for number in segment::list(&self.directory)? {
            let adopted = self.adopt(number, &segment::path(&self.directory, number), &mut recovery);
            if adopted.is_err() {
                self.segments.clear();
                return adopted;
            }
        }
        let found: u64 = self.segments.iter().map(|segment| segment.samples).sum();
        self.found = self.found.saturating_add(found);
        self.adopted = true;
        Ok(())
    }

    /// Samples that somebody else had left in a directory which was made anew, since the last call.
    pub fn take_found(&mut self) -> u64 {
        mem::take(&mut self.found)
    }

    /// Where the first record that is not acknowledged is.
    fn start_of(&self, number: u64) -> u64 {
        let position = self.cursor.position();
        if position.segment == number { position.offset.max(segment::START) } else { segment::START }
    }

    /// Makes a new segment unless one is being written.
    fn begin(&mut self) -> io::Result<()> {
        if self.writer.is_none() {
            let number = self.last.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
            self.writer = Some(segment::create(&segment::path(&self.directory, number))?);
            self.last = number;
            self.segments.push_back(Segment { number, end: segment::START, samples: 0 });
        }
        Ok(())
    }

    /// Opens the oldest segment to be read, unless it is.
    fn reader(&mut self, number: u64) -> io::Result<&File> {
        if self.reader.as_ref().is_none_or(|(open, _)| *open != number) {
            self.reader = Some((number, File::open(segment::path(&self.directory, number))?));
        }
        self.reader.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The oldest segment makes room. False if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.segments.front_mut() else { return false };
        self.losses.full = self.losses.full.saturating_add(mem::take(&mut oldest.samples));
        let number = oldest.number;
        self.taken.take_if(|taken| taken.segment == Some(number));
        self.finish_oldest();
        true
    }

    /// Nothing of the oldest segment is needed any more. What nobody could read of it is lost.
    fn finish_oldest(&mut self) {
        self.reader = None;
        if let Some(oldest) = self.segments.pop_front() {
            self.losses.damaged = self.losses.damaged.saturating_add(oldest.samples);
            if self.segments.is_empty() {
                self.writer = None;
            }
            // A file that is left over is found again, acknowledged, by the next process.
            let _ = fs::remove_file(segment::path(&self.directory, oldest.number));
        }
    }
}
