//! A cgroup of version 2 for one test.

use crate::{Failure, Outcome, wait};
use rustix::mount::{MountFlags, UnmountFlags};
use std::cell::RefCell;
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A group below the root of the hierarchy, removed when it is dropped.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    name: String,
}

impl Cgroup {
    /// Makes a group, named after this process, so that no other run has it.
    ///
    /// # Errors
    /// No cgroup version 2 is mounted, or it cannot be written.
    pub fn new() -> Outcome<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/mounts").map_err(Failure::at("/proc/mounts"))?;
        let root = mount(&mounts).ok_or_else(|| Failure::new("no cgroup version 2 is mounted"))?;
        let name = format!("/ebpf-process-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let folder = root.join(&name[1..]);
        fs::create_dir(&folder).map_err(Failure::at(format!("making {}", folder.display())))?;
        Ok(Self { folder, name })
    }

    /// Makes a group below it, whose own parent is there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn below(&self, path: &str) -> Outcome<Self> {
        let (folder, name) = (self.folder.join(path), format!("{}/{path}", self.name));
        fs::create_dir(&folder).map_err(Failure::at(format!("making {}", folder.display())))?;
        Ok(Self { folder, name })
    }

    /// Whether no group is below it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_leaf(&self) -> Outcome<bool> {
        let mut entries = fs::read_dir(&self.folder).map_err(Failure::at(self.folder.display()))?;
        Ok(!entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir())))
    }

    /// Its path in the hierarchy, as `/proc/PID/cgroup` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes it, as a service manager does when a service has ended.
    ///
    /// # Errors
    /// It is not empty in time.
    pub fn remove(&self) -> Outcome<()> {
        wait::until("the cgroup's removal", Duration::from_secs(5), || Ok(fs::remove_dir(&self.folder).ok()))
    }

    /// Makes it again under its name.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn make_anew(&self) -> Outcome<()> {
        fs::create_dir(&self.folder).map_err(Failure::at(format!("making {}", self.folder.display())))
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add(&self, pid: u32) -> Outcome<()> {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string())
            .map_err(Failure::at(format!("moving process {pid} into {}", self.name)))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Busy for a moment after its last process is reaped. What stays is an empty folder.
        let _ = wait::until("the cgroup's removal", Duration::from_secs(5), || Ok(fs::remove_dir(&self.folder).ok()));
    }
}

/// A hierarchy of version 1 without controllers, mounted for one test.
#[derive(Debug)]
pub struct Version1 {
    root: tempfile::TempDir,
    made: RefCell<Vec<PathBuf>>,
}

impl Version1 {
    /// Mounts one of its own, named after this process.
    ///
    /// # Errors
    /// The kernel has no version 1, or refuses.
    pub fn mount() -> Outcome<Self> {
        let root = tempfile::tempdir().map_err(Failure::at("making a folder"))?;
        let options = CString::new(format!("none,name=ebpf-process-{}", process::id()))
            .map_err(Failure::at("naming a hierarchy"))?;
        rustix::mount::mount("none", root.path(), "cgroup", MountFlags::empty(), &*options)
            .map_err(Failure::at("mounting control groups of version 1"))?;
        Ok(Self { root, made: RefCell::default() })
    }

    /// Makes a group of this path.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn make(&self, path: &str) -> Outcome<()> {
        let folder = self.root.path().join(path.trim_start_matches('/'));
        fs::create_dir(&folder).map_err(Failure::at(format!("making {}", folder.display())))?;
        self.made.borrow_mut().push(folder);
        Ok(())
    }
}

impl Drop for Version1 {
    fn drop(&mut self) {
        for folder in self.made.get_mut().drain(..) {
            // A hierarchy goes with its last group.
            let _ = fs::remove_dir(folder);
        }
        let _ = rustix::mount::unmount(self.root.path(), UnmountFlags::DETACH);
    }
}

fn mount(mounts: &str) -> Option<&Path> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let folder = words.next()?;
        (words.next()? == "cgroup2").then_some(Path::new(folder))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_wherever_it_is() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount(mounts), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(mount("proc /proc proc rw 0 0\n"), None);
    }
}
