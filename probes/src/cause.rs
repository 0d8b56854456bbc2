//! What in a process's surroundings makes the kernel say no: each has the same error code, and its own way out.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::release::Version;
use crate::rights::missing_rights;
use crate::sys;

/// What may be in the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// The rights that are missing, in words.
    pub(crate) missing_rights: String,
    /// Whether its capabilities are those of a user namespace.
    pub(crate) user_namespace: bool,
    /// What a seccomp filter answers, where one is on.
    pub(crate) seccomp: Option<Answers>,
    /// How much memory may be locked, in bytes, where that counts and cannot be raised by the process itself.
    pub(crate) locked_memory: Option<u64>,
    /// How many files may be open.
    pub(crate) open_files: Option<u64>,
    /// Whether the kernel is locked down for confidentiality.
    pub(crate) confidential: bool,
    /// The setting `kernel.perf_event_paranoid`.
    pub(crate) paranoid: Option<i32>,
}

/// The system calls that the kernel may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Bpf,
    PerfEventOpen,
}

impl Call {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bpf => "bpf(2)",
            Self::PerfEventOpen => "perf_event_open(2)",
        }
    }
}

/// What comes back from each call with arguments that the kernel finds wrong before it asks for any right: another code
/// than the kernel's is a filter's. That a filter is on says nothing by itself, every container has one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) bpf: Option<i32>,
    pub(crate) perf_event_open: Option<i32>,
}

impl Answers {
    fn now() -> Self {
        // A kernel without the call has not got its setting either, and says ENOSYS by itself.
        let of = |answer: io::Error, setting: &str| {
            let code = answer.raw_os_error();
            code.filter(|code| *code != libc::ENOSYS || Path::new("/proc/sys/kernel").join(setting).exists())
        };
        Self {
            bpf: of(sys::wrong_bpf(), "unprivileged_bpf_disabled"),
            perf_event_open: of(sys::wrong_perf_event(), "perf_event_paranoid"),
        }
    }

    /// The code with which the filter refuses a call, if it does.
    pub(crate) fn refusal(self, call: Call) -> Option<i32> {
        let code = match call {
            Call::Bpf => self.bpf,
            Call::PerfEventOpen => self.perf_event_open,
        };
        code.filter(|code| matches!(*code, libc::EPERM | libc::EACCES | libc::ENOSYS))
    }
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
            user_namespace: Self::is_nested(),
            seccomp: Self::is_filtered().then(Answers::now),
            locked_memory: getrlimit(Resource::Memlock).maximum.filter(|_| counts),
            open_files: getrlimit(Resource::Nofile).maximum,
            confidential: text("/sys/kernel/security/lockdown").contains("[confidentiality]"),
            paranoid: text("/proc/sys/kernel/perf_event_paranoid").trim().parse().ok(),
        }
    }

    /// Whether this process's capabilities are those of a user namespace.
    pub(crate) fn is_nested() -> bool {
        is_nested(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
    }

    /// Whether a seccomp filter is on.
    pub(crate) fn is_filtered() -> bool {
        is_filtered(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    /// Why a system call fails with this code, where it is one of these causes.
    pub(crate) fn explain(&self, call: Call, code: i32) -> Option<Cause> {
        let filtered = self.seccomp.and_then(|answers| answers.refusal(call)) == Some(code);
        let name = call.as_str();
        Some(match code {
            libc::EMFILE => self.few_files(),
            libc::ENFILE => Cause::new(
                "the machine has no open file left",
                "as root: sysctl fs.file-max=NUMBER, or end what holds so many",
            ),
            libc::ENOSYS if filtered => seccomp(name, "ENOSYS"),
            libc::EPERM | libc::EACCES if self.user_namespace => Cause::new(
                format!(
                    "{name} is refused: the capabilities of this process are those of a user namespace, and the kernel wants its own"
                ),
                "start it in the initial user namespace (a container: as root, without user namespaces or rootless mode)",
            ),
            libc::EPERM | libc::EACCES if !self.missing_rights.is_empty() => return None,
            libc::EPERM | libc::EACCES if filtered => {
                seccomp(name, if code == libc::EPERM { "EPERM" } else { "EACCES" })
            }
            libc::EPERM if call == Call::Bpf && self.locked_memory.is_some() => {
                let kib = self.locked_memory.unwrap_or(0) / 1024;
                Cause::new(
                    format!(
                        "the maps do not fit into the {kib} KiB of memory that this process may lock (RLIMIT_MEMLOCK)"
                    ),
                    "grant CAP_SYS_RESOURCE, or raise the limit: LimitMEMLOCK=infinity under systemd, ulimit -l in a shell",
                )
            }
            libc::EPERM if self.confidential => Cause::new(
                format!("{name} is refused: the kernel is locked down (confidentiality)"),
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

/// Whether a seccomp filter is on, by `/proc/self/status`.
fn is_filtered(status: &str) -> bool {
    status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
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
        let blocks = |code| Some(Answers { bpf: Some(code), perf_event_open: Some(code) });
        // What the kernel itself says: the filter lets both pass.
        let passes = Some(Answers { bpf: Some(libc::E2BIG), perf_event_open: Some(libc::EINVAL) });
        let filtered = Surroundings { seccomp: blocks(libc::EPERM), ..free.clone() };
        let hidden = Surroundings { seccomp: blocks(libc::ENOSYS), ..free.clone() };
        let nested = Surroundings { user_namespace: true, ..filtered.clone() };
        let contained = Surroundings { seccomp: passes, ..free.clone() };
        let locked = Surroundings { locked_memory: Some(65_536), ..free.clone() };
        let confidential = Surroundings { confidential: true, ..free.clone() };
        let unprivileged = Surroundings { missing_rights: "CAP_BPF".to_owned(), ..filtered.clone() };
        // Two at once.
        let contained_locked = Surroundings { seccomp: passes, ..locked.clone() };
        let filtered_locked = Surroundings { locked_memory: Some(65_536), ..filtered.clone() };
        let contained_confidential = Surroundings { seccomp: passes, ..confidential.clone() };
        let half = Some(Answers { bpf: Some(libc::E2BIG), perf_event_open: Some(libc::EPERM) });
        let half_locked = Surroundings { seccomp: half, ..locked.clone() };
        for (surroundings, code, problem, way_out) in [
            (&filtered, libc::EPERM, "seccomp filter answers bpf(2) with EPERM", "SystemCallFilter="),
            (&filtered_locked, libc::EPERM, "seccomp filter answers bpf(2) with EPERM", "SystemCallFilter="),
            (&contained_locked, libc::EPERM, "64 KiB", "CAP_SYS_RESOURCE"),
            (&contained_confidential, libc::EPERM, "locked down", "lockdown=integrity"),
            (&half_locked, libc::EPERM, "64 KiB", "CAP_SYS_RESOURCE"),
            (&hidden, libc::ENOSYS, "seccomp filter answers bpf(2) with ENOSYS", "profile"),
            (&nested, libc::EPERM, "user namespace", "initial user namespace"),
            (&locked, libc::EPERM, "64 KiB", "CAP_SYS_RESOURCE"),
            (&free, libc::EMFILE, "RLIMIT_NOFILE is 10", "LimitNOFILE="),
            (&confidential, libc::EPERM, "locked down", "lockdown=integrity"),
        ] {
            let cause = surroundings.explain(Call::Bpf, code).expect("a cause");
            assert!(cause.problem.contains(problem) && cause.way_out.contains(way_out), "{cause:?}");
        }
        for (surroundings, code) in [
            (&free, libc::EPERM),
            (&free, libc::ENOSYS),
            (&unprivileged, libc::EPERM),
            (&contained, libc::EPERM),
            (&contained, libc::ENOSYS),
            // The filter's code is another one.
            (&filtered, libc::EACCES),
        ] {
            assert_eq!(surroundings.explain(Call::Bpf, code), None);
        }
        let cause = half_locked.explain(Call::PerfEventOpen, libc::EPERM).expect("a cause");
        assert!(cause.problem.contains("seccomp filter answers perf_event_open(2)"), "{cause:?}");
        assert_eq!(locked.explain(Call::PerfEventOpen, libc::EPERM), None, "locked memory is the maps'");
    }

    #[test]
    fn what_the_kernel_itself_finds_wrong_is_no_filters_answer() {
        if is_filtered(&fs::read_to_string("/proc/self/status").expect("our status")) {
            // What a filter here answers is its own affair.
            return;
        }
        let answers = Answers::now();
        let bpf = answers.bpf.expect("a code");
        // Without rights the kernel asks for them first.
        assert!([libc::E2BIG, libc::EPERM].contains(&bpf), "{answers:?}");
        assert_eq!(answers.perf_event_open, Some(libc::EINVAL));
        assert_eq!(answers.refusal(Call::PerfEventOpen), None);
    }

    #[test]
    fn only_the_initial_user_namespace_maps_everybody() {
        assert!(!is_nested("         0          0 4294967295\n") && !is_nested(""));
        assert!(is_nested("         0          0          1\n") && is_nested("0 100000 65536\n"));
    }
}
