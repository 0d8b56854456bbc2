//! The errors that cross the border between the engine and its plugins.
//!
//! None of the three is itself an [`Error`]: that is what lets `?` make one from any error there is.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;

use crate::entity::Refused;
use crate::options::OptionsError;

/// Whatever lies behind an error.
pub type Cause = Box<dyn Error + Send + Sync + 'static>;

/// What a sink's methods return.
pub type SinkResult<T = ()> = Result<T, SinkError>;

/// What a probe's methods return.
pub type ProbeResult<T = ()> = Result<T, ProbeError>;

/// Why a sink did not take a view.
///
/// `?` makes one from every error: a [failure](Self::failed) of this view, whatever the error is. A broken pipe too: a
/// receiver that has hung up may come back. Only a sink that was given its output, like standard output, knows that it is
/// [closed](Self::closed).
#[derive(Debug)]
pub struct SinkError {
    kind: SinkErrorKind,
    cause: Cause,
}

/// What a [`SinkError`] means for the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SinkErrorKind {
    /// This view is lost: its samples are counted as failed, the next view is tried.
    Failed,
    /// The sink is over, for example because its pipe is closed. It is not called again; what is
    /// offered to it from now on is counted as dropped.
    Closed,
}

impl SinkError {
    /// A view that could not be delivered.
    pub fn failed(cause: impl Into<Cause>) -> Self {
        Self { kind: SinkErrorKind::Failed, cause: cause.into() }
    }

    /// The end of the sink.
    pub fn closed(cause: impl Into<Cause>) -> Self {
        Self { kind: SinkErrorKind::Closed, cause: cause.into() }
    }

    /// What it means for the sink.
    pub fn kind(&self) -> SinkErrorKind {
        self.kind
    }

    /// What lies behind it.
    pub fn source(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.cause
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for SinkError {
    fn from(error: E) -> Self {
        Self::failed(error)
    }
}

impl fmt::Display for SinkError {
    /// With everything behind it, on one line: `cannot deliver a batch: connection refused`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            SinkErrorKind::Failed => "cannot deliver a batch",
            SinkErrorKind::Closed => "the receiver is gone",
        };
        write!(f, "{what}: {}", chain(&*self.cause))
    }
}

/// Why a probe has no numbers this tick. What it recorded before stays; the batch says that its numbers are missing.
///
/// `?` makes one from every error: a [failure](Self::new).
#[derive(Debug)]
pub struct ProbeError {
    kind: ProbeErrorKind,
    cause: Cause,
}

/// What a [`ProbeError`] means for the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeErrorKind {
    /// The collection failed: that is counted (`agent.probe_errors`), the first in a row is logged, and the probe is asked
    /// again at the next tick.
    Failed,
    /// What is asked for is not there yet: the tick counts as one that the probe was left out of (`agent.probe_skips`), and
    /// it is asked again at the next one. Nothing is logged: the probe knows better when there is something to say.
    Skipped,
    /// The probe is over: it is dropped, and there is none of its name before the next reload.
    Closed,
}

impl ProbeError {
    /// A failed collection.
    pub fn new(cause: impl Into<Cause>) -> Self {
        Self { kind: ProbeErrorKind::Failed, cause: cause.into() }
    }

    /// A tick without numbers, from whoever is not done with them yet.
    pub fn skipped(cause: impl Into<Cause>) -> Self {
        Self { kind: ProbeErrorKind::Skipped, cause: cause.into() }
    }

    /// The end of the probe, for a reason that only a changed configuration can mend.
    pub fn closed(cause: impl Into<Cause>) -> Self {
        Self { kind: ProbeErrorKind::Closed, cause: cause.into() }
    }

    /// What it means for the probe.
    pub fn kind(&self) -> ProbeErrorKind {
        self.kind
    }

    /// What lies behind it.
    pub fn source(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.cause
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for ProbeError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for ProbeError {
    /// With everything behind it, on one line: `cannot collect: permission denied`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ProbeErrorKind::Failed => "cannot collect",
            ProbeErrorKind::Skipped => "nothing to collect",
            ProbeErrorKind::Closed => "the probe is over",
        };
        write!(f, "{what}: {}", chain(&*self.cause))
    }
}

/// Why a plugin could not be built.
///
/// `?` makes one from every error: from an [`OptionsError`] one of wrong options, from any other a refusal that has no more to
/// say than that error. It stays, but for what an [`io::Error`] says is not there ([`NotFound`](io::ErrorKind::NotFound),
/// [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable)) or [in use](io::ErrorKind::AddrInUse).
/// [`refused`](Self::refused) says what to do as well.
#[derive(Debug)]
pub struct BuildError {
    kind: BuildErrorKind,
    problem: String,
    way_out: String,
    source: Option<Cause>,
}

/// Whom a [`BuildError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildErrorKind {
    /// The options are wrong: the command line or the configuration has to change.
    Options,
    /// This machine cannot do it: missing rights, a missing kernel feature, an address that does not resolve.
    Refused,
    /// The same for now: something is not mounted or busy, and waiting may help.
    Passing,
    /// The same for now: somebody else has it. An agent of which each sink is refused for that does not wait for ever.
    Taken,
}

impl BuildError {
    /// Wrong options.
    pub fn options(error: OptionsError) -> Self {
        Self {
            kind: BuildErrorKind::Options,
            problem: error.to_string(),
            way_out: String::new(),
            source: Some(Box::new(error)),
        }
    }

    /// This machine cannot do it, and waiting does not help: what cannot be done and where, and what to do about it.
    pub fn refused(problem: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { kind: BuildErrorKind::Refused, problem: problem.into(), way_out: way_out.into(), source: None }
    }

    /// Somebody else has what is needed, and may let it go: what cannot be had and where, and what to do about it.
    pub fn taken(problem: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { kind: BuildErrorKind::Taken, ..Self::refused(problem, way_out) }
    }

    /// The same refusal; `passes` says whether waiting may help. Wrong options stay wrong.
    #[must_use]
    pub fn passing(mut self, passes: bool) -> Self {
        self.kind = match self.kind {
            BuildErrorKind::Options => BuildErrorKind::Options,
            _ if passes => BuildErrorKind::Passing,
            _ => BuildErrorKind::Refused,
        };
        self
    }

    /// Whom it is about.
    pub fn kind(&self) -> BuildErrorKind {
        self.kind
    }

    /// Whether waiting may help.
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, BuildErrorKind::Passing | BuildErrorKind::Taken)
    }

    /// What cannot be done, and where.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// What to do about it; empty where the problem says all that is known.
    pub fn way_out(&self) -> &str {
        &self.way_out
    }

    /// What lies behind it, where that was an error.
    pub fn source(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for BuildError {
    fn from(error: E) -> Self {
        let cause: Cause = Box::new(error);
        match cause.downcast::<OptionsError>() {
            Ok(error) => Self::options(*error),
            Err(cause) => {
                let problem = chain(&*cause);
                // Of all errors this one alone is known to be a mistake in the probe.
                let way_out =
                    if cause.is::<Refused>() { "this is a mistake in the probe, please report it" } else { "" };
                let kind = kind_of(&*cause);
                Self { source: Some(cause), kind, ..Self::refused(problem, way_out) }
            }
        }
    }
}

/// Whether an error passes, where it says so itself: what is not there may come, what somebody has may be let go.
fn kind_of(cause: &(dyn Error + Send + Sync + 'static)) -> BuildErrorKind {
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::NotFound | io::ErrorKind::AddrNotAvailable) => BuildErrorKind::Passing,
        Some(io::ErrorKind::AddrInUse) => BuildErrorKind::Taken,
        _ => BuildErrorKind::Refused,
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        if self.way_out.is_empty() { Ok(()) } else { write!(f, "; {}", self.way_out) }
    }
}

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
    on_one_line(&text)
}

/// What somebody said who panicked, on one line.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    on_one_line(text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words"))
}

fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_in_a_panic_is_one_line_of_the_log() {
        let [text, formatted]: [Box<dyn Any + Send>; 2] = [Box::new("one\ntwo"), Box::new(format!("row {}", 7))];
        assert_eq!([said(&*text), said(&*formatted), said(&7)], ["one two", "row 7", "without words"]);
    }
}
