//! Control groups of the v2 hierarchy, by path: opened, and watched for being made anew.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, open, stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::abi::CGROUP_NAME;
use crate::mounts;

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP2: u64 = 0x6367_7270;

/// The control group that has a path, whichever group that is at the time: a service gets another one at each start.
#[derive(Debug)]
pub(crate) struct NamedCgroup {
    /// As it was named.
    path: PathBuf,
    /// Where the hierarchy is mounted, and the path in it.
    full: CString,
    /// Device and inode of the group that was opened last, while it is there.
    identity: Option<(u64, u64)>,
}

/// A group in a message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NamedText {
    path: Vec<u8>,
    full: Vec<u8>,
    identity: Option<(u64, u64)>,
}

/// What became of the group since the last look.
#[derive(Debug)]
pub(crate) enum Change {
    /// Nothing: it is there, or still gone.
    None,
    /// There is none at the path any more.
    Gone,
    /// There is another one: this one.
    Anew(File),
}

/// Whether a path can name a control group, before anything is looked at; else why not.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    if path.as_os_str().is_empty() {
        return Err("is empty; to count everything leave `only` out".to_owned());
    }
    if path.as_os_str().as_bytes().contains(&0) {
        return Err("has a byte of value 0".to_owned());
    }
    let upwards = |part: Component<'_>| matches!(part, Component::ParentDir | Component::CurDir);
    if path.components().any(upwards) {
        return Err(format!("\"{}\" has \".\" or \"..\" in it: name the group from the root on", shown(path)));
    }
    Ok(())
}

impl NamedCgroup {
    /// Opens the group; an error says in words why it cannot be.
    pub(crate) fn open(path: &Path) -> Result<(Self, File), Unopened> {
        let mount = mount().map_err(Unopened::lasting)?;
        Self::open_below(&mount, path)
    }

    fn open_below(mount: &Path, path: &Path) -> Result<(Self, File), Unopened> {
        check(path).map_err(Unopened::lasting)?;
        if mount != Path::new("/")
            && let Ok(below) = path.strip_prefix(mount)
        {
            let problem = format!("\"{}\" begins with the mount point; it is \"/{}\"", shown(path), shown(below));
            return Err(Unopened::lasting(problem));
        }
        let full = join(mount, path);
        let full = CString::new(full.as_os_str().as_bytes()).map_err(|error| Unopened::lasting(error.to_string()))?;
        let mut named = Self { path: path.to_owned(), full, identity: None };
        let file = named.open_now()?;
        Ok((named, file))
    }

    /// By what the kernel knows the group if it is made anew: the id of its parent, and its name. The root has none.
    pub(crate) fn lineage(&self) -> Option<(u64, [u8; CGROUP_NAME])> {
        let full = Path::new(OsStr::from_bytes(self.full.as_bytes()));
        let parent = stat(full.parent()?).ok()?.st_ino;
        let given = full.file_name()?.as_bytes();
        let mut name = [0; CGROUP_NAME];
        name.get_mut(..given.len())?.copy_from_slice(given);
        Some((parent, name))
    }

    /// In a message.
    pub(crate) fn text(&self) -> NamedText {
        let path = self.path.as_os_str().as_bytes().to_vec();
        NamedText { path, full: self.full.as_bytes().to_vec(), identity: self.identity }
    }

    /// One that another process has opened.
    pub(crate) fn of_text(text: NamedText) -> Result<Self, String> {
        let full = CString::new(text.full).map_err(|error| error.to_string())?;
        Ok(Self { path: OsString::from_vec(text.path).into(), full, identity: text.identity })
    }

    /// Its path as it was named.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks whether the group is still the one that was opened. Allocates nothing while it is.
    pub(crate) fn look(&mut self) -> Change {
        if self.identity.is_some() && self.identity == self.at_path() {
            return Change::None;
        }
        let was_there = self.identity.take().is_some();
        match self.open_now() {
            Ok(file) => Change::Anew(file),
            Err(_) if was_there => Change::Gone,
            Err(_) => Change::None,
        }
    }

    /// The last opened group could not be used: the next look opens it again.
    pub(crate) const fn forget(&mut self) {
        self.identity = None;
    }

    fn at_path(&self) -> Option<(u64, u64)> {
        stat(&self.full).ok().map(|found| (found.st_dev, found.st_ino))
    }

    fn open_now(&mut self) -> Result<File, Unopened> {
        let shown = self.full.to_string_lossy().escape_debug().to_string();
        let failed = |error: Errno| match error {
            Errno::NOENT => Unopened {
                problem: format!("there is no control group \"{}\" ({shown})", self::shown(&self.path)),
                passing: true,
            },
            Errno::NOTDIR => Unopened::lasting(format!("{shown} is below a file, not a control group")),
            _ => Unopened::lasting(format!("{shown}: {error}")),
        };
        let file = open(&self.full, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let found = fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return Err(Unopened::lasting(format!("{shown} is a file, not a control group")));
        }
        #[expect(clippy::cast_sign_loss, reason = "a number that names a kind of file system")]
        let kind = fstatfs(&file).map_err(failed)?.f_type as u64;
        if kind != CGROUP2 {
            let problem = format!("{shown} is not in the v2 hierarchy, but in one of v1 or another file system");
            return Err(Unopened::lasting(problem));
        }
        self.identity = Some((found.st_dev, found.st_ino));
        Ok(file.into())
    }
}

/// Why a control group cannot be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unopened {
    pub(crate) problem: String,
    /// Whether it may be there later: a service that has not been started yet has none.
    pub(crate) passing: bool,
}

impl Unopened {
    const fn lasting(problem: String) -> Self {
        Self { problem, passing: false }
    }
}

/// Opens this process's own control group in the v2 hierarchy.
pub(crate) fn open_own() -> Result<File, String> {
    let text = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.ok_or("this process has no control group in the v2 hierarchy")?;
    // Seen from inside a namespace it may begin with "/..": that is what the kernel says, and no mistake.
    let full = join(&mount()?, Path::new(path));
    File::open(&full).map_err(|error| format!("{}: {error}", full.display()))
}

fn join(mount: &Path, path: &Path) -> PathBuf {
    mount.join(path.strip_prefix("/").unwrap_or(path))
}

/// Where the v2 hierarchy is mounted.
pub(crate) fn mount() -> Result<PathBuf, String> {
    let mount = mounts::places(&mounts::own(), "cgroup2").next();
    mount
        .ok_or_else(|| "no cgroup2 file system is mounted; as root: mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned())
}

/// A path in a message, on one line.
pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_name_a_group_is_refused_with_the_reason() {
        for (path, reason) in [
            ("", "is empty"),
            ("..", "\"..\" in it"),
            ("/system.slice/../x", "\"..\" in it"),
            ("./x", "\".\" or"),
            ("/a\0b", "value 0"),
        ] {
            let problem = check(Path::new(path)).unwrap_err();
            assert!(problem.contains(reason), "{path:?}: {problem}");
        }
        assert_eq!(check(Path::new("/system.slice/x.service")), Ok(()));
        assert_eq!(check(Path::new("system.slice")), Ok(()));
    }

    #[test]
    fn a_file_and_another_file_system_are_no_control_groups() {
        let mount = tempfile::tempdir().expect("a folder");
        fs::write(mount.path().join("cgroup.procs"), "").expect("a file");
        fs::create_dir(mount.path().join("v1")).expect("a folder");
        let refusal = |path: &str| NamedCgroup::open_below(mount.path(), Path::new(path)).unwrap_err();
        let said = |path: &str, reason: &str, passing: bool| {
            let refusal = refusal(path);
            assert!(refusal.problem.contains(reason) && refusal.passing == passing, "{path}: {refusal:?}");
        };
        said("/cgroup.procs", "is a file", false);
        said("/cgroup.procs/x", "below a file", false);
        said("/v1", "not in the v2 hierarchy", false);
        said("/missing\n.service", "there is no control group \"/missing\\n.service\"", true);
        said(&mount.path().join("x").display().to_string(), "it is \"/x\"", false);
    }
}
