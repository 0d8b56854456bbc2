//! A sink's thread: it takes batches from the queue, calls the sink and enters what became of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::batch::Batch;
use crate::error::{SinkError, chain};
use crate::ledger::Ledger;
use crate::outlet::OutletSpec;
use crate::sink::{Settlement, Sink};
use crate::view::{Projection, View};

/// Why samples are dropped that come for a sink that is over.
pub(crate) const CLOSED: &str = "sink closed";

/// A batch on its way to one sink.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) batch: Arc<Batch>,
    pub(crate) projection: Arc<Projection>,
    pub(crate) samples: u64,
    /// Time since the sink's batch before.
    pub(crate) elapsed: Duration,
    /// Not written earlier.
    pub(crate) due: Option<Instant>,
}

/// How far a sink has come, for the collecting thread.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    over: AtomicBool,
    /// The batches that the sink took without an error and that the collecting thread has not heard of, in
    /// order: they come from there, so they are few.
    taken: Mutex<Vec<u64>>,
    /// One more than the number of the newest batch that the sink is done with, whatever came of it.
    done: AtomicU64,
}

impl Progress {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Fills in the numbers of the batches that the sink took since this was asked last, and returns one more
    /// than that of the newest one that it is done with.
    pub(crate) fn read(&self, taken: &mut Vec<u64>) -> u64 {
        // In this order: what is done has been entered as taken before, if it was.
        let done = self.done.load(Ordering::Acquire);
        taken.clear();
        taken.append(&mut self.taken.lock());
        done
    }
}

/// The sink's thread.
pub(crate) struct Worker {
    name: String,
    queue: Receiver<Parcel>,
    ledger: Arc<Ledger>,
    progress: Arc<Progress>,
    /// The call that has failed and not succeeded since.
    failing: Option<&'static str>,
    panicked: bool,
    /// One more than the number of the newest batch that the sink was given.
    seen: u64,
    /// What the sink has taken since its last flush, and its outlet settles.
    unflushed: Unflushed,
    /// How many batches may be unflushed.
    limit: usize,
    /// Hangs up when nothing more is to be waited for.
    stopping: Receiver<()>,
}

#[derive(Default)]
struct Unflushed {
    /// Their numbers.
    batches: Vec<u64>,
    samples: u64,
}

impl Worker {
    pub(crate) fn new(
        spec: &OutletSpec,
        queue: Receiver<Parcel>,
        ledger: &Arc<Ledger>,
        progress: &Arc<Progress>,
        stopping: Receiver<()>,
    ) -> Self {
        Self {
            name: spec.name.clone(),
            queue,
            ledger: Arc::clone(ledger),
            progress: Arc::clone(progress),
            failing: None,
            panicked: false,
            seen: 0,
            unflushed: Unflushed::default(),
            limit: spec.queue.max(1),
            stopping,
        }
    }

    /// Runs until the queue is hung up (`Ok`) or the sink is over (`Err`).
    pub(crate) fn run(mut self, mut sink: Box<dyn Sink>) -> Result<(), SinkError> {
        let result = self.drain(&mut *sink);
        if let Err(error) = &result {
            self.ledger.is_over(&chain(error));
            info!(sink = %self.name, "the sink is over: {}", chain(error));
            // That says it all: whatever comes for it is dropped.
            self.ledger.says_itself(CLOSED);
            self.settle_flushed(false);
        }
        // A sink that panicked in use may panic again when dropped.
        if catch_unwind(AssertUnwindSafe(move || drop(sink))).is_err() {
            error!(sink = %self.name, "the sink panicked while it was dropped");
        }
        if result.is_err() {
            // From here on the collecting thread puts nothing into the queue, or takes it out again.
            self.progress.over.store(true, Ordering::SeqCst);
            while self.queue.try_recv().is_ok() {}
            self.ledger.close(CLOSED);
        }
        self.ledger.tell_losses(&self.name);
        result
    }

    fn drain(&mut self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        loop {
            let parcel = match self.queue.try_recv() {
                Ok(parcel) => parcel,
                Err(TryRecvError::Empty) => {
                    self.flush(sink)?;
                    match self.wait(sink)? {
                        Ok(parcel) => parcel,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
                Err(TryRecvError::Disconnected) => break,
            };
            self.write(sink, parcel)?;
            if self.unflushed.batches.len() >= self.limit {
                self.flush(sink)?;
            }
        }
        self.flush(sink)?;
        self.guard("close", sink, |sink| sink.close())?;
        Ok(())
    }

    fn write(&mut self, sink: &mut dyn Sink, parcel: Parcel) -> Result<(), SinkError> {
        let Parcel { batch, projection, samples, elapsed, due } = parcel;
        if let Some(due) = due {
            // Nothing is ever sent: either the time comes or the end.
            let _ = self.stopping.recv_deadline(due);
        }
        let by_sink = sink.settles() == Settlement::BySink;
        let view = View::new(&batch, &projection, elapsed);
        let outcome = self.guard("write", sink, |sink| sink.write(&view));
        let number = batch.tick().seq;
        // Before the samples are settled: whoever sees an empty queue finds the batch free again.
        drop((batch, projection));
        match &outcome {
            Ok(true) if by_sink => self.progress.taken.lock().push(number),
            Ok(true) => {
                self.unflushed.batches.push(number);
                self.unflushed.samples += samples;
            }
            Ok(false) if by_sink => {}
            // What it has settled of the view by then is not known: the rest is given up with the queue.
            Err(_) if by_sink && self.panicked => {}
            Ok(false) | Err(_) => self.ledger.failed(samples),
        }
        self.seen = number + 1;
        if self.unflushed.batches.is_empty() {
            self.progress.done.store(self.seen, Ordering::Release);
        }
        self.tell();
        outcome.map(drop)
    }

    /// Has the sink push out what it has buffered: only then is it known what became of it.
    fn flush(&mut self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        let flushed = self.guard("flush", sink, |sink| sink.flush())?;
        self.settle_flushed(flushed);
        self.tell();
        Ok(())
    }

    fn settle_flushed(&mut self, flushed: bool) {
        let Unflushed { batches, samples } = &mut self.unflushed;
        let samples = std::mem::take(samples);
        if batches.is_empty() {
            return;
        }
        if flushed {
            self.progress.taken.lock().append(batches);
        }
        batches.clear();
        self.progress.done.store(self.seen, Ordering::Release);
        if flushed { self.ledger.written(samples) } else { self.ledger.failed(samples) }
    }

    /// Says the first loss of each kind.
    fn tell(&self) {
        self.ledger.tell_losses(&self.name);
    }

    /// Waits for a parcel, no longer than until the sink has something due.
    fn wait(&mut self, sink: &mut dyn Sink) -> Result<Result<Parcel, RecvTimeoutError>, SinkError> {
        let mut due = None;
        self.guard("say what is due", sink, |sink| {
            due = sink.due();
            Ok(())
        })?;
        Ok(match due {
            Some(due) => self.queue.recv_deadline(due),
            None => self.queue.recv().map_err(RecvTimeoutError::from),
        })
    }

    /// Calls the sink. `Ok` says whether the call succeeded; an error means the sink is over.
    fn guard(
        &mut self,
        what: &'static str,
        sink: &mut dyn Sink,
        call: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>,
    ) -> Result<bool, SinkError> {
        match catch_unwind(AssertUnwindSafe(|| call(sink))) {
            Ok(Ok(())) => {
                if self.failing == Some(what) {
                    self.failing = None;
                    self.ledger.works();
                    info!(sink = %self.name, "the sink works again");
                }
                Ok(true)
            }
            Ok(Err(SinkError::Failed(cause))) => {
                self.ledger.fails(&chain(&*cause));
                // Said once per outage; the ledger counts the rest.
                if self.failing.is_none() {
                    self.failing = Some(what);
                    warn!(sink = %self.name, "cannot {what}: {}; further failures are counted, not logged", chain(&*cause));
                }
                Ok(false)
            }
            Ok(Err(closed @ SinkError::Closed(_))) => Err(closed),
            Err(_) => {
                self.panicked = true;
                error!(sink = %self.name, "the sink panicked in {what}: it is closed");
                Err(SinkError::closed("the sink panicked"))
            }
        }
    }
}
