//! The programs that follow processes.

use crate::hook::{Attach, Hook};

/// Program and tracepoint. The end of a process comes last: a counter's program on the same tracepoint must have counted
/// before.
const FOLLOWERS: [(&str, &str); 5] = [
    ("who_made", "cgroup_mkdir"),
    ("who_moved", "cgroup_attach_task"),
    ("who_rename", "task_rename"),
    ("who_new", "task_newtask"),
    ("who_free", "sched_process_free"),
];

/// What every object that tells by whom has to have attached, behind its counters.
pub(crate) fn hooks() -> Vec<Hook> {
    let hook = |(program, tracepoint): (&str, &'static str)| Hook {
        program: program.to_owned(),
        attach: Attach::Tracepoint(tracepoint),
        proof: Vec::new(),
        may_lack: false,
    };
    FOLLOWERS.into_iter().map(hook).collect()
}
