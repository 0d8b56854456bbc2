//! What a kernel probe is made of: programs, and the counters that stand on them.

use crate::hook::Counter;
use crate::options::Mode;

/// A type of kernel probe.
#[derive(Debug)]
pub struct KernelProbe {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    /// Relocated by type information.
    pub(crate) core: &'static [u8],
    /// For kernels that have none.
    pub(crate) floor: &'static [u8],
    pub(crate) counters: &'static [Counter],
}

impl KernelProbe {
    pub(crate) fn counters_in(&self, mode: Mode) -> impl Iterator<Item = &'static Counter> {
        self.counters.iter().filter(move |counter| mode == Mode::Return || !counter.return_only)
    }
}
