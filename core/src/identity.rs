//! Who this program is, to people and to the system.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What whoever sets no other identity is.
const OWN: &str = "ebpf-process";

static IDENTITY: OnceLock<Identity> = OnceLock::new();

/// A program's name, and what follows from it: where its configuration stands, which variables of the environment are
/// its, and where it tells how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    version: String,
    prefix: String,
    system_file: PathBuf,
    runtime_directory: PathBuf,
}

impl Identity {
    /// A program of this name and version. The name becomes part of paths and variables: `my-agent` reads
    /// `/etc/my-agent/my-agent.toml` and `MY_AGENT_...`, and its runtime directory is `/run/my-agent`. None where the name
    /// is no such word: lower-case letters, digits and `-`, with a letter first.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Option<Self> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(allowed) {
            return None;
        }
        Some(Self {
            version: version.into(),
            prefix: format!("{}_", name.to_uppercase().replace('-', "_")),
            system_file: Path::new("/etc").join(&name).join(format!("{name}.toml")),
            runtime_directory: Path::new("/run").join(&name),
            name,
        })
    }

    /// Makes it that of this process. The first one stays, also before one that nobody set and somebody has asked for:
    /// a program calls it before anything else. Returns whether this is the one.
    pub fn take(self) -> bool {
        IDENTITY.get_or_init(|| self.clone()) == &self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What the names of all variables of the environment begin with that are for it.
    pub fn environment_prefix(&self) -> &str {
        &self.prefix
    }

    /// The variable of this name behind the prefix.
    pub fn variable(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Its configuration, unless somebody names another one.
    pub fn system_file(&self) -> &Path {
        &self.system_file
    }

    /// Where root's agents tell each other and people how they are.
    pub fn runtime_directory(&self) -> &Path {
        &self.runtime_directory
    }

    /// A text about `ebpf-process` as one about this program: its name, its variables and so its paths.
    pub fn adapt(&self, text: &str) -> String {
        text.replace(OWN, &self.name).replace("EBPF_PROCESS_", &self.prefix)
    }
}

impl Default for Identity {
    /// The agent of this repository.
    fn default() -> Self {
        Self {
            name: OWN.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            prefix: "EBPF_PROCESS_".to_owned(),
            system_file: "/etc/ebpf-process/ebpf-process.toml".into(),
            runtime_directory: "/run/ebpf-process".into(),
        }
    }
}

/// Who this process is.
pub fn identity() -> &'static Identity {
    IDENTITY.get_or_init(Identity::default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_follows_from_the_name() {
        let own = Identity::new(OWN, env!("CARGO_PKG_VERSION"));
        assert_eq!(own, Some(Identity::default()), "what is written out for ours is what is made for others");
        let other = Identity::new("my-agent2", "3.1").expect("a name");
        assert_eq!((other.name(), other.version(), other.environment_prefix()), ("my-agent2", "3.1", "MY_AGENT2_"));
        assert_eq!(other.variable("LOG"), "MY_AGENT2_LOG");
        assert_eq!(other.system_file(), Path::new("/etc/my-agent2/my-agent2.toml"));
        assert_eq!(other.runtime_directory(), Path::new("/run/my-agent2"));
        let text = "`ebpf-process once` reads EBPF_PROCESS_LOG, ebpf_process.plugin does not";
        assert_eq!(other.adapt(text), "`my-agent2 once` reads MY_AGENT2_LOG, ebpf_process.plugin does not");
        assert_eq!(Identity::default().adapt(text), text);
        for wrong in ["", "-a", "1a", "a/b", "a b", "A", "a_b", "ä", "a.b", ".."] {
            assert_eq!(Identity::new(wrong, "1"), None, "{wrong}");
        }
    }
}
