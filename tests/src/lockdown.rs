//! A kernel that is locked down: the rest works, and the report names the cause.
//!
//! Under `integrity` the kernel hides the writable files of debugfs, the preemption model among them, and nothing else
//! that the agent needs. Under `confidentiality` there are no kprobes and no tracefs, and no program may read the
//! kernel's memory by address; arguments typed by BTF may be read.

use crate::answer::{Checkup, SINK, finish, refused};
use crate::exact::{self, Row};
use crate::expect::Mode;
use crate::{Failure, Outcome, agent};
use std::fs;

const FILE: &str = "/sys/kernel/security/lockdown";

/// Every tier works.
///
/// # Errors
/// One does not, or the machine is not locked down in this way.
pub fn integrity() -> Outcome<String> {
    in_force("integrity")?;
    let report = Checkup::new(&[])?;
    let (lacking, said) = report.finding("lockdown");
    if lacking || said != "integrity" || !report.unserved().is_empty() {
        return Err(Failure::new(format!("check says {said:?}, and nothing serves {:?}", report.unserved())));
    }
    for hooks in ["fentry", "kprobe", "tracepoint", "auto"] {
        let row = Row { hooks: hooks.into(), mode: Mode::Return };
        exact::whole_workload(&row)?.verdict().map_err(Failure::at(&row))?;
    }
    Ok("every tier is exact".into())
}

/// Trampolines and tracepoints work, and whoever insists on kprobes is told why there are none.
///
/// # Errors
/// The rest does not work, or the cause is not named, or the machine is not locked down in this way.
pub fn confidentiality() -> Outcome<String> {
    in_force("confidentiality")?;
    let report = Checkup::new(&[])?;
    let (lacking, said) = report.finding("lockdown");
    if !lacking || !said.starts_with("confidentiality") {
        return Err(Failure::new(format!("check says {said:?} of the lockdown")));
    }
    for hooks in ["fentry", "auto"] {
        for mode in [Mode::Entry, Mode::Return] {
            let row = Row { hooks: hooks.into(), mode };
            exact::whole_workload(&row)?.verdict().map_err(Failure::at(&row))?;
        }
    }
    let insists = finish(agent::command()?.args(["run", "--set", "probes.hooks=kprobe"]).args(SINK))?;
    refused(&insists, 1, &["lockdown"])
}

fn in_force(word: &str) -> Outcome<()> {
    let text = fs::read_to_string(FILE).map_err(Failure::at(FILE))?;
    if text.contains(&format!("[{word}]")) {
        return Ok(());
    }
    Err(Failure::new(format!("{FILE} says {:?}", text.trim_end())))
}
