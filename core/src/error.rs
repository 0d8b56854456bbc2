//! The errors that cross the border between the engine and its plugins.

use std::error::Error;
use std::fmt;

/// Whatever lies behind an error.
pub type Cause = Box<dyn Error + Send + Sync + 'static>;

/// Why a sink did not take a view.
#[derive(Debug)]
pub enum SinkError {
    /// This view is lost: its samples are counted as failed, the next view is tried.
    Failed(Cause),
    /// The sink is over, for example because its pipe is closed. It is not called again; what is
    /// offered to it from now on is counted as dropped.
    Closed(Cause),
}

impl SinkError {
    /// A view that could not be delivered.
    pub fn failed(cause: impl Into<Cause>) -> Self {
        Self::Failed(cause.into())
    }

    /// The end of the sink.
    pub fn closed(cause: impl Into<Cause>) -> Self {
        Self::Closed(cause.into())
    }
}

impl From<std::io::Error> for SinkError {
    /// A failure of this view, a broken pipe too: a receiver that has hung up may come back. Only a
    /// sink that was given its output, like standard output, knows that it is [`closed`](Self::closed).
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(_) => f.write_str("cannot deliver a batch"),
            Self::Closed(_) => f.write_str("the receiver is gone"),
        }
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let (Self::Failed(cause) | Self::Closed(cause)) = self;
        Some(&**cause)
    }
}

/// Why a probe has no numbers this tick. What it recorded before stays; it is asked again at the
/// next tick, and the failure is counted.
#[derive(Debug)]
pub struct ProbeError(Cause);

impl ProbeError {
    /// A failed collection.
    pub fn new(cause: impl Into<Cause>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot collect")
    }
}

impl Error for ProbeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// Why a plugin could not be built.
#[derive(Debug)]
pub enum BuildError {
    /// The options are wrong: the command line or the configuration has to change.
    Options(crate::options::OptionsError),
    /// This machine cannot do it now: missing rights, a missing kernel feature, an address that
    /// does not resolve. The text names the way out.
    Refused {
        /// What cannot be done, and where.
        problem: String,
        /// What to do about it.
        way_out: String,
        /// Whether waiting may help (something is not mounted or busy), as opposed to a lack that
        /// stays.
        passing: bool,
    },
}

impl BuildError {
    /// This machine cannot do it, and waiting does not help.
    pub fn refused(problem: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self::Refused { problem: problem.into(), way_out: way_out.into(), passing: false }
    }

    /// The same refusal; `passing` says whether waiting may help. Wrong options stay wrong.
    #[must_use]
    pub fn passing(mut self, passes: bool) -> Self {
        if let Self::Refused { passing, .. } = &mut self {
            *passing = passes;
        }
        self
    }
}

impl From<crate::options::OptionsError> for BuildError {
    fn from(error: crate::options::OptionsError) -> Self {
        Self::Options(error)
    }
}

impl From<crate::entity::Refused> for BuildError {
    /// A mistake of the probe's: no configuration mends it.
    fn from(refused: crate::entity::Refused) -> Self {
        Self::refused(refused.to_string(), "this is a mistake in the probe, please report it")
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(error) => error.fmt(f),
            Self::Refused { problem, way_out, .. } => write!(f, "{problem}; {way_out}"),
        }
    }
}

impl Error for BuildError {}

/// An error and everything behind it on one line: `cannot deliver a batch: connection refused`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
