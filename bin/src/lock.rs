//! Two agents on one host would send everything twice: the first one holds a lock.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// Where the lock lives unless netdata names a directory.
pub(crate) const DIRECTORY: &str = "/run";

const NAME: &str = "ebpf-process.lock";

/// Whether this agent is the first.
#[derive(Debug)]
pub(crate) enum Lock {
    /// It is, as long as the file is open.
    First(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File),
    /// Another one runs.
    Second,
    /// Nobody can say.
    Unknown(io::Error),
}

impl Lock {
    /// Tries to be the first, without waiting.
    pub(crate) fn take(directory: &Path) -> Self {
        // The directory may belong to somebody with fewer rights: no link is followed, and nothing is written.
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits()).unwrap_or_default();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let file = match options.open(directory.join(NAME)) {
            Ok(file) => file,
            Err(error) => return Self::Unknown(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Self::First(file),
            Err(Errno::WOULDBLOCK) => Self::Second,
            Err(error) => Self::Unknown(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_notices_the_first_until_it_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Lock::take(folder.path());
        assert!(matches!(first, Lock::First(_)));
        assert!(matches!(Lock::take(folder.path()), Lock::Second));
        drop(first);
        assert!(matches!(Lock::take(folder.path()), Lock::First(_)));
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        std::os::unix::fs::symlink(&target, folder.path().join(NAME)).expect("a link");
        assert!(matches!(Lock::take(folder.path()), Lock::Unknown(_)));
        assert!(!target.exists());
    }
}
