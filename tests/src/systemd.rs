//! A real systemd with the shipped unit: process 1 of namespaces and of a root directory of its own, as in a privileged
//! container. The kernel is the machine's, and so are the hooks.

use crate::cgroup::Cgroup;
use crate::unit::packaging;
use crate::{Failure, Outcome, agent, held, receivers, wait};
use serde_json::Value;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Names the folder that Debian's systemd is unpacked in, with all that it needs; `cargo xtask test` does that.
const FOLDER: &str = "SYSTEMD_ROOT";
const UNIT: &str = "ebpf-process.service";
const CONFIGURATION: &str = "/etc/ebpf-process/ebpf-process.toml";
const BOOT: &str = include_str!("systemd/boot.sh");

/// What the root directory has of its own, beside the agent and its unit.
const FILES: [(&str, &str); 4] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    // No logins and no other services.
    ("etc/systemd/system/multi-user.target", "[Unit]\nDescription=what the test needs\nRequires=basic.target\n"),
];

/// The machine that it manages. Ends with all its processes when it is dropped.
#[derive(Debug)]
pub struct Machine {
    group: Cgroup,
    folder: TempDir,
    unshare: Child,
    /// systemd's process number outside.
    init: u32,
}

/// A line of the unit's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// By syslog: 3 is an error, 4 a warning, 6 an information.
    pub priority: String,
    /// Without what the priority was told by.
    pub message: String,
}

/// The folder with Debian's files.
fn debian() -> Outcome<PathBuf> {
    let folder = env::var_os(FOLDER).map(PathBuf::from);
    let folder = folder.ok_or_else(|| Failure::new(format!("{FOLDER} names no folder with Debian's systemd")))?;
    let program = folder.join("usr/lib/systemd/systemd");
    if program.is_file() { Ok(folder) } else { Err(Failure::new(format!("there is no {}", program.display()))) }
}

impl Machine {
    /// Whether it can be had.
    ///
    /// # Errors
    /// Something is not there; the message says what.
    pub fn needs() -> Outcome<()> {
        debian()?;
        ["unshare", "nsenter"].into_iter().try_for_each(|name| receivers::program(name, "util-linux").map(drop))
    }

    /// Boots it. The shipped unit is there with this configuration, and not started.
    ///
    /// # Errors
    /// There is no systemd, no agent, or it does not come up; the message says what it has said.
    pub fn boot(configuration: &str) -> Outcome<Self> {
        let (group, folder) = (Cgroup::new()?, tempfile::tempdir().map_err(Failure::at("a folder"))?);
        let own = folder.path().join("own");
        for directory in ["etc/systemd/system", "etc/ebpf-process", "usr/bin", "../root"] {
            fs::create_dir_all(own.join(directory)).map_err(Failure::at(directory))?;
        }
        let write = |path: &str, text: &str| fs::write(own.join(path), text).map_err(Failure::at(path));
        FILES.into_iter().try_for_each(|(path, text)| write(path, text))?;
        write(CONFIGURATION.trim_start_matches('/'), configuration)?;
        fs::copy(packaging().join(UNIT), own.join("etc/systemd/system").join(UNIT)).map_err(Failure::at("the unit"))?;
        agent::copy_to(&own.join("usr/bin/ebpf-process"))?;

        let said = fs::File::create(folder.path().join("said")).map_err(Failure::at("a file"))?;
        // The group is the root of all groups for what is started here.
        let enter = "echo $$ >\"$0/cgroup.procs\"; exec \"$@\"";
        let namespaces = ["--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup"];
        let mut command = Command::new("sh");
        command.args(["-c", enter]).arg(group.folder()).arg(receivers::program("unshare", "util-linux")?);
        command.args(namespaces).args(["sh", "-euxc", BOOT, "boot"]);
        command.arg(folder.path().join("root")).arg(debian()?).arg(&own);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("container", "test");
        command.stdin(Stdio::null()).stderr(said.try_clone().map_err(Failure::at("a file"))?).stdout(said);
        let unshare = command.spawn().map_err(Failure::at("starting systemd"))?;
        let mut machine = Self { group, folder, unshare, init: 0 };
        machine.wait_for_boot()?;
        Ok(machine)
    }

    fn wait_for_boot(&mut self) -> Outcome<()> {
        let up = wait::until("systemd to come up", wait::LIMIT, || {
            if let Some(status) = self.unshare.try_wait().map_err(Failure::at("systemd's state"))? {
                return Err(Failure::new(format!("systemd ended with {status}")));
            }
            let children = format!("/proc/{0}/task/{0}/children", self.unshare.id());
            let children = fs::read_to_string(children).unwrap_or_default();
            self.init = children.trim().parse().unwrap_or(0);
            Ok(self.systemctl(&["is-active", "multi-user.target"]).ok().filter(|state| state == "active").map(drop))
        });
        up.map_err(|failure| {
            let said = fs::read_to_string(self.folder.path().join("said")).unwrap_or_default();
            Failure::new(format!("{failure}; it said:\n{said}"))
        })
    }

    /// Runs a program in it, and returns what that has written.
    fn run(&self, program: &str, arguments: &[&str]) -> Outcome<String> {
        let mut command = Command::new(receivers::program("nsenter", "util-linux")?);
        command.args(["--target", &self.init.to_string(), "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]);
        command.args(["--wd=/", program]).args(arguments).env_clear().stdin(Stdio::null());
        let output = command.output().map_err(Failure::at(program))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!("{program} {arguments:?}: {}: {}", output.status, said.trim_end())))
    }

    fn systemctl(&self, arguments: &[&str]) -> Outcome<String> {
        self.run("/usr/bin/systemctl", arguments)
    }

    /// `systemctl` with a verb and options for the unit.
    ///
    /// # Errors
    /// It ends with a failure; the message has what it says and the unit's journal.
    pub fn unit(&self, verb: &[&str]) -> Outcome<()> {
        let done = self.systemctl(&[verb, &[UNIT]].concat());
        done.map(drop).map_err(|failure| self.with_journal(&failure))
    }

    /// What `systemctl show` says of a property of the unit.
    ///
    /// # Errors
    /// systemd does not answer.
    pub fn property(&self, name: &str) -> Outcome<String> {
        self.systemctl(&["show", "--value", "--property", name, UNIT])
    }

    /// The unit's journal: what the agent has logged and what systemd says of it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn journal(&self) -> Outcome<Vec<Entry>> {
        let text = self.run("/usr/bin/journalctl", &["--output=json", "--unit", UNIT])?;
        let entry = |line: &str| {
            let entry: Value = serde_json::from_str(line).map_err(Failure::at("an entry of the journal"))?;
            let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            Ok(Entry { priority: field("PRIORITY"), message: field("MESSAGE") })
        };
        text.lines().map(entry).collect()
    }

    /// A file of the machine's, as this process sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(self.init.to_string()).join("root").join(path.trim_start_matches('/'))
    }

    /// Another configuration, which nobody has read yet.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&self, text: &str) -> Outcome<()> {
        fs::write(self.path(CONFIGURATION), text).map_err(Failure::at("the configuration"))
    }

    /// A group of the machine's, which no unit has.
    ///
    /// # Errors
    /// As [`Cgroup::below`].
    pub fn group(&self, name: &str) -> Outcome<Cgroup> {
        self.group.below(name)
    }

    /// The process numbers, outside, of the agent and of its broker.
    ///
    /// # Errors
    /// One of them does not run; the message has the journal.
    pub fn agent_and_broker(&self) -> Outcome<[u32; 2]> {
        let procs = self.group.folder().join("system.slice").join(UNIT).join("cgroup.procs");
        let procs = fs::read_to_string(&procs).map_err(Failure::at(procs.display()))?;
        let all: Vec<u32> = procs.lines().filter_map(|line| line.parse().ok()).collect();
        let found = all.iter().find_map(|agent| Some([*agent, held::broker_of(*agent).ok()??]));
        let both = found.filter(|_| all.len() == 2);
        both.ok_or_else(|| self.with_journal(&Failure::new(format!("the unit's processes are {all:?}"))))
    }

    /// Waits; what is waited for in vain is told with the journal.
    ///
    /// # Errors
    /// As `look`, or it takes too long.
    pub fn wait<T>(&self, what: &str, look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
        wait::until(what, wait::LIMIT, look).map_err(|failure| self.with_journal(&failure))
    }

    fn with_journal(&self, failure: &Failure) -> Failure {
        let entries = self.journal().unwrap_or_default();
        let lines: Vec<String> = entries.into_iter().map(|entry| entry.priority + " " + &entry.message).collect();
        Failure::new(format!("{failure}; its journal:\n{}", lines.join("\n")))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // systemd is killed with it, and with process 1 all others.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        remove_below(self.group.folder());
    }
}

/// Removes the groups that systemd has made; they are empty as soon as their last processes have ended.
fn remove_below(folder: &Path) {
    for below in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_below(&below.path());
        // What stays is an empty folder.
        let _ = wait::until("a group's removal", wait::LIMIT, || Ok(fs::remove_dir(below.path()).ok()));
    }
}
