//! A directory that agents share: whoever finds it missing makes it, and the last one of those who made it removes it.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ebpf_process_core::identity;
use rustix::process::geteuid;

use crate::confinement::user::{self, User};

/// How often somebody else may remove it before something is put into it; each time an agent ends at that moment.
const ATTEMPTS: usize = 100;

/// A directory in use. When dropped it is removed if it was made here, unless somebody else uses it as well.
#[derive(Debug)]
pub(crate) struct MeetingPlace {
    path: PathBuf,
    made: bool,
    /// Whom the agent becomes later, and who removes then what is in it.
    user: Option<User>,
}

impl MeetingPlace {
    /// Makes the directory if it is missing, for its user alone: for whom the agent becomes, where that is somebody else.
    /// The one where root's agents meet becomes that user's whoever has made it.
    pub(crate) fn at(path: &Path, user: Option<&User>) -> io::Result<Self> {
        let mut place = Self { path: path.to_owned(), made: false, user: user.cloned() };
        place.make()?;
        Ok(place)
    }

    fn make(&mut self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Ok(()) => self.made = true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let of_root = self.path == identity().runtime_directory() && geteuid().is_root();
        if !(of_root || self.made && self.user.is_some()) {
            return Ok(());
        }
        match user::hand_over(&self.path, self.user.as_ref()) {
            // Whoever made it has just removed it: see put.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    /// Puts something into the directory. Whoever made it may end and remove it at any moment before: then it is made
    /// again. Once something is in it, it stays.
    pub(crate) fn put<T>(&mut self, mut put: impl FnMut(&Path) -> io::Result<T>) -> io::Result<T> {
        for _ in 1..ATTEMPTS {
            match put(&self.path) {
                Err(error) if error.kind() == ErrorKind::NotFound => self.make()?,
                outcome => return outcome,
            }
        }
        put(&self.path)
    }
}

/// Removes the directory where root's agents meet, unless somebody uses it.
pub(crate) fn remove_empty() {
    let _ = fs::remove_dir(identity().runtime_directory());
}

impl Drop for MeetingPlace {
    fn drop(&mut self) {
        if self.made {
            // Who may not write above it leaves it behind, empty.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn who_made_it_removes_it_and_nobody_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run");
        let first = MeetingPlace::at(&path, None).expect("a directory");
        drop(MeetingPlace::at(&path, None).expect("it is there"));
        assert!(path.exists());
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_removed_before_anything_is_in_it_is_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run");
        let first = MeetingPlace::at(&path, None).expect("a directory");
        let mut second = MeetingPlace::at(&path, None).expect("it is there");
        drop(first);
        second.put(|path| File::create(path.join("a"))).expect("made again");
        fs::remove_file(path.join("a")).expect("it was put there");
        drop(second);
        assert!(!path.exists(), "whoever made it last has removed it");
    }

    #[test]
    fn agents_that_come_and_go_at_once_never_fail() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run");
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let (path, start) = (&path, &start);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..200 {
                        let mut place = MeetingPlace::at(path, None).expect("a directory");
                        let own = path.join(name);
                        place.put(|_| File::create(&own)).unwrap_or_else(|error| panic!("{name} {round}: {error}"));
                        assert!(own.exists(), "nobody removes a directory that is in use");
                        fs::remove_file(&own).expect("it is there");
                    }
                });
            }
        });
    }

    #[test]
    fn where_there_can_be_no_directory_it_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(MeetingPlace::at(&folder.path().join("missing/run"), None).is_err());
        // Neither there nor to be made.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).expect("a link");
        let mut place = MeetingPlace::at(&link, None).expect("something is there");
        assert!(place.put(|path| File::create(path.join("a"))).is_err());
    }
}
