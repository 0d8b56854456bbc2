//! Files for one input.

use std::fs;
use std::path::{Path, PathBuf};

/// Runs on an empty directory that is gone afterwards, also when there is a finding: the process ends
/// then, and what began it removes the directory for temporary files.
///
/// # Panics
///
/// When there is no room for a directory.
pub fn in_directory<R>(run: impl FnOnce(&Path) -> R) -> R {
    let directory = tempfile::tempdir().expect("room for a directory");
    run(directory.path())
}

/// Writes a file and returns where it is.
///
/// # Panics
///
/// When there is no room for it.
pub fn file(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, bytes).expect("room for a file");
    path
}
