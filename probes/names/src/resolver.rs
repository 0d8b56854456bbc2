//! Names of containers and pods, from the files of those who made them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cache::{Budget, Cache};
use crate::folder::Folder;
use crate::found::Found;
use crate::parts::{Parts, parts};
use crate::{container, docker, kubelet, oci, storage};

/// Whose a control group is. Empty: unknown, or nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The systemd unit, as [`Parts::unit`].
    pub unit: String,
    /// The container's id of 64 hexadecimal digits, or the name of one that has no id.
    pub container: String,
    /// The pod's name; its uid while no file tells the name.
    pub pod: String,
    /// The pod's namespace.
    pub namespace: String,
    /// What people call the container. That which holds a pod's name spaces is `POD`.
    pub container_name: String,
}

/// The folders below `/` that names are read from: whoever looks while it has few rights has to be let into those that
/// there are.
pub const FOLDERS: [&str; 8] = [
    "run/containerd/io.containerd.runtime.v2.task",
    "run/k3s/containerd/io.containerd.runtime.v2.task",
    "run/k0s/containerd/io.containerd.runtime.v2.task",
    "run/containers/storage/overlay-containers",
    "var/lib/containers/storage/overlay-containers",
    "var/lib/docker/containers",
    "var/log/pods",
    "var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
];

/// Finds out names, and remembers them.
///
/// A name that was found stays; what was not found is looked for again after a second, and then ever less often, to once
/// a minute, for as long as somebody asks: a runtime may write its files after the first process runs. A few thousand
/// containers are remembered, and new ones cost looks at files of which there are 1,024 at once and 64 a second: what is
/// asked for beyond that gets what the path tells, and its names another time.
///
/// Files are read without following links to them, up to 1 MiB, and only regular ones. One that is about another container
/// or another pod than the path tells, or with a name that no runtime would have taken, counts as missing. Most of them can
/// be read by root alone, or with `CAP_DAC_READ_SEARCH`.
#[derive(Debug)]
pub struct Resolver {
    root: PathBuf,
    known: Cache,
    budget: Budget,
}

impl Resolver {
    /// A resolver that looks for files below a folder: `/`, or where the host's is mounted.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), known: Cache::default(), budget: Budget::new() }
    }

    /// What is known about the group with this path.
    pub fn resolve(&mut self, cgroup_path: &str) -> Names {
        self.resolve_at(cgroup_path, Instant::now())
    }

    fn resolve_at(&mut self, cgroup_path: &str, now: Instant) -> Names {
        let parts = parts(cgroup_path);
        let readable = parts.readable_container().unwrap_or_default().into_owned();
        let Parts { unit, container, pod } = parts;
        let id = container.filter(|container| container::is_id(container));
        let found = self.found(id, pod.as_deref(), now);
        let own_name = if id.is_none() { readable.clone() } else { String::new() };
        Names {
            unit: unit.unwrap_or_default().into_owned(),
            container: readable,
            pod: if found.pod.is_empty() { pod.unwrap_or_default() } else { found.pod },
            namespace: found.namespace,
            container_name: if found.container_name.is_empty() { own_name } else { found.container_name },
        }
    }

    fn found(&mut self, id: Option<&str>, pod: Option<&str>, now: Instant) -> Found {
        if id.is_none() && pod.is_none() {
            return Found::default();
        }
        let key = format!("{} {}", id.unwrap_or_default(), pod.unwrap_or_default());
        let (known, is_time) = self.known.get(&key, now);
        if !is_time || !self.budget.take(now) {
            return known;
        }
        let found = known.or(look(&self.root, id, pod));
        let is_complete = is_complete(&found, id, pod);
        self.known.put(key, found.clone(), is_complete, now);
        found
    }
}

/// Asks one source after the other: runtimes first, whose files are written once and for one container.
fn look(root: &Path, id: Option<&str>, pod: Option<&str>) -> Found {
    let Ok(root) = Folder::root(root) else { return Found::default() };
    let by_id = id.into_iter().flat_map(|id| {
        let later: [fn(&Folder, &str) -> Option<Found>; 3] = [docker::names, storage::names, kubelet::container];
        let root = &root;
        oci::names(root, id).chain(later.into_iter().filter_map(move |source| source(root, id)))
    });
    let by_pod = pod.into_iter().filter_map(|uid| kubelet::pod(&root, uid));
    let mut all = Found::default();
    for found in by_id.chain(by_pod).filter(|found| found.is_of(pod)) {
        all = all.or(found);
        if is_complete(&all, id, pod) {
            break;
        }
    }
    all
}

fn is_complete(found: &Found, id: Option<&str>, pod: Option<&str>) -> bool {
    (id.is_none() || !found.container_name.is_empty()) && (pod.is_none() || !found.pod.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_that_comes_late_is_found_and_one_that_goes_is_not_missed() {
        let root = tempfile::tempdir().unwrap();
        let id = "0123456789abcdef".repeat(4);
        let path = format!("/system.slice/docker-{id}.scope");
        let folder = root.path().join("var/lib/docker/containers").join(&id);
        let (mut resolver, start) = (Resolver::new(root.path()), Instant::now());
        let mut name = |millis| resolver.resolve_at(&path, start + Duration::from_millis(millis)).container_name;
        assert_eq!(name(0), "");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.v2.json"), format!(r#"{{"ID": "{id}", "Name": "/web"}}"#)).unwrap();
        assert_eq!(name(999), "", "nobody looked");
        assert_eq!(name(1000), "web");
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(name(1_000_000), "web");
    }

    #[test]
    fn groups_beyond_the_budget_get_what_their_path_tells() {
        let root = tempfile::tempdir().unwrap();
        let (mut resolver, now) = (Resolver::new(root.path()), Instant::now());
        for number in 0..1024 {
            resolver.resolve_at(&format!("/docker/{number:064x}"), now);
        }
        let id = "f".repeat(64);
        let folder = root.path().join("var/lib/docker/containers").join(&id);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.v2.json"), format!(r#"{{"ID": "{id}", "Name": "/web"}}"#)).unwrap();
        let path = format!("/docker/{id}");
        let names = resolver.resolve_at(&path, now);
        assert_eq!((names.container.as_str(), names.container_name.as_str()), (id.as_str(), ""));
        assert_eq!(resolver.resolve_at(&path, now + Duration::from_secs(1)).container_name, "web");
    }
}
