//! Released tasks that no BPF program can see on some machines.
//!
//! `sched_process_free` fires in a softirq on top of whatever runs. A sandbox's kernel may run no BPF program while
//! its own first process is current: what is released just then reaches the kernel's tracer and nobody else, and no
//! miss is counted. The tracer is asked, so that a count may lack those and nothing else.

use crate::{Failure, Outcome};
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

const INSTANCES: &str = "/sys/kernel/tracing/instances";
/// How the kernel calls the tasks of every workload: by its file, and by the link that it executes itself by.
const TASKS: [&str; 2] = ["comm=workload ", "comm=exe "];

/// Records releases from its start on, in an instance of the tracer that is gone after a drop.
#[derive(Debug)]
pub struct Hidden {
    /// None where there is no tracer to ask, and in a virtual machine of ours, whose first process is this one: then
    /// nothing counts as hidden.
    instance: Option<PathBuf>,
    /// What is said of the tasks that are looked for.
    tasks: Vec<String>,
}

impl Hidden {
    /// Starts to record the releases of every workload's tasks.
    pub fn start() -> Self {
        Self::of_any(TASKS.map(str::to_owned).to_vec())
    }

    /// Starts to record those of tasks whose names begin so.
    pub fn of(prefix: &str) -> Self {
        Self::of_any(vec![format!("comm={prefix}")])
    }

    fn of_any(tasks: Vec<String>) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let name = format!("ebpf-process-{}-{}", process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let instance = Path::new(INSTANCES).join(name);
        if process::id() == 1 || fs::create_dir(&instance).is_err() {
            return Self { instance: None, tasks };
        }
        let hidden = Self { instance: Some(instance.clone()), tasks: tasks.clone() };
        let enabled = fs::write(instance.join("events/sched/sched_process_free/enable"), "1");
        if enabled.is_ok() { hidden } else { Self { instance: None, tasks } }
    }

    /// How many tasks of workloads were released on top of the first process.
    ///
    /// # Errors
    /// The tracer cannot be read.
    pub fn releases(&self) -> Outcome<u32> {
        let Some(instance) = &self.instance else { return Ok(0) };
        let trace = fs::read_to_string(instance.join("trace")).map_err(Failure::at(instance.display()))?;
        let of_first = |task: &str| Path::new("/proc/1/task").join(task).exists();
        let is_ours = |said: &str| self.tasks.iter().any(|task| said.starts_with(task));
        let said = |line: &&str| line.split_once("sched_process_free: ").is_some_and(|(_, said)| is_ours(said));
        let released = trace.lines().filter(said);
        let hidden = released.filter(|line| interrupted(line).is_some_and(of_first));
        u32::try_from(hidden.count()).map_err(Failure::at("the hidden releases"))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(instance) = &self.instance {
            // Fails only where it could not be made.
            let _ = fs::remove_dir(instance);
        }
    }
}

/// The task on top of which an event fired: `NAME-TASK [CPU] ...`.
fn interrupted(line: &str) -> Option<&str> {
    line.split_once(" [")?.0.trim_end().rsplit_once('-').map(|(_, task)| task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interrupted_task_is_before_the_processor() {
        let line = " tokio-rt-worker-75      [000] .Ns1. 24316.519: sched_process_free: comm=workload pid=9 prio=120";
        assert_eq!(interrupted(line), Some("75"));
        assert_eq!(interrupted("# tracer: nop"), None);
    }
}
