//! What this machine allows, and for each thing it lacks what to do: the facts behind `check`.
//!
//! Nothing is changed and nothing attached. Everything is read from `/proc`, `/sys` and `/boot`, and
//! what cannot be read is said to be unknown, not missing.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use rustix::thread::capabilities;
use serde::Serialize;

use crate::calls::SYSCALLS;
use crate::cause::{Answers, Call, Surroundings};
use crate::kernel;
use crate::memory::MapMemory;
use crate::ours::PROBES;
use crate::preemption::Preemption;
use crate::release::{self, Version};
use crate::rights::{RIGHTS, missing_rights};
use crate::sys::possible_processors;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub subject: &'static str,
    /// What was found.
    pub state: String,
    /// Whether that is as it should be.
    pub verdict: Verdict,
    /// What to do about it, where something can be done.
    pub advice: Option<String>,
}

/// Whether a finding is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Something is lost by it.
    Lacking,
    /// It cannot be told.
    Unknown,
}

impl Finding {
    fn good(subject: &'static str, state: impl Into<String>) -> Self {
        Self { subject, state: state.into(), verdict: Verdict::Good, advice: None }
    }

    fn lacking(subject: &'static str, state: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { subject, state: state.into(), verdict: Verdict::Lacking, advice: Some(advice.into()) }
    }

    fn unknown(subject: &'static str, state: impl Into<String>) -> Self {
        Self { subject, state: state.into(), verdict: Verdict::Unknown, advice: None }
    }
}

/// Looks at everything, in the order in which things depend on each other.
pub fn examine() -> Vec<Finding> {
    let surroundings = Surroundings::here();
    let mut findings = vec![release()];
    findings.extend(configuration(release::build_configuration().ok().as_deref()));
    findings.extend(shared_events(&read("/proc/sys/kernel/osrelease")));
    findings.extend([
        type_information(),
        mounted("tracefs", &["/sys/kernel/tracing", "/sys/kernel/debug/tracing"], "the kprobe tier needs it"),
        mounted("debugfs", &["/sys/kernel/debug"], "it tells the preemption model in force"),
        lockdown(&read("/sys/kernel/security/lockdown")),
        preemption(Preemption::read()),
        rights(),
        user_namespace(surroundings.user_namespace),
        seccomp(surroundings.seccomp),
        // It counts before Linux 5.11, for whoever may not raise it.
        locked_memory(surroundings.locked_memory.is_some(), getrlimit(Resource::Memlock).current, maps()),
        jit(&read("/proc/sys/net/core/bpf_jit_enable")),
        unprivileged(&read("/proc/sys/kernel/unprivileged_bpf_disabled")),
        control_groups(&read("/proc/self/mounts")),
        container(),
    ]);
    findings.extend(sandbox(kernel::is_sandboxed(surroundings.user_namespace)));
    findings
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn release() -> Finding {
    Finding::good("kernel", read("/proc/version"))
}

/// The options that matter, and what is lost without each.
const OPTIONS: [(&str, &str); 7] = [
    ("CONFIG_BPF", "nothing can be counted"),
    ("CONFIG_BPF_SYSCALL", "nothing can be counted"),
    ("CONFIG_BPF_EVENTS", "no program can be attached to a tracepoint or a kprobe"),
    ("CONFIG_BPF_JIT", "no trampolines (fentry), and every event costs more"),
    ("CONFIG_KPROBES", "no kprobe tier"),
    ("CONFIG_KPROBE_EVENTS", "no kprobe tier"),
    ("CONFIG_DEBUG_INFO_BTF", "no trampolines and no typed tracepoints"),
];

fn configuration(config: Option<&str>) -> Vec<Finding> {
    let Some(config) = config else {
        return vec![Finding::unknown("configuration", "neither /proc/config.gz nor /boot/config-* can be read")];
    };
    let is_on = |option: &str| config.lines().any(|line| line.strip_prefix(option) == Some("=y"));
    let on: Vec<&str> = OPTIONS.iter().map(|(option, _)| *option).filter(|option| is_on(option)).collect();
    let mut findings = vec![Finding::good("configuration", on.join(", "))];
    for (option, loss) in OPTIONS.iter().filter(|(option, _)| !is_on(option)) {
        let advice = format!("use a kernel that is built with {option}=y");
        findings.push(Finding::lacking("configuration", format!("{option} is off: {loss}"), advice));
    }
    findings
}

/// Below 4.15 a trace event holds one program.
fn shared_events(release: &str) -> Option<Finding> {
    let version = Version::of(release)?;
    (version < Version(4, 15)).then(|| {
        Finding::lacking(
            "trace events",
            "hold one program each before Linux 4.15: a second tool on one ends the first",
            "let the kprobe tier serve, which has no such limit, or run no other tool on the same events",
        )
    })
}

fn type_information() -> Finding {
    match fs::metadata(kernel::BTF_PATH) {
        Ok(file) => Finding::good("type information", format!("{}, {} KiB", kernel::BTF_PATH, file.len() / 1024)),
        Err(error) => Finding::lacking(
            "type information",
            format!("{}: {error}", kernel::BTF_PATH),
            "use a kernel that is built with CONFIG_DEBUG_INFO_BTF=y",
        ),
    }
}

fn mounted(kind: &'static str, places: &[&str], why: &str) -> Finding {
    let mounts = read("/proc/self/mounts");
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = lines.find(|words| words.get(2) == Some(&kind));
    if let Some(place) = found.and_then(|words| words.get(1).copied().map(str::to_owned)) {
        return Finding::good(kind, format!("mounted on {place}"));
    }
    let place = places.first().copied().unwrap_or_default();
    let advice = format!("as root: mount -t {kind} {kind} {place}");
    Finding::lacking(kind, format!("not mounted; {why}"), advice)
}

/// `[none] integrity confidentiality`: the one in force is in brackets.
fn lockdown(text: &str) -> Finding {
    match text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(word, _)| word) {
        None => Finding::good("lockdown", "the kernel has none, or securityfs is not mounted"),
        Some(word @ ("none" | "integrity")) => Finding::good("lockdown", word),
        Some(word) => Finding::lacking(
            "lockdown",
            format!("{word}: programs may not read kernel memory"),
            "boot with lockdown=integrity, or without Secure Boot",
        ),
    }
}

fn preemption(model: Preemption) -> Finding {
    match model {
        Preemption::Never => Finding::good("preemption", "none inside the kernel: no program is left out for it"),
        Preemption::Possible => Finding::good(
            "preemption",
            "possible inside the kernel: the kprobe tier is not left out for it; what the others miss is counted, as \
             calls where only calls are asked for",
        ),
        Preemption::RealTime => Finding::unknown(
            "preemption",
            "a real-time kernel: it was never shown that anything is exact there; the kprobe tier comes first",
        ),
        Preemption::Unknown => Finding::unknown("preemption", "not told; the kprobe tier is not left out for it"),
    }
}

fn sandbox(sandboxed: bool) -> Option<Finding> {
    sandboxed.then(|| {
        Finding::lacking(
            "sandbox",
            "this kernel refuses trampolines to those who may load programs, and shows programs nothing of its own first \
             process: what that does itself is in no number, nor a release that happens on top of it",
            "nothing can be done inside the sandbox; count on the machine that it runs on",
        )
    })
}

fn rights() -> Finding {
    let Ok(sets) = capabilities(None) else {
        return Finding::unknown("capabilities", "the kernel does not tell");
    };
    let missing = missing_rights(sets.effective);
    if missing.is_empty() {
        let held = RIGHTS.iter().filter(|(right, ..)| sets.effective.contains(*right)).map(|(_, name, _)| *name);
        return Finding::good("capabilities", held.collect::<Vec<_>>().join(", "));
    }
    let state = format!("missing are {missing}");
    let advice = "run as root, or: setcap cap_bpf,cap_perfmon,cap_dac_override+ep FILE; under systemd name them in \
                  CapabilityBoundingSet= and AmbientCapabilities=";
    Finding::lacking("capabilities", state, advice)
}

/// What the maps of all probes take of it on this machine, in bytes, from the floor's objects: the others are for kernels
/// that do not count.
fn maps() -> u64 {
    let of = |object| MapMemory::of(object, possible_processors().unwrap_or(1), &[]).unwrap_or_default();
    let ours = PROBES.iter().filter_map(|probe| probe.objects.as_ref()).chain([&SYSCALLS]);
    ours.filter_map(|objects| objects.floor).map(of).fold(MapMemory::default(), MapMemory::plus).total()
}

fn locked_memory(counts: bool, limit: Option<u64>, needed: u64) -> Finding {
    let needed = needed.div_ceil(1024);
    match limit.map(|bytes| bytes / 1024) {
        None => Finding::good("locked memory", "unlimited"),
        Some(limit) if !counts => Finding::good("locked memory", format!("{limit} KiB; does not count here")),
        Some(limit) if limit >= needed => {
            Finding::good("locked memory", format!("{limit} KiB; the maps take {needed}"))
        }
        Some(limit) => Finding::lacking(
            "locked memory",
            format!("{limit} KiB, and the maps take {needed} KiB; CAP_SYS_RESOURCE, which raises it, is missing"),
            "grant CAP_SYS_RESOURCE, or raise the limit: LimitMEMLOCK=infinity under systemd, ulimit -l in a shell",
        ),
    }
}

fn user_namespace(nested: bool) -> Finding {
    if nested {
        return Finding::lacking(
            "user namespace",
            "not the initial one: its capabilities do not count for BPF",
            "start it in the initial user namespace (a container: as root, without user namespaces or rootless mode)",
        );
    }
    Finding::good("user namespace", "the initial one")
}

fn seccomp(filter: Option<Answers>) -> Finding {
    let Some(answers) = filter else { return Finding::good("seccomp", "no filter") };
    let refused = [(Call::Bpf, "bpf"), (Call::PerfEventOpen, "perf_event_open")];
    let refused: Vec<_> = refused.iter().filter(|(call, _)| answers.refusal(*call).is_some()).collect();
    if refused.is_empty() {
        return Finding::good("seccomp", "a filter is on, and lets bpf and perf_event_open pass");
    }
    let names = refused.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" and ");
    Finding::lacking(
        "seccomp",
        format!("a filter is on, and refuses {names}"),
        "allow bpf and perf_event_open in it: the seccomp profile of a container engine, SystemCallFilter= under systemd",
    )
}

fn jit(setting: &str) -> Finding {
    match setting {
        "0" => Finding::lacking(
            "BPF compiler",
            "off: every event costs several times as much, and there are no trampolines",
            "as root: sysctl net.core.bpf_jit_enable=1",
        ),
        "" => Finding::unknown("BPF compiler", "not told"),
        _ => Finding::good("BPF compiler", "on"),
    }
}

/// We never rely on it: it is said because people look for it.
fn unprivileged(setting: &str) -> Finding {
    let state = match setting {
        "0" => "allowed for everybody; this agent does not need that",
        "1" | "2" => "for privileged processes only, as it should be",
        _ => "not told",
    };
    Finding::good("unprivileged BPF", state)
}

fn control_groups(mounts: &str) -> Finding {
    let mut kinds = mounts.lines().filter_map(|line| line.split(' ').nth(2));
    if kinds.any(|kind| kind == "cgroup2") {
        return Finding::good("control groups", "version 2 is mounted: only = { cgroup = ... } works");
    }
    Finding::lacking(
        "control groups",
        "version 2 is not mounted: only = { cgroup = ... } cannot be used",
        "as root: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
    )
}

fn container() -> Finding {
    let marks = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
    let told =
        fs::read("/proc/1/environ").is_ok_and(|text| text.split(|b| *b == 0).any(|v| v.starts_with(b"container=")));
    match marks.iter().find(|mark| Path::new(mark).exists()) {
        None if !told => Finding::good("container", "none"),
        mark => Finding::good(
            "container",
            format!(
                "yes ({}): the host's kernel is counted, all of it; the container needs the capabilities above, and \
                 /sys/kernel/tracing for kprobes",
                mark.unwrap_or(&"/proc/1/environ")
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_warned_of_events_that_hold_one_program() {
        assert!(shared_events("4.14.67-generic").is_some());
        assert!(shared_events("4.11.0").is_some());
        for release in ["4.15.0", "5.10.0-46-cloud-amd64", "6.12.107+deb13", ""] {
            assert_eq!(shared_events(release), None, "{release}");
        }
    }

    #[test]
    fn locked_memory_is_judged_by_what_the_maps_take() {
        assert!(maps() > 700 * 1024);
        let lacking = locked_memory(true, Some(64 * 1024), 769 * 1024);
        assert!(lacking.state.contains("769 KiB") && lacking.state.contains("CAP_SYS_RESOURCE"), "{lacking:?}");
        for (counts, limit) in [(false, Some(64 * 1024)), (true, Some(769 * 1024)), (true, None)] {
            assert_eq!(locked_memory(counts, limit, 769 * 1024).verdict, Verdict::Good, "{counts} {limit:?}");
        }
    }

    #[test]
    fn an_option_that_is_off_is_named_with_its_loss() {
        let all = OPTIONS.map(|(option, _)| format!("{option}=y")).join("\n");
        assert!(configuration(Some(&all)).iter().all(|finding| finding.verdict == Verdict::Good));
        let without = all.replace("CONFIG_KPROBES=y", "# CONFIG_KPROBES is not set");
        let lacking: Vec<_> = configuration(Some(&without)).into_iter().filter(|f| f.advice.is_some()).collect();
        assert_eq!(lacking.len(), 1);
        assert!(lacking[0].state.contains("CONFIG_KPROBES is off"), "{lacking:?}");
        assert_eq!(configuration(None)[0].verdict, Verdict::Unknown);
    }

    #[test]
    fn the_lockdown_in_force_is_the_one_in_brackets() {
        for (text, verdict) in [
            ("[none] integrity confidentiality", Verdict::Good),
            ("none [integrity] confidentiality", Verdict::Good),
            ("none integrity [confidentiality]", Verdict::Lacking),
            ("", Verdict::Good),
        ] {
            assert_eq!(lockdown(text).verdict, verdict, "{text}");
        }
    }

    #[test]
    fn a_filter_is_judged_by_what_it_answers() {
        let filter = |bpf, perf| seccomp(Some(Answers { bpf: Some(bpf), perf_event_open: Some(perf) }));
        assert_eq!(filter(libc::E2BIG, libc::EINVAL).verdict, Verdict::Good);
        let lacking = filter(libc::E2BIG, libc::EPERM);
        assert!(
            lacking.verdict == Verdict::Lacking && lacking.state.ends_with("refuses perf_event_open"),
            "{lacking:?}"
        );
        assert!(filter(libc::ENOSYS, libc::EPERM).state.ends_with("bpf and perf_event_open"));
        assert_eq!(seccomp(None).verdict, Verdict::Good);
    }

    #[test]
    fn everything_lacking_says_what_to_do() {
        for finding in examine() {
            assert_eq!(finding.verdict == Verdict::Lacking, finding.advice.is_some(), "{finding:?}");
            assert!(!finding.state.is_empty(), "{finding:?}");
        }
    }
}
