//! A control group's path, taken apart.

use std::borrow::Cow;

use crate::{container, pod, unit};

/// What libvirt calls the group of a container's first process; no unit, whatever it ends with.
const NO_UNIT: &str = "libvirt_init.scope";

/// Whose a control group is, as far as its path tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The systemd unit, in readable form: the one inside of the container where there is one, else the service that
    /// it runs under. Scopes that are made for a container alone are no unit. A slice only where there is nothing else.
    pub unit: Option<Cow<'a, str>>,
    /// The innermost container or machine: its id of 64 hexadecimal digits, or its name as it stands in the path.
    pub container: Option<&'a str>,
    /// The uid of the container's pod, or of the pod whose group this is, with `-` in it.
    pub pod: Option<String>,
}

impl<'a> Parts<'a> {
    /// The container in readable form, as [`Names::container`](crate::Names::container) has it.
    pub fn readable_container(&self) -> Option<Cow<'a, str>> {
        self.container.map(unit::readable)
    }
}

/// Takes a path apart, as it stands in `/proc/PID/cgroup`: from the root of the hierarchy, or with `..` in front as it is
/// seen from inside of a namespace. Whatever the text is, it costs one walk over it.
///
/// ```
/// let parts = ebpf_process_names::parts(r"/system.slice/system-serial\x2dgetty.slice/serial-getty@ttyS0.service");
/// assert_eq!(parts.unit.as_deref(), Some("serial-getty@ttyS0.service"));
/// assert_eq!((parts.container, parts.pod), (None, None));
/// ```
pub fn parts(path: &str) -> Parts<'_> {
    // The kernel's mark for a group that was removed while a process was in it.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let mut found = Parts::default();
    let mut slice = None;
    let mut components = path.rsplit('/').filter(|part| !matches!(*part, "" | "." | "..")).peekable();
    while let Some(component) = components.next() {
        let named = container::named(component, components.peek().copied());
        let is_made_for_it = named.as_ref().is_some_and(|named| !named.is_service);
        // Once there is a pod, the containers above it are nodes: one that runs pods inside.
        if let Some(named) = named.filter(|_| found.container.is_none() && found.pod.is_none()) {
            found.container = Some(named.container);
            found.pod = named.pod;
        }
        if found.pod.is_none() {
            found.pod = pod::uid_of(component);
        }
        if found.unit.is_none() && !is_made_for_it && component != NO_UNIT {
            found.unit = unit::of(component);
            slice = slice.or_else(|| unit::slice(component));
        }
    }
    if found.unit.is_none() && found.container.is_none() && found.pod.is_none() {
        found.unit = slice;
    }
    found
}
