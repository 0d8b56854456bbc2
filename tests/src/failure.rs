//! Why a live test could not go on.

use std::error::Error;
use std::fmt;

/// A sentence for the person who reads the test's output; the cause is already in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

/// The result of a step of a live test.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure in our own words.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// Says what was being done when `cause` came up; made for `map_err(Failure::at("..."))`.
    pub fn at<E: fmt::Display>(doing: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |cause| Self(format!("{doing}: {cause}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Failure {}
