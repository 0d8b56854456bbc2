//! The one list of the probes of this crate.

use crate::file::FILE;
use crate::kernel_probe::KernelProbe;
use crate::process::PROCESS;

/// Every kernel probe of this crate, in the order of everything that lists them.
pub static PROBES: [&KernelProbe; 2] = [&PROCESS, &FILE];
