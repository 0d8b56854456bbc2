//! What a process takes of the machine, as the kernel sees it.

use crate::{Failure, Outcome};
use std::fs;
use std::time::Duration;

/// Resident memory in KiB that is the process's own: without the pages of files, among which are the kernel's own maps
/// that it reads.
///
/// # Errors
/// It is gone.
pub fn resident(pid: u32) -> Outcome<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(Failure::at(&path))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| Failure::new(format!("no RssAnon in {path}")))
}

/// Processor time of all its threads until now, as the scheduler accounts for it: exact for threads that wait.
///
/// # Errors
/// It is gone, or the kernel was built without `CONFIG_SCHED_INFO`.
pub fn processor_time(pid: u32) -> Outcome<Duration> {
    let folder = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&folder).map_err(Failure::at(&folder))?;
    // A thread may end meanwhile.
    let texts = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
    let spent: Vec<u64> = texts.filter_map(|text| text.split_whitespace().next()?.parse().ok()).collect();
    if spent.is_empty() {
        return Err(Failure::new(format!("{folder} has no schedstat: does this kernel have CONFIG_SCHED_INFO?")));
    }
    Ok(Duration::from_nanos(spent.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_memory_and_time() {
        let own = std::process::id();
        assert!(resident(own).unwrap() > 0 && processor_time(own).unwrap() > Duration::ZERO);
        assert!(resident(0).is_err() && processor_time(0).is_err());
    }
}
