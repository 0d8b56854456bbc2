//! The paths of control groups, by the ids that the kernel programs see.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_names::{Names, Resolver};
use parking_lot::Mutex;
use tracing::debug;

use crate::cgroup;

/// Beyond so many, all groups that are gone are forgotten but the newest: more than an interval's ring has room for.
const LIMIT: usize = 16_384;
const NEWEST: usize = LIMIT / 2;

/// Before so many it is not worth while.
const FEW: usize = 4096;

/// How long a group that is gone is remembered: its last numbers may come a tick later.
const KEPT: Duration = Duration::from_mins(15);

/// The hierarchy is walked for an unknown id at most so often: where it is gone already it will not be found either.
const WALK_AGAIN: Duration = Duration::from_secs(1);

/// Paths are looked for at most so deep, and in so many groups.
const DEPTH: usize = 32;
const WALKED: usize = 200_000;

/// Id and path of groups of the v2 hierarchy.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    mount: Option<PathBuf>,
    known: HashMap<u64, Group>,
    walked: Option<Instant>,
    names: Option<Resolver>,
    walks: u64,
    /// So many groups are known when it is looked which of them can be forgotten.
    bound: usize,
}

#[derive(Debug)]
struct Group {
    path: Arc<str>,
    /// When it was made or asked for.
    used: Instant,
    /// The walk that has found it last; 0: none has.
    walk: u64,
}

/// One for all tables: a group that one has been told of is known to all.
static GROUPS: Mutex<Option<Groups>> = Mutex::new(None);

/// Does something with what is known of the groups.
pub(super) fn with<R>(act: impl FnOnce(&mut Groups) -> R) -> R {
    act(GROUPS.lock().get_or_insert_with(|| Groups::below(cgroup::mount().ok())))
}

impl Groups {
    fn below(mount: Option<PathBuf>) -> Self {
        let mut groups = Self { mount, bound: FEW, ..Self::default() };
        groups.walk();
        groups
    }

    /// A group was made.
    pub(super) fn made(&mut self, id: u64, path: &[u8]) {
        self.make_room();
        self.insert(id, String::from_utf8_lossy(path).into());
    }

    /// The path of a group; that of one which is gone and of which nobody has told is its number.
    pub(super) fn path(&mut self, id: u64, now: Instant) -> Arc<str> {
        if let Some(group) = self.known.get_mut(&id) {
            group.used = now;
            return Arc::clone(&group.path);
        }
        if self.walked.is_none_or(|walked| walked.elapsed() >= WALK_AGAIN) {
            self.walk();
        }
        self.make_room();
        let path = self.known.get(&id).map_or_else(|| format!("unknown:{id}").into(), |group| Arc::clone(&group.path));
        self.insert(id, Arc::clone(&path));
        path
    }

    /// Whose a group is: its unit, container and pod.
    pub(super) fn names(&mut self, path: &str) -> Names {
        self.names.get_or_insert_with(|| Resolver::new(Path::new("/"))).resolve(path)
    }

    fn insert(&mut self, id: u64, path: Arc<str>) {
        let walk = self.known.get(&id).map_or(0, |group| group.walk);
        self.known.insert(id, Group { path, used: Instant::now(), walk });
    }

    /// Forgets groups that are gone, if there are many.
    fn make_room(&mut self) {
        if self.known.len() < self.bound {
            return;
        }
        self.walk();
        let walks = self.walks;
        let before = self.known.len();
        self.known.retain(|_, group| group.walk == walks || group.used.elapsed() < KEPT);
        let mut gone: Vec<Instant> =
            self.known.values().filter(|group| group.walk != walks).map(|group| group.used).collect();
        if self.known.len() >= LIMIT && gone.len() > NEWEST {
            let (_, oldest, _) = gone.select_nth_unstable_by(NEWEST, |a, b| b.cmp(a));
            let oldest = *oldest;
            self.known.retain(|_, group| group.walk == walks || group.used > oldest);
            self.known.shrink_to(2 * self.known.len());
        }
        debug!(before, after = self.known.len(), "forgot control groups that are gone");
        self.bound = (2 * self.known.len()).clamp(FEW, LIMIT.max(self.known.len() + FEW));
    }

    /// Reads the ids of all groups that there are: a directory's inode has the group's.
    fn walk(&mut self) {
        self.walked = Some(Instant::now());
        self.walks += 1;
        let Some(mount) = self.mount.clone() else { return };
        let mut pending = vec![(mount.clone(), 0)];
        let mut walked = 0;
        while let Some((directory, depth)) = pending.pop() {
            walked += 1;
            if walked > WALKED {
                debug!("more than {WALKED} control groups: the rest is known by number until it is made anew");
                break;
            }
            // It may be gone by now.
            let Ok(found) = fs::symlink_metadata(&directory) else { continue };
            self.found(found.ino(), below(&mount, &directory));
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            if depth < DEPTH {
                pending.extend(directories.map(|entry| (entry.path(), depth + 1)));
            }
        }
    }

    fn found(&mut self, id: u64, path: String) {
        let (walk, now) = (self.walks, Instant::now());
        let group = self.known.entry(id).or_insert_with(|| Group { path: "".into(), used: now, walk });
        group.walk = walk;
        if *group.path != *path {
            group.path = path.into();
        }
    }
}

/// As the kernel names it: from the root of the hierarchy on.
fn below(mount: &Path, directory: &Path) -> String {
    let path = directory.strip_prefix(mount).unwrap_or(directory).to_string_lossy();
    if path.is_empty() { "/".to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_known_by_the_number_of_their_directory() {
        let root = std::env::temp_dir().join(format!("ebpf-process-groups-{}", std::process::id()));
        fs::create_dir_all(root.join("system.slice/x.service")).expect("directories");
        let id = |path: &str| fs::metadata(root.join(path)).expect("a directory").ino();
        let (now, mut groups) = (Instant::now(), Groups::below(Some(root.clone())));
        assert_eq!(&*groups.path(id(""), now), "/");
        assert_eq!(&*groups.path(id("system.slice/x.service"), now), "/system.slice/x.service");
        groups.made(1 << 40, b"/made\xff/since");
        assert_eq!(&*groups.path(1 << 40, now), "/made\u{fffd}/since");
        assert_eq!(&*groups.path(1 << 41, now), "unknown:2199023255552");
        fs::remove_dir_all(&root).expect("removed");
        // What is known stays known: its last numbers may come later.
        assert_eq!(&*groups.path(1 << 40, now), "/made\u{fffd}/since");
        assert_eq!(&*Groups::below(None).path(7, now), "unknown:7");
    }

    #[test]
    fn however_many_are_made_and_removed_few_are_known() {
        let root = std::env::temp_dir().join(format!("ebpf-process-many-groups-{}", std::process::id()));
        fs::create_dir_all(root.join("lasting")).expect("directories");
        let lasting = fs::metadata(root.join("lasting")).expect("a directory").ino();
        let (now, mut groups) = (Instant::now(), Groups::below(Some(root.clone())));
        for id in 1 << 40..(1 << 40) + 3 * LIMIT as u64 {
            groups.made(id, b"/run-1.scope");
            assert!(groups.known.len() <= LIMIT, "{}", groups.known.len());
            assert!(groups.known.contains_key(&id.saturating_sub(99).max(1 << 40)), "the newest stay");
        }
        assert_eq!(&*groups.path(lasting, now), "/lasting");
        fs::remove_dir_all(&root).expect("removed");
    }
}
