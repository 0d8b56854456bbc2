//! The kernel's own tracer as a witness: what really reaches the functions that the agent hooks.
//!
//! It needs kprobes and an own tracing instance, as the kernels of the virtual machines have them. It knows nothing of
//! the agent: it checks the expectations of [`Layer::Kernel`], by the return value of every call of the process.

use crate::expect::{self, Layer};
use crate::known::{Seen, Traced};
use crate::rows::ROWS;
use crate::workload::{Place, Workload};
use crate::{Failure, Outcome};
use std::fs;
use std::path::{Path, PathBuf};

const TRACEFS: &str = "/sys/kernel/tracing";
/// The group of our events, and the instance that records them.
const OURS: &str = "ebpf_process_tests";

/// Results that say that a signal interrupted the call: no error.
const INTERRUPTED: [i64; 5] = [-4, -512, -513, -514, -516];

/// What the probes' tables say.
fn traced() -> impl Iterator<Item = &'static Traced> {
    ROWS.iter().flat_map(|rows| rows.traced)
}

fn functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    traced().flat_map(|traced| traced.functions).copied()
}

/// Runs the whole workload under the tracer and compares what it recorded with the expectations.
///
/// # Errors
/// The tracer cannot be used here, the workload fails, or a number is not the expected one.
pub fn check_expectations(place: &Place, int80: bool) -> Outcome<()> {
    let mut target = place.all(int80)?;
    let trace = Tracer::new(target.pid())?.record(&mut target)?;
    let wrong = differences(&trace);
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(wrong.join("; "))) }
}

fn differences(trace: &str) -> Vec<String> {
    let expected = expect::whole_workload();
    let sum = |name: &str, label: &str| -> u64 {
        let of = expected.iter().filter(|e| e.metric.name == name);
        of.filter(|e| label.is_empty() || e.metric.label.is_some_and(|(_, value)| value == label))
            .map(|e| e.at(Layer::Kernel))
            .sum()
    };
    let mut wrong = Vec::new();
    for traced in traced() {
        let seen = seen(trace, traced.functions);
        for (name, label, of) in traced.adds_up {
            let (got, wanted) = (of(&seen), sum(name, label));
            if got != wanted {
                wrong.push(format!("{name} {label}: the tracer saw {got}, expected are {wanted}"));
            }
        }
    }
    wrong
}

/// Adds up the lines of these functions: `... FUNCTION: (...) ret=VALUE`.
fn seen(trace: &str, functions: &[(&str, &str)]) -> Seen {
    let mut seen = Seen::default();
    for (function, returns) in functions {
        let name = format!(" {function}: (");
        let results = trace.lines().filter(|line| line.contains(&name)).filter_map(|line| line.rsplit_once("ret="));
        for (_, result) in results {
            seen.calls += 1;
            // A pointer says by zero that there is no such file.
            let Ok(result) = result.trim().parse::<i64>() else { continue };
            if INTERRUPTED.contains(&result) {
                seen.interrupted += 1;
            } else if result < 0 || (*returns == "u64" && result == 0) {
                seen.errors += 1;
            }
            seen.bytes += u64::try_from(result).unwrap_or(0);
        }
    }
    seen
}

/// Our events and our instance; both are gone after a drop.
struct Tracer {
    instance: PathBuf,
}

impl Tracer {
    /// Records the calls of one process.
    fn new(pid: u32) -> Outcome<Self> {
        let tracer = Self { instance: Path::new(TRACEFS).join("instances").join(OURS) };
        let events = Path::new(TRACEFS).join("kprobe_events");
        let symbols = fs::read_to_string("/proc/kallsyms").map_err(Failure::at("/proc/kallsyms"))?;
        for (name, returns) in functions() {
            if symbols.lines().any(|line| line.split(' ').nth(2) == Some(name)) {
                append(&events, &format!("r:{OURS}/{name} {name} ret=$retval:{returns}\n"))?;
            }
        }
        fs::create_dir(&tracer.instance).map_err(Failure::at("a tracing instance"))?;
        tracer.set("set_event_pid", &pid.to_string())?;
        tracer.set(&format!("events/{OURS}/enable"), "1")?;
        Ok(tracer)
    }

    /// What it recorded until the workload's second stop.
    fn record(&self, target: &mut Workload) -> Outcome<String> {
        target.run_to_next_stop()?;
        fs::read_to_string(self.instance.join("trace")).map_err(Failure::at("the trace"))
    }

    fn set(&self, file: &str, value: &str) -> Outcome<()> {
        fs::write(self.instance.join(file), value).map_err(Failure::at(format!("the tracer's {file}")))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // What cannot be removed was never made.
        let _ = self.set(&format!("events/{OURS}/enable"), "0");
        let _ = fs::remove_dir(&self.instance);
        for (name, _) in functions() {
            let _ = append(&Path::new(TRACEFS).join("kprobe_events"), &format!("-:{OURS}/{name}\n"));
        }
    }
}

/// Writing without appending would remove the events of everybody else.
fn append(file: &Path, line: &str) -> Outcome<()> {
    use std::io::Write as _;
    let opened = fs::OpenOptions::new().append(true).open(file);
    opened.and_then(|mut file| file.write_all(line.as_bytes())).map_err(Failure::at(format!("{line:?} to the tracer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_become_calls_errors_and_bytes() {
        let trace = "# tracer: nop\n\
            w-7 [000] ..... 1.0: vfs_read: (ksys_read+0x5 <- vfs_read) ret=109\n\
            w-7 [000] ..... 1.0: vfs_readv: (do_readv+0x5 <- vfs_readv) ret=42\n\
            w-7 [001] ..... 1.0: vfs_read: (ksys_read+0x5 <- vfs_read) ret=-512\n\
            w-7 [001] ..... 1.0: vfs_read: (ksys_read+0x5 <- vfs_read) ret=-515\n\
            w-7 [001] ..... 1.0: file_close_fd: (x <- file_close_fd) ret=0\n\
            w-7 [001] ..... 1.0: file_close_fd: (x <- file_close_fd) ret=18446612682070000000\n";
        assert_eq!(
            seen(trace, &[("vfs_read", "s64"), ("vfs_readv", "s64")]),
            Seen { calls: 4, errors: 1, interrupted: 1, bytes: 151 }
        );
        assert_eq!(seen(trace, &[("vfs_write", "s64")]), Seen::default());
        let closes = seen(trace, &[("close_fd", "s32"), ("file_close_fd", "u64")]);
        assert_eq!((closes.calls, closes.errors), (2, 1));
    }
}
