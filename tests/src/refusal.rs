//! What the agent says where something is missing: one line that names it and the way out, and the exit code; and
//! that the rest works.
//!
//! Each takes something away from the whole machine: for a virtual machine only.

use crate::answer::{Checkup, SINK, finish, refused, served};
use crate::exact::{self, Row};
use crate::expect::Mode;
use crate::{Failure, Outcome, agent};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use std::fs;
use std::os::unix::process::CommandExt as _;

const TRACEFS: &str = "/sys/kernel/tracing";
const DEBUGFS: &str = "/sys/kernel/debug";
const BTF: &str = "/sys/kernel/btf";
const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Neither tracefs nor debugfs is mounted: where only kprobes are allowed that is told, everybody else is served.
///
/// # Errors
/// The answer is another one.
pub fn no_tracefs() -> Outcome<String> {
    for folder in [TRACEFS, DEBUGFS] {
        unmount(folder, UnmountFlags::DETACH).map_err(Failure::at(format!("unmounting {folder}")))?;
    }
    let answers = || {
        let run = finish(agent::command()?.args(["run", "--set", "probes.hooks=kprobe"]).args(SINK))?;
        let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        let file = folder.path().join("kprobe.toml");
        fs::write(&file, "[probes]\nhooks = \"kprobe\"\n").map_err(Failure::at("a configuration"))?;
        let mut plugin = agent::command()?;
        plugin.arg0("/usr/libexec/netdata/plugins.d/ebpf_process.plugin").args(["1", "--config"]).arg(&file);
        // The variable of the tests would be unknown to nobody under netdata, but its folders must be empty.
        plugin.env("NETDATA_USER_CONFIG_DIR", "/nonexistent").env("NETDATA_STOCK_CONFIG_DIR", "/nonexistent");
        let plugin = finish(plugin.env("NETDATA_LOCK_DIR", folder.path()))?;
        Ok((run, plugin, exact::whole_workload(&Row { hooks: "auto".into(), mode: Mode::Return })?))
    };
    let answers = answers();
    for (kind, folder) in [("debugfs", DEBUGFS), ("tracefs", TRACEFS)] {
        mount(kind, folder, kind, MountFlags::empty(), None).map_err(Failure::at(format!("mounting {folder}")))?;
    }
    let (run, plugin, auto) = answers?;
    let way_out = ["mount -t tracefs tracefs /sys/kernel/tracing"];
    // A plugin that may be lucky later ends with 0 and without a word to netdata.
    let (run, plugin) = (refused(&run, 1, &way_out)?, refused(&plugin, 0, &way_out)?);
    auto.verdict()?;
    Ok(format!("{run}; as a plugin: {plugin}; by auto: {auto}"))
}

/// The kernel's type information cannot be read: who insists on it is refused, everybody else is served without.
///
/// # Errors
/// The answer is another one.
pub fn no_btf() -> Outcome<String> {
    mount("tmpfs", BTF, "tmpfs", MountFlags::empty(), None).map_err(Failure::at(format!("hiding {BTF}")))?;
    let answers = || {
        let insists = finish(agent::command()?.args(["run", "--set", "probes.object=core"]).args(SINK))?;
        Ok((insists, finish(agent::command()?.args(["once", "--interval", "100ms"]))?))
    };
    let answers = answers();
    unmount(BTF, UnmountFlags::DETACH).map_err(Failure::at(format!("showing {BTF}")))?;
    let (insists, once) = answers?;
    let refusal = refused(&insists, 1, &["CONFIG_DEBUG_INFO_BTF"])?;
    served(&once, &["by kprobe, exact"])?;
    Ok(format!("{refusal}; without insisting: by kprobe"))
}

/// A function is missing in the kernel's type information: its counter is served by another tier or reported as not
/// available, and all others are right.
///
/// The kernel's builders leave functions out that were inlined or exist twice. Here the name of one is changed.
///
/// # Errors
/// A number is wrong, or the report does not name the function.
pub fn missing_function() -> Outcome<String> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    let changed = folder.path().join("vmlinux");
    let mut types = fs::read(TYPES).map_err(Failure::at(TYPES))?;
    rename(&mut types, b"\0vfs_unlink\0", b"\0vfs_onlink\0")?;
    fs::write(&changed, types).map_err(Failure::at("the changed type information"))?;
    mount_bind(&changed, TYPES).map_err(Failure::at(format!("replacing {TYPES}")))?;
    let answers = missing_function_answers();
    unmount(TYPES, UnmountFlags::DETACH).map_err(Failure::at(format!("restoring {TYPES}")))?;
    answers
}

fn missing_function_answers() -> Outcome<String> {
    let report = Checkup::new(&["probes.hooks=fentry", "probes.mode=return"])?;
    let problems = report.problems("vfs.delete").join("; ");
    if report.unserved() != ["vfs.delete"] || !problems.contains("vfs_unlink: this kernel has no such function") {
        return Err(Failure::new(format!("nothing serves {:?}; tried for vfs.delete: {problems}", report.unserved())));
    }
    let row = |hooks: &str| Row { hooks: hooks.into(), mode: Mode::Return };
    let fentry = exact::whole_workload_as_served(&row("fentry"))?;
    fentry.verdict()?;
    if fentry.got("vfs.calls", "delete").is_some() {
        return Err(Failure::new("vfs.delete is reported without a hook"));
    }
    exact::whole_workload(&row("auto"))?.verdict()?;
    match Checkup::new(&["probes.mode=return"])?.tier("vfs.delete") {
        Some(tier @ ("kprobe" | "tracepoint")) => Ok(format!("{problems}; without insisting: by {tier}")),
        other => Err(Failure::new(format!("vfs.delete is served by {other:?}"))),
    }
}

/// Changes a name where it stands, which must be once.
fn rename(bytes: &mut [u8], old: &[u8], new: &[u8]) -> Outcome<()> {
    let places: Vec<usize> =
        bytes.windows(old.len()).enumerate().filter(|(_, window)| *window == old).map(|(at, _)| at).collect();
    let [place] = places[..] else {
        return Err(Failure::new(format!("{} stands {} times", old.escape_ascii(), places.len())));
    };
    bytes[place..place + old.len()].copy_from_slice(new);
    Ok(())
}
