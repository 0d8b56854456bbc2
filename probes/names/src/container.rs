//! Which component of a control group's path is a container's.

use crate::pod;

/// What stands in front of an id, with a `-` or a `:`. What watches a container has a prefix of its own
/// (`libpod-conmon`), and is none.
const RUNTIMES: [&str; 7] = ["docker", "cri-containerd", "containerd", "crio", "libpod", "libpod-payload", "nerdctl"];

/// The hypervisors and runtimes of libvirt, which stand in front of a machine's name in its scope.
const DRIVERS: [&str; 5] = ["qemu", "lxc", "libxl", "xen", "ch"];

/// A container, as one component of a path names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// Its id of 64 digits, or its name.
    pub(crate) container: &'a str,
    /// The pod's uid, where the same component names it.
    pub(crate) pod: Option<String>,
    /// Whether the component is also a unit that somebody wrote: others are made for the container alone.
    pub(crate) is_service: bool,
}

/// The container whose group a component is, below another one.
pub(crate) fn named<'a>(component: &'a str, parent: Option<&str>) -> Option<Named<'a>> {
    let bare = |container| Named { container, pod: None, is_service: false };
    if let Some(id) = id(component) {
        return Some(bare(id));
    }
    slice_form(component).or_else(|| Some(bare(by_name(component, parent)?))).or_else(|| nspawn(component, parent))
}

/// Whether a text is the id of a container: 64 hexadecimal digits.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `[RUNTIME-]ID[.scope]`
fn id(component: &str) -> Option<&str> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let (prefix, id) = name.split_at_checked(name.len().checked_sub(64)?)?;
    let known = prefix.is_empty() || prefix.strip_suffix('-').is_some_and(|prefix| RUNTIMES.contains(&prefix));
    (known && is_id(id)).then_some(id)
}

/// `SLICE:RUNTIME:ID`: a path for systemd, which a runtime made a folder of.
fn slice_form(component: &str) -> Option<Named<'_>> {
    let (slice, scope) = component.split_once(':')?;
    let (runtime, id) = scope.split_once(':')?;
    (RUNTIMES.contains(&runtime) && is_id(id)).then(|| Named {
        container: id,
        pod: pod::uid_of(slice),
        is_service: false,
    })
}

/// What has a name and no id: LXC, libvirt, Proxmox.
fn by_name<'a>(component: &'a str, parent: Option<&str>) -> Option<&'a str> {
    let machine = || component.strip_prefix("machine-")?.strip_suffix(".scope").map(machine);
    let name = match parent {
        Some("lxc" | "lxc.payload") => Some(component),
        Some("machine.slice") => machine(),
        Some("qemu.slice") => component.strip_suffix(".scope"),
        _ => None,
    };
    name.or_else(|| component.strip_prefix("lxc.payload."))
        .or_else(|| component.strip_suffix(".libvirt-qemu"))
        .or_else(|| component.strip_suffix(".libvirt-lxc"))
        .filter(|name| !name.is_empty())
}

/// What stands between `machine-` and `.scope`: a name, or libvirt's `DRIVER-NUMBER-NAME` with its `-` escaped.
fn machine(scope: &str) -> &str {
    let Some((driver, rest)) = scope.split_once("\\x2d") else { return scope };
    if !DRIVERS.contains(&driver) {
        return scope;
    }
    match rest.split_once("\\x2d") {
        Some((number, name)) if number.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => rest,
    }
}

/// `NAME.service` or `systemd-nspawn@NAME.service` below `machine.slice`.
fn nspawn<'a>(component: &'a str, parent: Option<&str>) -> Option<Named<'a>> {
    let name = component.strip_suffix(".service").filter(|_| parent == Some("machine.slice"))?;
    let container = name.strip_prefix("systemd-nspawn@").unwrap_or(name);
    (!container.is_empty()).then_some(Named { container, pod: None, is_service: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_exactly_64_digits_and_a_prefix_that_is_known() {
        let id64 = "0123456789abcdef".repeat(4);
        for prefix in RUNTIMES {
            assert_eq!(id(&format!("{prefix}-{id64}.scope")), Some(id64.as_str()));
        }
        for wrong in [
            format!("{id64}0"),
            id64[1..].to_owned(),
            format!("docker{id64}"),
            format!("-{id64}"),
            format!("libpod-conmon-{id64}.scope"),
            format!("docker-{id64}.service"),
            id64.to_uppercase(),
            format!("é{}", &id64[1..]),
        ] {
            assert_eq!(id(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn machines_of_libvirt_are_named_without_their_number() {
        for (scope, name) in [
            (r"qemu\x2d1\x2dweb", "web"),
            (r"qemu\x2d12\x2dmy\x2dweb", r"my\x2dweb"),
            (r"qemu\x2dweb", "web"),
            (r"my\x2dbox", r"my\x2dbox"),
            ("box", "box"),
        ] {
            assert_eq!(machine(scope), name, "{scope}");
        }
        assert_eq!(by_name("machine-.scope", Some("machine.slice")), None);
    }
}
