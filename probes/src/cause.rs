//! What in a process's surroundings makes the kernel say no: each has the same error code, and its own way out.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::doctor::missing_rights;
use crate::kernel::Version;

/// What may be in the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// The rights that are missing, in words.
    pub(crate) missing_rights: String,
    /// Whether its capabilities are those of a user namespace.
    pub(crate) user_namespace: bool,
    /// Whether a seccomp filter looks at its system calls.
    pub(crate) seccomp: bool,
    /// How much memory may be locked, in bytes, where that counts and cannot be raised by the process itself.
    pub(crate) locked_memory: Option<u64>,
    /// How many files may be open.
    pub(crate) open_files: Option<u64>,
    /// Whether the kernel is locked down for confidentiality.
    pub(crate) confidential: bool,
    /// The setting `kernel.perf_event_paranoid`.
    pub(crate) paranoid: Option<i32>,
}

/// Why the kernel says no, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) problem: String,
    pub(crate) way_out: String,
}

impl Cause {
    fn new(problem: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { problem: problem.into(), way_out: way_out.into() }
    }
}

impl Surroundings {
    /// This process's.
    pub(crate) fn here() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let sets = capabilities(None);
        let raises = sets.as_ref().is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE));
        // From 5.11 on maps are charged to the control group.
        let counts = Version::running() < Version(5, 11) && !raises;
        Self {
            missing_rights: sets.map(|sets| missing_rights(sets.effective)).unwrap_or_default(),
            user_namespace: is_nested(&text("/proc/self/uid_map")),
            seccomp: text("/proc/self/status").lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
            locked_memory: getrlimit(Resource::Memlock).maximum.filter(|_| counts),
            open_files: getrlimit(Resource::Nofile).maximum,
            confidential: text("/sys/kernel/security/lockdown").contains("[confidentiality]"),
            paranoid: text("/proc/sys/kernel/perf_event_paranoid").trim().parse().ok(),
        }
    }

    /// Why a system call fails with this code, where it is one of these causes.
    pub(crate) fn explain(&self, call: &str, code: i32) -> Option<Cause> {
        Some(match code {
            libc::EMFILE => self.few_files(),
            libc::ENFILE => Cause::new(
                "the machine has no open file left",
                "as root: sysctl fs.file-max=NUMBER, or end what holds so many",
            ),
            libc::ENOSYS if self.seccomp => seccomp(call, "ENOSYS"),
            libc::EPERM | libc::EACCES if self.user_namespace => Cause::new(
                format!(
                    "{call} is refused: the capabilities of this process are those of a user namespace, and the kernel wants its own"
                ),
                "start it in the initial user namespace (a container: as root, without user namespaces or rootless mode)",
            ),
            libc::EPERM | libc::EACCES if !self.missing_rights.is_empty() => return None,
            libc::EPERM | libc::EACCES if self.seccomp => {
                seccomp(call, if code == libc::EPERM { "EPERM" } else { "EACCES" })
            }
            libc::EPERM if self.locked_memory.is_some() => {
                let kib = self.locked_memory.unwrap_or(0) / 1024;
                Cause::new(
                    format!(
                        "the maps do not fit into the {kib} KiB of memory that this process may lock (RLIMIT_MEMLOCK)"
                    ),
                    "grant CAP_SYS_RESOURCE, or raise the limit: LimitMEMLOCK=infinity under systemd, ulimit -l in a shell",
                )
            }
            libc::EPERM | libc::EACCES if self.confidential => Cause::new(
                format!("{call} is refused: the kernel is locked down (confidentiality)"),
                "boot with lockdown=integrity, or without Secure Boot",
            ),
            _ => return None,
        })
    }

    fn few_files(&self) -> Cause {
        let limit = self.open_files.map_or("unlimited".to_owned(), |limit| limit.to_string());
        Cause::new(
            format!("this process may not open more files (RLIMIT_NOFILE is {limit})"),
            "raise the limit to 256 or more: LimitNOFILE= under systemd, ulimit -n in a shell",
        )
    }
}

fn seccomp(call: &str, code: &str) -> Cause {
    Cause::new(
        format!("a seccomp filter answers {call} with {code}"),
        "allow bpf and perf_event_open in it: the seccomp profile of a container engine, SystemCallFilter= under systemd",
    )
}

/// The initial user namespace maps all numbers to themselves.
fn is_nested(uid_map: &str) -> bool {
    !uid_map.is_empty() && !uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_sentence_and_way_out() {
        let free = Surroundings { open_files: Some(10), ..Surroundings::default() };
        let nested = Surroundings { user_namespace: true, seccomp: true, ..free.clone() };
        let filtered = Surroundings { seccomp: true, ..free.clone() };
        let locked = Surroundings { locked_memory: Some(65_536), ..free.clone() };
        let confidential = Surroundings { confidential: true, ..free.clone() };
        let unprivileged = Surroundings { missing_rights: "CAP_BPF".to_owned(), ..filtered.clone() };
        for (surroundings, code, problem, way_out) in [
            (&filtered, libc::EPERM, "seccomp filter answers bpf(2) with EPERM", "SystemCallFilter="),
            (&filtered, libc::ENOSYS, "seccomp filter answers bpf(2) with ENOSYS", "profile"),
            (&nested, libc::EPERM, "user namespace", "initial user namespace"),
            (&locked, libc::EPERM, "64 KiB", "CAP_SYS_RESOURCE"),
            (&free, libc::EMFILE, "RLIMIT_NOFILE is 10", "LimitNOFILE="),
            (&confidential, libc::EPERM, "locked down", "lockdown=integrity"),
        ] {
            let cause = surroundings.explain("bpf(2)", code).expect("a cause");
            assert!(cause.problem.contains(problem) && cause.way_out.contains(way_out), "{cause:?}");
        }
        for (surroundings, code) in [(&free, libc::EPERM), (&free, libc::ENOSYS), (&unprivileged, libc::EPERM)] {
            assert_eq!(surroundings.explain("bpf(2)", code), None);
        }
    }

    #[test]
    fn only_the_initial_user_namespace_maps_everybody() {
        assert!(!is_nested("         0          0 4294967295\n") && !is_nested(""));
        assert!(is_nested("         0          0          1\n") && is_nested("0 100000 65536\n"));
    }
}
