//! What the probes need of the kernel's type information.

use crate::calls::SYSCALLS;
use crate::candidate::functions_with_results;
use crate::kernel::Wanted;
use crate::kernel_probe::KernelProbe;
use crate::ours::PROBES;

/// What a probe needs, and ours besides: they are usually built one after the other, and it is read once.
pub(crate) fn wanted_by(probe: &KernelProbe) -> Wanted {
    let mut wanted = Wanted::default();
    wanted.objects.insert(SYSCALLS.core);
    for probe in PROBES.into_iter().chain([probe]) {
        wanted.functions.extend(functions_with_results(probe.counters));
        wanted.objects.extend(probe.objects.map(|objects| objects.core));
    }
    wanted
}
