//! What a probe needs done with the broker's rights, in a process of its own.

use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ebpf_process_config::PlannedProbe;
use ebpf_process_core::{BuildError, Message};
use ebpf_process_probes::fork_alone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_parent_process_death_signal, waitpid,
};
use tracing::warn;

use super::language::{Refusal, Reply, encode, send_parts};
use super::wire::Socket;

/// How long it may take: attaching many hooks takes seconds on some kernels.
const LIMIT: Duration = Duration::from_mins(1);

/// Has the plugin do it in a child, which answers by itself. A crash or a leak there costs nothing here: then the refusal
/// is the answer.
pub(crate) fn assist(
    socket: &Socket,
    number: u32,
    probe: &PlannedProbe,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
) -> Result<(), Refusal> {
    // It closes with the child.
    let (alive, held) = io::pipe()?;
    let broker = getpid();
    let child = fork_alone(move || {
        let _held = held;
        match answer(socket, number, probe, broker, Message { bytes, descriptors }) {
            Ok(()) => 0,
            Err(error) => {
                warn!(probe = probe.name, "what was done for it cannot be handed over: {error}");
                1
            }
        }
    })?;
    let pid = i32::try_from(child).ok().and_then(Pid::from_raw).ok_or_else(|| Refusal::of("it has no number"))?;
    let in_time = wait(&alive, socket);
    if !in_time {
        // It may have ended this moment.
        let _ = kill_process(pid, Signal::KILL);
    }
    let ended = waitpid(Some(pid), WaitOptions::empty())?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        _ => Err(Refusal::from(&BuildError::refused(
            format!("what is done with more rights for the probe {} {}", probe.name, {
                if in_time { "has crashed" } else { "takes too long" }
            }),
            "restart the agent, and report this",
        ))),
    }
}

/// In the child.
fn answer(socket: &Socket, number: u32, probe: &PlannedProbe, broker: Pid, request: Message) -> io::Result<()> {
    // Nothing depends on the name.
    let _ = rustix::thread::set_name(c"ebpf-assist");
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(broker) {
        return Err(io::Error::other("the broker has ended"));
    }
    let last = match probe.plugin.assist(&probe.options, request) {
        Ok(Message { bytes, descriptors }) => {
            send_parts(socket, number, &bytes, &descriptors)?;
            Reply::Done(None)
        }
        Err(error) => Reply::Refused((&error).into()),
    };
    socket.send(&encode(number, &last), &[])
}

/// Waits for the child's end. False if that takes too long, or if nobody waits for the answer any more.
fn wait(alive: &PipeReader, socket: &Socket) -> bool {
    let deadline = Instant::now() + LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(limit) = Timespec::try_from(left) else { return false };
        let mut watched = [PollFd::new(alive, PollFlags::empty()), PollFd::new(socket, PollFlags::empty())];
        match poll(&mut watched, Some(&limit)) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return !watched[0].revents().is_empty(),
            Err(_) => return false,
        }
    }
}
