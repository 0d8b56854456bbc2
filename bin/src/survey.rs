//! The seam to the kernel probes: what would be attached on this machine, and what their counters feed.

use std::any::Any;

use ebpf_process_config::PlannedProbe;
use ebpf_process_core::BuildError;
use ebpf_process_probes::{Feed, KernelProbe, Survey};

/// Attaches and detaches a probe that can say what it found; `None` if it is of another kind.
pub(crate) fn survey(probe: &PlannedProbe) -> Option<Result<Survey, BuildError>> {
    Some(kernel_probe(probe)?.survey(&probe.options))
}

/// The series of every counter of these probes.
pub(crate) fn feeds(probes: &[PlannedProbe]) -> Vec<Feed> {
    probes.iter().filter_map(kernel_probe).flat_map(KernelProbe::feeds).collect()
}

fn kernel_probe(probe: &PlannedProbe) -> Option<&'static KernelProbe> {
    probe.plugin.as_any().and_then(<dyn Any>::downcast_ref)
}
