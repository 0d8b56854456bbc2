//! The kernel's own tracer as a witness: what really reaches the functions that the agent hooks.
//!
//! It needs kprobes and an own tracing instance, as the kernels of the virtual machines have them. It knows nothing of
//! the agent: it checks the expectations of [`Layer::Kernel`], by the return value of every call of the process.

use crate::expect::{self, Layer};
use crate::workload::{Place, Workload};
use crate::{Failure, Outcome};
use std::fs;
use std::path::{Path, PathBuf};

const TRACEFS: &str = "/sys/kernel/tracing";
/// The group of our events, and the instance that records them.
const OURS: &str = "ebpf_process_tests";

/// A function, the type of what it returns, and the metric whose calls it makes, as area and label.
struct Function {
    name: &'static str,
    returns: &'static str,
    area: &'static str,
    label: &'static str,
}

const fn function(name: &'static str, returns: &'static str, area: &'static str, label: &'static str) -> Function {
    Function { name, returns, area, label }
}

/// Where two functions close a descriptor, one of them is not called.
const FUNCTIONS: &[Function] = &[
    // A long up to 6.x and an int in 7.x, whose upper half is then undefined.
    function("do_sys_openat2", "s32", "file", "open"),
    function("close_fd", "s32", "file", "close"),
    function("file_close_fd", "u64", "file", "close"),
    function("vfs_read", "s64", "vfs", "read"),
    function("vfs_readv", "s64", "vfs", "read"),
    function("vfs_write", "s64", "vfs", "write"),
    function("vfs_writev", "s64", "vfs", "write"),
    function("vfs_unlink", "s32", "vfs", "delete"),
    function("kernel_clone", "s32", "task", "start"),
];

/// Results that say that a signal interrupted the call: no error.
const INTERRUPTED: [i64; 5] = [-4, -512, -513, -514, -516];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    calls: u64,
    errors: u64,
    interrupted: u64,
    bytes: u64,
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
    let sum = |name: &str, label: Option<&str>| -> u64 {
        let of = expected.iter().filter(|e| e.metric.name == name);
        of.filter(|e| label.is_none_or(|l| e.metric.label.is_some_and(|(_, v)| v == l)))
            .map(|e| e.at(Layer::Kernel))
            .sum()
    };
    let mut wrong = Vec::new();
    let mut compare = |what: String, got: u64, wanted: u64| {
        if got != wanted {
            wrong.push(format!("{what}: the tracer saw {got}, expected are {wanted}"));
        }
    };
    for (area, label) in [("file", "open"), ("file", "close"), ("vfs", "read"), ("vfs", "write"), ("vfs", "delete")] {
        let seen = seen(trace, area, label);
        compare(format!("{area} {label} calls"), seen.calls, sum(&format!("{area}.calls"), Some(label)));
        compare(format!("{area} {label} errors"), seen.errors, sum(&format!("{area}.errors"), Some(label)));
        let interrupted = sum(&format!("{area}.interrupted"), Some(label));
        compare(format!("{area} {label} interrupted"), seen.interrupted, interrupted);
        if label == "read" || label == "write" {
            compare(format!("{area} {label} bytes"), seen.bytes, sum("vfs.bytes", Some(label)));
        }
    }
    let forks = seen(trace, "task", "start");
    compare("forks".into(), forks.calls - forks.errors - forks.interrupted, sum("task.started", None));
    compare("failed forks".into(), forks.errors, sum("task.start_errors", None));
    wrong
}

/// Adds up the lines of the functions that make this metric's calls: `... FUNCTION: (...) ret=VALUE`.
fn seen(trace: &str, area: &str, label: &str) -> Seen {
    let mut seen = Seen::default();
    for function in FUNCTIONS.iter().filter(|f| f.area == area && f.label == label) {
        let name = format!(" {}: (", function.name);
        let results = trace.lines().filter(|line| line.contains(&name)).filter_map(|line| line.rsplit_once("ret="));
        for (_, result) in results {
            seen.calls += 1;
            // A pointer says by zero that there is no such file.
            let Ok(result) = result.trim().parse::<i64>() else { continue };
            if INTERRUPTED.contains(&result) {
                seen.interrupted += 1;
            } else if result < 0 || (function.returns == "u64" && result == 0) {
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
        for Function { name, returns, .. } in FUNCTIONS {
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
        for Function { name, .. } in FUNCTIONS {
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
        assert_eq!(seen(trace, "vfs", "read"), Seen { calls: 4, errors: 1, interrupted: 1, bytes: 151 });
        assert_eq!(seen(trace, "vfs", "write"), Seen::default());
        let closes = seen(trace, "file", "close");
        assert_eq!((closes.calls, closes.errors), (2, 1));
    }
}
