//! What this process has of threads, descriptors and memory.

use std::fs;

/// A count of each; 0 where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    threads: u64,
    descriptors: u64,
    /// Resident, in KiB.
    memory: u64,
}

/// What a process that runs other things beside may have more without any leak.
const SLACK: u64 = 3;

/// So much memory, in KiB, may stay for whatever reason: what an allocator keeps.
const MEMORY_SLACK: u64 = 3072;

impl Usage {
    pub(super) fn now() -> Self {
        let entries = |path| fs::read_dir(path).map_or(0, |entries| entries.count() as u64);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
        Self {
            threads: entries("/proc/self/task"),
            descriptors: entries("/proc/self/fd"),
            memory: memory.unwrap_or_default(),
        }
    }

    pub(super) const fn without_memory(self) -> Self {
        Self { memory: 0, ..self }
    }

    /// Whether there is more of something than before, beyond what others may have made meanwhile.
    pub(super) const fn exceeds(&self, before: &Self) -> bool {
        self.threads > before.threads + SLACK || self.descriptors > before.descriptors + SLACK
    }

    /// What has grown over so many rounds: by half a thread or descriptor each, or in memory.
    pub(super) fn growth(&self, before: &Self, rounds: u32) -> Option<String> {
        let limit = u64::from(rounds / 2).max(1);
        let [threads, descriptors, memory] = [
            self.threads.saturating_sub(before.threads),
            self.descriptors.saturating_sub(before.descriptors),
            self.memory.saturating_sub(before.memory),
        ];
        if threads >= limit {
            Some(format!("there are {threads} threads more"))
        } else if descriptors >= limit {
            Some(format!("there are {descriptors} descriptors more"))
        } else if memory > MEMORY_SLACK {
            Some(format!("there are {memory} KiB of memory more"))
        } else {
            None
        }
    }
}
