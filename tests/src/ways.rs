//! The ways in which the agent is started, as far as a machine without a service manager has them.

use crate::configured::Configured;
use crate::unit::Unit;
use crate::{Failure, Outcome, agent, receivers};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Who starts the plugin that has more rights than its caller.
const NOBODY: u32 = 65534;

/// What Docker leaves to root in a container, and what loading and attaching take.
const CONTAINER: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,\
                         +net_raw,+sys_chroot,+mknod,+audit_write,+setfcap,+bpf,+perfmon";

/// What a file grants: netdata's way.
const GRANTED: &str = "cap_bpf,cap_perfmon,cap_dac_override=ep";

/// A way of starting the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Root types `ebpf-process run`.
    Root,
    /// The shipped unit: its user, its capabilities.
    Unit,
    /// Root in a container: its own mounts, host name, IPC and control groups, Docker's capabilities with two more.
    Container,
    /// A netdata that is root's starts its plugin.
    Netdata,
    /// netdata's user starts a plugin that is setuid root.
    Setuid,
    /// netdata's user starts a plugin with file capabilities.
    FileCapabilities,
}

/// Where an agent that was started in one of the ways has its files.
#[derive(Debug)]
pub struct Installed {
    way: Way,
    folder: TempDir,
}

impl Way {
    /// All of them, as the columns of the document's table are.
    pub const ALL: [Self; 6] =
        [Self::Root, Self::Unit, Self::Container, Self::Netdata, Self::Setuid, Self::FileCapabilities];

    /// What the document calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root by hand",
            Self::Unit => "the unit",
            Self::Container => "root in a container",
            Self::Netdata => "netdata, as root",
            Self::Setuid => "netdata, setuid",
            Self::FileCapabilities => "netdata, file capabilities",
        }
    }

    /// The programs without which one of them cannot be had here.
    ///
    /// # Errors
    /// One is missing; the message names its package.
    pub fn needs() -> Outcome<()> {
        let programs = [("unshare", "util-linux"), ("setpriv", "util-linux"), ("setcap", "libcap2-bin")];
        programs.into_iter().try_for_each(|(name, package)| receivers::program(name, package).map(drop))
    }

    /// Whether it is started as netdata's plugin.
    fn is_plugin(self) -> bool {
        matches!(self, Self::Netdata | Self::Setuid | Self::FileCapabilities)
    }

    /// Whether the kernel gives it more rights than its caller has.
    pub fn is_elevated(self) -> bool {
        matches!(self, Self::Setuid | Self::FileCapabilities)
    }
}

impl Installed {
    /// Copies a program that is the agent to where it is started in this way, with a folder of its user's beside it.
    ///
    /// # Errors
    /// It cannot be copied, or be given its rights.
    pub fn new(way: Way, program: &Path) -> Outcome<Self> {
        let this = Self { way, folder: tempfile::tempdir().map_err(Failure::at("a folder"))? };
        let own = this.program();
        // By another process, which nobody inherits a descriptor of that may write to the copy.
        run(Command::new("cp").arg(program).arg(&own))?;
        mode(this.folder.path(), 0o755)?;
        mode(&own, if way == Way::Setuid { 0o4755 } else { 0o755 })?;
        if way == Way::FileCapabilities {
            run(Command::new(receivers::program("setcap", "libcap2-bin")?).arg(GRANTED).arg(&own))?;
        }
        fs::create_dir(this.own()).map_err(Failure::at("a folder"))?;
        chown(this.own(), Some(this.user()), Some(this.user())).map_err(Failure::at("its owner"))?;
        fs::create_dir(this.roots()).map_err(Failure::at("a folder"))?;
        if way.is_elevated() {
            // It reads the machine's own configuration and no other: this is what it will take for that.
            run(Command::new("cp").args(["-a", "/etc"]).arg(this.etc()))?;
            fs::create_dir_all(this.etc().join("ebpf-process")).map_err(Failure::at("a folder"))?;
        }
        Ok(this)
    }

    /// In which way it is started.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Whom the agent is, once it counts.
    pub fn user(&self) -> u32 {
        if matches!(self.way, Way::Root | Way::Container | Way::Netdata) { agent::user() } else { NOBODY }
    }

    /// A directory of the agent's user's.
    pub fn own(&self) -> PathBuf {
        self.folder.path().join("own")
    }

    /// A directory of root's, which others can read.
    pub fn roots(&self) -> PathBuf {
        self.folder.path().join("roots")
    }

    fn etc(&self) -> PathBuf {
        self.folder.path().join("etc")
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join(if self.way.is_plugin() { "ebpf_process.plugin" } else { "ebpf-process" })
    }

    fn config(&self) -> PathBuf {
        if self.way.is_elevated() {
            self.etc().join("ebpf-process/ebpf-process.toml")
        } else {
            self.folder.path().join("agent.toml")
        }
    }

    /// Starts the agent in this way, with this configuration.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, text: &str) -> Outcome<Configured> {
        let config = self.config();
        match self.way {
            Way::Root => Configured::start_by(clean(Command::new(self.program())), &config, text),
            Way::Unit => Configured::start_by(clean(Unit::shipped()?.command(&self.program())?), &config, text),
            Way::Container => {
                let mut command = Command::new(receivers::program("unshare", "util-linux")?);
                command.args(["--mount", "--uts", "--ipc", "--cgroup", "setpriv"]);
                command.arg(format!("--bounding-set={CONTAINER}")).arg(self.program());
                Configured::start_by(clean(command), &config, text)
            }
            Way::Netdata => {
                let mut command = clean(Command::new(self.program()));
                command.env("NETDATA_LOCK_DIR", self.folder.path()).arg("1").arg("--config").arg(&config);
                Configured::spawn(command, &config, text)
            }
            Way::Setuid | Way::FileCapabilities => {
                let mut command = Command::new(receivers::program("unshare", "util-linux")?);
                // Its locks are apart from those of other plugins.
                let script = "mount --bind \"$1\" /etc && mount -t tmpfs locks /run && \
                              exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$0\" 1";
                command.args(["--mount", "sh", "-c", script]).arg(self.program()).arg(self.etc());
                Configured::spawn(clean(command), &config, text)
            }
        }
    }
}

fn clean(mut command: Command) -> Command {
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn mode(path: &Path, mode: u32) -> Outcome<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Failure::at("permissions"))
}

fn run(command: &mut Command) -> Outcome<()> {
    let output = command.output().map_err(Failure::at(format!("{command:?}")))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(Failure::new(format!("{command:?}: {words}"))) }
}
