//! The one list of the probes of this crate.

use crate::file::FILE;
use crate::kernel_probe::KernelProbe;
use crate::mount::MOUNT;
use crate::process::PROCESS;
use crate::sync::SYNC;

/// Every kernel probe of this crate, in the order of everything that lists them.
pub static PROBES: [&KernelProbe; 4] = [&PROCESS, &FILE, &SYNC, &MOUNT];
