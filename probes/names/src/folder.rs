//! Files and folders below a root, opened so that nobody can lead us elsewhere or make us wait.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::fs::{fstat, openat, openat2, readlinkat, statat};
use rustix::io::Errno;

/// The largest file that is read: a container's configuration has some 50 KiB, Podman's list half a KiB a container.
pub(crate) const FILE_LIMIT: u64 = 1 << 20;

/// How many entries of a folder are looked at.
const ENTRY_LIMIT: usize = 16_384;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    /// The folder that everything is below.
    pub(crate) fn root(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, path, FOLDER, Mode::empty())?))
    }

    /// A folder of the system's, named from this one on as from a root. Links on the way, as administrators make them for
    /// what needs much space, lead to places below this one, whatever they say; below Linux 5.6 there may be none.
    pub(crate) fn base(&self, path: &str) -> io::Result<Self> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.0, path, FOLDER, Mode::empty(), resolve) {
            Ok(folder) => Ok(Self(folder)),
            // PERM: a filter of system calls that does not know this one.
            Err(Errno::NOSYS | Errno::PERM) => self.step_by_step(path),
            Err(error) => Err(error.into()),
        }
    }

    fn step_by_step(&self, path: &str) -> io::Result<Self> {
        path.split('/').try_fold(Self(self.0.try_clone()?), |folder, name| folder.enter(name))
    }

    /// A folder in this one, and no link.
    pub(crate) fn enter(&self, name: &str) -> io::Result<Self> {
        Ok(Self(openat(&self.0, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?))
    }

    /// What is in a file of this folder. Refused are links, what is no regular file, and more than [`FILE_LIMIT`].
    pub(crate) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        // Before it is opened, since opening a device may do something; and after, since it may be another one then.
        check(&statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::empty())?;
        check(&fstat(&file)?)?;
        let mut bytes = Vec::new();
        File::from(file).take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_LIMIT {
            return Err(too_large());
        }
        Ok(bytes)
    }

    /// The names in this folder that are text, up to a limit.
    pub(crate) fn names(&self) -> io::Result<impl Iterator<Item = String>> {
        self.first_names(ENTRY_LIMIT)
    }

    fn first_names(&self, limit: usize) -> io::Result<impl Iterator<Item = String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let entries = Dir::new(openat(&self.0, ".", flags, Mode::empty())?)?;
        let names = entries.take(limit).map_while(Result::ok);
        Ok(names.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned)))
    }

    /// Where a link of this folder says that it leads. Nobody goes there.
    pub(crate) fn link(&self, name: &str) -> io::Result<String> {
        let target = readlinkat(&self.0, name, Vec::new())?;
        target.into_string().map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

fn check(stat: &rustix::fs::Stat) -> io::Result<()> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if u64::try_from(stat.st_size).is_ok_and(|size| size > FILE_LIMIT) {
        return Err(too_large());
    }
    Ok(())
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "larger than anybody's")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn without_openat2_a_folder_is_found_step_by_step_and_links_are_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/b/file"), "text").unwrap();
        symlink("a", root.path().join("link")).unwrap();
        let folder = Folder::root(root.path()).unwrap();
        assert_eq!(folder.step_by_step("a/b").unwrap().read("file").unwrap(), b"text");
        folder.step_by_step("link/b").unwrap_err();
        assert_eq!(folder.base("link/b").unwrap().read("file").unwrap(), b"text");
    }

    #[test]
    fn a_file_is_read_up_to_the_limit_and_not_a_byte_more() {
        let root = tempfile::tempdir().unwrap();
        let limit = usize::try_from(FILE_LIMIT).unwrap();
        fs::write(root.path().join("largest"), vec![b' '; limit]).unwrap();
        fs::write(root.path().join("larger"), vec![b' '; limit + 1]).unwrap();
        let folder = Folder::root(root.path()).unwrap();
        assert_eq!(folder.read("largest").unwrap().len(), limit);
        assert_eq!(folder.read("larger").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn of_a_folder_that_somebody_filled_only_a_part_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..20 {
            fs::write(root.path().join(number.to_string()), "").unwrap();
        }
        assert_eq!(Folder::root(root.path()).unwrap().first_names(10).unwrap().count(), 10);
    }
}
