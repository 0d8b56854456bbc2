//! The way to a path, one name after another, such that nobody can lead it elsewhere who may not.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat};
use rustix::io::Errno;

use super::language::Refusal;
use super::user::User;

/// Links that are followed on one way.
const MOST_LINKS: usize = 16;

/// Names on one way, those in links included.
const MOST_NAMES: usize = 256;

/// For looking alone: nothing is opened by it, and no link is followed.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Where a path leads.
#[derive(Debug)]
pub(crate) struct Found {
    /// The directory, for looking alone.
    pub(crate) directory: OwnedFd,
    pub(crate) directory_stat: Stat,
    /// The name in it.
    pub(crate) name: OsString,
    /// What has the name, for looking alone; never a link. None if there is nothing.
    pub(crate) there: Option<(OwnedFd, Stat)>,
}

/// Walks from the root directory. A symbolic link is followed if root owns it and `user` can have put nothing into its
/// directory; another one is a refusal. Where the user is root, root's links are followed wherever they are.
pub(crate) fn walk(path: &Path, user: &User) -> Result<Found, Refusal> {
    let mut passed = vec![open("/", LOOK | OFlags::DIRECTORY, Mode::empty())?];
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    put_ahead(&mut ahead, path)?;
    let (mut links, mut names) = (0, 0);
    while let Some(name) = ahead.pop_front() {
        names += 1;
        if names > MOST_NAMES {
            return Err(Errno::NAMETOOLONG.into());
        }
        if name == ".." {
            // Back to the very directory through which the way came, wherever that has been moved meanwhile.
            if passed.len() > 1 {
                passed.pop();
            }
            continue;
        }
        let Some(top) = passed.last() else { return Err(Errno::NOENT.into()) };
        let looked = match openat(top, &*name, LOOK, Mode::empty()) {
            Err(Errno::NOENT) if ahead.is_empty() => None,
            looked => {
                let looked = looked?;
                let stat = fstat(&looked)?;
                Some((looked, stat))
            }
        };
        match looked {
            Some((link, stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let trusted = stat.st_uid == 0 && (user.is_root() || !user.may_put_into(top, &fstat(top)?));
                if !trusted {
                    return Err(Refusal::of(format!(
                        "{} leads over the link {}, which is not root's or in a directory where the agent's user may \
                         put one; name the file itself",
                        path.display(),
                        name.display()
                    )));
                }
                let target = readlinkat(&link, c"", Vec::new())?;
                let target = Path::new(OsStr::from_bytes(target.to_bytes()));
                if target.is_absolute() {
                    passed.truncate(1);
                }
                put_ahead(&mut ahead, target)?;
            }
            there if ahead.is_empty() => {
                let Some(directory) = passed.pop() else { return Err(Errno::NOENT.into()) };
                let directory_stat = fstat(&directory)?;
                return Ok(Found { directory, directory_stat, name, there });
            }
            Some((directory, stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                passed.push(directory);
            }
            Some(_) => return Err(Errno::NOTDIR.into()),
            None => return Err(Errno::NOENT.into()),
        }
    }
    // The root directory, or a way that ends in `..`.
    Err(Refusal::of(format!("{} ends in no name; name the file itself", path.display())))
}

/// Puts a path's names before those that are ahead.
fn put_ahead(ahead: &mut VecDeque<OsString>, path: &Path) -> Result<(), Refusal> {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::ParentDir => ahead.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if ahead.len() > MOST_NAMES { Err(Errno::NAMETOOLONG.into()) } else { Ok(()) }
}
