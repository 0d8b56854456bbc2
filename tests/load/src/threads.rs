//! What the threads of this process have cost, and the memory that it has.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use ebpf_process_tests::{Failure, Outcome};
use rustix::time::{ClockId, clock_gettime};

/// Processor time by thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads(BTreeMap<u32, (String, Duration)>);

impl Threads {
    /// Of this process but for its first thread, which is the one that looks. As the scheduler accounts for it: exact for
    /// threads that wait.
    pub(crate) fn read() -> Outcome<Self> {
        let mut threads = Self::of("self")?;
        threads.0.remove(&std::process::id());
        Ok(threads)
    }

    /// Of a process.
    pub(crate) fn of(process: &str) -> Outcome<Self> {
        let folder = format!("/proc/{process}/task");
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(Failure::at(&folder))? {
            let path = entry.map_err(Failure::at(&folder))?.path();
            // A thread may end meanwhile.
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            let spent = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            let spent = spent.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse().ok());
            let id = path.file_name().and_then(|id| id.to_str()?.parse().ok());
            if let (Some(id), Some(spent)) = (id, spent) {
                threads.insert(id, (name.trim_end().to_owned(), Duration::from_nanos(spent)));
            }
        }
        if threads.is_empty() {
            return Err(Failure::new(format!("{folder} says nothing: does this kernel have CONFIG_SCHED_INFO?")));
        }
        Ok(Self(threads))
    }

    /// What was spent since an earlier look, by thread.
    pub(crate) fn since<'a>(&'a self, before: &Self) -> impl Iterator<Item = (&'a str, Duration)> {
        self.0.iter().map(|(id, (name, spent))| {
            let known = before.0.get(id).map_or(Duration::ZERO, |(_, spent)| *spent);
            (name.as_str(), spent.saturating_sub(known))
        })
    }
}

/// Processor time of the calling thread.
pub(crate) fn own() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Resident memory of this process in MiB: now, and the most that it ever was.
pub(crate) fn resident() -> Outcome<(f64, f64)> {
    let status = fs::read_to_string("/proc/self/status").map_err(Failure::at("/proc/self/status"))?;
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().trim_end_matches(" kB").parse::<u32>().ok()
    };
    let (Some(now), Some(most)) = (of("VmRSS:"), of("VmHWM:")) else {
        return Err(Failure::new("/proc/self/status says nothing of memory"));
    };
    Ok((f64::from(now) / 1024.0, f64::from(most) / 1024.0))
}
