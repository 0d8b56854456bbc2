//! The seam to the kernel probes: what would be attached on this machine, and what their counters feed.

use ebpf_process_config::PlannedProbe;
use ebpf_process_core::{BuildError, ProbePlugin};
use ebpf_process_probes::{FILE, Feed, KernelProbe, PROCESS, Survey};

const KERNEL_PROBES: [&KernelProbe; 2] = [&PROCESS, &FILE];

/// Attaches and detaches a probe that can say what it found; `None` if it is of another kind.
pub(crate) fn survey(probe: &PlannedProbe) -> Option<Result<Survey, BuildError>> {
    let is =
        |known: &'static KernelProbe| std::ptr::addr_eq(known, std::ptr::from_ref::<dyn ProbePlugin>(probe.plugin));
    let kernel_probe = KERNEL_PROBES.into_iter().find(|known| is(known))?;
    Some(kernel_probe.survey(&probe.options))
}

/// The series of every counter.
pub(crate) fn feeds() -> Vec<Feed> {
    KERNEL_PROBES.into_iter().flat_map(KernelProbe::feeds).collect()
}
