//! The expectations themselves, checked against counters that are not ours: the kernel's accounting of a task's
//! I/O for what reaches `vfs_read` and its kin, and strace for what enters a system call.

use ebpf_process_tests::expect::{self, Layer};
use ebpf_process_tests::known::{Series, Straced};
use ebpf_process_tests::rows::ROWS;
use ebpf_process_tests::workload::{Place, Workload, int80_works};
use ebpf_process_tests::{Failure, Outcome, live, wait};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The right value of a metric; a name that does not exist is equal to nothing.
fn expected(layer: Layer, name: &str, label: &str) -> Option<u64> {
    let all = expect::whole_workload();
    let found = all.iter().find(|e| e.metric.name == name && e.metric.label.is_some_and(|(_, v)| v == label));
    found.map(|e| e.at(layer))
}

#[test]
fn the_kernels_own_accounting_agrees_on_reads_and_writes() {
    let place = Place::new().unwrap();
    let int80 = int80_works(&place).unwrap();
    let mut target = place.all(int80).unwrap();
    // Of the task, not of the process: that would hold the children it reaped.
    let io = format!("/proc/{0}/task/{0}/io", target.pid());
    let before = accounting(&io);
    target.run_to_next_stop().unwrap();
    let after = accounting(&io);

    let counted = |key: &str| Some(after[key] - before[key]);
    assert_eq!(counted("rchar"), expected(Layer::Kernel, "vfs.bytes", "read"));
    assert_eq!(counted("wchar"), expected(Layer::Kernel, "vfs.bytes", "write"));
    assert_eq!(counted("syscr"), expected(Layer::Kernel, "vfs.calls", "read"));
    assert_eq!(counted("syscw"), expected(Layer::Kernel, "vfs.calls", "write"));
    target.run_to_end().unwrap();
}

fn accounting(path: &str) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pair = |line: &str| line.split_once(": ").and_then(|(key, value)| Some((key.into(), value.parse().ok()?)));
    text.lines().filter_map(pair).collect()
}

#[test]
fn strace_agrees_on_every_system_call() {
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    let needs = found.map(drop).map_err(Failure::at("strace is not installed"));
    live::test("expectations-by-strace", needs, || {
        let place = Place::new()?;
        let int80 = int80_works(&place)?;
        let seen = traced(&place.all(int80)?, place.path())?;

        let of = |series: &[Series]| -> Outcome<u64> {
            let value = |(name, label): &Series| {
                expected(Layer::Syscall, name, label).ok_or_else(|| Failure::new(format!("no metric {name} {label}")))
            };
            series.iter().map(value).sum()
        };
        for Straced { names, calls, failed, uncounted } in ROWS.iter().flat_map(|rows| rows.straced) {
            let seen = names.iter().map(|name| seen.get(*name).copied().unwrap_or_default());
            let seen = seen.fold((0, 0), |(calls, errors), (c, e)| (calls + c, errors + e));
            assert_eq!(seen, (of(calls)? + uncounted, of(failed)?), "{names:?}");
        }
        Ok(())
    });
}

/// Calls and errors by name, both entries of the kernel added up.
fn traced(target: &Workload, folder: &Path) -> Outcome<BTreeMap<String, (u64, u64)>> {
    let log = folder.join("strace");
    let pid = target.pid().to_string();
    let mut strace = Command::new("strace")
        .args(["-c", "-U", "name,calls,errors", "-p", &pid, "-o"])
        .arg(&log)
        .stderr(Stdio::null())
        .spawn()
        .map_err(Failure::at("starting strace"))?;
    let limit = Duration::from_mins(1);
    wait::until("strace to attach", limit, || Ok(state(&pid, "TracerPid").filter(|tracer| tracer != "0")))?;
    target.resume()?;
    // Its parent sees no stop while it is traced. Its only calls of kill are its stops, and it has moved to its folder
    // before the second one. From then on a SIGCONT too many interrupts nothing that is counted.
    wait::until("the second stop", limit, || {
        let in_kill = fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| call.starts_with("62 "));
        let moved = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        Ok((in_kill && moved).then_some(()))
    })?;
    wait::until("strace's end", limit, || {
        target.resume()?;
        strace.try_wait().map_err(Failure::at("waiting for strace"))
    })?;
    let text = fs::read_to_string(&log).map_err(Failure::at("strace's table"))?;
    let mut seen = BTreeMap::<String, (u64, u64)>::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(Ok(calls))) = (words.first(), words.get(1).map(|word| word.parse::<u64>())) else {
            continue;
        };
        let errors = words.get(2).and_then(|word| word.parse().ok()).unwrap_or(0);
        let entry = seen.entry((*name).into()).or_default();
        *entry = (entry.0 + calls, entry.1 + errors);
    }
    Ok(seen)
}

/// A line of the process's status, nothing when it is gone.
fn state(pid: &str, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"))?;
    Some(line.to_owned())
}
