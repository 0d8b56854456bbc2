//! Why a probe cannot be built, in words that end with the way out.

use std::fs;
use std::io;
use std::path::Path;

use aya::EbpfError;
use ebpf_process_core::{BuildError, chain, identity};

use crate::cause::{Call, Surroundings};
use crate::hook::CounterReport;
use crate::rights::missing_rights;

/// How the standard library words `EMFILE`.
const TOO_MANY: &str = "(os error 24)";

/// Why there is no tracefs: a cause that may pass.
pub(crate) const NOT_MOUNTED: &str = "tracefs is not mounted";

/// The way out of an object that is broken.
pub(crate) const REBUILD: &str = "rebuild it: cargo xtask bpf";

/// The rights that this process lacks, in words; empty when it has what it takes.
fn missing_here() -> String {
    rustix::thread::capabilities(None).map(|sets| missing_rights(sets.effective)).unwrap_or_default()
}

/// What to do when the kernel says no, beginning with the rights that are missing.
pub(crate) fn try_as_root() -> String {
    let missing = missing_here();
    let missing = if missing.is_empty() { missing } else { format!("missing are {missing}; ") };
    format!(
        "{missing}run as root, or grant CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8), under systemd also in \
         CapabilityBoundingSet="
    )
}

pub(crate) fn refuse_load(error: &EbpfError) -> BuildError {
    refuse_code(code_of(error), &chain(error))
}

/// Whether it failed for want of a descriptor.
pub(crate) fn is_out_of_files(error: &EbpfError) -> bool {
    matches!(code_of(error), Some(libc::EMFILE | libc::ENFILE))
}

/// The code of the system call that failed, where one did.
fn code_of(error: &EbpfError) -> Option<i32> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    let mut code = None;
    while let Some(error) = cause {
        code = code.or_else(|| error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error));
        cause = error.source();
    }
    code
}

/// Why the numbers cannot be read.
pub(crate) fn refuse_totals(what: &str, error: &io::Error) -> BuildError {
    let cause = error.raw_os_error().and_then(|code| Surroundings::here().explain(Call::Bpf, code));
    match cause {
        Some(cause) => BuildError::refused(format!("{what}: {}", cause.problem), cause.way_out),
        None => BuildError::refused(format!("{what}: {error}"), try_as_root()),
    }
}

/// Why bpf(2) says no to the first thing that is asked of it.
pub(crate) fn refuse_bpf(error: &io::Error) -> BuildError {
    refuse_code(error.raw_os_error(), &error.to_string())
}

fn refuse_code(code: Option<i32>, text: &str) -> BuildError {
    if let Some(cause) = code.and_then(|code| Surroundings::here().explain(Call::Bpf, code)) {
        return BuildError::refused(cause.problem, cause.way_out);
    }
    match code {
        Some(libc::EPERM | libc::EACCES) if missing_here().is_empty() => BuildError::refused(
            "the kernel does not let this process load BPF programs, though it has the rights",
            "see what a security module says (SELinux, AppArmor: dmesg, or the audit log) and allow bpf to it",
        ),
        Some(libc::EPERM | libc::EACCES) => {
            BuildError::refused("the kernel does not let this process load BPF programs", try_as_root())
        }
        Some(libc::ENOSYS) => BuildError::refused(
            "this kernel has no bpf(2), or a sandbox hides it",
            "use a kernel with CONFIG_BPF_SYSCALL=y, outside a sandbox such as gVisor",
        ),
        _ => BuildError::refused(
            format!("the kernel does not take the probe's object: {text}"),
            "please report it with the kernel's version",
        ),
    }
}

/// The object that needs type information was asked for where there is none.
pub(crate) fn refuse_core(problem: &str) -> BuildError {
    BuildError::refused(problem, "set probes.object = \"auto\", or use a kernel with type information")
}

pub(crate) fn nothing_attached(probe: &str, reports: &[CounterReport]) -> BuildError {
    let mut reasons: Vec<String> = Vec::new();
    for attempt in reports.iter().flat_map(|report| &report.tried) {
        let reason = format!("{}: {}", attempt.tier, attempt.problem);
        if !reasons.contains(&reason) && reasons.len() < 3 {
            reasons.push(reason);
        }
    }
    // A cause that is not in the hooks is told instead of what each of them says of it.
    let too_few_files =
        reports.iter().flat_map(|report| &report.tried).any(|attempt| attempt.problem.contains(TOO_MANY));
    if let Some(cause) = too_few_files.then(|| Surroundings::here().explain(Call::Bpf, libc::EMFILE)).flatten() {
        return BuildError::refused(cause.problem, cause.way_out);
    }
    // Whoever has all the rights need not be told to get them.
    let rights = if missing_here().is_empty() { String::new() } else { format!("{}; ", try_as_root()) };
    let problem = format!("no counter of probe {probe} finds a hook ({})", reasons.join("; "));
    let way_out = format!("{rights}\"{} check\" says what this machine lacks and how to mend it", identity().name());
    // A file system may still be mounted while the machine starts.
    BuildError::refused(problem, way_out).passing(reasons.iter().any(|reason| reason.contains(NOT_MOUNTED)))
}

/// Why a mounted tracefs cannot be looked into.
pub(crate) fn hidden_tracefs(root: &Path, error: &io::Error) -> String {
    let place = root.display();
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        "the kernel is locked down and hides tracefs; boot with lockdown=integrity, or without Secure Boot".to_owned()
    } else {
        format!("the tracefs at {place} cannot be read ({error}); run as root, or grant CAP_DAC_OVERRIDE")
    }
}

/// Why tracefs makes no event.
pub(crate) fn no_event(root: &Path, error: &io::Error) -> String {
    let place = root.display();
    match error.raw_os_error() {
        Some(libc::ENOENT) => "this kernel has no such function to trace".to_owned(),
        Some(libc::EROFS) => {
            format!("the tracefs at {place} is mounted read-only; as root: mount -o remount,rw {place}")
        }
        Some(libc::EACCES) => {
            format!("the tracefs at {place} may not be written to; run as root, or grant CAP_DAC_OVERRIDE")
        }
        _ => format!("tracefs refuses the event: {error}"),
    }
}

/// Why perf gives no event.
pub(crate) fn no_perf_event(event: &str, error: &io::Error) -> String {
    no_perf_event_in(&Surroundings::here(), event, error)
}

fn no_perf_event_in(surroundings: &Surroundings, event: &str, error: &io::Error) -> String {
    let code = error.raw_os_error().unwrap_or(0);
    if let Some(cause) = surroundings.explain(Call::PerfEventOpen, code) {
        return format!("{}; {}", cause.problem, cause.way_out);
    }
    match (code, surroundings.paranoid) {
        (libc::EACCES, Some(level)) => format!(
            "perf refuses {event} to this user, since kernel.perf_event_paranoid is {level}; as root: sysctl \
             kernel.perf_event_paranoid=2, or grant CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8)"
        ),
        (libc::ENOSYS, _) => "this kernel has no perf_event_open(2) (CONFIG_PERF_EVENTS is off)".to_owned(),
        _ => format!("perf refuses {event}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Answers;

    #[test]
    fn a_filter_that_lets_perf_pass_does_not_hide_its_setting() {
        let of = |perf_event_open| Surroundings {
            seccomp: Some(Answers { bpf: None, perf_event_open: Some(perf_event_open) }),
            confidential: true,
            paranoid: Some(3),
            ..Surroundings::default()
        };
        let said = |code| no_perf_event_in(&of(code), "it", &io::Error::from_raw_os_error(libc::EACCES));
        assert!(said(libc::EINVAL).contains("kernel.perf_event_paranoid is 3"), "{}", said(libc::EINVAL));
        assert!(said(libc::EACCES).contains("seccomp"), "{}", said(libc::EACCES));
    }
}
