//! What reads a probe's own maps.

use ebpf_process_core::{ProbeError, Recorder};

use crate::maps::Maps;

/// Reads the maps of a probe that is more than counters: a histogram, rows that come and go.
///
/// It lives as long as the probe is attached, on the thread that collects.
pub trait Reader: Send {
    /// Records what the maps hold now; called once per tick. What it cannot read is the error, which leaves the probe out
    /// of this tick's batch.
    fn read(&mut self, maps: &Maps, recorder: &mut Recorder) -> Result<(), ProbeError>;
}
