//! Frames on disk, waiting for the receiver.
//!
//! A directory with a `lock`, a `cursor` and numbered segments, each of which names the encoding of its
//! frames. Frames are appended to the newest
//! segment and taken from the oldest one; a segment goes when all of it is acknowledged, or when
//! room is needed. Up to 64 frames are taken at a time and acknowledged in any order: the cursor has a
//! low-water mark and the set of those behind it that are. A process that is killed at any moment leaves at most a torn record at the end
//! of one segment, which the next one cuts off. Segments are handed to the disk when they are
//! full; a power failure may cost the newest one.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io, mem};

use ebpf_process_core::{Direct, Directory, Opener, chain};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::cursor;
use crate::cursor::{Cursor, Mark, Position};
use crate::frame::Frame;
use crate::front::pop_if;
use crate::note::Note;
use crate::record;
use crate::segment::{self, Beginning, Scan, Segment, Step, Tail};

/// The largest segment: what is lost at once when room is needed.
const SEGMENT: u64 = 1 << 20;
/// The fewest segments that a full spool has.
const SEGMENTS: u64 = 16;

pub(crate) const LOCK: &str = "lock";

/// A bounded queue of frames in a directory that one process owns.
#[derive(Debug)]
pub struct Spool {
    directory: Directory,
    opener: Arc<dyn Opener>,
    /// Held as long as the file is open.
    lock: File,
    /// Whether everything in the directory has been taken over since it was locked.
    adopted: bool,
    limit: u64,
    encodings: &'static [&'static str],
    cursor: Cursor,
    /// What was known when the directory was taken over: of the records in it, which are acknowledged.
    before: Mark,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The newest segment, while frames are appended to it.
    writer: Option<File>,
    /// The segment from which frames are taken.
    reader: Option<(u64, File)>,
    /// Where the next record is read.
    next: Position,
    /// Whether the next record waits until others are acknowledged.
    is_blocked: bool,
    /// The records that were taken, from the oldest one on that is not acknowledged; the first one's place.
    taken: VecDeque<Record>,
    first: u64,
    losses: Losses,
    released: Vec<Released>,
    found: u64,
    last: u64,
    /// The serial number of the next record, and the highest number of a frame.
    serial: u64,
    highest: u64,
    buffer: Vec<u8>,
}

/// A record that was taken.
#[derive(Clone, Copy, Debug)]
struct Record {
    serial: Option<u64>,
    segment: u64,
    end: u64,
    samples: u64,
    is_settled: bool,
}

/// A frame that was taken from a spool.
#[derive(Debug)]
pub struct Taken {
    /// Its content.
    pub frame: Frame,
    /// By what it is acknowledged.
    pub place: u64,
    pub(crate) note: Note,
}

/// A taken frame that is no longer in its spool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Released {
    pub(crate) place: u64,
    /// Whether it made room; otherwise the directory is gone.
    pub(crate) made_room: bool,
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
    /// There are frames of another encoding in it, which this sink cannot send.
    Foreign(PathBuf, String),
    /// Something in it cannot be made, read or written.
    Unusable(PathBuf, io::Error),
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(path) => write!(f, "the spool {} belongs to another sink or agent", path.display()),
            Self::Foreign(path, encoding) => {
                let path = path.display();
                match &**encoding {
                    "" => write!(
                        f,
                        "in the spool {path} wait frames of a sink that names no encoding, and this one cannot send them"
                    ),
                    name => {
                        write!(f, "in the spool {path} wait frames of the encoding {name}, which this sink cannot send")
                    }
                }
            }
            Self::Unusable(path, _) => write!(f, "cannot use {}", path.display()),
        }
    }
}

impl std::error::Error for SpoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Locked(_) | Self::Foreign(..) => None,
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
pub(crate) fn lock(directory: &Directory) -> Result<File, SpoolError> {
    let named = directory.named();
    let path = directory.through().join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(SpoolError::at(&named.join(LOCK)))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(SpoolError::Locked(named.to_owned())),
        Err(error) => Err(SpoolError::Unusable(named.join(LOCK), error.into())),
    }
}

/// Makes sure that what waits in a directory can be sent by somebody who knows these encodings; none is all of them. Touches
/// nothing.
pub(crate) fn check(directory: &Directory, encodings: &[&str]) -> Result<(), SpoolError> {
    if encodings.is_empty() {
        return Ok(());
    }
    let (named, through) = (directory.named(), directory.through());
    let mark = cursor::peek(through).map_err(SpoolError::at(&named.join(cursor::NAME)))?;
    for number in segment::list(through).map_err(SpoolError::at(named))? {
        let beginning = File::open(segment::path(through, number)).and_then(|file| Beginning::read(&file));
        let (beginning, _) = beginning.map_err(SpoolError::at(&segment::path(named, number)))?;
        let Beginning::Named(name) = beginning else { continue };
        if number >= mark.position.segment && !encodings.contains(&&*name) {
            return Err(SpoolError::Foreign(named.to_owned(), name));
        }
    }
    Ok(())
}

/// Whether a spool makes files of this name.
pub fn is_of_a_spool(name: &OsStr) -> bool {
    name == LOCK || name == cursor::NAME || segment::is_name(name)
}

impl Spool {
    /// Opens a directory, making it if need be, and takes over what an earlier process left there, of whatever encoding.
    /// `limit` is what its segments may take, in bytes.
    pub fn open(directory: &Path, limit: u64) -> Result<(Self, Recovery), SpoolError> {
        Self::open_by(Arc::new(Direct::default()), directory, limit, &[])
    }

    /// The same where the directory may have to be made by somebody who has more rights, for frames of an encoding:
    /// `encodings` are its name and those of others that can be sent as well
    /// ([`Submit::encodings`](crate::Submit::encodings)). Where frames of another one wait the directory is left alone.
    pub fn open_by(
        opener: Arc<dyn Opener>,
        directory: &Path,
        limit: u64,
        encodings: &'static [&'static str],
    ) -> Result<(Self, Recovery), SpoolError> {
        let held = opener.directory(directory).map_err(SpoolError::at(directory))?;
        let lock = lock(&held)?;
        let mark = cursor::peek(held.through()).map_err(SpoolError::at(&directory.join(cursor::NAME)))?;
        check(&held, encodings)?;
        let cursor = Cursor::open(held.through()).map_err(SpoolError::at(&directory.join(cursor::NAME)))?;
        let mut spool = Self {
            directory: held,
            opener,
            lock,
            adopted: true,
            limit,
            encodings,
            last: mark.position.segment,
            next: mark.position,
            serial: mark.beyond(),
            highest: mark.sent,
            before: cursor.mark(),
            cursor,
            segments: VecDeque::new(),
            writer: None,
            reader: None,
            is_blocked: false,
            taken: VecDeque::new(),
            first: 0,
            losses: Losses::default(),
            released: Vec::new(),
            found: 0,
            buffer: Vec::new(),
        };
        let mut recovery = Recovery::default();
        for number in segment::list(spool.directory.through()).map_err(SpoolError::at(directory))? {
            let adopted = spool.adopt(number, &mut recovery);
            adopted.map_err(SpoolError::at(&segment::path(directory, number)))?;
        }
        recovery.samples = spool.samples();
        while spool.size() > limit && spool.drop_oldest() {}
        Ok((spool, recovery))
    }

    /// Takes over a segment of an earlier process; what is acknowledged already is removed.
    fn adopt(&mut self, number: u64, recovery: &mut Recovery) -> io::Result<()> {
        self.last = self.last.max(number);
        let path = self.path_of(number);
        let (file, mark) = (OpenOptions::new().read(true).write(true).open(&path)?, self.before);
        let from = if mark.position.segment == number { mark.position.offset } else { 0 };
        let Scan { segment, tail, serial, frame } = segment::scan(&file, number, from, &mark)?;
        match tail {
            Tail::Clean => {}
            Tail::Torn => {
                recovery.torn += 1;
                file.set_len(segment.end)?;
            }
            Tail::Damaged => recovery.damaged += 1,
        }
        self.serial = self.serial.max(serial.map_or(0, |serial| serial.saturating_add(1)));
        self.highest = self.highest.max(frame);
        if number < mark.position.segment || segment.end <= from.max(segment.start) {
            return fs::remove_file(path);
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// Where a segment's file is.
    fn path_of(&self, number: u64) -> PathBuf {
        segment::path(self.directory.through(), number)
    }

    /// In which frames' numbers rise; kept across restarts.
    pub(crate) const fn stream(&self) -> u128 {
        self.cursor.mark().stream
    }

    /// The highest number of a frame that was sent, and of one that is known.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        let sent = self.cursor.mark().sent;
        (sent, sent.max(self.highest))
    }

    /// A frame with this number is sent now: a later process knows.
    pub(crate) fn note_sent(&mut self, number: u64) -> io::Result<()> {
        let mark = self.cursor.mark();
        if mark.sent >= number {
            return Ok(());
        }
        self.cursor.store(Mark { sent: number, ..mark })
    }

    /// Appends a frame of no number. Where there is no room the oldest segments go first. An error leaves the
    /// spool as it was, save for those.
    pub fn append(&mut self, frame: &Frame) -> io::Result<()> {
        self.append_noted(frame, Note::default())
    }

    /// Appends a frame that is being delivered already, as one that is taken, and returns its place. None, and nothing
    /// is appended, where others have to be taken first.
    pub(crate) fn append_taken(&mut self, frame: &Frame, note: Note) -> io::Result<Option<u64>> {
        self.hold()?;
        if self.has_more() || !self.may_take(Some(self.serial)) {
            return Ok(None);
        }
        self.append_noted(frame, note)?;
        let Some(newest) = self.segments.back_mut() else { return Ok(None) };
        newest.samples -= frame.samples().min(newest.samples);
        let (segment, end) = (newest.number, newest.end);
        let record =
            Record { serial: Some(self.serial - 1), segment, end, samples: frame.samples(), is_settled: false };
        Ok(Some(self.takes(record)))
    }

    /// As [`append`](Self::append), with what is known of the frame.
    pub(crate) fn append_noted(&mut self, frame: &Frame, note: Note) -> io::Result<()> {
        self.hold()?;
        let following = self.serial.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
        if !record::write(frame, self.serial, note, &mut self.buffer) {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the frame is too large for a record"));
        }
        let length = self.buffer.len() as u64;
        if segment::START + length > self.limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the frame is larger than the spool may be"));
        }
        let most = SEGMENT.min(self.limit / SEGMENTS);
        if self.segments.back().is_some_and(|newest| newest.end + length > most) {
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
        self.serial = following;
        self.highest = self.highest.max(note.number);
        Ok(())
    }

    /// The oldest frame that is not taken; `None` if there is none, or if others have to be acknowledged before. It stays
    /// until it is [acknowledged](Self::acknowledge). Up to 64 are taken at a time, and of those that an earlier version
    /// wrote a single one. What cannot be read is skipped and entered in the losses.
    pub fn take(&mut self) -> Option<Taken> {
        if !self.segments.is_empty() {
            // Where the directory is somebody else's by now, nothing is left to take. Whatever else is wrong, what
            // can be read is read.
            let _ = self.hold();
        }
        loop {
            let segment = *self.segments.iter().find(|segment| segment.number >= self.next.segment)?;
            let start = self.next_in(&segment);
            if start >= segment.end {
                self.tidy();
                if self.segments.back().is_none_or(|newest| newest.number <= segment.number) {
                    return None;
                }
                self.next = Position { segment: segment.number + 1, offset: 0 };
                continue;
            }
            let step = match self.reader(segment.number) {
                Ok(reader) => segment::read(reader, start, segment.end),
                Err(_) => Step::Lost,
            };
            match step {
                Step::Record { head, frame, end } => {
                    // One below the low-water mark is nowhere noted, like one without a number.
                    let serial = head.serial.filter(|serial| *serial >= self.cursor.mark().low);
                    self.is_blocked = !self.may_take(serial);
                    if self.is_blocked {
                        return None;
                    }
                    let is_settled = head.serial.is_some_and(|serial| self.before.has(serial));
                    let samples = if is_settled { 0 } else { head.samples };
                    self.leave_segment(segment.number, samples);
                    let record = Record { serial, segment: segment.number, end, samples, is_settled };
                    let place = self.takes(record);
                    match frame {
                        Some(frame) if !is_settled => return Some(Taken { frame, place, note: head.note }),
                        Some(_) => {}
                        None => self.losses.damaged = self.losses.damaged.saturating_add(samples),
                    }
                    // Where it cannot be stored the next process finds the same once more.
                    let _ = self.settle(place);
                }
                Step::Gap(next) => {
                    self.next = Position { segment: segment.number, offset: next };
                    if self.taken.is_empty() {
                        // As above.
                        let _ = self.cursor.store(Mark { position: self.next, ..self.cursor.mark() });
                    }
                }
                Step::Lost => {
                    self.losses.damaged = self.losses.damaged.saturating_add(segment.samples);
                    self.leave_segment(segment.number, segment.samples);
                    self.next = Position { segment: segment.number, offset: segment.end };
                }
            }
        }
    }

    /// Samples of a segment are read, or lost.
    fn leave_segment(&mut self, number: u64, samples: u64) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) {
            segment.samples -= samples.min(segment.samples);
        }
    }

    /// Whether the record of this serial number may be taken beside those that are.
    fn may_take(&mut self, serial: Option<u64>) -> bool {
        match (self.taken.is_empty(), serial) {
            (true, Some(serial)) => {
                // Whatever is missing between was acknowledged or lost.
                let mut mark = self.cursor.mark();
                mark.move_to(serial);
                self.cursor.set(mark);
                true
            }
            (true, None) => true,
            (false, serial) => {
                let is_old = self.taken.front().is_some_and(|oldest| oldest.serial.is_none());
                !is_old && serial.is_some_and(|serial| self.cursor.mark().reaches(serial))
            }
        }
    }

    /// Notes that a record is taken, and returns its place.
    fn takes(&mut self, record: Record) -> u64 {
        self.next = Position { segment: record.segment, offset: record.end };
        self.taken.push_back(record);
        self.first + self.taken.len() as u64 - 1
    }

    /// The frame that was taken at this place has been dealt with and is not sent again, not by a later process either. An
    /// error means that a later process may. Nothing happens where the frame is no longer in the directory.
    pub fn acknowledge(&mut self, place: u64) -> io::Result<()> {
        if !self.taken.is_empty() {
            // As in `take`.
            let _ = self.hold();
        }
        self.settle(place)
    }

    /// A taken record is settled, and the low-water mark rises to the oldest one that is not.
    fn settle(&mut self, place: u64) -> io::Result<()> {
        let index = place.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(record) = index.and_then(|index| self.taken.get_mut(index)) else { return Ok(()) };
        (record.is_settled, record.samples) = (true, 0);
        let mut mark = self.cursor.mark();
        record.serial.into_iter().for_each(|serial| mark.settle(serial));
        while let Some(settled) = pop_if(&mut self.taken, |oldest| oldest.is_settled) {
            self.first += 1;
            mark.position = Position { segment: settled.segment, offset: settled.end };
            settled.serial.into_iter().for_each(|serial| mark.move_to(serial.saturating_add(1)));
        }
        self.is_blocked = false;
        let stored = self.cursor.store(mark);
        self.tidy();
        stored
    }

    /// Removes the oldest segments as long as nothing of them is needed.
    fn tidy(&mut self) {
        while let Some(oldest) = self.segments.front().copied() {
            let is_needed = self.taken.front().is_some_and(|taken| taken.segment == oldest.number);
            if is_needed || self.next_in(&oldest) < oldest.end {
                break;
            }
            self.finish_oldest();
        }
    }

    /// What is no longer in the directory since this was asked last, of what was taken.
    pub(crate) fn take_released(&mut self) -> Vec<Released> {
        mem::take(&mut self.released)
    }

    /// Whether there is neither a taken frame nor one to take.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty() && !self.has_more()
    }

    /// Whether there is a frame to take, now or when others are acknowledged.
    pub(crate) fn has_more(&self) -> bool {
        self.segments.iter().rev().any(|segment| self.next_in(segment) < segment.end)
    }

    /// Whether [`take`](Self::take) has something to look at.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// The samples in it, those of taken frames included.
    pub fn samples(&self) -> u64 {
        let waiting = self.segments.iter().fold(0_u64, |sum, segment| sum.saturating_add(segment.samples));
        self.taken.iter().fold(waiting, |sum, taken| sum.saturating_add(taken.samples))
    }

    /// What its segments take on disk, in bytes.
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }

    /// What was given up since the last call; the samples of taken frames are not in it.
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
    pub(crate) fn hold(&mut self) -> io::Result<()> {
        let ours = self.lock.metadata()?;
        let there = fs::metadata(self.directory.through().join(LOCK));
        let is_ours = there.as_ref().is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        if !is_ours || self.directory.is_elsewhere() {
            self.directory = self.opener.directory(self.directory.named())?;
            self.lock = match lock(&self.directory) {
                Ok(lock) => lock,
                Err(SpoolError::Unusable(_, error)) => return Err(error),
                Err(locked) => {
                    self.leave();
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, locked.to_string()));
                }
            };
            // Where nothing but the lock was removed, and nobody had the directory meanwhile, all is as it was.
            if there.is_ok() || !self.cursor.is_in(self.directory.through()) {
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
        self.release(false, |_| true);
        let lost: u64 = mem::take(&mut self.segments).iter().map(|segment| segment.samples).sum();
        self.losses.damaged = self.losses.damaged.saturating_add(lost);
    }

    /// Takes over what is in a directory that we have locked. After an error it is tried again, from the start.
    fn enter(&mut self) -> io::Result<()> {
        let mark = cursor::peek(self.directory.through())?;
        check(&self.directory, self.encodings)
            .map_err(|error| io::Error::new(io::ErrorKind::ResourceBusy, chain(&error)))?;
        self.cursor = Cursor::open(self.directory.through())?;
        self.before = self.cursor.mark();
        (self.last, self.next) = (self.last.max(mark.position.segment), mark.position);
        (self.serial, self.highest) = (self.serial.max(mark.beyond()), self.highest.max(mark.sent));
        let mut recovery = Recovery::default();
        for number in segment::list(self.directory.through())? {
            let adopted = self.adopt(number, &mut recovery);
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

    /// Where the next record of a segment is.
    fn next_in(&self, segment: &Segment) -> u64 {
        match segment.number.cmp(&self.next.segment) {
            Ordering::Less => segment.end,
            Ordering::Equal => self.next.offset.max(segment.start),
            Ordering::Greater => segment.start,
        }
    }

    /// The oldest records that were taken are no longer in the directory.
    fn release(&mut self, made_room: bool, is_gone: impl Fn(&Record) -> bool) {
        while let Some(record) = pop_if(&mut self.taken, &is_gone) {
            if !record.is_settled {
                self.released.push(Released { place: self.first, made_room });
            }
            self.first += 1;
        }
        self.is_blocked = false;
    }

    /// Makes a new segment unless one is being written.
    fn begin(&mut self) -> io::Result<()> {
        if self.writer.is_none() {
            let number = self.last.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
            let encoding = self.encodings.first().copied().unwrap_or_default();
            self.writer = Some(segment::create(&self.path_of(number), encoding)?);
            self.last = number;
            self.segments.push_back(Segment { number, start: segment::START, end: segment::START, samples: 0 });
        }
        Ok(())
    }

    /// Opens a segment to be read, unless it is.
    fn reader(&mut self, number: u64) -> io::Result<&File> {
        if self.reader.as_ref().is_none_or(|(open, _)| *open != number) {
            self.reader = Some((number, File::open(self.path_of(number))?));
        }
        self.reader.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The oldest segment makes room. False if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.segments.front_mut() else { return false };
        self.losses.full = self.losses.full.saturating_add(mem::take(&mut oldest.samples));
        let number = oldest.number;
        self.release(true, |taken| taken.segment == number);
        if self.next.segment <= number {
            self.next = Position { segment: number.saturating_add(1), offset: 0 };
        }
        self.finish_oldest();
        true
    }

    /// Nothing of the oldest segment is needed any more. What nobody could read of it is lost.
    fn finish_oldest(&mut self) {
        if let Some(oldest) = self.segments.pop_front() {
            self.reader.take_if(|(number, _)| *number == oldest.number);
            self.losses.damaged = self.losses.damaged.saturating_add(oldest.samples);
            if self.segments.is_empty() {
                self.writer = None;
            }
            // A file that is left over is found again, acknowledged, by the next process.
            let _ = fs::remove_file(self.path_of(oldest.number));
        }
    }
}
