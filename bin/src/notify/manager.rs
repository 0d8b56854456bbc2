//! The service manager's end: its socket, and what it was told.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

use super::fares::one_line;

/// Messages that may wait while the manager's queue is full. There are not more between a start and an end, but for
/// somebody who reloads faster than the manager reads.
const UNSENT_LIMIT: usize = 16;

/// The service manager that started this process.
///
/// Telling it never waits: what its queue has no room for is kept, and goes first at the next occasion.
pub(crate) struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
    told: Mutex<Told>,
}

/// What it was told.
struct Told {
    phase: Phase,
    unsent: VecDeque<String>,
    /// The line for people that it has.
    line: String,
    /// Whether the log says that it cannot be told.
    complained: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    Reloading,
    Stopping,
}

impl Manager {
    /// The one that these variables name, if there is one; `pid` is this process.
    pub(crate) fn of_environment(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> io::Result<Option<Self>> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
        let address = match name.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(&name)?,
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => return Err(io::Error::other(format!("{} is no path of a socket", name.to_string_lossy()))),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // While this process may: it can become somebody who may not reach the socket. Where nobody is there yet, each
        // message is sent to the address.
        let _ = socket.connect_addr(&address);
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        // They may be those of a process above this one.
        let ours = variable("WATCHDOG_PID").is_none_or(|of| of == OsStr::new(&pid.to_string()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0).map(Duration::from_micros);
        let told = Mutex::new(Told {
            phase: Phase::Starting,
            unsent: VecDeque::new(),
            line: String::new(),
            complained: false,
        });
        Ok(Some(Self { socket, address, watchdog, told }))
    }

    /// After how long a silence it ends this process, if it does.
    pub(crate) const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The start is complete. Only the first time has an effect.
    pub(crate) fn started(&self) {
        self.enter(|phase| phase == Phase::Starting, Phase::Ready, "READY=1".to_owned());
    }

    /// The configuration is being read again; before the start is complete that is a part of it.
    pub(crate) fn reloading(&self) {
        // The manager compares it with the time of its own request.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec / 1_000);
        let text = format!("RELOADING=1\nMONOTONIC_USEC={micros}");
        // Again for a request that came meanwhile: it waits for an answer of its own.
        self.enter(|phase| matches!(phase, Phase::Ready | Phase::Reloading), Phase::Reloading, text);
    }

    /// What was being read again is in force, or stays what it was: `line` says which. In one message, so that whoever
    /// waited for the end of the reload finds the line.
    pub(crate) fn reloaded(&self, line: &str) {
        let line = one_line(line);
        if self.enter(|phase| phase == Phase::Reloading, Phase::Ready, format!("READY=1\nSTATUS={line}")) {
            self.told().line = line;
        }
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.enter(|phase| phase != Phase::Stopping, Phase::Stopping, "STOPPING=1".to_owned());
    }

    /// A line for people, unless it is the one that the manager has; returns whether it went out.
    pub(crate) fn say(&self, line: &str) -> bool {
        let mut told = self.told();
        let sent = told.line != line && self.send_now(&mut told, &format!("STATUS={line}"));
        if sent {
            line.clone_into(&mut told.line);
        }
        sent
    }

    /// This process is not stuck.
    pub(crate) fn alive(&self) {
        // Where it cannot be sent, the next one is due before it is missed.
        self.send_now(&mut self.told(), "WATCHDOG=1");
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether it came from where it may.
    fn enter(&self, from: impl Fn(Phase) -> bool, to: Phase, text: String) -> bool {
        let mut told = self.told();
        let enters = from(told.phase);
        if enters {
            told.phase = to;
            told.unsent.push_back(text);
            if told.unsent.len() > UNSENT_LIMIT {
                told.unsent.pop_front();
            }
            self.send_unsent(&mut told);
        }
        enters
    }

    /// Sends this behind all that waits, and keeps it not.
    fn send_now(&self, told: &mut Told, text: &str) -> bool {
        self.send_unsent(told) && self.send(told, text)
    }

    fn send_unsent(&self, told: &mut Told) -> bool {
        while let Some(text) = told.unsent.pop_front() {
            if !self.send(told, &text) {
                told.unsent.push_front(text);
                return false;
            }
        }
        true
    }

    fn send(&self, told: &mut Told, text: &str) -> bool {
        let mut sent = self.socket.send(text.as_bytes());
        if sent.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            // It has never been connected, or the manager has made its socket anew.
            let _ = self.socket.connect_addr(&self.address);
            sent = self.socket.send(text.as_bytes());
        }
        match sent {
            Ok(_) => true,
            Err(error) => {
                let full = error.kind() == io::ErrorKind::WouldBlock;
                if !full && !std::mem::replace(&mut told.complained, true) {
                    warn!(
                        "cannot tell the service manager at NOTIFY_SOCKET: {error}; it is tried again and not logged"
                    );
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager's own end, and the manager as this process sees it.
    fn manager(name: &str, variables: &[(&str, &str)]) -> io::Result<Option<Manager>> {
        let variables = [&[("NOTIFY_SOCKET", name)], variables].concat();
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        Manager::of_environment(variable, 7)
    }

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).expect("a socket");
        let mut buffer = [0; 512];
        let texts = std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()));
        texts.map(|text| String::from_utf8(text).expect("text")).collect()
    }

    #[test]
    fn each_phase_is_told_once_and_in_its_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let abstract_name = format!("ebpf-process-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&abstract_name).expect("a name");
        for (name, socket) in [
            (path.to_str().expect("a path").to_owned(), UnixDatagram::bind(&path)),
            (format!("@{abstract_name}"), UnixDatagram::bind_addr(&abstract_address)),
        ] {
            let socket = socket.expect("a socket");
            let manager = manager(&name, &[]).expect("a name").expect("a manager");
            // Neither is anything before the start is complete.
            manager.reloading();
            manager.reloaded("never");
            assert!(manager.say("starting"));
            assert!(!manager.say("starting"), "it has that line");
            manager.started();
            manager.started();
            manager.reloaded("never");
            assert_eq!(heard(&socket), ["STATUS=starting", "READY=1"]);
            manager.reloading();
            manager.reloaded("not taken over: a\nWATCHDOG=trigger");
            assert!(!manager.say("not taken over: a WATCHDOG=trigger"), "it has that line");
            manager.alive();
            let [reloading, ready, alive] = &heard(&socket)[..] else { panic!("three messages") };
            let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a reload");
            assert!(micros.parse::<u64>().is_ok_and(|micros| micros > 0), "{micros}");
            let line = "READY=1\nSTATUS=not taken over: a WATCHDOG=trigger";
            assert_eq!((ready.as_str(), alive.as_str()), (line, "WATCHDOG=1"));
            manager.reloading();
            manager.stopping();
            manager.stopping();
            manager.reloaded("never");
            manager.started();
            assert_eq!(heard(&socket).split_off(1), ["STOPPING=1"]);
        }
    }

    #[test]
    fn what_the_managers_queue_has_no_room_for_goes_first_as_soon_as_there_is_some() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let manager = manager(path.to_str().expect("a path"), &[]).expect("a name").expect("a manager");
        let mut number = 0..;
        while manager.say(&format!("full {:?}", number.next())) {}
        manager.started();
        for _ in 0..2 * UNSENT_LIMIT {
            manager.reloading();
        }
        manager.stopping();
        let mut all = Vec::new();
        // The kernel keeps a few at a time.
        while !manager.say("room") {
            all.extend(heard(&socket));
        }
        all.extend(heard(&socket));
        let kept: Vec<&str> = all.iter().map(String::as_str).filter(|text| !text.starts_with("STATUS=full")).collect();
        assert_eq!(kept.len(), UNSENT_LIMIT + 1, "a bounded number is kept: {kept:?}");
        assert_eq!(kept[UNSENT_LIMIT - 1..], ["STOPPING=1", "STATUS=room"]);
    }

    #[test]
    fn what_names_no_manager_is_none_and_what_names_no_socket_is_said() {
        let watchdog = |variables: &[(&str, &str)]| {
            manager("/run/systemd/notify", variables).expect("a name").expect("a manager").watchdog()
        };
        assert_eq!(watchdog(&[]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "3000000")]), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "7")]), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "8")]), None, "somebody else's");
        for wrong in ["0", "", "-1", "1s", "99999999999999999999"] {
            assert_eq!(watchdog(&[("WATCHDOG_USEC", wrong)]), None, "{wrong}");
        }
        assert!(manager("", &[]).expect("nothing is named").is_none());
        assert!(Manager::of_environment(|_| None, 7).expect("nothing is named").is_none());
        for wrong in ["vsock:2:1", "notify", &format!("/{}", "x".repeat(200))] {
            assert!(manager(wrong, &[]).is_err(), "{wrong}");
        }
        // Nobody is there: no failure of ours.
        let gone = manager("/nonexistent/notify", &[]).expect("a name").expect("a manager");
        gone.started();
        assert!(!gone.say("hello"));
    }
}
