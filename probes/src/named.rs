//! The process that `only` names by its id: found, held on to, and known to have ended.
//!
//! A number alone is nobody's for long: it may be a thread's, a zombie's, another namespace's, or be given to another
//! process. Where the kernel has them, a descriptor of the process is held (pidfd, Linux 5.3); below, its start time.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use ebpf_process_core::BuildError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

use crate::{owner, sys};

/// One process, whatever becomes of its number.
#[derive(Debug)]
pub(crate) struct NamedProcess {
    pid: Pid,
    descriptor: Option<OwnedFd>,
    /// Field 22 of `/proc/PID/stat`, where it can be read.
    start_time: Option<u64>,
}

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Lives,
    /// It does nothing any more; its number is still its own.
    Ended,
    /// Its number may be another's.
    Released,
}

/// Where is looked; a test looks elsewhere.
struct View<'a> {
    proc: &'a str,
    descriptor: fn(Pid) -> rustix::io::Result<OwnedFd>,
    /// The namespace whose ids the kernel compares.
    initial_namespace: u32,
}

const HERE: View<'_> =
    View { proc: "/proc", descriptor: |pid| pidfd_open(pid, PidfdFlags::empty()), initial_namespace: owner::INITIAL };

impl NamedProcess {
    /// Finds the living process of this id, which must have started at this time where one is given.
    pub(crate) fn find(pid: u32, start_time: Option<u64>) -> Result<Self, BuildError> {
        HERE.find(pid, start_time)
    }

    /// One that another process has found.
    pub(crate) fn found_by_another(pid: u32, descriptor: Option<OwnedFd>, start_time: Option<u64>) -> Option<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        Some(Self { pid, descriptor, start_time })
    }

    /// Its descriptor, where the kernel has such.
    pub(crate) fn into_descriptor(self) -> Option<OwnedFd> {
        self.descriptor
    }

    /// Its id.
    pub(crate) const fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// When it started, in clock ticks since the boot, where that can be read.
    pub(crate) const fn start_time(&self) -> Option<u64> {
        self.start_time
    }

    /// Looks at it. Allocates nothing where there is a descriptor and it lives.
    pub(crate) fn life(&self) -> Life {
        HERE.life(self)
    }
}

impl View<'_> {
    fn find(&self, number: u32, wanted: Option<u64>) -> Result<NamedProcess, BuildError> {
        let running = "name the id of a running process";
        let no_such = || BuildError::refused(format!("only.pid: there is no process {number}"), running);
        self.is_initial_namespace(number)?;
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw).ok_or_else(no_such)?;
        let (descriptor, is_leader) = match (self.descriptor)(pid) {
            Ok(descriptor) => (Some(descriptor), true),
            Err(Errno::SRCH) => return Err(no_such()),
            // Its way to say that the number is a thread's; EINVAL before Linux 6.16.
            Err(Errno::INVAL | Errno::NOENT) => (None, false),
            // No such call before 5.3, or a sandbox.
            Err(_) if test_kill_process(pid) == Err(Errno::SRCH) => return Err(no_such()),
            Err(_) => (None, true),
        };
        // What others may hide from us (hidepid): then what the descriptor says is all that is known.
        let status = owner::text(&self.of(number).join("status"));
        let field = |name: &str| {
            let line = status.as_ref()?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()
        };
        match field("Tgid").and_then(|tgid| tgid.parse::<u32>().ok()) {
            Some(group) if group != number => {
                return Err(BuildError::refused(
                    format!("only.pid: {number} is a thread of process {group}"),
                    format!("name the process: only = {{ pid = {group} }}"),
                ));
            }
            None if !is_leader => {
                return Err(BuildError::refused(
                    format!("only.pid: {number} is a thread, not a process"),
                    format!("name its process, which is \"Tgid\" in /proc/{number}/status"),
                ));
            }
            _ => {}
        }
        let found = NamedProcess { pid, descriptor, start_time: owner::start_time(&self.of(number)) };
        // A first thread that has ended is no end of a process whose other threads live on.
        let others = field("Threads").and_then(|threads| threads.parse::<u32>().ok()).is_some_and(|count| count > 1);
        let is_zombie = found.descriptor.is_none() && !others && matches!(field("State"), Some("Z" | "X"));
        if is_zombie || self.life(&found) != Life::Lives {
            let problem =
                format!("only.pid: process {number} has ended; only its parent has not asked for it yet (a zombie)");
            return Err(BuildError::refused(problem, running));
        }
        match (wanted, found.start_time) {
            (Some(wanted), Some(started)) if wanted != started => Err(BuildError::refused(
                format!(
                    "only.pid: process {number} is not the one that was meant: it started at {started}, not at {wanted}"
                ),
                format!("name another process; the start time is field 22 of /proc/{number}/stat"),
            )),
            (Some(_), None) => Err(BuildError::refused(
                format!("only.start_time: /proc/{number}/stat cannot be read, so nobody knows when it started"),
                "mount /proc without hidepid for the agent's user, or leave start_time out",
            )),
            _ => Ok(found),
        }
    }

    fn life(&self, process: &NamedProcess) -> Life {
        let Some(descriptor) = &process.descriptor else {
            let now = owner::start_time(&self.of(process.id()));
            return match (process.start_time, now) {
                (Some(then), Some(now)) if then == now => Life::Lives,
                (Some(_), Some(_)) => Life::Released,
                // What cannot be read now (no descriptor left, no memory, no right) says nothing of the process.
                _ if test_kill_process(process.pid) == Err(Errno::SRCH) => Life::Released,
                _ => Life::Lives,
            };
        };
        let mut watched = [PollFd::new(descriptor, PollFlags::IN)];
        match poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(1..) if sys::is_released(descriptor.as_fd()) => Life::Released,
            Ok(1..) => Life::Ended,
            _ => Life::Lives,
        }
    }

    /// The kernel compares ids of the initial namespace; in another one the number is somebody else's.
    fn is_initial_namespace(&self, number: u32) -> Result<(), BuildError> {
        let way_out = "run the agent in the host's PID namespace (--pid=host, hostPID: true) and name the id there, or \
                       count by control group: only = { cgroup = \"...\" }";
        match owner::namespace(&Path::new(self.proc).join("self")) {
            Ok(namespace) if namespace == self.initial_namespace => Ok(()),
            Ok(_) => Err(BuildError::refused(
                format!(
                    "only.pid: this agent runs in a PID namespace of its own, and to the kernel {number} is the id of \
                     another process, in the initial PID namespace"
                ),
                way_out,
            )),
            Err(error) => Err(BuildError::refused(
                format!(
                    "only.pid: nothing tells in which PID namespace this agent runs, so whose id {number} is \
                     (/proc/self/ns/pid: {error})"
                ),
                "as root: mount -t proc proc /proc; or count by control group: only = { cgroup = \"...\" }",
            )),
        }
    }

    /// The folder of a process.
    fn of(&self, number: u32) -> PathBuf {
        Path::new(self.proc).join(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    /// A `/proc` that says of which namespace it is and nothing else: what hidepid leaves of others.
    fn hidden() -> tempfile::TempDir {
        let proc = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/proc/self", proc.path().join("self")).expect("a link");
        proc
    }

    fn none(_: Pid) -> rustix::io::Result<OwnedFd> {
        Err(Errno::NOSYS)
    }

    fn refusal(result: Result<NamedProcess, BuildError>) -> String {
        result.expect_err("refused").to_string()
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep")
    }

    /// Ends a child and waits until it is a zombie.
    fn killed(mut child: Child) -> Child {
        child.kill().expect("a child that lives");
        let pid = Pid::from_child(&child);
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), ended).expect("its end");
        child
    }

    /// As if this were the initial namespace: a test may run in a container.
    fn here() -> View<'static> {
        let initial_namespace = owner::namespace(Path::new("/proc/self")).expect("our namespace");
        View { initial_namespace, ..HERE }
    }

    #[test]
    fn a_process_is_followed_to_its_end_with_and_without_a_descriptor() {
        let hidden = hidden();
        let views = [
            ("all", here()),
            ("no pidfd", View { descriptor: none, ..here() }),
            ("hidepid", View { proc: hidden.path().to_str().expect("a name"), ..here() }),
            ("neither", View { proc: hidden.path().to_str().expect("a name"), descriptor: none, ..here() }),
        ];
        for (name, view) in views {
            let child = sleeper();
            let found = view.find(child.id(), None).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(view.life(&found), Life::Lives, "{name}");
            let mut child = killed(child);
            if found.descriptor.is_some() {
                assert_eq!(view.life(&found), Life::Ended, "{name}");
                assert!(refusal(view.find(child.id(), None)).contains("zombie"), "{name}");
            } else if name == "no pidfd" {
                assert!(refusal(view.find(child.id(), None)).contains("zombie"), "{name}");
            }
            child.wait().expect("its status");
            assert_eq!(view.life(&found), Life::Released, "{name}");
            assert!(refusal(view.find(child.id(), None)).contains("there is no process"), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_end() {
        let hidden = hidden();
        let without = View { descriptor: none, ..here() };
        let child = sleeper();
        let found = without.find(child.id(), None).expect("a process");
        assert!(found.start_time.is_some());
        let unreadable = View { proc: hidden.path().to_str().expect("a name"), ..without };
        assert_eq!(unreadable.life(&found), Life::Lives);
        killed(child).wait().expect("its status");
        assert_eq!(unreadable.life(&found), Life::Released);
    }

    #[test]
    fn a_thread_is_refused_with_the_name_of_its_process() {
        let (tell, told) = channel();
        let (done, wait) = channel::<()>();
        let body = move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()).expect("a listener");
            // Lives until the other end is dropped.
            let _ = wait.recv();
        };
        let thread = thread::Builder::new().name("named".into()).spawn(body).expect("a thread");
        let tid = told.recv().expect("its id");
        let own = std::process::id();
        for view in [here(), View { descriptor: none, ..here() }] {
            let said = refusal(view.find(tid, None));
            assert!(said.contains(&format!("{tid} is a thread of process {own}")), "{said}");
            assert!(said.contains(&format!("only = {{ pid = {own} }}")), "{said}");
        }
        let hidden = hidden();
        let said = refusal(View { proc: hidden.path().to_str().expect("a name"), ..here() }.find(tid, None));
        assert!(said.contains(&format!("{tid} is a thread, not a process")), "{said}");
        drop(done);
        thread.join().expect("the thread");
    }

    #[test]
    fn a_start_time_tells_another_process_of_the_same_number() {
        let own = std::process::id();
        let started = owner::start_time(Path::new("/proc/self")).expect("our own start time");
        assert!(here().find(own, Some(started)).is_ok());
        assert!(refusal(here().find(own, Some(started + 1))).contains("is not the one that was meant"));
        let hidden = hidden();
        let said = refusal(View { proc: hidden.path().to_str().expect("a name"), ..here() }.find(own, Some(started)));
        assert!(said.contains("cannot be read"), "{said}");
    }

    #[test]
    fn another_pid_namespace_is_the_reason_that_is_given() {
        let proc = tempfile::tempdir().expect("a folder");
        let view = View { proc: proc.path().to_str().expect("a name"), ..HERE };
        assert!(refusal(view.find(1, None)).contains("nothing tells in which PID namespace"));
        fs::create_dir_all(proc.path().join("self/ns")).expect("a folder");
        std::os::unix::fs::symlink("pid:[4026532177]", proc.path().join("self/ns/pid")).expect("a link");
        let said = refusal(view.find(1, None));
        assert!(said.contains("in a PID namespace of its own") && said.contains("--pid=host"), "{said}");
    }
}
