//! Names out of files: of each runtime, and of files that lie, are missing, are huge, or lead elsewhere.

#![expect(clippy::unwrap_used, reason = "a test's own mistake should stop the test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ebpf_process_names::{Names, Resolver};
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use tempfile::TempDir;

const ID: &str = "83fb6a29d8e9a4b7d6a0b5c2c1f7e3d40123456789abcdef0123456789abcdef";
const OTHER: &str = "0011223344556677889900aabbccddeeff00112233445566778899aabbccddee";
const UID: &str = "8dbc5577-d0e2-4706-8787-57d52c03ddf2";
const OTHER_UID: &str = "11111111-d0e2-4706-8787-57d52c03ddf2";

const CONTAINERD: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
const STORAGE: &str = "var/lib/containers/storage/overlay-containers";
const DOCKER: &str = "var/lib/docker/containers";

/// A host's files.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn file(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.path(path), text).unwrap();
        self
    }

    fn json(self, path: &str, value: &Value) -> Self {
        self.file(path, value.to_string())
    }

    fn folder(self, path: &str) -> Self {
        fs::create_dir_all(self.path(path)).unwrap();
        self
    }

    fn link(self, path: &str, target: impl AsRef<Path>) -> Self {
        symlink(target, self.path(path)).unwrap();
        self
    }

    /// The names of a pod's container: container, pod, namespace.
    fn pod_names(&self) -> [String; 3] {
        self.names(&format!("/kubepods/burstable/pod{UID}/{ID}"))
    }

    fn docker_names(&self) -> [String; 3] {
        self.names(&format!("/system.slice/docker-{ID}.scope"))
    }

    fn names(&self, path: &str) -> [String; 3] {
        let Names { pod, namespace, container_name, .. } = Resolver::new(self.0.path()).resolve(path);
        [container_name, pod, namespace]
    }
}

/// What is told where no file can be believed.
const UNKNOWN: [&str; 3] = ["", UID, ""];
const SHOP: [&str; 3] = ["web", "shop-1", "default"];

fn containerd(uid: &str, cgroup_id: &str) -> Value {
    json!({
        "ociVersion": "1.1.0",
        "annotations": {
            "io.kubernetes.cri.container-name": "web",
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": OTHER,
            "io.kubernetes.cri.sandbox-name": "shop-1",
            "io.kubernetes.cri.sandbox-namespace": "default",
            "io.kubernetes.cri.sandbox-uid": uid,
        },
        "linux": {"cgroupsPath": format!("kubepods-burstable-pod{}.slice:cri-containerd:{cgroup_id}", uid.replace('-', "_"))},
    })
}

fn containerd_host(uid: &str, cgroup_id: &str) -> Host {
    Host::new().json(&format!("{CONTAINERD}/{ID}/config.json"), &containerd(uid, cgroup_id))
}

fn docker(id: &str, name: &str, labels: &Value) -> Host {
    Host::new().json(
        &format!("{DOCKER}/{ID}/config.v2.json"),
        &json!({"ID": id, "Name": name, "State": {"Running": true}, "Config": {"Labels": labels}}),
    )
}

fn log_link(host: Host, name: &str, pod_folder: &str, container: &str) -> Host {
    host.link(&format!("var/log/containers/{name}"), format!("/var/log/pods/{pod_folder}/{container}/0.log"))
}

#[test]
fn containerd_names_a_pods_container() {
    assert_eq!(containerd_host(UID, ID).pod_names(), SHOP);
}

#[test]
fn each_place_of_containerd_is_looked_at() {
    for place in [
        "run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io",
        "run/k0s/containerd/io.containerd.runtime.v2.task/k8s.io",
        "run/containerd/io.containerd.runtime.v2.task/moby",
        "var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/k8s.io",
    ] {
        let host = Host::new().json(&format!("{place}/{ID}/config.json"), &containerd(UID, ID));
        assert_eq!(host.pod_names(), SHOP, "{place}");
    }
}

#[test]
fn what_holds_a_pods_name_spaces_is_named_for_it() {
    let annotations = |id| {
        json!({"annotations": {
            "io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": id,
            "io.kubernetes.cri.sandbox-name": "shop-1", "io.kubernetes.cri.sandbox-namespace": "default",
        }})
    };
    let host = |id| Host::new().json(&format!("{CONTAINERD}/{ID}/config.json"), &annotations(id));
    assert_eq!(host(ID).pod_names(), ["POD", "shop-1", "default"]);
    assert_eq!(host(OTHER).pod_names(), UNKNOWN, "the annotations are another pod's");
}

#[test]
fn nerdctl_names_a_container() {
    let place = "run/containerd/io.containerd.runtime.v2.task/default";
    let host = Host::new().json(&format!("{place}/{ID}/config.json"), &json!({"annotations": {"nerdctl/name": "web"}}));
    assert_eq!(host.names(&format!("/system.slice/nerdctl-{ID}.scope")), ["web", "", ""]);
}

#[test]
fn crio_names_a_pods_container() {
    for storage in [STORAGE, "run/containers/storage/overlay-containers"] {
        let host = |id| {
            Host::new().json(
                &format!("{storage}/{ID}/userdata/config.json"),
                &json!({"annotations": {
                    "io.container.manager": "cri-o", "io.kubernetes.container.name": "web",
                    "io.kubernetes.cri-o.ContainerID": id, "io.kubernetes.cri-o.ContainerType": "container",
                    "io.kubernetes.pod.name": "shop-1", "io.kubernetes.pod.namespace": "default",
                    "io.kubernetes.pod.uid": UID,
                }}),
            )
        };
        assert_eq!(host(ID).pod_names(), SHOP, "{storage}");
        assert_eq!(host(OTHER).pod_names(), UNKNOWN, "{storage}: annotations for another container");
    }
}

#[test]
fn podman_names_a_container_in_its_lists() {
    let path = format!("/machine.slice/libpod-{ID}.scope/container");
    for list in ["containers.json", "volatile-containers.json"] {
        let containers = json!([{"id": OTHER, "names": ["other"]}, {"id": ID, "names": ["web"], "metadata": "{}"}]);
        let host = Host::new().json(&format!("{STORAGE}/{list}"), &containers);
        assert_eq!(host.names(&path), ["web", "", ""], "{list}");
    }
    let host = Host::new().json(&format!("{STORAGE}/containers.json"), &json!([{"id": OTHER, "names": ["web"]}]));
    assert_eq!(host.names(&path), ["", "", ""], "another container's");
    let names = json!([{"id": ID, "names": null}]);
    assert_eq!(Host::new().json(&format!("{STORAGE}/containers.json"), &names).names(&path), ["", "", ""]);
}

#[test]
fn crios_list_has_the_names_that_kubernetes_gives() {
    let names = json!([{"id": ID, "names": [format!("k8s_web_shop-1_default_{UID}_0")]}]);
    assert_eq!(Host::new().json(&format!("{STORAGE}/containers.json"), &names).pod_names(), SHOP);
    let names = json!([{"id": ID, "names": [format!("k8s_web_shop-1_default_{OTHER_UID}_0")]}]);
    assert_eq!(Host::new().json(&format!("{STORAGE}/containers.json"), &names).pod_names(), UNKNOWN);
}

#[test]
fn docker_names_a_container() {
    assert_eq!(docker(ID, "/web", &json!({})).docker_names(), ["web", "", ""]);
    assert_eq!(docker(ID, "/web", &json!(null)).docker_names(), ["web", "", ""]);
}

#[test]
fn docker_names_a_pods_container_by_its_labels_or_its_name() {
    let labels = |uid| {
        json!({"io.kubernetes.container.name": "web", "io.kubernetes.pod.name": "shop-1",
               "io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.uid": uid})
    };
    assert_eq!(docker(ID, "/x", &labels(UID)).pod_names(), SHOP);
    assert_eq!(docker(ID, "/x", &labels(OTHER_UID)).pod_names(), UNKNOWN);
    assert_eq!(docker(ID, &format!("/k8s_web_shop-1_default_{UID}_0"), &json!({})).pod_names(), SHOP);
}

#[test]
fn kubelets_link_names_a_container() {
    let folder = format!("default_shop-1_{UID}");
    let host = log_link(Host::new(), &format!("shop-1_default_web-{ID}.log"), &folder, "web");
    assert_eq!(host.pod_names(), SHOP);
    let host = log_link(Host::new(), &format!("shop-1_default_my-web-{ID}.log"), &folder, "my-web");
    assert_eq!(host.pod_names(), ["my-web", "shop-1", "default"]);
}

#[test]
fn kubelets_folder_names_a_pod() {
    let host = Host::new().folder(&format!("var/log/pods/default_shop-1_{UID}/web"));
    assert_eq!(host.pod_names(), ["", "shop-1", "default"]);
    assert_eq!(host.names(&format!("/kubepods/pod{UID}")), ["", "shop-1", "default"]);
    assert_eq!(host.names(&format!("/kubepods/pod{OTHER_UID}")), ["", OTHER_UID, ""]);
}

#[test]
fn what_one_source_lacks_comes_from_the_next() {
    let host = docker(ID, "/web", &json!({})).folder(&format!("var/log/pods/default_shop-1_{UID}"));
    assert_eq!(host.pod_names(), SHOP);
}

#[test]
fn a_container_without_an_id_has_its_name_from_the_path() {
    let host = Host::new();
    assert_eq!(host.names("/lxc/web"), ["web", "", ""]);
    let path = r"/machine.slice/machine-qemu\x2d1\x2dmy\x2dweb.scope";
    let names = Resolver::new(host.0.path()).resolve(path);
    assert_eq!((names.container.as_str(), names.container_name.as_str()), ("my-web", "my-web"));
}

#[test]
fn the_path_tells_what_no_file_does() {
    let mut resolver = Resolver::new(Path::new("/nowhere/at/all"));
    let names = resolver.resolve(&format!("/system.slice/web.service/pod{UID}/{ID}"));
    let expected =
        Names { unit: "web.service".to_owned(), container: ID.to_owned(), pod: UID.to_owned(), ..Names::default() };
    assert_eq!(names, expected);
    assert_eq!(resolver.resolve("/"), Names::default());
}

// Files that lie.

#[test]
fn a_configuration_of_another_container_is_not_believed() {
    assert_eq!(containerd_host(UID, OTHER).pod_names(), UNKNOWN);
    assert_eq!(docker(OTHER, "/web", &json!({})).docker_names(), ["", "", ""]);
    assert_eq!(docker("", "/web", &json!({})).docker_names(), ["", "", ""]);
}

#[test]
fn a_configuration_for_another_pod_is_not_believed() {
    assert_eq!(containerd_host(OTHER_UID, ID).pod_names(), UNKNOWN);
}

#[test]
fn a_name_that_no_runtime_takes_is_not_believed() {
    for name in ["/web\nforged", "/a b", "/../../etc", "/", "/-web", "/\u{202e}web", &"a".repeat(300)] {
        assert_eq!(docker(ID, name, &json!({})).docker_names(), ["", "", ""], "{name:?}");
    }
}

#[test]
fn a_link_of_kubelet_that_leads_elsewhere_is_not_believed() {
    let name = format!("shop-1_default_web-{ID}.log");
    let container = format!("var/log/containers/{name}");
    for (folder, leaf) in [
        (format!("default_shop-1_{OTHER_UID}"), "web"),
        (format!("default_shop-2_{UID}"), "web"),
        (format!("other_shop-1_{UID}"), "web"),
        (format!("default_shop-1_{UID}"), "db"),
    ] {
        assert_eq!(log_link(Host::new(), &name, &folder, leaf).pod_names(), UNKNOWN, "{folder}/{leaf}");
    }
    assert_eq!(Host::new().link(&container, "/etc/passwd").pod_names(), UNKNOWN);
    assert_eq!(Host::new().file(&container, "log").pod_names(), UNKNOWN, "kubelet makes links");
}

#[test]
fn two_links_or_folders_that_disagree_are_not_believed() {
    let first = log_link(Host::new(), &format!("a_default_web-{ID}.log"), &format!("default_a_{UID}"), "web");
    let both = log_link(first, &format!("b_default_web-{ID}.log"), &format!("default_b_{UID}"), "web");
    assert_eq!(both.pod_names(), UNKNOWN);
    let both = Host::new().folder(&format!("var/log/pods/default_a_{UID}"));
    assert_eq!(both.folder(&format!("var/log/pods/default_b_{UID}")).pod_names(), UNKNOWN);
}

#[test]
fn a_file_with_the_name_of_a_pods_folder_is_not_believed() {
    assert_eq!(Host::new().file(&format!("var/log/pods/default_shop-1_{UID}"), "").pod_names(), UNKNOWN);
    assert_eq!(Host::new().link(&format!("var/log/pods/default_shop-1_{UID}"), "/").pod_names(), UNKNOWN);
}

#[test]
fn a_file_that_lies_does_not_hide_one_that_does_not() {
    let host = containerd_host(OTHER_UID, ID);
    let host = log_link(host, &format!("shop-1_default_web-{ID}.log"), &format!("default_shop-1_{UID}"), "web");
    assert_eq!(host.pod_names(), SHOP);
}

// Files that are no configuration.

#[test]
fn what_cannot_be_read_is_as_if_it_were_missing() {
    let file = format!("{DOCKER}/{ID}/config.v2.json");
    let whole = json!({"ID": ID, "Name": "/web"}).to_string();
    let deep = "[".repeat(100_000);
    let padded = format!("{whole}{}", " ".repeat(1 << 20));
    let twice = format!(r#"{{"ID": "{ID}", "Name": "/web", "Name": "/other"}}"#);
    for text in ["", "{", "null", "[]", "\0\0", &whole[..whole.len() - 1], &deep, &padded, &twice, r#"{"ID": 7}"#] {
        let start = &text[..text.len().min(40)];
        assert_eq!(Host::new().file(&file, text).docker_names(), ["", "", ""], "{start:?}");
    }
    assert_eq!(Host::new().file(&file, b"\xff\xfe").docker_names(), ["", "", ""]);
    assert_eq!(Host::new().folder(&file).docker_names(), ["", "", ""]);
    assert_eq!(Host::new().file(&file, whole).docker_names(), ["web", "", ""], "the same, whole");
}

#[test]
fn a_file_that_is_a_link_is_not_read_wherever_it_leads() {
    let outside = tempfile::tempdir().unwrap();
    let text = json!({"ID": ID, "Name": "/web"}).to_string();
    fs::write(outside.path().join("config.v2.json"), &text).unwrap();
    let file = format!("{DOCKER}/{ID}/config.v2.json");
    assert_eq!(Host::new().link(&file, outside.path().join("config.v2.json")).docker_names(), ["", "", ""]);
    let host = Host::new().file(&format!("{DOCKER}/{ID}/other.json"), &text).link(&file, "other.json");
    assert_eq!(host.docker_names(), ["", "", ""]);
    assert_eq!(Host::new().link(&file, "config.v2.json").docker_names(), ["", "", ""], "a link to itself");
}

#[test]
fn a_containers_folder_that_is_a_link_is_not_entered() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("config.v2.json"), json!({"ID": ID, "Name": "/web"}).to_string()).unwrap();
    assert_eq!(Host::new().link(&format!("{DOCKER}/{ID}"), outside.path()).docker_names(), ["", "", ""]);
}

#[test]
fn a_systems_folder_may_be_a_link_that_stays_below_the_root() {
    let file = format!("data/docker/containers/{ID}/config.v2.json");
    let config = json!({"ID": ID, "Name": "/web"});
    for target in ["/data/docker", "../../data/docker", "../../../../../../../../data/docker"] {
        let host = Host::new().json(&file, &config).link("var/lib/docker", target);
        assert_eq!(host.docker_names(), ["web", "", ""], "{target}");
    }
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("containers").join(ID);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.v2.json"), config.to_string()).unwrap();
    assert_eq!(Host::new().link("var/lib/docker", outside.path()).docker_names(), ["", "", ""]);
}

#[test]
fn nobody_waits_for_a_pipe_and_no_socket_or_device_is_opened() {
    let (done, waits) = mpsc::channel();
    let look = move || {
        for (kind, device) in [(FileType::Fifo, 0), (FileType::Socket, 0), (FileType::CharacterDevice, 0x0103)] {
            let host = Host::new();
            let file = host.path(&format!("{DOCKER}/{ID}/config.v2.json"));
            // A device takes root's rights; without them there is nothing to be opened.
            let made = mknodat(CWD, &file, kind, Mode::RUSR, device);
            assert!(made.is_ok() || kind == FileType::CharacterDevice);
            assert_eq!(host.docker_names(), ["", "", ""], "{kind:?}");
            let host = Host::new();
            let link = host.path(&format!("var/log/containers/shop-1_default_web-{ID}.log"));
            let made = mknodat(CWD, &link, kind, Mode::RUSR, device);
            assert!(made.is_ok() || kind == FileType::CharacterDevice);
            assert_eq!(host.pod_names(), UNKNOWN, "{kind:?}");
        }
        done.send(()).unwrap();
    };
    let thread = thread::Builder::new().spawn(look).unwrap();
    waits.recv_timeout(Duration::from_secs(20)).expect("it hangs, or failed");
    thread.join().unwrap();
}

#[test]
fn a_container_is_found_among_thousands() {
    let mut host = Host::new();
    for number in 0..2000 {
        host = log_link(host, &format!("p_n_c-{number:064x}.log"), "n_p_u", "c");
    }
    host = log_link(host, &format!("shop-1_default_web-{ID}.log"), &format!("default_shop-1_{UID}"), "web");
    assert_eq!(host.pod_names(), SHOP);
}

proptest! {
    #[test]
    fn whatever_the_path_is_nothing_panics_and_no_file_is_made_up(path in "(/docker|/pod|/lxc|[a-f0-9]{64}|\\PC{0,9}|/){0,9}") {
        let names = Resolver::new(Path::new("/nowhere/at/all")).resolve(&path);
        prop_assert_eq!(names.namespace, "");
        prop_assert!(names.container_name.is_empty() || names.container_name == names.container);
    }
}
