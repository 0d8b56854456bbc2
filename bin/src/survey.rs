//! The seam to the kernel probes: what would be attached on this machine.

use ebpf_process_config::PlannedProbe;
use ebpf_process_core::{BuildError, ProbePlugin};
use ebpf_process_probes::{FILE, KernelProbe, PROCESS, Survey};

/// Attaches and detaches a probe that can say what it found; `None` if it is of another kind.
pub(crate) fn survey(probe: &PlannedProbe) -> Option<Result<Survey, BuildError>> {
    let is =
        |known: &'static KernelProbe| std::ptr::addr_eq(known, std::ptr::from_ref::<dyn ProbePlugin>(probe.plugin));
    let kernel_probe = [&PROCESS, &FILE].into_iter().find(|known| is(known))?;
    Some(kernel_probe.survey(&probe.options))
}
