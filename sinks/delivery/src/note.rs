//! What is known of a frame besides its content.

use crate::frame::Frame;

/// A frame's number and age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// Its number; 0 until it has one.
    pub(crate) number: u64,
    /// When it was made, in milliseconds since 1970; 0 where nobody knows.
    pub(crate) time: u64,
}

/// A frame and what is known of it.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) frame: Frame,
    pub(crate) note: Note,
}
