//! A file that whole lines are appended to.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Appends lines; a file that was moved away or deleted is opened anew.
#[derive(Debug)]
pub(crate) struct LineFile {
    path: PathBuf,
    file: Option<File>,
    /// The file ends in half a line: the next one begins with a line end.
    torn: bool,
}

impl LineFile {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = Self { path: path.to_owned(), file: None, torn: false };
        file.reopen()?;
        Ok(file)
    }

    /// Appends a line, which ends in a line end. After an error nothing of it is in the file, or at
    /// least nothing is ever appended to half of it.
    pub(crate) fn append(&mut self, line: &[u8]) -> io::Result<()> {
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
        outcome
    }

    /// Whether the path leads to another file by now, or to none.
    fn was_rotated(&self) -> bool {
        let Some(Ok(open)) = self.file.as_ref().map(File::metadata) else { return true };
        let there = std::fs::metadata(&self.path);
        !there.is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino()))
    }

    /// Why a line could not be appended, in words.
    pub(crate) fn explain(&self, error: &io::Error) -> String {
        explain(&self.path, error)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
        self.torn = file.metadata()?.is_file() && !ends_in_a_line_end(&mut file)?;
        self.file = Some(file);
        Ok(())
    }
}

/// Why a file cannot be appended to, in words.
pub(crate) fn explain(path: &Path, error: &io::Error) -> String {
    format!("cannot append to {}: {}", path.display(), ebpf_process_core::explain(error))
}

/// Writes all, and counts what was written also when it fails.
fn write_all(file: &mut File, mut bytes: &[u8], written: &mut u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => {
                *written += length as u64;
                bytes = &bytes[length..];
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_was_rotated_is_left_and_a_new_one_begun() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("lines"), folder.path().join("lines.1"));
        let mut file = LineFile::open(&path).expect("a file");
        file.append(b"one\n").expect("a line");
        fs::rename(&path, &moved).expect("rotated");
        file.append(b"two\n").expect("a line");
        fs::remove_file(&path).expect("deleted");
        file.append(b"three\n").expect("a line");
        fs::write(&path, "").expect("truncated");
        file.append(b"four\n").expect("a line");
        assert_eq!(fs::read_to_string(&moved).expect("text"), "one\n");
        assert_eq!(fs::read_to_string(&path).expect("text"), "four\n");
    }

    #[test]
    fn half_a_line_is_never_continued() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines");
        fs::write(&path, "whole\nha").expect("a file");
        let mut file = LineFile::open(&path).expect("a file");
        file.append(b"next\n").expect("a line");
        file.append(b"last\n").expect("a line");
        drop(file);
        LineFile::open(&path).and_then(|mut file| file.append(b"again\n")).expect("a line");
        assert_eq!(fs::read_to_string(&path).expect("text"), "whole\nha\nnext\nlast\nagain\n");
    }

    #[test]
    fn a_directory_that_comes_back_is_used_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("log");
        assert!(LineFile::open(&inner.join("lines")).is_err());
        fs::create_dir(&inner).expect("a folder");
        let mut file = LineFile::open(&inner.join("lines")).expect("a file");
        fs::remove_dir_all(&inner).expect("deleted");
        assert_eq!(file.append(b"lost\n").map_err(|error| error.kind()), Err(ErrorKind::NotFound));
        fs::create_dir(&inner).expect("a folder");
        file.append(b"kept\n").expect("a line");
        assert_eq!(fs::read_to_string(inner.join("lines")).expect("text"), "kept\n");
    }

    #[test]
    fn a_full_device_takes_nothing() {
        let mut file = LineFile::open(Path::new("/dev/full")).expect("a device");
        for _ in 0..2 {
            let error = file.append(b"line\n").expect_err("no room");
            assert_eq!(error.kind(), ErrorKind::StorageFull);
        }
    }
}
