//! The lists of containers that Podman and CRI-O share.

use serde::Deserialize;

use crate::folder::Folder;
use crate::found::Found;

const FOLDERS: [&str; 2] =
    ["var/lib/containers/storage/overlay-containers", "run/containers/storage/overlay-containers"];

/// The second has those that are removed when they end, as `podman run --rm` makes them.
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];

#[derive(Deserialize)]
struct Container {
    id: String,
    names: Option<Vec<String>>,
}

/// What the lists say about a container.
pub(crate) fn names(root: &Folder, id: &str) -> Option<Found> {
    let folders = FOLDERS.iter().filter_map(|folder| root.base(folder).ok());
    folders.flat_map(|folder| LISTS.map(|list| of(&folder.read(list).ok()?, id))).flatten().next()
}

fn of(json: &[u8], id: &str) -> Option<Found> {
    let containers: Vec<Container> = serde_json::from_slice(json).ok()?;
    let names = containers.into_iter().find(|container| container.id == id)?.names?;
    names.iter().find_map(|name| Found::from_kubernetes(name)).or_else(|| Found::checked(names.first()?, "", "", ""))
}
