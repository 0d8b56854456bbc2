//! The agent as somebody who is not root, with some capabilities and no others.
//!
//! The capabilities come by inheritance, as from a service manager: an executable that carries them itself is a case
//! of its own, in which the agent trusts nobody.

use crate::answer::{SINK, finish, refused, served};
use crate::{Failure, Outcome, agent};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    set_capabilities, set_capabilities_secure_bits,
};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

const NOBODY: u32 = 65534;
const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";
const ONCE: [&str; 3] = ["once", "--interval", "100ms"];
const BY_KPROBE: [&str; 2] = ["--set", "probes.hooks=kprobe"];

/// The agent is not root and has no capabilities.
///
/// # Errors
/// The answer is another one.
pub fn none() -> Outcome<String> {
    refused(&nobody_with(CapabilitySet::empty(), &[&["run"], &SINK[..]].concat())?, 1, &["run as root"])
}

/// What is missing is named, and what suffices suffices.
///
/// # Errors
/// The answer is another one.
pub fn some() -> Outcome<String> {
    let enough = CapabilitySet::BPF | CapabilitySet::PERFMON;
    served(&nobody_with(enough, &ONCE)?, &["by fentry"])?;

    let run = [&["run"], &SINK[..]].concat();
    let no_perfmon = refused(&nobody_with(CapabilitySet::BPF, &run)?, 1, &["CAP_PERFMON"])?;
    let no_bpf = refused(&nobody_with(CapabilitySet::PERFMON, &run)?, 1, &["CAP_BPF"])?;
    let run = [&run[..], &BY_KPROBE].concat();
    let no_tracefs = refused(&nobody_with(enough, &run)?, 1, &["CAP_DAC_OVERRIDE"])?;
    let no_perf = paranoid_perf(enough | CapabilitySet::DAC_OVERRIDE, &run)?;
    Ok(format!(
        "without CAP_PERFMON: {no_perfmon}; without CAP_BPF: {no_bpf}; by kprobe without CAP_DAC_OVERRIDE: {no_tracefs}; \
         with it: {no_perf}"
    ))
}

/// Debian's kernels can take perf events away from everybody who has not `CAP_SYS_ADMIN`, and do by default.
fn paranoid_perf(held: CapabilitySet, run: &[&str]) -> Outcome<String> {
    let set = |value: &str| fs::write(PARANOID, value).map_err(Failure::at(PARANOID));
    let before = fs::read_to_string(PARANOID).map_err(Failure::at(PARANOID))?;
    set("3")?;
    let without = nobody_with(held, run)?;
    set("2")?;
    let with = nobody_with(held, &[&ONCE[..], &BY_KPROBE].concat())?;
    set(before.trim_end())?;
    served(&with, &["by kprobe, exact"])?;
    refused(&without, 1, &["kernel.perf_event_paranoid"])
}

/// Runs the agent to its end as nobody with these capabilities.
fn nobody_with(held: CapabilitySet, arguments: &[&str]) -> Outcome<Output> {
    // The agent may lie where nobody may look.
    let folder = tempfile::Builder::new().prefix("ebpf-process-").tempdir().map_err(Failure::at("a folder"))?;
    let copy = folder.path().join("ebpf-process");
    fs::copy(agent::binary()?, &copy).map_err(Failure::at("copying the agent"))?;
    for path in [folder.path(), &copy] {
        open_to_all(path)?;
    }
    let mut command = Command::new(&copy);
    command.env_clear().current_dir("/").uid(NOBODY).gid(NOBODY).args(arguments);
    // Capabilities are a thread's, and those of a process come from the thread that starts it.
    thread::scope(|scope| {
        let start = || pass_on(held).and_then(|()| finish(&mut command));
        let thread = thread::Builder::new().name("nobody".into()).spawn_scoped(scope, start);
        let ended = thread.map_err(Failure::at("a thread"))?.join();
        ended.map_err(|_| Failure::new("the thread that runs the agent panicked"))?
    })
}

/// Makes the children of this thread keep these capabilities when they become somebody else, and no others.
fn pass_on(held: CapabilitySet) -> Outcome<()> {
    let own = capabilities(None).map_err(Failure::at("own capabilities"))?;
    set_capabilities(None, CapabilitySets { inheritable: held, ..own })
        .map_err(Failure::at("inheritable capabilities"))?;
    for one in held.iter() {
        configure_capability_in_ambient_set(one, true).map_err(Failure::at(format!("passing on {one:?}")))?;
    }
    // A change of the user would take them away.
    set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP).map_err(Failure::at("secure bits"))
}

fn open_to_all(path: &Path) -> Outcome<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(Failure::at(path.display()))
}
