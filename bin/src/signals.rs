//! Signals: some ask for the end, the others must not be one.

use ebpf_process_core::identity;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGALRM, SIGIO, SIGPIPE, SIGPROF, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use tracing::info;

use crate::exit::Refusal;
use crate::notify;
use crate::reloads::Reloads;

/// What somebody may send who means well; the usual answer of the kernel is to end the process. They get a handler and
/// are not set to be ignored: a program that the agent starts would inherit that.
const HARMLESS: [i32; 11] =
    [SIGALRM, SIGIO, SIGPIPE, SIGPROF, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ, SIGSTKFLT, SIGPWR];

/// Names that the field has and the library has not.
const SIGSTKFLT: i32 = 16;
const SIGPWR: i32 = 30;

/// The signals without names; the C library keeps the two before them for itself.
const REAL_TIME: RangeInclusive<i32> = 34..=64;

/// Signals that are caught but not yet listened to: they wait in a pipe.
///
/// Catching takes no thread, so it can come first of all; [`listen`](Self::listen) starts one and
/// has to wait until the probes, which may fork, are built.
pub(crate) struct Caught {
    signals: Signals,
    hang_up: HangUp,
}

/// What SIGHUP means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HangUp {
    /// The terminal is closed: the end.
    Ends,
    /// The configuration was changed: there is no terminal that could have been closed.
    Reloads,
    /// Nothing: somebody asked for that (`nohup`).
    Nothing,
}

impl HangUp {
    /// Ends a process that has a controlling terminal, unless it was started with the signal ignored; has one without a
    /// terminal read its configuration again.
    fn here() -> Self {
        let own = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        Self::of(&own("stat"), &own("status"))
    }

    /// Whether a signal asks for the end.
    const fn ends(self, signal: i32) -> bool {
        match signal {
            SIGTERM | SIGINT | SIGQUIT => true,
            SIGHUP => matches!(self, Self::Ends),
            _ => false,
        }
    }

    fn of(stat: &str, status: &str) -> Self {
        // The name in parentheses may contain anything; the terminal's number is the fifth field behind it.
        let behind = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let on_terminal = behind.split_whitespace().nth(4).is_some_and(|number| number != "0");
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        match (on_terminal, ignored & (1 << (SIGHUP - 1)) != 0) {
            (_, true) => Self::Nothing,
            (true, false) => Self::Ends,
            (false, false) => Self::Reloads,
        }
    }
}

impl Caught {
    /// From here on none of these signals ends the process by itself.
    pub(crate) fn new() -> Result<Self, Refusal> {
        Self::with(HangUp::here())
    }

    /// The same for a plugin of netdata, which no signal may kill.
    pub(crate) fn under_netdata() -> Result<Self, Refusal> {
        Self::with(HangUp::Reloads)
    }

    fn with(hang_up: HangUp) -> Result<Self, Refusal> {
        let all = [SIGTERM, SIGINT, SIGQUIT, SIGHUP].into_iter().chain(HARMLESS).chain(REAL_TIME);
        let signals = Signals::new(all).map_err(|error| {
            Refusal::lasting(format!("cannot handle signals: {error}; raise the limit on open files"))
        })?;
        Ok(Self { signals, hang_up })
    }

    /// Whether the process was asked to end. For the time before [`listen`](Self::listen): what was heard here is not
    /// heard again there.
    pub(crate) fn asked(&mut self) -> bool {
        let Self { signals, hang_up } = self;
        signals.pending().any(|signal| hang_up.ends(signal))
    }

    /// Starts the thread that listens; also to what was caught before.
    pub(crate) fn listen(self, asking: Reloads) -> Result<Listening, Refusal> {
        let Self { signals, hang_up } = self;
        let (sender, stop) = bounded(1);
        let handle = signals.handle();
        let teller = sender.clone();
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        let forward = move || forward(signals, hang_up, &sender, &flag, &asking);
        let started = thread::Builder::new().name("signals".to_owned()).spawn(forward);
        started.map_err(|error: io::Error| {
            Refusal::lasting(format!("cannot start a thread: {error}; raise the limit on threads"))
        })?;
        Ok(Listening { stop, asked, teller, handle })
    }
}

/// A thread that turns signals into messages; it ends when this is dropped.
pub(crate) struct Listening {
    stop: Receiver<()>,
    asked: Arc<AtomicBool>,
    teller: Sender<()>,
    handle: Handle,
}

impl Listening {
    /// Gets a message when the process is asked to end.
    pub(crate) const fn stop(&self) -> &Receiver<()> {
        &self.stop
    }

    /// Sends the same message for another reason.
    pub(crate) fn teller(&self) -> Sender<()> {
        self.teller.clone()
    }

    /// Whether the process was asked to end.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn forward(mut signals: Signals, hang_up: HangUp, stop: &Sender<()>, asked: &AtomicBool, asking: &Reloads) {
    for signal in &mut signals {
        if hang_up.ends(signal) {
            asked.store(true, Ordering::Release);
            // One message is enough, however often somebody asks.
            let _ = stop.try_send(());
        } else if signal == SIGHUP && hang_up == HangUp::Reloads {
            asking.ask();
        } else if signal == SIGHUP {
            // A service manager that sent it waits for an answer.
            notify::reloading();
            let said = format!(
                "SIGHUP does nothing: it was started so (nohup); `{} reload` reads the configuration again",
                identity().name()
            );
            info!("{said}");
            notify::reloaded(&said);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn signals_that_came_early_are_heard_and_only_some_ask_for_the_end() {
        let caught = Caught::under_netdata().expect("handlers");
        for signal in [SIGHUP].into_iter().chain(HARMLESS).chain(REAL_TIME).chain([SIGTERM]) {
            signal_hook::low_level::raise(signal).expect("a signal");
        }
        let (asking, requests) = crate::reloads::channel();
        let listening = caught.listen(asking).expect("a thread");
        listening.stop().recv_timeout(Duration::from_secs(10)).expect("SIGTERM asks for the end");
        assert!(listening.asked());
        assert!(listening.stop().is_empty(), "the others do not");
        assert!(requests.try_recv().is_ok_and(|request| request.is_none()), "a hang-up asks for a reload");
    }

    #[test]
    fn a_hang_up_is_the_end_of_what_has_a_terminal_and_was_not_told_to_stay() {
        let stat = |terminal| format!("7 (a) b) S 1 7 7 {terminal} 7 4194560");
        let status = |mask: &str| format!("Name:\ta\nSigIgn:\t{mask}\nSigCgt:\t0000000000000001\n");
        let (none, hang_up) = ("0000000000001000", "0000000000001001");
        for (stat, status, means) in [
            (stat(34816), status(none), HangUp::Ends),
            (stat(34816), status(hang_up), HangUp::Nothing),
            (stat(0), status(none), HangUp::Reloads),
            (stat(0), status(hang_up), HangUp::Nothing),
            (String::new(), String::new(), HangUp::Reloads),
        ] {
            assert_eq!(HangUp::of(&stat, &status), means, "{stat} {status}");
        }
    }
}
