//! What the targets have in common: a story that an input tells an encoder, and a directory for
//! what reads files.

pub mod scratch;
pub mod story;
