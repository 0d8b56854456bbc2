//! How somebody on another thread calls a sink.

use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Calls a sink's thread: [`Sink::flush`](crate::Sink::flush) is called soon. For sinks that learn on another thread what
/// became of their samples, or that they can go on. Clones call the same sink.
#[derive(Clone, Debug)]
pub struct Waker {
    call: Sender<()>,
    /// Has room for one call: whoever has not yet followed one need not be called twice.
    called: Receiver<()>,
}

impl Default for Waker {
    fn default() -> Self {
        let (call, called) = bounded(1);
        Self { call, called }
    }
}

impl Waker {
    /// Has the sink's `flush` called, once for all calls until then. Never waits. Nothing happens where the sink has ended.
    pub fn wake(&self) {
        // No room: it is called already.
        let _ = self.call.try_send(());
    }

    /// Waits for a call, for whoever runs a sink without an agent. Whether one came before the deadline.
    pub fn wait(&self, deadline: Instant) -> bool {
        self.called.recv_deadline(deadline).is_ok()
    }

    /// Where calls arrive.
    pub(crate) const fn called(&self) -> &Receiver<()> {
        &self.called
    }
}
