//! Why something is not opened.

use std::io;

use rustix::io::Errno;

/// The kernel's reason, or ours in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the kernel said; 0 where it was not asked.
    pub(crate) number: i32,
    /// Empty where the kernel's number says all.
    pub(crate) words: String,
}

impl Refusal {
    /// One of our own: what is not done, and what to do about it.
    pub(crate) fn of(words: impl Into<String>) -> Self {
        Self { number: 0, words: words.into() }
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self { number: error.raw_os_error(), words: String::new() }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or_else(|| Self::of(error.to_string()), |number| Self { number, words: String::new() })
    }
}

impl From<Refusal> for io::Error {
    fn from(Refusal { number, words }: Refusal) -> Self {
        if number > 0 && words.is_empty() {
            Self::from_raw_os_error(number)
        } else {
            Self::new(io::ErrorKind::PermissionDenied, words)
        }
    }
}
