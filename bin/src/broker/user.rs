//! The user as whom the agent runs, and what it may do without any capability.

use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{Stat, getxattr};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};

/// A user, with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Those beside `gid`.
    pub(crate) groups: Vec<u32>,
}

/// A way of using a file, as its bit among the others' in a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read = 4,
    Write = 2,
}

/// The permission bits of a group and of everybody else to write.
const WRITE_OF_OTHERS: u32 = 0o022;

impl User {
    /// The one of this process.
    pub(crate) fn current() -> Self {
        let groups = getgroups().unwrap_or_default();
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        Self { uid, gid, groups: groups.into_iter().map(rustix::process::Gid::as_raw).collect() }
    }

    /// Whether it is root: then whatever root has put somewhere is its own.
    pub(crate) const fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether the mode of a file lets it do this.
    pub(crate) fn may(&self, file: &Stat, what: Use) -> bool {
        let shift = if file.st_uid == self.uid {
            6
        } else if self.has_group(file.st_gid) {
            3
        } else {
            0
        };
        file.st_mode >> shift & what as u32 != 0
    }

    /// Whether it may have put something into this directory: by its owner, its mode, or a list of further users.
    pub(crate) fn may_put_into(&self, directory: impl AsFd, stat: &Stat) -> bool {
        stat.st_uid == self.uid
            || stat.st_mode & 0o002 != 0
            // The bit is also what a list of users gives at most.
            || (stat.st_mode & 0o020 != 0 && (self.has_group(stat.st_gid) || has_list(directory)))
    }

    fn has_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// Whether nobody but root can have put something into this directory.
pub(crate) fn is_roots_alone(directory: &Stat) -> bool {
    directory.st_uid == 0 && directory.st_mode & WRITE_OF_OTHERS == 0
}

/// The path under which this process finds one of its descriptors again; whoever opens it gets exactly that file.
pub(crate) fn path_of(descriptor: impl AsFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd())
}

/// Whether a file has an access control list, or may have one.
fn has_list(file: impl AsFd) -> bool {
    let mut list = [0_u8; 1];
    let found = getxattr(path_of(file), c"system.posix_acl_access", &mut list[..]);
    !matches!(found, Err(Errno::NODATA | Errno::NOTSUP))
}
