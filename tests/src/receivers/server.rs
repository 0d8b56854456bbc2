//! A server process of a test: its folder, its free port, its end.

use crate::{Failure, Outcome, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Time to end well before it is killed.
const END: Duration = Duration::from_secs(10);

/// A running server, asked to end and then killed when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    name: &'static str,
    child: Child,
    // After the process, which writes into it.
    folder: TempDir,
}

impl Server {
    /// A folder for a server that is not started yet.
    pub(super) fn folder(name: &str) -> Outcome<TempDir> {
        let prefix = format!("ebpf-process-{name}-");
        tempfile::Builder::new().prefix(&prefix).tempdir().map_err(Failure::at(format!("a folder for {name}")))
    }

    /// Starts it; what it says goes to the file `server.log` in its folder.
    pub(super) fn start(name: &'static str, folder: TempDir, command: &mut Command) -> Outcome<Self> {
        Ok(Self { name, child: spawn(name, folder.path(), command)?, folder })
    }

    /// Kills it, so that it has no time to tidy up.
    pub(super) fn kill(&mut self) {
        // Fails only when it has ended, which is what it is for; so below.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it once more after its end, with its folder as it left it.
    pub(super) fn start_again(&mut self, command: &mut Command) -> Outcome<()> {
        self.child = spawn(self.name, self.folder.path(), command)?;
        Ok(())
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns when it answers; a question that fails is asked again.
    pub(super) fn wait_until_ready(&mut self, ready: impl Fn() -> bool) -> Outcome<()> {
        let name = self.name;
        let waited = wait::until(&format!("{name} to be ready"), super::READY, || {
            if let Some(status) = self.child.try_wait().map_err(Failure::at(name))? {
                return Err(Failure::new(format!("{name} ended with {status}")));
            }
            Ok(ready().then_some(()))
        });
        waited.map_err(|failure| self.with_log(&failure))
    }

    /// The failure with what the server said.
    pub(super) fn with_log(&self, failure: &Failure) -> Failure {
        let log = fs::read_to_string(self.path().join("server.log")).unwrap_or_default();
        Failure::new(format!("{failure}; {} said:\n{}", self.name, log.trim_end()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Fails only when it has ended, which is what it is for.
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = wait::until(self.name, END, || Ok(self.child.try_wait().unwrap_or_default()));
        if ended.is_err() {
            self.kill();
        }
    }
}

fn spawn(name: &str, folder: &Path, command: &mut Command) -> Outcome<Child> {
    let log = File::options().create(true).append(true).open(folder.join("server.log"));
    let log = log.map_err(Failure::at(format!("a log for {name}")))?;
    let errors = log.try_clone().map_err(Failure::at(format!("a log for {name}")))?;
    let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
    child.map_err(Failure::at(format!("starting {name}")))
}

/// A TCP port of loopback that nobody has now.
///
/// # Errors
/// There is none.
pub fn free_tcp_port() -> Outcome<u16> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    Ok(bound.map_err(Failure::at("a free TCP port"))?.port())
}

/// Whether somebody listens for UDP at this port of loopback: who sends before that loses it without a trace.
pub(super) fn is_bound(port: u16) -> bool {
    let local = format!(" 0100007F:{port:04X} ");
    fs::read_to_string("/proc/net/udp").is_ok_and(|sockets| sockets.contains(&local))
}

/// A UDP port of loopback that nobody has now.
pub(super) fn free_udp_port() -> Outcome<u16> {
    let bound = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    Ok(bound.map_err(Failure::at("a free UDP port"))?.port())
}
