//! What a probe asks of a process that has more rights than this one.

use std::fmt::Debug;
use std::os::fd::OwnedFd;

use crate::error::BuildError;

/// Bytes and descriptors from one process to another.
#[derive(Debug, Default)]
pub struct Message {
    /// What the two sides have agreed on; whoever reads them takes nothing for granted.
    pub bytes: Vec<u8>,
    /// What the bytes speak of, by place in this list.
    pub descriptors: Vec<OwnedFd>,
}

/// A process that keeps the rights which this one gives up: what takes them is asked of it from the first probe on.
pub trait Assistant: Send + Sync + Debug {
    /// Has [`ProbePlugin::assist`](crate::ProbePlugin::assist) of the probe of this name run there, with the options that
    /// it has there, and waits for what it says.
    fn assist(&self, probe: &str, request: Message) -> Result<Message, BuildError>;
}
