//! A file that whole lines are appended to, or a FIFO.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::{Opener, SinkContext};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::unread::Unread;

/// How long a reader of a FIFO may leave no room.
const PATIENCE: Duration = Duration::from_secs(1);

/// Appends lines; a file that was moved away or deleted is opened anew. A FIFO is opened as soon as
/// somebody reads it, and never waited for.
///
/// A sink that [`open`](Self::open)s one leaves the book of samples to it
/// ([`Settlement::BySink`](ebpf_process_core::Settlement::BySink)), but for those of lines that fail, and passes its
/// calls on: `flush` to [`look`](Self::look), `due` to [`due`](Self::due), `close` to [`end`](Self::end).
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    opener: Arc<dyn Opener>,
    file: Option<File>,
    /// The file ends in half a line: the next one begins with a line end.
    torn: bool,
    /// What nobody has read of a FIFO; none where FIFOs are refused.
    unread: Option<Unread>,
}

impl LineFile {
    /// Opens the file, or makes it; its directory has to be there. A FIFO that nobody reads is for later.
    pub fn open(path: &Path, context: &SinkContext) -> io::Result<Self> {
        let mut file = Self { unread: Some(Unread::nowhere(context)), ..Self::regular(path, &context.opener) };
        match file.reopen() {
            Err(error) if !is_unread(&error) => Err(error),
            _ => Ok(file),
        }
    }

    /// A regular file, opened or made with its first lines; its directory has to be there. A FIFO is refused, since what
    /// it takes nobody may read. Nothing is entered in a book.
    pub fn regular(path: &Path, opener: &Arc<dyn Opener>) -> Self {
        Self { path: path.to_owned(), opener: Arc::clone(opener), file: None, torn: false, unread: None }
    }

    /// Appends one line or several, which end in a line end and have so many samples. After an error nothing of them is in
    /// the file, or at least nothing is ever appended to half of one; the samples are to be settled.
    pub fn append(&mut self, line: &[u8], samples: u64) -> io::Result<()> {
        self.append_pieces(samples, |write| write(line))
    }

    /// The same of a line that comes piece by piece, so that nobody has to hold all of it.
    pub fn append_pieces(
        &mut self,
        samples: u64,
        pieces: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.was_rotated() {
            self.file = None;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Err(ErrorKind::NotFound.into()) };
        let before = file.metadata()?.len();
        let end: &[u8] = if self.torn { b"\n" } else { b"" };
        let (mut written, deadline) = (0, Instant::now() + PATIENCE);
        let mut write = |part: &[u8]| write_all(file, part, &mut written, deadline);
        let outcome = write(end).and_then(|()| pieces(&mut write));
        match outcome {
            Ok(()) => self.torn = false,
            // Nobody else has appended meanwhile: what is there of the line is taken back.
            Err(_)
                if file.metadata().is_ok_and(|now| now.len() == before + written) && file.set_len(before).is_ok() => {}
            Err(_) => self.torn |= written > 0,
        }
        if let Some(unread) = &mut self.unread {
            let written = usize::try_from(written).unwrap_or(usize::MAX);
            unread.wrote(written, if outcome.is_ok() { samples } else { 0 });
            if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
                // Whoever reads next finds a FIFO without what nobody has read.
                self.file = None;
                unread.lost();
            }
        }
        outcome
    }

    /// Enters what has been read by now.
    pub fn look(&mut self) {
        self.unread.as_mut().map(Unread::look);
    }

    /// When to look again.
    pub fn due(&self) -> Option<Instant> {
        self.unread.as_ref().and_then(Unread::due)
    }

    /// Nothing more follows: waits for the reader for a moment.
    pub fn end(&mut self) {
        self.unread.as_mut().map(Unread::end);
    }

    /// What went wrong and the way out, for a person.
    pub fn explain(&self, error: &io::Error) -> String {
        let path = self.path.display();
        if is_unread(error) || error.kind() == ErrorKind::BrokenPipe {
            format!("nobody reads the FIFO {path}; start its reader")
        } else if error.kind() == ErrorKind::TimedOut {
            format!("whoever reads the FIFO {path} does not read as fast as we write")
        } else {
            Self::explain_path(&self.path, error)
        }
    }

    /// Why a file cannot be appended to, in words.
    pub fn explain_path(path: &Path, error: &io::Error) -> String {
        // A file itself would be made. Where it cannot be seen whether a directory is there, it is.
        let missing = path
            .ancestors()
            .skip(1)
            .filter(|above| fs::symlink_metadata(above).is_err_and(|error| error.kind() == ErrorKind::NotFound))
            .last();
        if let (ErrorKind::NotFound, Some(missing)) = (error.kind(), missing) {
            return format!("cannot append to {}: there is no directory {}", path.display(), missing.display());
        }
        format!("cannot append to {}: {}", path.display(), ebpf_process_core::explain(error))
    }

    /// Whether the path leads to another file by now, or to none.
    fn was_rotated(&self) -> bool {
        let Some(Ok(open)) = self.file.as_ref().map(File::metadata) else { return true };
        let there = fs::metadata(&self.path);
        !there.is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino()))
    }

    fn reopen(&mut self) -> io::Result<()> {
        let refused = |there: &Metadata| self.unread.is_none() && !there.is_file();
        let not_regular = || io::Error::new(ErrorKind::InvalidInput, "it is not a regular file");
        // Before it is opened: the reader of a FIFO would take that for its writer's end.
        if fs::metadata(&self.path).is_ok_and(|there| refused(&there)) {
            return Err(not_regular());
        }
        let mut file = self.opener.append(&self.path)?;
        if refused(&file.metadata()?) {
            return Err(not_regular());
        }
        self.torn = file.metadata()?.is_file() && !ends_in_a_line_end(&mut file)?;
        if let Some(unread) = &mut self.unread {
            unread.watch(&file);
        }
        self.file = Some(file);
        Ok(())
    }
}

/// Whether this says that nobody has a FIFO open for reading.
fn is_unread(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
}

/// Writes all, and counts what was written also when it fails.
fn write_all(file: &mut File, mut bytes: &[u8], written: &mut u64, deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => {
                *written += length as u64;
                bytes = &bytes[length..];
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for_room(file, deadline)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_for_room(file: &File, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    match poll(&mut [PollFd::new(file, PollFlags::OUT)], Timespec::try_from(left).ok().as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// An agent that was killed may have left half a line. An empty file ends in none.
fn ends_in_a_line_end(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::{context, offer};
    use rustix::fs::{CWD, Mode, OFlags, mkfifoat, openat};

    use super::*;

    fn open(path: &Path) -> io::Result<LineFile> {
        LineFile::open(path, &context("lines"))
    }

    #[test]
    fn a_file_that_was_rotated_is_left_and_a_new_one_begun() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("lines"), folder.path().join("lines.1"));
        let mut file = open(&path).expect("a file");
        file.append(b"one\n", 1).expect("a line");
        fs::rename(&path, &moved).expect("rotated");
        file.append(b"two\n", 1).expect("a line");
        fs::remove_file(&path).expect("deleted");
        file.append(b"three\n", 1).expect("a line");
        fs::write(&path, "").expect("truncated");
        file.append(b"four\n", 1).expect("a line");
        assert_eq!(fs::read_to_string(&moved).expect("text"), "one\n");
        assert_eq!(fs::read_to_string(&path).expect("text"), "four\n");
    }

    #[test]
    fn a_missing_directory_is_named_and_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let (missing, path) = (folder.path().join("a"), folder.path().join("a/b/lines"));
        let error = open(&path).expect_err("two are missing");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let words = format!("cannot append to {}: there is no directory {}", path.display(), missing.display());
        assert_eq!(LineFile::explain_path(&path, &error), words);
        assert!(!missing.exists());
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        open(&path).and_then(|mut file| file.append(b"one\n", 1)).expect("a line");
        assert_eq!(fs::read(&path).expect("the file"), b"one\n");
    }

    #[test]
    fn half_a_line_is_never_continued() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines");
        fs::write(&path, "whole\nha").expect("a file");
        let mut file = open(&path).expect("a file");
        file.append(b"next\n", 1).expect("a line");
        file.append(b"last\n", 1).expect("a line");
        drop(file);
        open(&path).and_then(|mut file| file.append(b"again\n", 1)).expect("a line");
        assert_eq!(fs::read_to_string(&path).expect("text"), "whole\nha\nnext\nlast\nagain\n");
    }

    #[test]
    fn a_directory_that_comes_back_is_used_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("log");
        fs::create_dir(&inner).expect("a folder");
        let mut file = open(&inner.join("lines")).expect("a file");
        fs::remove_dir_all(&inner).expect("deleted");
        assert_eq!(file.append(b"lost\n", 1).map_err(|error| error.kind()), Err(ErrorKind::NotFound));
        fs::create_dir(&inner).expect("a folder");
        file.append(b"kept\n", 1).expect("a line");
        assert_eq!(fs::read_to_string(inner.join("lines")).expect("text"), "kept\n");
    }

    #[test]
    fn a_full_device_takes_nothing() {
        let mut file = open(Path::new("/dev/full")).expect("a device");
        for _ in 0..2 {
            let error = file.append(b"line\n", 1).expect_err("no room");
            assert_eq!(error.kind(), ErrorKind::StorageFull);
        }
    }

    /// (written, unconfirmed, queued)
    fn book(context: &SinkContext) -> (u64, u64, u64) {
        let tally = context.ledger.tally();
        (tally.written, tally.unconfirmed, tally.queued)
    }

    #[test]
    fn a_fifo_is_written_once_somebody_reads_it_and_only_what_was_read_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fifo");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a FIFO");
        let context = context("lines");
        offer(&context.ledger, 6);
        let mut file = LineFile::open(&path, &context).expect("a FIFO is for later");
        let error = file.append(b"nobody\n", 1).expect_err("no reader");
        assert!(file.explain(&error).contains("nobody reads the FIFO"), "{}", file.explain(&error));

        let reading = || openat(CWD, &path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).map(File::from);
        let mut reader = reading().expect("a reader");
        file.append(b"one\n", 1).expect("a line");
        file.append(b"two\n", 2).expect("a line");
        assert_eq!(book(&context), (0, 0, 6));
        assert!(file.due().is_some(), "it is looked at again");
        let mut line = [0; 4];
        reader.read_exact(&mut line).expect("a line");
        assert_eq!(&line, b"one\n");
        file.look();
        assert_eq!(book(&context), (1, 0, 5));

        // It goes without having read all, and another one comes: it gets whole lines.
        drop(reader);
        let error = file.append(b"nobody\n", 1).expect_err("no reader");
        assert!(file.explain(&error).contains("nobody reads the FIFO"), "{}", file.explain(&error));
        assert_eq!(book(&context), (1, 2, 3));
        let mut reader = reading().expect("a reader");
        file.append(b"six\n", 1).expect("a line");
        reader.read_exact(&mut line).expect("a line");
        assert_eq!(&line, b"six\n");
        file.end();
        assert_eq!(book(&context), (2, 2, 2));
    }

    /// A new FIFO at this path, with somebody who could read it.
    fn with_a_reader(path: &Path) -> (File, LineFile) {
        mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).expect("a FIFO");
        let reader = openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
        (reader.expect("a reader").into(), open(path).expect("a FIFO"))
    }

    #[test]
    fn a_fifo_whose_reader_does_not_read_gets_no_half_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut reader, mut file) = with_a_reader(&folder.path().join("fifo"));
        let long = [&b"x".repeat(3 << 20)[..], b"\n"].concat();
        let error = file.append(&long, 1).expect_err("no room");
        assert!(file.explain(&error).contains("as fast as"), "{}", file.explain(&error));
        let mut bytes = Vec::new();
        let _ = reader.read_to_end(&mut bytes);
        assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == b'x'));
        file.append(b"next\n", 1).expect("a line");
        bytes.clear();
        let _ = reader.read_to_end(&mut bytes);
        assert_eq!(bytes, b"\nnext\n");
    }

    #[test]
    fn where_nobody_keeps_a_book_only_a_regular_file_is_appended_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines");
        let mut file = LineFile::regular(&path, &context("lines").opener);
        assert!(!path.exists());
        file.append(b"one\n", 0).expect("a line");
        fs::rename(&path, folder.path().join("lines.1")).expect("rotated");
        file.append(b"two\nthree\n", 0).expect("lines");
        assert_eq!(fs::read_to_string(&path).expect("text"), "two\nthree\n");
        fs::remove_file(&path).expect("deleted");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a FIFO");
        let error = file.append(b"four\n", 0).expect_err("a FIFO");
        assert!(file.explain(&error).contains("not a regular file"), "{}", file.explain(&error));
        let error = LineFile::regular(&folder.path().join("no/lines"), &context("lines").opener)
            .append(b"one\n", 0)
            .expect_err("no directory");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_cannot_be_written_as_a_whole_is_taken_back_unless_somebody_else_has_appended() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines");
        let text = || fs::read_to_string(&path).expect("text");
        let mut file = open(&path).expect("a file");
        let mut fail = |mine: &[u8], theirs: &[u8]| {
            let pieces = |write: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
                write(mine)?;
                File::options().append(true).open(&path)?.write_all(theirs)?;
                Err(ErrorKind::StorageFull.into())
            };
            assert_eq!(file.append_pieces(1, pieces).expect_err("no room").kind(), ErrorKind::StorageFull);
            file.append(b"next\n", 1).expect("a line");
        };
        fail(b"", b"");
        assert_eq!(text(), "next\n");
        fail(b"half", b"");
        assert_eq!(text(), "next\nnext\n");
        fail(b"", b"theirs\n");
        assert_eq!(text(), "next\nnext\ntheirs\nnext\n");
        fail(b"half", b"theirs\n");
        assert_eq!(text(), "next\nnext\ntheirs\nnext\nhalftheirs\n\nnext\n");
    }

    #[test]
    fn a_reader_who_reads_is_waited_for_until_there_is_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut reader, mut file) = with_a_reader(&folder.path().join("fifo"));
        let long = [&b"x".repeat(3 << 20)[..], b"\n"].concat();
        let mut got = Vec::new();
        let appended = std::thread::scope(|scope| {
            scope.spawn(|| {
                // Up to the end, which is there once nobody has it open to write.
                while reader.read_to_end(&mut got).is_err() {
                    std::thread::yield_now();
                }
            });
            let appended = file.append(&long, 1);
            drop(file);
            appended
        });
        appended.expect("it is read");
        assert!(got == long);
    }
}
