//! Which capabilities the agent keeps once its probes are attached, and what each of them means.

use std::path::Path;

use ebpf_process_config::Plan;
use ebpf_process_core::{Access, identity};
use ebpf_process_probes::Version;
use rustix::fs::{AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities};
use serde::Serialize;

use crate::confinement::user::{self, User};

/// A capability that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Kept {
    #[serde(skip)]
    pub(crate) capability: CapabilitySet,
    pub(crate) name: &'static str,
    /// What it is kept for.
    pub(crate) reason: String,
    /// What whoever took the agent over could do with it.
    pub(crate) means: &'static str,
}

const BPF: (CapabilitySet, &str, &str) = (CapabilitySet::BPF, "CAP_BPF", "may load BPF programs");
const PERFMON: (CapabilitySet, &str, &str) =
    (CapabilitySet::PERFMON, "CAP_PERFMON", "may watch the kernel and every process by perf events");
const SYS_ADMIN: (CapabilitySet, &str, &str) =
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN", "may do almost everything that root may");
const WRITE_ALL: (CapabilitySet, &str, &str) =
    (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE", "may read and write every file of this machine");
const READ_ALL: (CapabilitySet, &str, &str) =
    (CapabilitySet::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "may read every file of this machine");
const LOW_PORT: (CapabilitySet, &str, &str) =
    (CapabilitySet::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE", "may listen on ports below 1024");
const TRACE: (CapabilitySet, &str, &str) =
    (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE", "may look into and change every process");

/// A process that every machine has, and that is seldom the agent's user's.
const FIRST_PROCESS: &str = "/proc/1/exe";

/// What is kept of the capabilities that this process has by whoever becomes `user` (or stays who it is, without one):
/// what reading the probes takes on this kernel, and what the plan's sinks and probes cannot do without on this machine.
///
/// With a broker nothing is kept that only opens or attaches: the broker does that for the agent.
pub(crate) fn kept(plan: &Plan, user: Option<&User>, has_broker: bool) -> Vec<Kept> {
    let Ok(CapabilitySets { permitted, .. }) = capabilities(None) else { return Vec::new() };
    let mut kept = reading(permitted, Version::running());
    if has_broker {
        kept.retain(|kept| kept.capability != PERFMON.0);
    }
    let by_sinks = plan.sinks.iter().filter(|_| !has_broker).flat_map(|sink| {
        let opens = sink.plugin.opens(&sink.options).into_iter();
        opens.map(|access| (format!("sinks.{}", sink.spec.name), access))
    });
    let by_status = plan.status.as_deref().filter(|_| !has_broker).and_then(for_status);
    let by_status = by_status.map(|access| ("status.socket".to_owned(), access));
    let by_probes = plan.probes.iter().flat_map(|probe| {
        let opens = probe.plugin.opens(&probe.options).into_iter();
        opens.map(|access| (format!("probes.{}", probe.name), access))
    });
    for need in needed(&by_sinks.chain(by_probes).chain(by_status).collect::<Vec<_>>(), user) {
        if permitted.contains(need.capability) && !kept.contains(&need) {
            kept.push(need);
        }
    }
    kept
}

/// The capabilities themselves.
pub(crate) fn set_of(kept: &[Kept]) -> CapabilitySet {
    kept.iter().fold(CapabilitySet::empty(), |set, kept| set | kept.capability)
}

/// Their names, as capabilities(7) has them.
pub(crate) fn names(capabilities: CapabilitySet) -> Vec<String> {
    capabilities.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

/// Since when the descriptors of maps and programs suffice to read them: kernel commit c8644cd0efe7.
const BY_DESCRIPTORS: Version = Version(5, 19);

/// Since when `CAP_SYS_ADMIN` is not the only right to use BPF.
const BY_CAP_BPF: Version = Version(5, 8);

/// What reading what is attached takes. What is attached by perf events is attached again with `CAP_PERFMON`.
pub(crate) fn reading(permitted: CapabilitySet, version: Version) -> Vec<Kept> {
    let because = |(capability, name, means), reason: &str| Kept { capability, name, reason: reason.to_owned(), means };
    let mut kept = Vec::new();
    if version < BY_DESCRIPTORS {
        if permitted.contains(CapabilitySet::BPF) {
            kept.push(because(BPF, "reading the counters, before Linux 5.19"));
        } else if permitted.contains(CapabilitySet::SYS_ADMIN) {
            let reason = if version < BY_CAP_BPF {
                "reading the counters, before Linux 5.8"
            } else {
                "reading the counters, before Linux 5.19 and without CAP_BPF"
            };
            return vec![because(SYS_ADMIN, reason)];
        }
    }
    if permitted.contains(CapabilitySet::PERFMON) {
        kept.push(because(PERFMON, "attaching a probe again that was switched off"));
    }
    kept
}

/// What it takes to remove the socket of the status at the end. A directory that is made for it becomes the agent's own,
/// and so does the system's.
fn for_status(socket: &Path) -> Option<Access> {
    let becomes_ours = |directory: &&Path| *directory == identity().runtime_directory() || !directory.exists();
    let directory = socket.parent().filter(|directory| !becomes_ours(directory))?;
    Some(Access::Directory(directory.to_owned()))
}

/// What the plugins need, tried out as whoever the agent becomes.
fn needed(opened: &[(String, Access)], user: Option<&User>) -> Vec<Kept> {
    if opened.is_empty() {
        return Vec::new();
    }
    let all = WRITE_ALL.0 | READ_ALL.0 | LOW_PORT.0 | TRACE.0;
    let look = || opened.iter().filter_map(|(plugin, access)| need(plugin, access)).collect();
    // Without a thread nothing is known to be needed; what is refused later names the capability.
    user::acting_as(user, all, look).unwrap_or_default()
}

/// The capability without which the calling thread cannot do this.
fn need(plugin: &str, access: &Access) -> Option<Kept> {
    use rustix::fs::Access as Mode;
    let writable = Mode::READ_OK | Mode::WRITE_OK | Mode::EXEC_OK;
    let ((capability, name, means), what) = match access {
        Access::Read(path) if refused(path, Mode::READ_OK) => (READ_ALL, format!("read {}", path.display())),
        Access::Write(path) if refused_to_write(path) => (WRITE_ALL, format!("write {}", path.display())),
        Access::Directory(path) if refused(existing(path), writable) => {
            (WRITE_ALL, format!("use the directory {}", path.display()))
        }
        Access::Connect(path) if refused(path, Mode::WRITE_OK) || (!path.exists() && refused_to_make(path)) => {
            (WRITE_ALL, format!("connect to {}", path.display()))
        }
        Access::Listen(address) if address.port() > 0 && address.port() < first_unprivileged_port() => {
            (LOW_PORT, format!("listen on port {}", address.port()))
        }
        // Others with the same user may have rights that this process has given up, which is enough to be refused.
        Access::Executables if std::fs::read_link(FIRST_PROCESS).is_err() => {
            (TRACE, "see which programs other users' processes run".to_owned())
        }
        _ => return None,
    };
    Some(Kept { capability, name, reason: format!("{plugin} has to {what}"), means })
}

/// A regular file can be moved away by whoever rotates it: then it is made anew.
fn refused_to_write(path: &Path) -> bool {
    let special = path.metadata().is_ok_and(|file| !file.is_file());
    refused(path, rustix::fs::Access::WRITE_OK) || (!special && refused_to_make(path))
}

fn refused_to_make(path: &Path) -> bool {
    let directory = path.parent().unwrap_or(path);
    refused(existing(directory), rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
}

/// The path itself, or the nearest above it that there is.
fn existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|path| !matches!(path.symlink_metadata(), Err(error) if error.kind() == std::io::ErrorKind::NotFound))
        .unwrap_or(path)
}

/// Whether the kernel refuses this for want of a right: not because there is no such file, or because it is on a
/// read-only file system.
fn refused(path: &Path, mode: rustix::fs::Access) -> bool {
    accessat(CWD, path, mode, AtFlags::EACCESS) == Err(Errno::ACCESS)
}

fn first_unprivileged_port() -> u16 {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    setting.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    fn names(kept: &[Kept]) -> Vec<&'static str> {
        kept.iter().map(|kept| kept.name).collect()
    }

    #[test]
    fn what_reading_takes_depends_on_the_kernel() {
        let both = CapabilitySet::BPF | CapabilitySet::PERFMON;
        let all_in_one = ["CAP_SYS_ADMIN reading the counters, before Linux 5.8"];
        let instead = ["CAP_SYS_ADMIN reading the counters, before Linux 5.19 and without CAP_BPF"];
        let by_descriptors = ["CAP_PERFMON attaching a probe again that was switched off"];
        let before = ["CAP_BPF reading the counters, before Linux 5.19", by_descriptors[0]];
        for (permitted, version, expected) in [
            (CapabilitySet::all(), Version(6, 18), &by_descriptors[..]),
            (CapabilitySet::all(), Version(5, 19), &by_descriptors),
            (CapabilitySet::all(), Version(5, 18), &before),
            (both, Version(5, 10), &before),
            (CapabilitySet::BPF, Version(5, 10), &before[..1]),
            (CapabilitySet::all() - both, Version(4, 19), &all_in_one),
            (CapabilitySet::SYS_ADMIN, Version(5, 10), &instead),
            // Whatever the right was by which it was loaded.
            (CapabilitySet::SYS_ADMIN, Version(5, 19), &[]),
            (CapabilitySet::SYS_ADMIN | CapabilitySet::PERFMON, Version(6, 18), &by_descriptors),
            // One that cannot be told.
            (CapabilitySet::all(), Version(0, 0), &before),
            (CapabilitySet::empty(), Version(6, 18), &[]),
        ] {
            let reasons = reading(permitted, version).into_iter().map(|kept| format!("{} {}", kept.name, kept.reason));
            assert_eq!(reasons.collect::<Vec<_>>(), expected, "{permitted:?} {version:?}");
        }
    }

    #[test]
    fn with_a_broker_nothing_is_kept_for_a_sink_or_to_attach() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("a mode");
        let path = folder.path().join("lines").display().to_string();
        let settings =
            ["user=65534".to_owned(), "sinks.a.type=json".to_owned(), format!("sinks.a.options.path=\"{path}\"")];
        let registry = crate::registry();
        let loaded = ebpf_process_config::Sources::built_in().set(settings).load(&registry).expect("a configuration");
        let plan = Plan::new(&loaded, &registry).expect("a plan");
        let user = User::planned(&plan, false).expect("a user");
        let kept = |has_broker| names(&kept(&plan, user.as_ref(), has_broker));
        assert!(kept(false).contains(&WRITE_ALL.1) && kept(false).contains(&PERFMON.1), "{:?}", kept(false));
        assert!(!kept(true).contains(&WRITE_ALL.1) && !kept(true).contains(&PERFMON.1), "{:?}", kept(true));
    }

    #[test]
    fn a_sink_keeps_what_it_cannot_open_without_and_nothing_else() {
        if !rustix::process::geteuid().is_root() {
            // Not eprintln: the test harness would keep it to itself as long as the test passes.
            let reason = "SKIPPED a_sink_keeps_what_it_cannot_open...: making files that belong to others takes root";
            let _ = writeln!(std::io::stderr(), "{reason}");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let make = |name: &str, owner: u32, mode: u32| {
            let path = path(name);
            if name.ends_with('/') { std::fs::create_dir(&path) } else { std::fs::write(&path, "") }.expect("made");
            chown(&path, Some(owner), Some(owner)).expect("given away");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            path
        };
        let (own, shared, other) = (make("own", 0, 0o600), make("shared", 65534, 0o666), make("other", 65534, 0o640));
        let (own_dir, other_dir) = (make("own_dir/", 0, 0o700), make("other_dir/", 65534, 0o755));
        let closed_dir = make("closed_dir/", 65534, 0o700);
        for (access, expected) in [
            (Access::Write(own.clone()), None),
            (Access::Write(shared), None),
            (Access::Write(other.clone()), Some("CAP_DAC_OVERRIDE")),
            (Access::Write(own_dir.join("new")), None),
            (Access::Write(other_dir.join("new")), Some("CAP_DAC_OVERRIDE")),
            (Access::Write("/dev/null".into()), None),
            (Access::Write(path("no/such/folder")), None),
            (Access::Directory(own_dir), None),
            (Access::Directory(path("to-be-made")), None),
            (Access::Directory(other_dir.clone()), Some("CAP_DAC_OVERRIDE")),
            (Access::Connect(own), None),
            (Access::Connect(other.clone()), Some("CAP_DAC_OVERRIDE")),
            (Access::Connect(other_dir.join("later")), Some("CAP_DAC_OVERRIDE")),
            (Access::Connect(closed_dir.join("socket")), Some("CAP_DAC_OVERRIDE")),
            (Access::Read(other), Some("CAP_DAC_READ_SEARCH")),
            (Access::Read(path("missing")), None),
            (Access::Listen(([127, 0, 0, 1], 80).into()), Some("CAP_NET_BIND_SERVICE")),
            (Access::Listen(([127, 0, 0, 1], 19435).into()), None),
            (Access::Listen(([127, 0, 0, 1], 0).into()), None),
            (Access::Executables, Some("CAP_SYS_PTRACE")),
        ] {
            let needed = needed(&[("sinks.x".to_owned(), access.clone())], None);
            assert_eq!(names(&needed), expected.into_iter().collect::<Vec<_>>(), "{access:?}");
        }
        let held = capabilities(None).expect("own capabilities").effective;
        assert!(held.contains(CapabilitySet::DAC_OVERRIDE), "the thread that asks keeps its own");
    }
}
