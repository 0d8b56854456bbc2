//! What a kernel probe is made of: programs, and the counters that stand on them.

use std::fmt;

use ebpf_process_core::{Declared, Recorder, Refused};

use crate::counter::Counter;
use crate::object::Objects;
use crate::options::Mode;
use crate::reader::Reader;

/// A type of kernel probe.
///
/// ```
/// use ebpf_process_probes::{Call, Counter, Field, KernelProbe, Layer, Metric, Output};
/// use ebpf_process_core::Unit;
///
/// static CALLS: Metric = Metric::new("directory.calls", Unit::CALLS, "Directories made", "operation");
/// const OUTPUTS: &[Output] = &[Output::new(&CALLS, "make", Field::Calls)];
/// const MADE: Counter = Counter::new("directory.make", Layer::Syscall, |_| Ok(()))
///     .calls(&[Call::status("mkdir"), Call::status("mkdirat")])
///     .outputs(OUTPUTS);
/// static DIRECTORY: KernelProbe = KernelProbe::new("directory", "directories made").counters(&[MADE]);
/// # let _ = &DIRECTORY;
/// ```
#[derive(Clone, Copy)]
pub struct KernelProbe {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) is_default: bool,
    pub(crate) objects: Option<Objects>,
    pub(crate) counters: &'static [Counter],
    pub(crate) reader: Option<Declaration>,
}

/// What a probe has that is more than counters.
#[derive(Clone, Copy)]
pub(crate) struct Declaration {
    pub(crate) columns: fn() -> Vec<Declared>,
    pub(crate) make: MakeReader,
}

/// Makes a reader, which declares its kinds and columns.
pub type MakeReader = fn(&mut Recorder) -> Result<Box<dyn Reader>, Refused>;

impl KernelProbe {
    /// A probe of this name, with a line for `list probes`. It runs unless the configuration says otherwise.
    pub const fn new(name: &'static str, summary: &'static str) -> Self {
        Self { name, summary, is_default: true, objects: None, counters: &[], reader: None }
    }

    /// It runs where `probes.NAME.enabled = true` says so.
    #[must_use]
    pub const fn off_by_default(self) -> Self {
        Self { is_default: false, ..self }
    }

    /// Its own programs. Counters of system calls alone need none.
    #[must_use]
    pub const fn objects(self, objects: Objects) -> Self {
        Self { objects: Some(objects), ..self }
    }

    /// What it counts.
    #[must_use]
    pub const fn counters(self, counters: &'static [Counter]) -> Self {
        Self { counters, ..self }
    }

    /// What it has beside: a reader of its own maps, and the columns that this one declares.
    #[must_use]
    pub const fn reader(self, columns: fn() -> Vec<Declared>, make: MakeReader) -> Self {
        Self { reader: Some(Declaration { columns, make }), ..self }
    }

    pub(crate) fn counters_in(&self, mode: Mode) -> impl Iterator<Item = &'static Counter> {
        self.counters.iter().filter(move |counter| mode == Mode::Return || !counter.return_only)
    }
}

impl fmt::Debug for KernelProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelProbe").field("name", &self.name).finish_non_exhaustive()
    }
}
