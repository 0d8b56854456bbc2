//! Why a configuration is refused.

use std::fmt;
use std::path::PathBuf;

use ebpf_process_core::{OptionsError, identity};

/// One thing that is wrong with the configuration: what, where, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A file cannot be read, or is no configuration.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, where one is known.
        line: Option<usize>,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        way_out: String,
    },
    /// An argument or an environment variable that says no `KEY=VALUE`.
    Source {
        /// The argument or the variable.
        origin: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// A key is wrong, or its value is.
    Key(OptionsError),
}

impl ConfigError {
    /// The same refusal without anything that a file may contain besides keys: for a process that
    /// was started with more rights than its caller has, who must not read files through it.
    #[must_use]
    pub fn without_content(self) -> Self {
        match self {
            // The way out may repeat the line.
            Self::File { path, line, problem: _, way_out: _ } => {
                let problem = "cannot be read as a configuration".to_owned();
                let way_out = identity().adapt("run `ebpf-process check` as root, which says why");
                Self::File { path, line, problem, way_out }
            }
            Self::Source { .. } => self,
            Self::Key(error) => {
                let mut hidden = OptionsError::new(error.key, "this key or its value is wrong");
                hidden.origin = error.origin;
                Self::Key(hidden)
            }
        }
    }
}

impl From<OptionsError> for ConfigError {
    fn from(error: OptionsError) -> Self {
        Self::Key(error)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line), problem, way_out } => {
                write!(f, "{}, line {line}: {problem}; {way_out}", path.display())
            }
            Self::File { path, line: None, problem, way_out } => {
                write!(f, "{}: {problem}; {way_out}", path.display())
            }
            Self::Source { origin, problem } => write!(f, "{origin}: {problem}"),
            Self::Key(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}
