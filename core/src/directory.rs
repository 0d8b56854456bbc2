//! A directory that stays reachable, whoever closes the way to it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

/// An open directory, as an [`Opener`](crate::Opener) hands it out.
///
/// What is in it is reached [through](Self::through) its descriptor, so that the calling process needs rights to the
/// directory alone and not to those above it. The kernel checks each file as it would by the directory's own path.
#[derive(Debug)]
pub struct Directory {
    opened: OwnedFd,
    named: PathBuf,
    through: PathBuf,
}

impl Directory {
    /// Opens a directory with the rights of this process.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::new(path, open(path, flags, Mode::empty())?))
    }

    /// The directory that somebody has opened, for looking alone (`O_PATH`) or for more; the path is what it is called.
    pub fn new(path: &Path, opened: OwnedFd) -> Self {
        let through = format!("/proc/self/fd/{}", opened.as_raw_fd()).into();
        Self { opened, named: path.to_owned(), through }
    }

    /// What it was called when it was opened, for people.
    pub fn named(&self) -> &Path {
        &self.named
    }

    /// A path of the directory in this process, as long as this value lives: for opening, making, renaming and removing
    /// what is in it.
    pub fn through(&self) -> &Path {
        &self.through
    }

    /// Whether its name leads to another directory by now, or to nothing. Where this process may not look, it does not.
    pub fn is_elsewhere(&self) -> bool {
        let named = match fs::metadata(&self.named) {
            Err(error) => return error.kind() != ErrorKind::PermissionDenied,
            Ok(named) => named,
        };
        fs::metadata(&self.through).is_ok_and(|ours| (ours.dev(), ours.ino()) != (named.dev(), named.ino()))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.opened.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_moved_is_elsewhere_and_still_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, other] = ["path", "other"].map(|name| folder.path().join(name));
        assert!(Directory::open(&path).is_err(), "there is none");
        fs::create_dir(&path).expect("a directory");
        let directory = Directory::open(&path).expect("opened");
        assert_eq!(directory.named(), path);
        assert!(!directory.is_elsewhere());
        fs::rename(&path, &other).expect("moved");
        assert!(directory.is_elsewhere(), "nothing has its name");
        fs::create_dir(&path).expect("another one");
        assert!(directory.is_elsewhere());
        fs::write(directory.through().join("file"), "text").expect("a file");
        assert_eq!(fs::read(other.join("file")).expect("the file"), b"text");
    }
}
