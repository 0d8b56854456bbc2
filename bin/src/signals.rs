//! Signals: some ask for the end, the others must not be one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};
use tracing::info;

use crate::exit::Refusal;

/// Signals that are caught but not yet listened to: they wait in a pipe.
///
/// Catching takes no thread, so it can come first of all; [`listen`](Self::listen) starts one and
/// has to wait until the probes, which may fork, are built.
pub(crate) struct Caught(Signals);

impl Caught {
    /// From here on none of these signals ends the process by itself.
    pub(crate) fn new() -> Result<Self, Refusal> {
        let all = [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2];
        let signals = Signals::new(all).map_err(|error| {
            Refusal::lasting(format!("cannot handle signals: {error}; raise the limit on open files"))
        })?;
        Ok(Self(signals))
    }

    /// Starts the thread that listens; also to what was caught before.
    pub(crate) fn listen(self) -> Result<Listening, Refusal> {
        let Self(signals) = self;
        let (sender, stop) = bounded(1);
        let handle = signals.handle();
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        let started = thread::Builder::new().name("signals".to_owned()).spawn(move || forward(signals, &sender, &flag));
        started.map_err(|error: io::Error| {
            Refusal::lasting(format!("cannot start a thread: {error}; raise the limit on threads"))
        })?;
        Ok(Listening { stop, asked, handle })
    }
}

/// A thread that turns signals into messages; it ends when this is dropped.
pub(crate) struct Listening {
    stop: Receiver<()>,
    asked: Arc<AtomicBool>,
    handle: Handle,
}

impl Listening {
    /// Gets a message when the process is asked to end.
    pub(crate) const fn stop(&self) -> &Receiver<()> {
        &self.stop
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

fn forward(mut signals: Signals, stop: &Sender<()>, asked: &AtomicBool) {
    for signal in &mut signals {
        match signal {
            SIGTERM | SIGINT | SIGQUIT => {
                asked.store(true, Ordering::Release);
                // One message is enough, however often somebody asks.
                let _ = stop.try_send(());
            }
            SIGHUP => info!("SIGHUP does nothing: a changed configuration is read at the next start"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn signals_that_came_early_are_heard_and_only_some_ask_for_the_end() {
        let caught = Caught::new().expect("handlers");
        for signal in [SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2, SIGTERM] {
            signal_hook::low_level::raise(signal).expect("a signal");
        }
        let listening = caught.listen().expect("a thread");
        listening.stop().recv_timeout(Duration::from_secs(10)).expect("SIGTERM asks for the end");
        assert!(listening.asked());
        assert!(listening.stop().is_empty(), "the others do not");
    }
}
