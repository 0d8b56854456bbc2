//! The plugin as netdata's packages install privileged ones: setuid root, or with file capabilities; started by nobody
//! with an environment that wants to reach something through it.

use crate::held::{self, Held};
use crate::{Failure, Outcome, agent, receivers, wait};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;
use tempfile::TempDir;

/// Who starts it.
const NOBODY: u32 = 65534;

/// What Debian's unit leaves to netdata and its plugins.
const DEBIAN: CapabilitySet = CapabilitySet::DAC_READ_SEARCH
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::AUDIT_WRITE);

/// What the drop-in that we ship adds to it, and the same as file capabilities.
const ADDED: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON).union(CapabilitySet::DAC_OVERRIDE);
const GRANTED: &str = "cap_bpf,cap_perfmon,cap_dac_override";

/// How the plugin gets its rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Mode 4755, root's.
    Setuid,
    /// File capabilities that are effective at once: netdata's way (`=ep`).
    Effective,
    /// File capabilities that the program takes up itself (`=p`).
    Permitted,
}

/// The plugin with rights, and its caller's traps.
#[derive(Debug)]
pub struct Installed {
    folder: TempDir,
    grant: Grant,
}

impl Installed {
    /// Copies the release binary and gives it rights.
    ///
    /// # Errors
    /// It cannot be: not root, no setcap, or a file system that knows no such rights.
    pub fn new(grant: Grant) -> Outcome<Self> {
        let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        let this = Self { folder, grant };
        let plugin = this.plugin();
        agent::copy_to(&plugin)?;
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Failure::at("permissions"))
        };
        mode(this.folder.path(), 0o755)?;
        let file_system = rustix::fs::statvfs(this.folder.path()).map_err(Failure::at("the file system"))?;
        if file_system.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID) {
            return Err(Failure::new("the folder for temporary files is mounted nosuid"));
        }
        match grant {
            Grant::Setuid => mode(&plugin, 0o4755)?,
            Grant::Effective | Grant::Permitted => {
                mode(&plugin, 0o755)?;
                let flags = if grant == Grant::Effective { "ep" } else { "p" };
                let setcap = receivers::program("setcap", "libcap2-bin")?;
                run(Command::new(setcap).arg(format!("{GRANTED}={flags}")).arg(&plugin))?;
            }
        }
        this.lay_traps().map_err(Failure::at("the caller's files"))?;
        Ok(this)
    }

    fn plugin(&self) -> PathBuf {
        self.folder.path().join("ebpf_process.plugin")
    }

    fn trap(&self, name: &str) -> PathBuf {
        self.folder.path().join("hostile").join(name)
    }

    /// Files of the caller's: configurations that would write, run or listen, and programs that leave a trace.
    fn lay_traps(&self) -> std::io::Result<()> {
        fs::create_dir(self.trap(""))?;
        let program = format!("#!/bin/sh\ntouch '{}'\n", self.trap("was-run").display());
        for name in ["sh", "mount", "modprobe", "bpftool"] {
            fs::write(self.trap(name), &program)?;
            fs::set_permissions(self.trap(name), Permissions::from_mode(0o755))?;
        }
        let evil = self.trap("was-written");
        let toml = format!(
            "interval = \"7s\"\n[sinks.evil]\ntype = \"influx\"\noptions.url = \"file://{0}\"\noptions.spool = \"{0}\"\n",
            evil.display()
        );
        fs::write(self.trap("ebpf-process.toml"), toml)?;
        fs::write(self.trap("ebpf_process.conf"), "[global]\nload = return\n")?;
        chown(self.trap(""), Some(NOBODY), Some(NOBODY))
    }

    /// The plugin as nobody starts it.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.plugin());
        command.args(arguments).uid(NOBODY).gid(NOBODY).current_dir(self.trap("")).env_clear();
        let hostile = self.trap("");
        for name in
            ["NETDATA_USER_CONFIG_DIR", "NETDATA_STOCK_CONFIG_DIR", "NETDATA_LOCK_DIR", "PATH", "HOME", "TMPDIR"]
        {
            command.env(name, &hostile);
        }
        for name in ["NETDATA_HOST_PREFIX", "LD_LIBRARY_PATH", "XDG_CONFIG_HOME"] {
            command.env(name, &hostile);
        }
        for name in ["LD_PRELOAD", "LD_AUDIT", "NETDATA_SYSTEMD_JOURNAL_PATH", "EBPF_PROCESS_SINKS__EVIL__OPTIONS__URL"]
        {
            command.env(name, self.trap("journal"));
        }
        command.envs([
            ("NETDATA_UPDATE_EVERY", "7"),
            ("NETDATA_LOG_METHOD", "journal"),
            ("EBPF_PROCESS_INTERVAL", "7s"),
            ("EBPF_PROCESS_LOG", "trace"),
            ("EBPF_PROCESS_PROBES__MODE", "return"),
            ("EBPF_PROCESS_SINKS__EVIL__TYPE", "influx"),
            ("EBPF_PROCESS_NONSENSE", "hostile"),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// It produces data, honours nothing of its caller's, and has given up its rights.
    ///
    /// # Errors
    /// Something of that does not hold.
    pub fn serves_and_trusts_nobody(&self) -> Outcome<()> {
        let before = self.files()?;
        let journal = UnixDatagram::bind(self.trap("journal")).map_err(Failure::at("a journal"))?;
        chown(self.trap("journal"), Some(NOBODY), Some(NOBODY)).map_err(Failure::at("a journal"))?;
        journal.set_nonblocking(true).map_err(Failure::at("a journal"))?;

        let mut running = Running::start(&mut self.command(&["1"]))?;
        let elapsed = running.second_batch()?;
        if !(500_000..5_000_000).contains(&elapsed) {
            return Err(running.fail(format!("two batches are {elapsed} µs apart: somebody else's interval")));
        }
        running.has_given_up_its_rights(self.grant == Grant::Setuid).map_err(|failure| running.fail(failure))?;
        running.has_nothing_open_below(&self.trap(""))?;
        let (output, lines) = running.stop()?;
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let fail = |what: &str| Err(Failure::new(format!("{what}; the log:\n{log}")));
        if output.status.code() != Some(0) {
            return fail(&format!("it ended with {}", output.status));
        }
        if log.contains("hostile") || log.contains("DEBUG") || !log.contains(" ebpf_process.plugin INFO : ") {
            return fail("the environment speaks through the log");
        }
        if lines.iter().any(|line| line.contains("ebpf.io_error")) {
            return fail("the caller chose the mode");
        }
        if journal.recv(&mut [0; 64]).is_ok() {
            return fail("it wrote to the caller's journal");
        }
        fs::remove_file(self.trap("journal")).map_err(Failure::at("the journal"))?;
        let after = self.files()?;
        if after == before { Ok(()) } else { fail(&format!("it left {after:?}, where {before:?} was")) }
    }

    /// Whatever but SECONDS is typed is refused, without a word of any file.
    ///
    /// # Errors
    /// It is not.
    pub fn takes_seconds_alone(&self) -> Outcome<()> {
        let own = self.trap("ebpf-process.toml").display().to_string();
        for arguments in
            [&["1", "--config", "/etc/shadow"][..], &["1", "--config", &own], &["1", "--set", "a=b"], &["x"]]
        {
            let output = Running::start(&mut self.command(arguments))?.finish()?;
            let log = String::from_utf8_lossy(&output.0.stderr).into_owned();
            if output.0.status.code() != Some(2) || output.1 != ["DISABLE"] || log.contains("root:") {
                return Err(Failure::new(format!("{arguments:?}: {}, {:?}: {log}", output.0.status, output.1)));
            }
        }
        Ok(())
    }

    /// Under Debian's unit, which withholds the capabilities, it says what to do about it.
    ///
    /// # Errors
    /// It does not.
    pub fn names_the_drop_in(&self) -> Outcome<()> {
        let (output, lines) = self.start_within(DEBIAN)?.finish()?;
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let told = log.contains("/etc/systemd/system/netdata.service.d/ebpf-process.conf");
        if told && output.status.code() == Some(1) && lines == ["DISABLE"] {
            return Ok(());
        }
        Err(Failure::new(format!("{}, {lines:?}: {log}", output.status)))
    }

    /// With what the drop-in adds to Debian's unit, and no more, it serves.
    ///
    /// # Errors
    /// It does not.
    pub fn serves_with_the_drop_in(&self) -> Outcome<()> {
        let mut running = self.start_within(DEBIAN.union(ADDED))?;
        running.second_batch()?;
        running.stop().map(drop)
    }

    /// Starts it as from a unit with this bounding set.
    fn start_within(&self, bounding: CapabilitySet) -> Outcome<Running> {
        // The set is a thread's, and a process gets it from the thread that starts it.
        let start = || {
            for capability in CapabilitySet::all().difference(bounding).iter() {
                // A kernel does not know those that are newer than itself.
                if capability_is_in_bounding_set(capability).unwrap_or(false) {
                    remove_capability_from_bounding_set(capability).map_err(Failure::at("the bounding set"))?;
                }
            }
            // Where the unit leaves none of its rights, the program has no more than its caller, and trusts it.
            Running::start(Command::env_clear(&mut self.command(&["1"])))
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("unit".into()).spawn_scoped(scope, start);
            let joined = thread.map_err(Failure::at("a thread"))?.join();
            joined.map_err(|_| Failure::new("the thread that starts the plugin panicked"))?
        })
    }

    fn files(&self) -> Outcome<BTreeSet<PathBuf>> {
        let entries = fs::read_dir(self.trap("")).map_err(Failure::at("the caller's files"))?;
        entries.map(|entry| Ok(entry.map_err(Failure::at("a file"))?.path())).collect()
    }
}

/// A started plugin; killed when dropped.
struct Running {
    child: Option<Child>,
    pid: u32,
    stdout: Receiver<String>,
    lines: Vec<String>,
}

impl Running {
    fn start(command: &mut Command) -> Outcome<Self> {
        let mut child = command.spawn().map_err(Failure::at("starting the plugin"))?;
        let stdout = agent::lines_of("plugin-stdout", child.stdout.take())?;
        Ok(Self { pid: child.id(), child: Some(child), stdout, lines: Vec::new() })
    }

    /// The microseconds between the first two batches.
    fn second_batch(&mut self) -> Outcome<u64> {
        let lines = &mut self.lines;
        let found = wait::until("the second batch", wait::LIMIT, || {
            lines.extend(self.stdout.try_iter());
            if lines.iter().any(|line| line == "DISABLE") {
                return Err(Failure::new("the plugin refuses"));
            }
            let elapsed = |line: &String| line.strip_prefix("BEGIN ebpf.io ")?.parse().ok();
            Ok(lines.iter().find_map(elapsed))
        });
        found.map_err(|failure| self.fail(failure))
    }

    /// All of its threads are nobody's, and no capability is left but those that reading takes; nothing that they start
    /// gets more.
    fn has_given_up_its_rights(&self, bounded: bool) -> Outcome<()> {
        let (kept, none) = (held::kept_without_broker(), CapabilitySet::empty());
        let ids = vec![NOBODY.to_string(); 4].join("\t");
        for held in Held::of_threads(self.pid)? {
            let [inheritable, permitted, effective, bounding, ambient] = held.sets;
            let right = held.users == [ids.clone(), ids.clone()]
                && held.no_new_privileges
                && [permitted, effective] == [kept, kept]
                && [inheritable, ambient] == [none, none]
                && (!bounded || bounding == none);
            if !right {
                return Err(Failure::new(format!("a thread with these rights: {held:?}")));
            }
        }
        Ok(())
    }

    fn has_nothing_open_below(&self, folder: &Path) -> Outcome<()> {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid)).map_err(Failure::at("its descriptors"))?;
        let open: Vec<PathBuf> = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        match open.iter().find(|path| path.starts_with(folder)) {
            Some(path) => Err(Failure::new(format!("it has opened {}", path.display()))),
            None => Ok(()),
        }
    }

    fn stop(self) -> Outcome<(Output, Vec<String>)> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or_else(|| Failure::new("no pid"))?;
        kill_process(pid, Signal::TERM).map_err(Failure::at("stopping the plugin"))?;
        self.finish()
    }

    /// Waits for its end; what it wrote on stdout comes as lines.
    fn finish(mut self) -> Outcome<(Output, Vec<String>)> {
        wait::until("the plugin's end", wait::LIMIT, || {
            self.lines.extend(self.stdout.try_iter());
            self.child.as_mut().map_or(Ok(None), |child| child.try_wait().map_err(Failure::at("the plugin's state")))
        })?;
        self.lines.extend(self.stdout.iter());
        let child = self.child.take().ok_or_else(|| Failure::new("it has ended twice"))?;
        let output = child.wait_with_output().map_err(Failure::at("the plugin's log"))?;
        Ok((output, std::mem::take(&mut self.lines)))
    }

    /// The failure with what the plugin said; it is over then.
    fn fail(&mut self, failure: impl std::fmt::Display) -> Failure {
        let log = self.child.take().and_then(|mut child| {
            // Fails only when it has ended.
            let _ = child.kill();
            child.wait_with_output().ok()
        });
        let log = log.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
        Failure::new(format!("{failure}; the log:\n{log}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(command: &mut Command) -> Outcome<()> {
    let output = command.output().map_err(Failure::at(format!("{command:?}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end())))
}
