//! The objects of programs, which of them is loaded, and how.

use aya::{Ebpf, EbpfError};
use ebpf_process_core::{BuildError, chain};
use serde::{Deserialize, Serialize};

use crate::abi::KPROBE_TOTALS;
use crate::kernel::{Kernel, TypeInformation};
use crate::loader::loader;
use crate::need::Need;
use crate::options::ObjectChoice;
use crate::refusal::{is_out_of_files, refuse_core, refuse_load};
use crate::target::Target;
use crate::who::{Sizes, WhoOptions};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Object {
    /// Relocated by the kernel's type information.
    Core,
    /// For kernels that have none.
    Floor,
    /// As the first, with records by process.
    Who,
}

/// An object in the kernel, its programs not yet.
pub(crate) struct Loaded {
    pub(crate) ebpf: Ebpf,
    pub(crate) object: Object,
    /// Why it is the floor's, where the other would have been better.
    pub(crate) not_core: Option<String>,
}

/// The objects that one C source gives, as `cargo xtask bpf` builds them.
#[derive(Clone, Copy, Debug)]
pub struct Objects {
    pub(crate) core: &'static [u8],
    pub(crate) floor: Option<&'static [u8]>,
    pub(crate) who: Option<&'static [u8]>,
    /// The names of its `enum slot` in order.
    pub(crate) slots: &'static [&'static str],
    pub(crate) needs: &'static [Need],
}

/// What an object that tells by whom cannot do without.
const WHO_NEEDS: [Need; 1] = [Need::map("BPF_MAP_TYPE_RINGBUF", 27)];

impl Objects {
    /// Of `NAME.core.o`, aligned to 8 bytes as by [`aligned!`](crate::aligned), and the names of its records.
    pub const fn new(core: &'static [u8], slots: &'static [&'static str]) -> Self {
        Self { core, floor: None, who: None, slots, needs: &[] }
    }

    /// With `NAME.floor.o`, for kernels from 4.11 on that have no type information. Without it the probe says on those
    /// what it lacks.
    #[must_use]
    pub const fn floor(self, floor: &'static [u8]) -> Self {
        Self { floor: Some(floor), ..self }
    }

    /// With `NAME.who.o`, which tells by whom: for `probes.by`. Without it the probe refuses that.
    #[must_use]
    pub const fn who(self, who: &'static [u8]) -> Self {
        Self { who: Some(who), ..self }
    }

    /// What `NAME.core.o` cannot do without, beyond what every kernel with type information has. Where something of it is
    /// missing the object for the floor is taken, and if there is none the probe says what is missing.
    #[must_use]
    pub const fn needs(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }

    /// The bytes of one of them.
    pub(crate) const fn bytes(&self, object: Object) -> Option<&'static [u8]> {
        match object {
            Object::Core => Some(self.core),
            Object::Floor => self.floor,
            Object::Who => self.who,
        }
    }

    /// Loads the one that the configuration names, or the best that this kernel takes.
    pub(crate) fn load(
        &self,
        choice: ObjectChoice,
        kernel: &Kernel,
        target: &Target,
        who: Option<&WhoOptions>,
    ) -> Result<Loaded, BuildError> {
        if let Some(who) = who {
            return self.load_who(choice, kernel, target, who);
        }
        let one = |object| self.load_one(object, kernel, target.kind(), Some(target), 0);
        let load = |object| one(object).map(|ebpf| Loaded { ebpf, object, not_core: None });
        let instead =
            |why: String| one(Object::Floor).map(|ebpf| Loaded { ebpf, object: Object::Floor, not_core: Some(why) });
        let missing = self.needs.iter().find(|need| kernel.btf.is_ok() && need.is_missing());
        let loaded = match (choice, &kernel.btf) {
            (ObjectChoice::Floor, _) if self.floor.is_none() => {
                return Err(BuildError::refused(
                    "this probe has no object for kernels without type information",
                    "set probes.object = \"auto\"",
                ));
            }
            (ObjectChoice::Auto, Err(problem)) if self.floor.is_none() => {
                return Err(BuildError::refused(
                    format!("this probe needs the kernel's type information: {problem}"),
                    "use a kernel with type information, or leave this probe out",
                ));
            }
            (ObjectChoice::Floor, _) | (ObjectChoice::Auto, Err(_)) => load(Object::Floor),
            (ObjectChoice::Core, Err(problem)) => return Err(refuse_core(problem)),
            (ObjectChoice::Auto, Ok(_)) if let (Some(need), Some(_)) = (missing, self.floor) => {
                instead(format!("its program needs what this kernel has not: the {need}"))
            }
            (_, Ok(_)) if let Some(need) = missing => {
                return Err(BuildError::refused(
                    format!("this probe needs what this kernel has not: the {need}"),
                    "use a newer kernel, or leave this probe out",
                ));
            }
            (ObjectChoice::Core, Ok(_)) => load(Object::Core),
            // What an old kernel with type information lacks (global data, a map type) shows here.
            (ObjectChoice::Auto, Ok(_)) => load(Object::Core).or_else(|error| {
                // Where no descriptor is left the other object would get as far as the next one.
                let last = self.floor.is_none() || is_out_of_files(&error);
                let why = || format!("the kernel does not take the object with its program: {}", chain(&error));
                if last { Err(error) } else { instead(why()).map_err(|_also| error) }
            }),
        };
        loaded.map_err(|error| refuse_load(&error))
    }

    /// Loads the one that tells by whom.
    fn load_who(
        &self,
        choice: ObjectChoice,
        kernel: &Kernel,
        target: &Target,
        who: &WhoOptions,
    ) -> Result<Loaded, BuildError> {
        const WAY_OUT: &str = "leave probes.by out, or set it for other probes alone: probes.NAME.by = []";
        if self.who.is_none() {
            return Err(BuildError::refused("this probe cannot tell by whom", WAY_OUT));
        }
        if choice == ObjectChoice::Floor {
            let problem = "the floor object cannot tell by whom (probes.object = \"floor\", probes.by)";
            return Err(BuildError::refused(problem, WAY_OUT));
        }
        if let Err(problem) = &kernel.btf {
            let problem = format!("to tell by whom takes the kernel's type information: {problem}");
            return Err(BuildError::refused(problem, WAY_OUT));
        }
        if let Some(need) = WHO_NEEDS.iter().chain(self.needs).find(|need| need.is_missing()) {
            let problem = format!("to tell by whom takes what this kernel has not: the {need} (Linux 5.8)");
            return Err(BuildError::refused(problem, WAY_OUT));
        }
        let loaded = self.load_one(Object::Who, kernel, target.kind(), Some(target), who.processes);
        loaded.map(|ebpf| Loaded { ebpf, object: Object::Who, not_core: None }).map_err(|error| refuse_load(&error))
    }

    /// Loads one of them, with a filter of this kind; `target` is what it will be aimed at for good.
    pub(crate) fn load_one(
        &self,
        object: Object,
        kernel: &Kernel,
        kind: u32,
        target: Option<&Target>,
        processes: u32,
    ) -> Result<Ebpf, EbpfError> {
        let bytes = self.bytes(object).unwrap_or_default();
        if object == Object::Floor {
            return loader(None).load(bytes);
        }
        let mut loader = loader(kernel.btf.as_ref().ok().map(TypeInformation::structures));
        loader.map_max_entries(KPROBE_TOTALS, u32::try_from(kernel.possible_cpus).unwrap_or(u32::MAX));
        if object == Object::Who {
            for (map, entries) in Sizes::of(bytes, processes).maps {
                loader.map_max_entries(map, entries);
            }
        }
        let lineage = target.and_then(Target::lineage);
        if let Some((parent, name)) = &lineage {
            loader.override_global("cgroup_parent", parent, true).override_global("cgroup_name", name, true);
        }
        loader.override_global("filter_kind", &kind, true).load(bytes)
    }
}

/// The bytes of a file, aligned as an object has to be. The path is as of `include_bytes!`.
#[macro_export]
macro_rules! aligned {
    ($path:expr) => {{
        #[repr(C, align(8))]
        struct Aligned<Bytes: ?Sized>(Bytes);
        static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!($path));
        &OBJECT.0
    }};
}
