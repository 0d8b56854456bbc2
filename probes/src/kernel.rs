//! What this kernel offers.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use aya::{Btf, Endianness};
use ebpf_process_core::BuildError;

use crate::btf::arities;
use crate::cause::Surroundings;
use crate::exactness::Facts;
use crate::preemption::Preemption;
use crate::reduce::{Reduced, reduced};
use crate::refusal::refuse_bpf;
use crate::release::{Version, build_configuration};
use crate::rights::missing_rights;
use crate::sys;
use crate::tracefs::Tracefs;

/// The kernel's own type information.
pub(crate) const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Facts about the running kernel, read once and shared by the probes while they are built.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The kernel's type information, or why there is none.
    pub(crate) btf: Result<TypeInformation, String>,
    pub(crate) arities: HashMap<&'static str, usize>,
    pub(crate) tracefs: Result<Tracefs, String>,
    pub(crate) facts: Facts,
    pub(crate) possible_cpus: usize,
}

/// The kernel's type information, as much as is wanted of it.
#[derive(Debug)]
pub(crate) struct TypeInformation {
    /// What programs are attached to.
    pub(crate) places: Btf,
    /// What programs are relocated by, where that is apart.
    structures: Option<Btf>,
}

impl TypeInformation {
    /// What programs are relocated by.
    pub(crate) fn structures(&self) -> &Btf {
        self.structures.as_ref().unwrap_or(&self.places)
    }
}

/// What somebody needs of the type information: functions that a trampoline may stand on, and objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) functions: BTreeSet<&'static str>,
    pub(crate) objects: BTreeSet<&'static [u8]>,
}

/// What was read, and for what.
struct Shared {
    kernel: Option<Arc<Kernel>>,
    wanted: Wanted,
}

static SHARED: Mutex<Shared> =
    Mutex::new(Shared { kernel: None, wanted: Wanted { functions: BTreeSet::new(), objects: BTreeSet::new() } });

impl Kernel {
    /// The facts, read now or kept from another probe that wanted as much.
    pub(crate) fn shared(wanted: Wanted) -> Result<Arc<Self>, BuildError> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &shared.wanted;
        let covered = wanted.functions.is_subset(&known.functions) && wanted.objects.is_subset(&known.objects);
        if let Some(kernel) = shared.kernel.as_ref().filter(|_| covered) {
            return Ok(Arc::clone(kernel));
        }
        shared.wanted.functions.extend(wanted.functions);
        shared.wanted.objects.extend(wanted.objects);
        let possible_cpus = sys::possible_processors().map_err(|error| refuse_bpf(&error))?;
        let kernel = Arc::new(Self::read(possible_cpus, &shared.wanted));
        shared.kernel = Some(Arc::clone(&kernel));
        Ok(kernel)
    }

    /// Gives the memory back (type information takes tens of megabytes): nothing attaches later.
    pub(crate) fn forget() {
        if SHARED.lock().unwrap_or_else(PoisonError::into_inner).kernel.take().is_some() {
            sys::return_free_memory();
        }
    }

    fn read(possible_cpus: usize, wanted: &Wanted) -> Self {
        sys::return_large_blocks();
        let bytes = fs::read(BTF_PATH).map_err(|error| {
            format!(
                "this kernel's type information cannot be read ({BTF_PATH}: {error}); it needs CONFIG_DEBUG_INFO_BTF=y"
            )
        });
        let unknown = |why: &str| format!("this kernel's type information is not understood ({BTF_PATH}): {why}");
        let parse = |bytes: Vec<u8>| {
            let foreign = || unknown("it is newer than this program, or cut off");
            let arities = arities(&bytes, &wanted.functions).ok_or_else(foreign)?;
            let Reduced { places, structures } =
                reduced(&bytes, &wanted.functions, &wanted.objects).ok_or_else(foreign)?;
            // Megabytes, which are not needed any more when the next ones are.
            drop(bytes);
            let parse =
                |btf: &[u8]| Btf::parse(btf, Endianness::default()).map_err(|error| unknown(&error.to_string()));
            let structures = structures.map(|structures| parse(&structures)).transpose()?;
            Ok((TypeInformation { places: parse(&places)?, structures }, arities))
        };
        let (btf, arities) = match bytes.and_then(parse) {
            Ok((btf, arities)) => (Ok(btf), arities),
            Err(problem) => (Err(problem), HashMap::new()),
        };
        let tracefs = Tracefs::find();
        let facts = Facts {
            version: Version::running(),
            preemption: Preemption::read(),
            sandboxed: is_sandboxed(Surroundings::is_nested()),
            runs_32_bit: runs_32_bit(),
            takes_instances: tracefs.as_ref().is_ok_and(Tracefs::takes_instances),
        };
        Self { btf, arities, tracefs, facts, possible_cpus }
    }

    /// How many arguments a function takes; `None` if the kernel has no such function to trace.
    pub(crate) fn arity(&self, function: &str) -> Option<usize> {
        self.arities.get(function).copied()
    }
}

/// Whether the kernel refuses trampolines to somebody who may load programs, before it looks at them: no kernel of a
/// distribution does. Sandboxes do, and they also show programs nothing of their own first process (docs/hooks.md).
pub(crate) fn is_sandboxed(user_namespace: bool) -> bool {
    let holds = rustix::thread::capabilities(None).is_ok_and(|sets| missing_rights(sets.effective).is_empty());
    refuses_trampolines_alone(holds && !user_namespace, sys::trampolines_are_refused, sys::programs_are_taken)
}

/// What other causes refuse (rights, a seccomp filter, locked memory, a security module) is not trampolines alone.
fn refuses_trampolines_alone(may_load: bool, refused: fn() -> bool, others_are_taken: fn() -> bool) -> bool {
    may_load && refused() && others_are_taken()
}

/// Whether a 32-bit program can run here; where nothing says, it can.
fn runs_32_bit() -> bool {
    let options = ["CONFIG_IA32_EMULATION=y", "CONFIG_X86_X32_ABI=y", "CONFIG_X86_X32=y"];
    build_configuration().map_or(true, |config| config.lines().any(|line| options.contains(&line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_refuses_trampolines_and_nothing_else() {
        let yes: fn() -> bool = || true;
        let no: fn() -> bool = || false;
        assert!(refuses_trampolines_alone(true, yes, yes));
        // A seccomp filter, a security module, no memory to lock.
        assert!(!refuses_trampolines_alone(true, yes, no));
        assert!(!refuses_trampolines_alone(true, no, yes));
        // No rights, or those of a user namespace.
        assert!(!refuses_trampolines_alone(false, yes, yes));
    }
}
