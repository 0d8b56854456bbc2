//! What the agent says where it cannot run: one line that names what is missing and the way out, and the exit code.
//!
//! Each takes something away from the whole machine: for a virtual machine only.

use crate::{Failure, Outcome, agent, wait};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const TRACEFS: &str = "/sys/kernel/tracing";
const DEBUGFS: &str = "/sys/kernel/debug";
const BTF: &str = "/sys/kernel/btf";
const NOBODY: u32 = 65534;
/// A refusal comes at once; an emulated processor needs seconds to load programs.
const LIMIT: Duration = Duration::from_mins(1);
/// What makes `run` a daemon without a terminal.
const SINK: [&str; 4] = ["--set", "sinks.out.type=influx", "--set", "sinks.out.options.url=stdout"];

/// Neither tracefs nor debugfs is mounted, and only kprobes are allowed.
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
        Ok((run, finish(plugin.env("NETDATA_LOCK_DIR", folder.path()))?))
    };
    let answers = answers();
    for (kind, folder) in [("debugfs", DEBUGFS), ("tracefs", TRACEFS)] {
        mount(kind, folder, kind, MountFlags::empty(), None).map_err(Failure::at(format!("mounting {folder}")))?;
    }
    let (run, plugin) = answers?;
    let way_out = "mount -t tracefs tracefs /sys/kernel/tracing";
    // A plugin that may be lucky later ends with 0 and without a word to netdata.
    Ok(format!("{}; as a plugin: {}", refused(&run, 1, way_out)?, refused(&plugin, 0, way_out)?))
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
    let (insists, served) = answers?;
    let refusal = refused(&insists, 1, "CONFIG_DEBUG_INFO_BTF")?;
    let table = String::from_utf8_lossy(&served.stdout);
    if served.status.success() && table.contains("by kprobe, exact") {
        return Ok(format!("{refusal}; without insisting: by kprobe"));
    }
    let words = String::from_utf8_lossy(&served.stderr);
    Err(Failure::new(format!("without type information: {}: {table} {words}", served.status)))
}

/// The agent is not root.
///
/// # Errors
/// The answer is another one.
pub fn no_root() -> Outcome<String> {
    // The agent may lie where nobody may look.
    let folder = tempfile::Builder::new().prefix("ebpf-process-").tempdir().map_err(Failure::at("a folder"))?;
    let copy = folder.path().join("ebpf-process");
    fs::copy(agent::binary()?, &copy).map_err(Failure::at("copying the agent"))?;
    for path in [folder.path(), &copy] {
        open_to_all(path)?;
    }
    let mut command = Command::new(&copy);
    command.env_clear().current_dir("/").uid(NOBODY).gid(NOBODY);
    refused(&finish(command.arg("run").args(SINK))?, 1, "run as root")
}

fn open_to_all(path: &Path) -> Outcome<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(Failure::at(path.display()))
}

/// Runs the agent to its end; one that is not refused would run on for ever.
fn finish(command: &mut Command) -> Outcome<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(Failure::at("running the agent"))?;
    let ended = wait::until("the agent's end", LIMIT, || child.try_wait().map_err(Failure::at("the agent's state")));
    if ended.is_err() {
        child.kill().map_err(Failure::at("ending the agent"))?;
    }
    let output = child.wait_with_output().map_err(Failure::at("the agent's output"))?;
    ended.map(|_| output)
}

/// The one line of a refusal that ends with `code`, says `way_out`, and says nothing on stdout.
fn refused(output: &Output, code: i32, way_out: &str) -> Outcome<String> {
    let words = String::from_utf8_lossy(&output.stderr);
    let line = words.trim_end();
    let right = output.status.code() == Some(code)
        && output.stdout.is_empty()
        && line.lines().count() == 1
        && line.contains(way_out);
    let shown = format!("{}, {:?} on stdout: {line}", output.status, String::from_utf8_lossy(&output.stdout));
    if right { Ok(shown) } else { Err(Failure::new(format!("wanted code {code} and {way_out:?}, got {shown}"))) }
}
