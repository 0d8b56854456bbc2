//! What the probes need of the kernel's type information.

use crate::calls::SYSCALLS;
use crate::candidate::functions_with_trampolines;
use crate::kernel::Wanted;
use crate::kernel_probe::KernelProbe;
use crate::ours::PROBES;

/// What a probe needs, and ours besides: they are usually built one after the other, and it is read once.
pub(crate) fn wanted_by(probe: &KernelProbe) -> Wanted {
    let mut wanted = Wanted::default();
    wanted.objects.insert(SYSCALLS.core);
    for probe in PROBES.into_iter().chain([probe]) {
        wanted.functions.extend(functions_with_trampolines(probe.counters));
        wanted.objects.extend(probe.objects.map(|objects| objects.core));
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::Attach;
    use crate::options::Mode;

    #[test]
    fn whatever_a_trampoline_may_stand_on_is_kept() {
        let wanted = wanted_by(&crate::FILE);
        for counter in PROBES.into_iter().flat_map(|probe| probe.counters) {
            for candidate in [Mode::Entry, Mode::Return].into_iter().flat_map(|mode| counter.candidates(mode)).flatten()
            {
                for hook in &candidate.hooks {
                    if let Attach::Fentry(function) | Attach::Fexit(function, _) = &hook.attach {
                        assert!(wanted.functions.contains(function), "{function}");
                    }
                }
            }
        }
    }
}
