//! The shipped unit: what it grants, which system calls it lets through, and the agent started with just that.

use crate::{Failure, Outcome, agent, receivers};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where what is shipped beside the binary lies.
pub fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin/packaging")
}

/// A unit file's `[Service]`.
#[derive(Debug)]
pub struct Unit {
    text: String,
}

impl Unit {
    /// The unit that is shipped.
    ///
    /// # Errors
    /// There is none.
    pub fn shipped() -> Outcome<Self> {
        let path = packaging().join("ebpf-process.service");
        let text = fs::read_to_string(&path).map_err(Failure::at(path.display()))?;
        Ok(Self { text })
    }

    /// The values of a key, in their order.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('=')).map(str::trim)
    }

    /// The capabilities of the bounding set, which are the ambient ones, too.
    ///
    /// # Errors
    /// The two differ.
    pub fn capabilities(&self) -> Outcome<Vec<&str>> {
        let of = |key| self.values(key).flat_map(str::split_whitespace).collect::<Vec<_>>();
        let (bounding, ambient) = (of("CapabilityBoundingSet"), of("AmbientCapabilities"));
        if bounding == ambient { Ok(bounding) } else { Err(Failure::new(format!("{bounding:?} but {ambient:?}"))) }
    }

    /// The system calls that the filter lets through: the first line makes it a list of what is allowed, the others add
    /// and take away, each in its turn.
    ///
    /// # Errors
    /// systemd does not know a group, or the first line takes away.
    pub fn system_calls(&self) -> Outcome<BTreeSet<String>> {
        let mut allowed = BTreeSet::new();
        for (index, line) in self.values("SystemCallFilter").enumerate() {
            let (takes, words) = line.strip_prefix('~').map_or((false, line), |rest| (true, rest));
            if takes && index == 0 {
                return Err(Failure::new("the filter begins with what it refuses"));
            }
            for word in words.split_whitespace() {
                for call in members(word)? {
                    if takes {
                        allowed.remove(&call)
                    } else {
                        allowed.insert(call)
                    };
                }
            }
        }
        Ok(allowed)
    }

    /// A command that starts the agent as the unit does: as somebody who is nobody, with the unit's capabilities alone.
    ///
    /// # Errors
    /// There is no agent, or no setpriv.
    pub fn command(&self, program: &Path) -> Outcome<Command> {
        let names: Vec<String> =
            self.capabilities()?.iter().map(|name| name.replace("CAP_", "").to_lowercase()).collect();
        let set = |first: &str| names.iter().fold(first.to_owned(), |set, name| set + ",+" + name);
        let mut command = Command::new(receivers::program("setpriv", "util-linux")?);
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
        for option in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
            command.arg(format!("{option}={}", set("-all")));
        }
        command.arg(program);
        Ok(command)
    }
}

/// The agent where everybody may start it.
///
/// # Errors
/// There is none, or it cannot be copied.
pub fn agent_for_everybody(folder: &Path) -> Outcome<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let copy = folder.join("ebpf-process");
    agent::copy_to(&copy)?;
    for path in [folder, &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(Failure::at(path.display()))?;
    }
    Ok(copy)
}

/// What a word of a filter stands for: itself, or the members of a group and of the groups in it.
fn members(word: &str) -> Outcome<Vec<String>> {
    if !word.starts_with('@') {
        return Ok(vec![word.to_owned()]);
    }
    let analyze = receivers::program("systemd-analyze", "systemd")?;
    let output = Command::new(analyze).args(["--no-pager", "syscall-filter", word]).output();
    let output = output.map_err(Failure::at("systemd-analyze"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(Failure::new(format!("systemd-analyze knows no {word}: {text}")));
    }
    let mut all = Vec::new();
    for member in text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        all.extend(members(member)?);
    }
    Ok(all)
}
