//! Rules for a process that was started with more rights than its caller has: setuid, setgid or
//! with file capabilities (`AT_SECURE`).
//!
//! Its caller must not reach anything through it: the environment and `--config` are no layers
//! then, a file is read only if nobody but root can have written it, and its sinks are
//! [confined](crate::confine).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Whoever may write beside the owner.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Opens a file that nobody but root can change: it and all directories above it belong to root
/// and are writable for root alone, and it is no link.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    guarded(&metadata, "it")?;
    if let Some(parent) = path.parent() {
        directory(parent)?;
    }
    Ok(file)
}

/// Whether nobody but root can change what is in a directory: it and all above it belong to root and are writable for
/// root alone, and none is a link that somebody else could have made.
pub(crate) fn directory(path: &Path) -> io::Result<()> {
    for directory in path.ancestors() {
        guarded(&directory.symlink_metadata()?, &format!("the directory {}", directory.display()))?;
    }
    Ok(())
}

fn guarded(metadata: &std::fs::Metadata, what: &str) -> io::Result<()> {
    if metadata.uid() != 0 {
        return Err(io::Error::other(format!("{what} does not belong to root")));
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(io::Error::other(format!("{what} is writable for others than root")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_that_others_could_have_written_is_not_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "").expect("a file");
        // Temporary directories hang below one that everybody may write to.
        assert!(open(&path).is_err());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("permissions");
        let error = open(&path).expect_err("writable for all");
        assert!(error.to_string().contains("it "), "{error}");
        let link = folder.path().join("link");
        symlink("/etc/passwd", &link).expect("a link");
        assert!(open(&link).is_err());
        assert!(open(Path::new("/etc")).is_err());
        assert!(open(Path::new("/dev/null")).is_err());
    }
}
