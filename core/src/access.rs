//! What a plugin opens while it runs: by which the agent knows the rights that it must keep.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::thread::{CapabilitySet, capabilities};

use crate::opener::Program;
use crate::trial::Finding;

/// Something outside the process that a plugin opens after the start, for the first time or anew.
///
/// Once the probes are attached the agent gives up what its start took, among it root's right to open the files of
/// other users. A plugin names what it opens later ([`SinkPlugin::opens`](crate::SinkPlugin::opens)), and the agent
/// keeps the right for it where it is needed on this machine, and only there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// A file that is read again: a secret, a certificate.
    Read(PathBuf),
    /// A file that is written, and made anew where somebody has moved it away.
    Write(PathBuf),
    /// A directory in which files are made and removed; [that of an instance](Self::of_instance), where the agent is one.
    Directory(PathBuf),
    /// A Unix socket of somebody else's, connected to again whenever its owner has started anew.
    Connect(PathBuf),
    /// An address to listen at over TCP.
    Listen(SocketAddr),
    /// A program that is started, with its arguments and environment.
    Program(Program),
    /// Which programs other users' processes run: the links `/proc/PID/exe`.
    Executables,
}

impl Access {
    /// The path, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read(path) | Self::Write(path) | Self::Directory(path) | Self::Connect(path) => Some(path),
            Self::Listen(_) | Self::Program(_) | Self::Executables => None,
        }
    }

    /// What is missing for it now, without opening anything.
    pub(crate) fn examine(&self) -> Option<Finding> {
        let needed = match self {
            Self::Read(path) | Self::Connect(path) => path.as_path(),
            Self::Program(program) => &program.path,
            // It is made itself.
            Self::Write(path) | Self::Directory(path) => {
                path.parent().filter(|parent| !parent.as_os_str().is_empty())?
            }
            Self::Listen(_) | Self::Executables => return None,
        };
        // Who may not look there may be able to open it all the same.
        let error = needed.metadata().err().filter(|error| error.kind() != io::ErrorKind::PermissionDenied)?;
        Some(Finding::warning(format!("cannot find {}: {error}", needed.display()), "make it, or name another one"))
    }

    /// The same for an agent that is one of several on this host: each has a [directory](Self::Directory) of its own,
    /// `DIRECTORY-NAME`.
    #[must_use]
    pub fn of_instance(self, instance: Option<&str>) -> Self {
        match self {
            Self::Directory(path) => Self::Directory(instance_directory(path, instance)),
            other => other,
        }
    }
}

/// Where an agent that is one of several on this host keeps what another one keeps in `directory`.
pub fn instance_directory(directory: PathBuf, instance: Option<&str>) -> PathBuf {
    let Some(name) = instance else { return directory };
    let mut path = directory.into_os_string();
    path.push("-");
    path.push(name);
    path.into()
}

/// The words for an error from opening a path while the agent runs: where it is a right that is missing, which one and
/// what to do.
pub fn explain(error: &io::Error) -> String {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let user = rustix::process::geteuid();
    if error.raw_os_error() != Some(rustix::io::Errno::ACCESS.raw_os_error())
        || held.contains(CapabilitySet::DAC_OVERRIDE)
    {
        return error.to_string();
    }
    if user.is_root() {
        format!(
            "{error}: it belongs to another user, and this process is root without CAP_DAC_OVERRIDE; restart the agent, \
             which keeps that right if a sink needs it at the start, or set capabilities = \"keep\""
        )
    } else {
        format!(
            "{error}: user {} may not, without CAP_DAC_OVERRIDE; let it, or restart the agent, which keeps that right where \
             it has it and a sink needs it at the start",
            user.as_raw()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_right_would_mend_is_put_down_to_one() {
        let missing = io::Error::from_raw_os_error(2);
        assert_eq!(explain(&missing), missing.to_string());
        let denied = io::Error::from_raw_os_error(13);
        let held = capabilities(None).expect("own capabilities").effective.contains(CapabilitySet::DAC_OVERRIDE);
        assert_eq!(explain(&denied).contains("CAP_DAC_OVERRIDE"), !held);
    }
}
