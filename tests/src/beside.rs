//! Somebody else on the same hooks at the same time: no number changes.

use crate::exact::{self, Row};
use crate::expect::Mode;
use crate::observer::Observer;
use crate::{Failure, Outcome};
use std::process::{Command, Stdio};

/// Where the virtual machine has it.
const PERF: &str = "/perf";
/// Functions that make the reads of the kernel's own tiers, and their ends.
const PROBES: [&str; 4] = ["vfs_read", "vfs_readv", "vfs_read%return", "vfs_readv%return"];
/// What perf calls them: the starts, then the ends.
const EVENTS: [&str; 4] = ["probe:vfs_read", "probe:vfs_readv", "probe:vfs_read__return", "probe:vfs_readv__return"];

/// Two agents count the same workload, in the same tier or in different ones.
///
/// # Errors
/// One of them is wrong.
pub fn second_instance(first: &str, second: &str) -> Outcome<String> {
    let row = |hooks: &str| Row { hooks: hooks.into(), mode: Mode::Return };
    let pair = format!("{first} beside {second}");
    for report in exact::whole_workload_by_two(&row(first), &row(second))? {
        report.verdict().map_err(Failure::at(&pair))?;
    }
    Ok(pair)
}

/// bpftrace counts the ends of all system calls, where the agent's tracepoint tier looks.
///
/// # Errors
/// The agent is wrong, or bpftrace saw less than it.
pub fn bpftrace() -> Outcome<String> {
    let mut command = Command::new("bpftrace");
    command.args(["-B", "line", "-e"]);
    command.arg("tracepoint:raw_syscalls:sys_exit { @calls = count(); } interval:ms:100 { print(@calls); }");
    // `@calls: NUMBER`, each time the whole number.
    let seen = |lines: &[String]| {
        let numbers = lines.iter().filter_map(|line| line.strip_prefix("@calls: ")?.parse().ok());
        numbers.max().unwrap_or(0)
    };
    beside("tracepoint", &mut command, seen)
}

/// Whether it can count at all here: it is there, and this machine lets it.
///
/// # Errors
/// Why not.
pub fn has_bpftrace() -> Outcome<()> {
    let output = Command::new("bpftrace").args(["-e", "BEGIN { exit(); }"]).stdin(Stdio::null()).output();
    let output = output.map_err(Failure::at("bpftrace"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(Failure::new(format!("bpftrace: {}", words.trim_end()))) }
}

/// perf's own events on the start and the end of functions that the agent hooks. They are the whole machine's.
///
/// # Errors
/// An agent is wrong, or perf saw less than it.
pub fn perf() -> Outcome<String> {
    probe(PROBES.iter().flat_map(|function| ["--add", *function]))?;
    let seen = ["fentry", "kprobe"].map(|tier| {
        let mut command = Command::new(PERF);
        command.args(["stat", "--log-fd", "1", "-a", "-x,", "-I", "200", "-e", &EVENTS.join(",")]);
        beside(tier, &mut command, |lines| EVENTS[..2].iter().map(|event| perf_saw(lines, event)).sum())
    });
    probe(["--del", "probe:*"])?;
    let [fentry, kprobe] = seen;
    Ok(format!("{}; {}", fentry?, kprobe?))
}

fn probe<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Outcome<()> {
    let output = Command::new(PERF).args(["probe", "-q"]).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(Failure::at("running perf"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(Failure::new(format!("perf probe: {}", words.trim_end()))) }
}

/// Adds up the lines of an event, one for each interval: `TIME,COUNT,UNIT,EVENT,...`.
fn perf_saw(lines: &[String], event: &str) -> u64 {
    let count = |line: &String| {
        let mut words = line.split(',').skip(1);
        let count = words.next()?.parse::<u64>().ok()?;
        (words.nth(1)? == event).then_some(count)
    };
    lines.iter().filter_map(count).sum()
}

/// The whole workload by one tier beside an observer of all processes' calls; `seen` reads how many it has seen.
fn beside(tier: &str, command: &mut Command, seen: impl Fn(&[String]) -> u64) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let observer = Observer::start(command, |lines| seen(lines) > 0)?;
    let report = exact::whole_workload(&Row { hooks: tier.into(), mode: Mode::Return })?;
    report.verdict().map_err(Failure::at(format!("{tier} beside {name}")))?;
    let theirs = seen(&observer.stop()?);
    let ours = report.got("vfs.calls", "read").unwrap_or(f64::NAN);
    let details = format!("{tier} beside {name}: ours are {ours} reads, it saw {theirs} calls");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let right = theirs as f64 >= ours;
    if right { Ok(details) } else { Err(Failure::new(details)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intervals_of_perf_add_up_by_event() {
        let lines = [
            "     0.205221291,2,,probe:vfs_read,423099353,100.00,,",
            "     0.205221291,7,,probe:vfs_read__return,423099353,100.00,,",
            "     0.416635827,40,,probe:vfs_read,418132096,100.00,,",
            "     0.616635827,<not counted>,,probe:vfs_read,0,100.00,,",
            "",
        ];
        let lines = lines.map(str::to_owned);
        assert_eq!(perf_saw(&lines, "probe:vfs_read"), 42);
        assert_eq!(perf_saw(&lines, "probe:vfs_readv"), 0);
    }
}
