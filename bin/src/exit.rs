//! How a command ends.

use std::fmt;
use std::process::ExitCode;

use ebpf_process_config::ConfigError;
use ebpf_process_core::{BuildError, BuildErrorKind, OptionsError};

/// The program's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Fine,
    /// It cannot run here, or ended in a fatal error.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// A test found nothing wrong, and could not see whether all is right.
    Unverified,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Fine => Self::SUCCESS,
            Exit::Failed => Self::FAILURE,
            Exit::Usage => Self::from(2),
            Exit::Unverified => Self::from(3),
        }
    }
}

/// Why a command did not do its work: what, where, and the way out, on one line.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The command line or the configuration is wrong.
    Usage(String),
    /// This machine cannot do it.
    Unable {
        /// What is missing.
        reason: String,
        /// Whether waiting may help.
        passing: bool,
    },
}

impl Refusal {
    /// Something that stays wrong until somebody changes it.
    pub(crate) fn lasting(reason: impl Into<String>) -> Self {
        Self::Unable { reason: reason.into(), passing: false }
    }

    /// The exit code that goes with it.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unable { .. } => Exit::Failed,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Unable { reason: text, .. } => f.write_str(text),
        }
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<OptionsError> for Refusal {
    fn from(error: OptionsError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<BuildError> for Refusal {
    fn from(error: BuildError) -> Self {
        let reason = error.to_string();
        match error.kind() {
            BuildErrorKind::Options => Self::Usage(reason),
            _ => Self::Unable { reason, passing: error.is_passing() },
        }
    }
}
