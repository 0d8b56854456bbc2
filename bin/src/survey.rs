//! The seam to the kernel probes: what would be attached on this machine, and what their counters feed.

use std::any::Any;
use std::collections::BTreeMap;

use ebpf_process_config::PlannedProbe;
use ebpf_process_core::BuildError;
use ebpf_process_probes::{Feed, KernelProbe, MapMemory, SharedMemory, Survey};

/// Attaches and detaches a probe that can say what it found; `None` if it is of another kind.
pub(crate) fn survey(probe: &PlannedProbe) -> Option<Result<Survey, BuildError>> {
    Some(kernel_probe(probe)?.survey(&probe.options))
}

/// The series of every counter of these probes.
pub(crate) fn feeds(probes: &[PlannedProbe]) -> Vec<Feed> {
    probes.iter().filter_map(kernel_probe).flat_map(KernelProbe::feeds).collect()
}

/// What all maps of some probes take together: each one's own, and once those that several share.
pub(crate) fn memory<'a>(
    probes: impl Iterator<Item = (Option<MapMemory>, Option<&'a SharedMemory>)>,
) -> Option<MapMemory> {
    let mut shared: BTreeMap<&str, MapMemory> = BTreeMap::new();
    let own = probes.filter_map(|(own, maps)| {
        shared.extend(maps.map(|maps| (maps.maps.as_str(), maps.memory)));
        own
    });
    let own = own.reduce(MapMemory::plus);
    own.into_iter().chain(shared.into_values()).reduce(MapMemory::plus)
}

fn kernel_probe(probe: &PlannedProbe) -> Option<&KernelProbe> {
    probe.plugin.as_any().and_then(<dyn Any>::downcast_ref)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_probes_share_are_counted_once_and_those_of_another_filter_as_well() {
        let memory_of = |fixed| MapMemory { fixed, per_cpu: 1, possible_cpus: 2 };
        let shared = |maps: &str| SharedMemory { maps: maps.to_owned(), memory: memory_of(10) };
        let (everything, process) = (shared("everything"), shared("process 7"));
        let probes = [
            (Some(memory_of(1)), Some(&everything)),
            (Some(memory_of(2)), Some(&everything)),
            (Some(memory_of(4)), Some(&process)),
            (None, None),
        ];
        assert_eq!(memory(probes.into_iter()), Some(MapMemory { fixed: 27, per_cpu: 5, possible_cpus: 2 }));
        assert_eq!(memory(std::iter::empty()), None);
    }
}
