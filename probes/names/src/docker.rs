//! `config.v2.json` of a container of Docker.

use serde::Deserialize;

use crate::folder::Folder;
use crate::found::Found;

#[derive(Deserialize)]
struct Container {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Name")]
    name: Option<String>,
    #[serde(rename = "Config")]
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "Labels")]
    labels: Option<Labels>,
}

#[derive(Default, Deserialize)]
struct Labels {
    #[serde(rename = "io.kubernetes.container.name")]
    container: Option<String>,
    #[serde(rename = "io.kubernetes.pod.name")]
    pod: Option<String>,
    #[serde(rename = "io.kubernetes.pod.namespace")]
    namespace: Option<String>,
    #[serde(rename = "io.kubernetes.pod.uid")]
    uid: Option<String>,
}

/// What Docker's file says about a container, if it is about this one.
pub(crate) fn names(root: &Folder, id: &str) -> Option<Found> {
    let folder = root.base("var/lib/docker/containers").ok()?.enter(id).ok()?;
    let container: Container = serde_json::from_slice(&folder.read("config.v2.json").ok()?).ok()?;
    if container.id != id {
        return None;
    }
    let name = container.name.unwrap_or_default();
    let name = name.strip_prefix('/').unwrap_or(&name);
    let labels = container.config.and_then(|config| config.labels).unwrap_or_default();
    match labels {
        Labels { container: Some(container), pod: Some(pod), namespace, uid } => {
            Found::checked(&container, &pod, &namespace.unwrap_or_default(), &uid.unwrap_or_default())
        }
        _ => Found::from_kubernetes(name).or_else(|| Found::checked(name, "", "", "")),
    }
}
