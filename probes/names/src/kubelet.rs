//! What kubelet writes below `/var/log`: a folder for each pod, a link for each container. Names are read, and where
//! links lead; no log is opened.

use crate::folder::Folder;
use crate::found::Found;

/// The container's link: `POD_NAMESPACE_CONTAINER-ID.log`, which leads to `.../NAMESPACE_POD_UID/CONTAINER/N.log`.
pub(crate) fn container(root: &Folder, id: &str) -> Option<Found> {
    let folder = root.base("var/log/containers").ok()?;
    let suffix = format!("-{id}.log");
    only(folder.names().ok()?.filter_map(|file| {
        let [pod, namespace, container] = three(file.strip_suffix(&suffix)?)?;
        let target = folder.link(&file).ok()?;
        let mut ends = target.rsplit('/');
        let (_, target_container, target_pod) = (ends.next()?, ends.next()?, ends.next()?);
        let [target_namespace, target_pod, uid] = three(target_pod)?;
        let agrees = (target_namespace, target_pod, target_container) == (namespace, pod, container);
        Found::checked(container, pod, namespace, uid).filter(|_| agrees)
    }))
}

/// The pod's folder: `NAMESPACE_POD_UID`.
pub(crate) fn pod(root: &Folder, uid: &str) -> Option<Found> {
    let folder = root.base("var/log/pods").ok()?;
    only(folder.names().ok()?.filter_map(|name| {
        let [namespace, pod, of] = three(&name)?;
        // What has the name of a pod's folder and is none was not made by kubelet.
        Found::checked("", pod, namespace, of).filter(|_| of == uid && folder.enter(&name).is_ok())
    }))
}

/// Three names with `_` between them, which none of them has.
fn three(text: &str) -> Option<[&str; 3]> {
    let mut parts = text.split('_');
    let three = [parts.next()?, parts.next()?, parts.next()?];
    (parts.next().is_none() && three.iter().all(|part| !part.is_empty())).then_some(three)
}

/// The one that there is; none where two say different things.
fn only(mut all: impl Iterator<Item = Found>) -> Option<Found> {
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}
