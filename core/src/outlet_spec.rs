//! How a sink is connected: what it gets, how often, and how much may wait for it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selection::Selection;

/// What gives way when a sink's queue is full. Collection never waits, so one batch is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The oldest batch goes: the sink catches up with the present.
    #[default]
    DropOldest,
    /// The new batch goes: the sink sees an unbroken past.
    DropNewest,
}

/// How one sink is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutletSpec {
    /// The sink's name in the configuration.
    pub name: String,
    /// Which samples it sees, under which names.
    pub selection: Selection,
    /// How many batches may wait, at least 1.
    pub queue: usize,
    /// How many bytes of batches may wait; one batch always may.
    pub queue_bytes: usize,
    /// How many bytes of rows that have ended may wait until the sink has taken them, beside those of one batch. What is
    /// beyond, the oldest, is the sink's loss.
    pub finals_bytes: usize,
    /// What gives way when batches are too many.
    pub when_full: WhenFull,
    /// The time between two batches for this sink, a whole multiple of the agent's; none for every
    /// batch. It gets the batches at the multiples of this on the wall clock, the first one, and the
    /// last one before it is closed. Totals make up for those in between.
    pub interval: Option<Duration>,
    /// A random part of this, drawn once, is waited before each batch is written, so that many agents
    /// do not write at the same moment. Not longer than the interval; a stop ends the wait.
    pub jitter: Duration,
    /// Whether the agent ends when this sink does.
    pub essential: bool,
}

impl OutletSpec {
    /// The queue length unless the configuration says otherwise, in batches.
    pub const DEFAULT_QUEUE: usize = 8;

    /// How much may wait unless the configuration says otherwise, in bytes. Sinks that wait for the same batches share
    /// their memory.
    pub const DEFAULT_QUEUE_BYTES: usize = 64 << 20;

    /// How much of ended rows may wait unless the configuration says otherwise, in bytes.
    pub const DEFAULT_FINALS_BYTES: usize = 32 << 20;

    /// A sink that sees everything, with the default queue.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            selection: Selection::default(),
            queue: Self::DEFAULT_QUEUE,
            queue_bytes: Self::DEFAULT_QUEUE_BYTES,
            finals_bytes: Self::DEFAULT_FINALS_BYTES,
            when_full: WhenFull::default(),
            interval: None,
            jitter: Duration::ZERO,
            essential: false,
        }
    }
}
