//! The first processor switched off: whatever wants to be on one takes the first that is on.
//!
//! It is the whole machine's: for a virtual machine only, and for kernels before 6.5 with the boot parameter
//! `cpu0_hotplug`; later ones cannot switch it off on x86.

use crate::exact::{self, Row};
use crate::expect::Mode;
use crate::{Failure, Outcome};
use std::fs;

const ONLINE: &str = "/sys/devices/system/cpu/cpu0/online";

/// Off until this is dropped.
struct Off;

impl Off {
    fn new() -> Outcome<Self> {
        fs::write(ONLINE, "0").map_err(Failure::at(format!("switching off processor 0 by {ONLINE}")))?;
        Ok(Self)
    }
}

impl Drop for Off {
    fn drop(&mut self) {
        // The machine is ours and ends soon.
        let _ = fs::write(ONLINE, "1");
    }
}

/// Kprobes of both objects count to the unit: perf wants a processor for each.
///
/// # Errors
/// Processor 0 cannot be switched off, an agent does not start, or a number is wrong.
pub fn zero_offline() -> Outcome<String> {
    let _off = Off::new()?;
    let mut details = Vec::new();
    for hooks in ["kprobe", "floor"] {
        let report = exact::whole_workload(&Row { hooks: hooks.into(), mode: Mode::Return })?;
        report.verdict().map_err(Failure::at(hooks))?;
        details.push(format!("{hooks}: {report}"));
    }
    Ok(details.join("; "))
}
