//! A file that whole lines are appended to, or a FIFO.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ebpf_process_core::{Finding, SinkContext};
use ebpf_process_delivery::Unread;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, AtFlags, CWD, OFlags, accessat};
use rustix::io::Errno;

/// How long a reader of a FIFO may leave no room.
const PATIENCE: Duration = Duration::from_secs(1);

/// Appends lines; a file that was moved away or deleted is opened anew. A FIFO is opened as soon as
/// somebody reads it, and never waited for.
#[derive(Debug)]
pub(crate) struct LineFile {
    path: PathBuf,
    file: Option<File>,
    /// The file ends in half a line: the next one begins with a line end.
    torn: bool,
    pub(crate) unread: Unread,
}

impl LineFile {
    /// Opens the file, or makes it, with its directory where that alone is missing. A FIFO that nobody reads is for later.
    pub(crate) fn open(path: &Path, context: &SinkContext) -> io::Result<Self> {
        let mut file = Self { path: path.to_owned(), file: None, torn: false, unread: Unread::nowhere(context) };
        let opened = match file.reopen() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                path.parent().map_or(Err(error), fs::create_dir).and_then(|()| file.reopen())
            }
            opened => opened,
        };
        match opened {
            Err(error) if !is_unread(&error) => Err(error),
            _ => Ok(file),
        }
    }

    /// Appends a line, which ends in a line end and has so many samples. After an error nothing of it is in
    /// the file, or at least nothing is ever appended to half of it; the samples are to be settled.
    pub(crate) fn append(&mut self, line: &[u8], samples: u64) -> io::Result<()> {
        if self.was_rotated() {
            self.file = None;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Err(ErrorKind::NotFound.into()) };
        let before = file.metadata()?.len();
        let end: &[u8] = if self.torn { b"\n" } else { b"" };
        let mut written = 0;
        let outcome = [end, line].into_iter().try_for_each(|part| write_all(file, part, &mut written));
        match outcome {
            Ok(()) => self.torn = false,
            // Nobody else has appended meanwhile: what is there of the line is taken back.
            Err(_)
                if file.metadata().is_ok_and(|now| now.len() == before + written) && file.set_len(before).is_ok() => {}
            Err(_) => self.torn |= written > 0,
        }
        let written = usize::try_from(written).unwrap_or(usize::MAX);
        self.unread.wrote(written, if outcome.is_ok() { samples } else { 0 });
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
            // Whoever reads next finds a FIFO without what nobody has read.
            self.file = None;
            self.unread.lost();
        }
        outcome
    }

    /// What went wrong and the way out, for a person.
    pub(crate) fn explain(&self, error: &io::Error) -> String {
        let path = self.path.display();
        if is_unread(error) || error.kind() == ErrorKind::BrokenPipe {
            format!("nobody reads the FIFO {path}; start its reader")
        } else if error.kind() == ErrorKind::TimedOut {
            format!("whoever reads the FIFO {path} does not read as fast as we write")
        } else {
            explain(&self.path, error)
        }
    }

    /// Whether the path leads to another file by now, or to none.
    fn was_rotated(&self) -> bool {
        let Some(Ok(open)) = self.file.as_ref().map(File::metadata) else { return true };
        let there = fs::metadata(&self.path);
        !there.is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino()))
    }

    fn reopen(&mut self) -> io::Result<()> {
        let is_fifo = fs::metadata(&self.path).is_ok_and(|there| there.file_type().is_fifo());
        let mut options = OpenOptions::new();
        // Opening a FIFO would wait for its reader, and whoever opens it for reading too is its reader.
        options.append(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        if !is_fifo {
            options.read(true).create(true);
        }
        let mut file = options.open(&self.path)?;
        self.torn = file.metadata()?.is_file() && !ends_in_a_line_end(&mut file)?;
        self.unread.watch(&file);
        self.file = Some(file);
        Ok(())
    }
}

/// Why a file cannot be appended to, in words.
pub(crate) fn explain(path: &Path, error: &io::Error) -> String {
    format!("cannot append to {}: {}", path.display(), ebpf_process_core::explain(error))
}

/// What appending to this path would come to. Nothing is made and nothing is changed.
pub(crate) fn try_out(path: &Path, option: &str) -> Finding {
    let shown = path.display();
    let may = |what: &Path, access| accessat(CWD, what, access, AtFlags::empty()).map_err(io::Error::from);
    let change = |what: &str| format!("{what}, or change {option}.path");
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Finding::error(format!("{shown} is a directory"), change("name a file in it")),
        // Opening a FIFO and closing it again would tell its reader that there is nothing more.
        Ok(_) => match may(path, Access::WRITE_OK) {
            Ok(()) => Finding::fine(format!("{shown} can be appended to")),
            Err(error) => Finding::error(explain(path, &error), change("make it writable for this user")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(path);
            let holds = Access::WRITE_OK | Access::EXEC_OK;
            let may_hold = may(parent, holds).or_else(|error| match (error.kind(), parent.parent()) {
                // The directory is made, too, where it alone is missing.
                (ErrorKind::NotFound, Some(above)) => may(above, holds),
                _ => Err(error),
            });
            match may_hold {
                Ok(()) => Finding::fine(format!("{shown} can be made")),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    Finding::error(format!("there is no directory {}", parent.display()), change("make it"))
                }
                Err(error) => Finding::error(
                    format!("{shown} cannot be made: {}", ebpf_process_core::explain(&error)),
                    change("make its directory writable for this user"),
                ),
            }
        }
        Err(error) => Finding::error(explain(path, &error), change("make it reachable for this user")),
    }
}

/// Whether this says that nobody has a FIFO open for reading.
fn is_unread(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
}

/// Writes all, and counts what was written also when it fails.
fn write_all(file: &mut File, mut bytes: &[u8], written: &mut u64) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
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
    use ebpf_process_core::Severity;
    use ebpf_process_core::testkit::{context, offer};
    use rustix::fs::{Mode, mkfifoat};

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
    fn a_missing_directory_is_made_and_one_above_it_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = open(&folder.path().join("log/lines")).expect("a file");
        file.append(b"one\n", 1).expect("a line");
        assert_eq!(fs::read(folder.path().join("log/lines")).expect("the file"), b"one\n");
        let error = open(&folder.path().join("a/b/lines")).expect_err("two are missing");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!folder.path().join("a").exists());
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

        let reading = || OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&path);
        let mut reader = reading().expect("a reader");
        file.append(b"one\n", 1).expect("a line");
        file.append(b"two\n", 2).expect("a line");
        assert_eq!(book(&context), (0, 0, 6));
        let mut line = [0; 4];
        reader.read_exact(&mut line).expect("a line");
        assert_eq!(&line, b"one\n");
        file.unread.look();
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
        file.unread.end();
        assert_eq!(book(&context), (2, 2, 2));
    }

    #[test]
    fn a_fifo_whose_reader_does_not_read_gets_no_half_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fifo");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a FIFO");
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut reader = OpenOptions::new().read(true).custom_flags(flags).open(&path).expect("a reader");
        let mut file = open(&path).expect("a FIFO");
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
    fn a_trial_tells_what_would_happen_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| try_out(&folder.path().join(name), "sinks.lines.options");
        fs::write(folder.path().join("there"), "one\n").expect("a file");
        mkfifoat(CWD, folder.path().join("fifo"), Mode::RUSR | Mode::WUSR).expect("a FIFO");
        for (name, severity, words) in [
            ("there", Severity::Fine, "can be appended to"),
            ("fifo", Severity::Fine, "can be appended to"),
            ("new", Severity::Fine, "can be made"),
            ("made/new", Severity::Fine, "can be made"),
            ("no/such/new", Severity::Error, "there is no directory"),
            ("there/new", Severity::Error, "Not a directory"),
            (".", Severity::Error, "is a directory"),
        ] {
            let finding = at(name);
            assert_eq!(finding.severity, severity, "{finding:?}");
            assert!(finding.what.contains(words), "{finding:?}");
            assert_eq!(finding.way_out.is_some(), severity == Severity::Error, "{finding:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
        assert_eq!(fs::read_to_string(folder.path().join("there")).expect("text"), "one\n");
    }
}
