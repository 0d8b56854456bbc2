//! `config.json` of a container, as the runtime wrote it: containerd's, CRI-O's, nerdctl's, Podman's.

use serde::Deserialize;

use crate::container;
use crate::folder::Folder;
use crate::found::{Found, POD_CONTAINER};

/// Where a container's folder is, and where in it the file.
const PLACES: [(&str, &str); 8] = [
    ("run/containerd/io.containerd.runtime.v2.task/k8s.io", ""),
    ("run/containerd/io.containerd.runtime.v2.task/moby", ""),
    ("run/containerd/io.containerd.runtime.v2.task/default", ""),
    ("run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io", ""),
    ("run/k0s/containerd/io.containerd.runtime.v2.task/k8s.io", ""),
    ("var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/k8s.io", ""),
    ("run/containers/storage/overlay-containers", "userdata"),
    ("var/lib/containers/storage/overlay-containers", "userdata"),
];

#[derive(Deserialize)]
struct Config {
    annotations: Option<Annotations>,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(rename = "cgroupsPath")]
    cgroup: Option<String>,
}

/// The annotations of containerd (`cri`), of CRI-O and of nerdctl.
#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri.container-type")]
    kind: Option<String>,
    #[serde(rename = "io.kubernetes.cri.container-name")]
    container: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-id")]
    sandbox: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-name")]
    pod: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
    namespace: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-uid")]
    uid: Option<String>,
    #[serde(rename = "io.kubernetes.cri-o.ContainerID")]
    crio_id: Option<String>,
    #[serde(rename = "io.kubernetes.cri-o.ContainerType")]
    crio_kind: Option<String>,
    #[serde(rename = "io.kubernetes.container.name")]
    crio_container: Option<String>,
    #[serde(rename = "io.kubernetes.pod.name")]
    crio_pod: Option<String>,
    #[serde(rename = "io.kubernetes.pod.namespace")]
    crio_namespace: Option<String>,
    #[serde(rename = "io.kubernetes.pod.uid")]
    crio_uid: Option<String>,
    #[serde(rename = "nerdctl/name")]
    nerdctl: Option<String>,
}

/// What each `config.json` of a container says.
pub(crate) fn names(root: &Folder, id: &str) -> impl Iterator<Item = Found> {
    PLACES.iter().filter_map(move |(base, inside)| {
        let folder = root.base(base).ok()?.enter(id).ok()?;
        let folder = if inside.is_empty() { folder } else { folder.enter(inside).ok()? };
        of(&folder.read("config.json").ok()?, id)
    })
}

/// What a file says, if it is about this container.
fn of(json: &[u8], id: &str) -> Option<Found> {
    let config: Config = serde_json::from_slice(json).ok()?;
    let said = config.annotations.unwrap_or_default();
    let is_pod = [&said.kind, &said.crio_kind].iter().any(|kind| kind.as_deref() == Some("sandbox"));
    let cgroup = config.linux.and_then(|linux| linux.cgroup);
    // Only what has the form of an id: others name the group as they like.
    let in_cgroup = cgroup.as_deref().and_then(|path| path.rsplit(['/', ':']).next()).filter(|id| container::is_id(id));
    let own = [in_cgroup, said.crio_id.as_deref(), said.sandbox.as_deref().filter(|_| is_pod)];
    if own.iter().flatten().any(|said| *said != id) {
        return None;
    }
    let first = |values: [Option<String>; 2]| values.into_iter().flatten().find(|value| !value.is_empty());
    let text = |values| first(values).unwrap_or_default();
    let container = first([said.container, said.crio_container]).or(said.nerdctl);
    let container = container.or_else(|| is_pod.then(|| POD_CONTAINER.to_owned())).unwrap_or_default();
    Found::checked(
        &container,
        &text([said.pod, said.crio_pod]),
        &text([said.namespace, said.crio_namespace]),
        &text([said.uid, said.crio_uid]),
    )
}
