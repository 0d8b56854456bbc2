//! A probe's object: which of the two, and how it is loaded.

use aya::{Ebpf, EbpfError};
use ebpf_process_core::BuildError;

use crate::kernel::Kernel;
use crate::kernel_probe::KernelProbe;
use crate::loader::loader;
use crate::options::ObjectChoice;
use crate::refusal::{is_out_of_files, refuse_load};
use crate::target::Target;
use crate::totals::KPROBE_TOTALS;

/// Which of a probe's objects is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Core,
    Floor,
}

/// Loads the object that the configuration names, or the best that this kernel takes.
pub(crate) fn load(
    probe: &KernelProbe,
    choice: ObjectChoice,
    kernel: &Kernel,
    target: &Target,
) -> Result<(Ebpf, Object), BuildError> {
    let load = |object| load_object(probe, object, kernel, target.kind(), Some(target)).map(|ebpf| (ebpf, object));
    let loaded = match (choice, &kernel.btf) {
        (ObjectChoice::Floor, _) | (ObjectChoice::Auto, Err(_)) => load(Object::Floor),
        (ObjectChoice::Core, Err(problem)) => {
            return Err(BuildError::refused(
                problem,
                "set probes.object = \"auto\", or use a kernel with type information",
            ));
        }
        (ObjectChoice::Core, Ok(_)) => load(Object::Core),
        // What an old kernel with type information lacks (global data, a map type) shows here.
        (ObjectChoice::Auto, Ok(_)) => load(Object::Core).or_else(|error| {
            // Where no descriptor is left the other object would get as far as the next one.
            if is_out_of_files(&error) { Err(error) } else { load(Object::Floor).map_err(|_also| error) }
        }),
    };
    loaded.map_err(|error| refuse_load(&error))
}

/// Loads one of a probe's objects, with a filter of this kind; `target` is what it will be aimed at for good.
pub(crate) fn load_object(
    probe: &KernelProbe,
    object: Object,
    kernel: &Kernel,
    kind: u32,
    target: Option<&Target>,
) -> Result<Ebpf, EbpfError> {
    if object == Object::Floor {
        return loader(None).load(probe.floor);
    }
    let mut loader = loader(kernel.btf.as_ref().ok());
    loader.map_max_entries(KPROBE_TOTALS, u32::try_from(kernel.possible_cpus).unwrap_or(u32::MAX));
    let lineage = target.and_then(Target::lineage);
    if let Some((parent, name)) = &lineage {
        loader.override_global("cgroup_parent", parent, true).override_global("cgroup_name", name, true);
    }
    loader.override_global("filter_kind", &kind, true).load(probe.core)
}
