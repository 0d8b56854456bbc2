//! A sink's thread: it takes batches from the queue, calls the sink and enters what became of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, at, never, select};
use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::batch::Batch;
use crate::error::{SinkError, SinkErrorKind, chain, said};
use crate::finals::Finals;
use crate::ledger::Ledger;
use crate::lens::Lens;
use crate::part::{Predecessor, SinkMaker};
use crate::retry::Retry;
use crate::sink::{Legacy, Settlement, Sink, Stop};
use crate::view::KeptView;

/// Why samples are dropped that come for a sink that is over.
pub(crate) const CLOSED: &str = "sink closed";

/// Why samples are dropped that a sink had in its hands when it panicked.
const PANICKED: &str = "sink panicked";

/// Why samples are dropped that waited for a sink which did not come.
const ABSENT: &str = "sink absent";

/// A batch on its way to one sink.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) batch: Arc<Batch>,
    pub(crate) lens: Arc<Lens>,
    pub(crate) samples: u64,
    /// The memory that it keeps from being used again.
    pub(crate) bytes: usize,
    /// Time since the sink's batch before.
    pub(crate) elapsed: Duration,
    /// Not written earlier.
    pub(crate) due: Option<Instant>,
}

/// What the two ends of the way to a sink both know.
#[derive(Debug)]
pub(crate) struct Shared {
    over: AtomicBool,
    absent: AtomicBool,
    /// Who gets what the sink cannot deliver any more.
    heir: Mutex<Option<Sender<Legacy>>>,
    /// Bytes of the batches in the queue.
    waiting: AtomicUsize,
    /// The rows that have ended and that the sink has not taken.
    pub(crate) finals: Finals,
}

impl Shared {
    pub(crate) fn new(finals_bytes: usize) -> Self {
        Self {
            over: AtomicBool::new(false),
            absent: AtomicBool::new(false),
            heir: Mutex::default(),
            waiting: AtomicUsize::new(0),
            finals: Finals::new(finals_bytes),
        }
    }

    /// Whether there is no sink to take batches, though there may be later.
    pub(crate) fn is_absent(&self) -> bool {
        self.absent.load(Ordering::SeqCst)
    }

    pub(crate) fn set_absent(&self, absent: bool) {
        self.absent.store(absent, Ordering::SeqCst);
    }

    /// What the sink cannot deliver any more goes to a successor. To be said before the queue is hung up.
    pub(crate) fn leave_to(&self, heir: Sender<Legacy>) {
        *self.heir.lock() = Some(heir);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A batch goes into the queue.
    pub(crate) fn waits(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A batch has left the queue.
    pub(crate) fn left(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The sink's thread.
pub(crate) struct Worker {
    name: String,
    queue: Receiver<Parcel>,
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    /// The call that has failed and not succeeded since.
    failing: Option<&'static str>,
    panicked: bool,
    /// It was to be built and could not be, or has panicked.
    refused: bool,
    /// What the sink has taken since its last flush, and its outlet settles.
    unflushed: Unflushed,
    /// How many batches may be unflushed.
    limit: usize,
    /// Hangs up when nothing more is to be waited for.
    stopping: Receiver<()>,
    retry: Retry,
}

/// Where a worker's sink comes from.
pub(crate) struct Origin {
    /// The sink, if it is built already.
    pub(crate) built: Option<Box<dyn Sink>>,
    /// Builds it, also anew where it panicked.
    pub(crate) make: Option<SinkMaker>,
    /// Tells the sink that its outlet is being closed.
    pub(crate) stop: Stop,
    /// Whose place it takes: waited for before anything is built, since both may need the same.
    pub(crate) predecessor: Option<Predecessor>,
}

#[derive(Default)]
struct Unflushed {
    batches: usize,
    samples: u64,
}

impl Worker {
    /// A worker for the sink of this name, which takes so many batches at once at most.
    pub(crate) fn new(
        (name, limit): (&str, usize),
        queue: Receiver<Parcel>,
        ledger: &Arc<Ledger>,
        shared: &Arc<Shared>,
        stopping: Receiver<()>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            queue,
            ledger: Arc::clone(ledger),
            shared: Arc::clone(shared),
            failing: None,
            panicked: false,
            refused: false,
            unflushed: Unflushed::default(),
            limit: limit.max(1),
            stopping,
            retry: Retry::default(),
        }
    }

    /// Runs until the queue is hung up (`Ok`) or the sink is over (`Err`).
    pub(crate) fn run(mut self, origin: Origin) -> Result<(), SinkError> {
        let result = self.live(origin);
        if let Err(error) = &result {
            self.ledger.is_over(&error.to_string());
            info!(sink = %self.name, "the sink is over: {error}");
            // That says it all: whatever comes for it is dropped.
            self.ledger.says_itself(CLOSED);
            self.settle_flushed(false);
            // From here on the collecting thread puts nothing into the queue, or takes it out again.
            self.shared.over.store(true, Ordering::SeqCst);
            while self.queue.try_recv().is_ok() {}
            self.ledger.close(CLOSED);
            self.ledger.lost(self.shared.finals.end(), CLOSED);
        }
        self.ledger.tell_losses(&self.name);
        // A successor need not wait any longer.
        drop(self.shared.heir.lock().take());
        result
    }

    /// Has a sink do its work, another one where it panics and can be built anew.
    fn live(&mut self, origin: Origin) -> Result<(), SinkError> {
        let Origin { mut built, mut make, stop, predecessor } = origin;
        let mut legacy = predecessor.and_then(Predecessor::wait);
        if let Some(legacy) = &legacy {
            self.ledger.take_over(legacy.samples);
        }
        loop {
            let mut sink = match (built.take(), &mut make) {
                (Some(sink), _) => sink,
                (None, Some(make)) => match self.make(make, &stop)? {
                    Some(sink) => sink,
                    None => return Ok(()),
                },
                (None, None) => return Err(SinkError::closed("there is nobody who builds it")),
            };
            let inherited = match legacy.take() {
                Some(legacy) => self.guard("take over", &mut *sink, |sink| {
                    sink.inherit(legacy);
                    Ok(())
                }),
                None => Ok(true),
            };
            let result = inherited.and_then(|_| self.drain(&mut *sink));
            // A sink that panicked in use may panic again when dropped.
            if catch_unwind(AssertUnwindSafe(move || drop(sink))).is_err() {
                error!(sink = %self.name, "the sink panicked while it was dropped");
            }
            match result {
                Err(_) if std::mem::take(&mut self.panicked) && make.is_some() => self.recover(),
                result => return result,
            }
        }
    }

    /// A sink has panicked, and another one takes its place: what is in the queue waits for that one.
    fn recover(&mut self) {
        self.settle_flushed(false);
        // What is still given was entered when the sink got it.
        self.shared.finals.settle(true);
        self.ledger.give_up_held(PANICKED);
        self.failing = None;
        self.tell();
        self.be_absent("it panicked, see the log");
    }

    /// Builds the sink, as often as it takes. None where the outlet was closed meanwhile.
    fn make(&mut self, make: &mut SinkMaker, stop: &Stop) -> Result<Option<Box<dyn Sink>>, SinkError> {
        loop {
            if self.refused {
                let wait = self.retry.failed(Instant::now());
                // Nothing is ever sent: either the time comes or the end.
                if let Err(RecvTimeoutError::Disconnected) = self.stopping.recv_timeout(wait) {
                    while self.queue.try_recv().is_ok() {}
                    self.ledger.close(ABSENT);
                    return Ok(None);
                }
            }
            let ledger = Arc::clone(&self.ledger);
            match catch_unwind(AssertUnwindSafe(|| make(ledger, stop.clone()))) {
                Ok(Ok(sink)) => {
                    self.ledger.works();
                    self.shared.set_absent(false);
                    if std::mem::take(&mut self.refused) {
                        info!(sink = %self.name, "the sink works now");
                    }
                    return Ok(Some(sink));
                }
                Ok(Err(error)) if error.is_passing() => self.be_absent(&error.to_string()),
                Ok(Err(error)) => return Err(SinkError::closed(error.to_string())),
                Err(_) => self.be_absent("it panicked while it was built, see the log"),
            }
        }
    }

    /// It cannot be built now, or has panicked.
    pub(crate) fn be_absent(&mut self, reason: &str) {
        self.refused = true;
        self.shared.set_absent(true);
        self.ledger.is_absent(reason);
        if self.retry.is_news(Instant::now(), reason) {
            warn!(sink = %self.name, "the sink is absent: {reason}; it is tried again");
        }
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
            if self.unflushed.batches >= self.limit {
                self.flush(sink)?;
            }
        }
        self.flush(sink)?;
        let heir = self.shared.heir.lock().take();
        let mut legacy = None;
        if heir.is_some() {
            self.guard("hand over", sink, |sink| {
                legacy = sink.bequeath();
                Ok(())
            })?;
        }
        match (heir, legacy) {
            (Some(heir), Some(legacy)) => {
                let samples = legacy.samples;
                // Before the successor enters it, so that the sum of both never says more than there is.
                self.ledger.hand_over(samples);
                if heir.send(legacy).is_err() {
                    self.ledger.take_over(samples);
                    self.ledger.dropped(samples, ABSENT);
                }
            }
            _ => drop(self.guard("close", sink, |sink| sink.close())?),
        }
        Ok(())
    }

    fn write(&mut self, sink: &mut dyn Sink, parcel: Parcel) -> Result<(), SinkError> {
        let Parcel { batch, lens, samples, bytes, elapsed, due } = parcel;
        self.shared.left(bytes);
        if let Some(due) = due {
            // Nothing is ever sent: either the time comes or the end.
            let _ = self.stopping.recv_deadline(due);
        }
        let by_sink = sink.settles() == Settlement::BySink;
        self.ledger.taken(samples);
        let mut finals = Vec::new();
        let ended = self.shared.finals.give((batch.tick().seq, &lens), by_sink, &mut finals);
        if by_sink {
            // It settles them itself, perhaps at once. For others they are in the book when they are taken.
            self.ledger.offered(ended);
            self.ledger.taken(ended);
        }
        let blocks = finals.len();
        let view = KeptView { batch, finals, lens, elapsed };
        let outcome = self.guard("write", sink, |sink| sink.write(&view.view()));
        // Before the samples are settled: whoever sees an empty queue finds the batch free again.
        drop(view);
        match &outcome {
            Ok(true) if by_sink => drop(self.shared.finals.settle(true)),
            Ok(true) => {
                self.unflushed.batches += 1;
                self.unflushed.samples += samples;
            }
            // It has said what became of them, and has those of ended rows again.
            Ok(false) if by_sink => self.shared.finals.take_back(blocks),
            // What a sink that panicked has settled of the view by then is not known: the rest is given up with the queue.
            Err(_) if by_sink && self.panicked => {}
            Err(_) if by_sink => self.ledger.failed(samples + ended),
            Ok(false) | Err(_) => {
                self.shared.finals.take_back(blocks);
                self.ledger.failed(samples);
            }
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
        let Unflushed { batches, samples } = std::mem::take(&mut self.unflushed);
        if batches == 0 {
            return;
        }
        let ended = self.shared.finals.settle(flushed);
        if flushed {
            self.ledger.offered(ended);
            self.ledger.written(samples + ended);
        } else {
            self.ledger.failed(samples);
        }
    }

    /// Says the first loss of each kind.
    fn tell(&self) {
        self.ledger.tell_losses(&self.name);
    }

    /// Waits for a parcel, no longer than until the sink has something due or is called.
    fn wait(&mut self, sink: &mut dyn Sink) -> Result<Result<Parcel, RecvTimeoutError>, SinkError> {
        let mut due = None;
        self.guard("say what is due", sink, |sink| {
            due = sink.due();
            Ok(())
        })?;
        Ok(select! {
            recv(self.queue) -> parcel => parcel.map_err(RecvTimeoutError::from),
            recv(self.ledger.waker().called()) -> _ => Err(RecvTimeoutError::Timeout),
            recv(due.map_or_else(never, at)) -> _ => Err(RecvTimeoutError::Timeout),
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
            Ok(Err(error)) if error.kind() == SinkErrorKind::Failed => {
                let cause = chain(error.source());
                self.ledger.fails(&cause);
                // Said once per outage; the ledger counts the rest.
                if self.failing.is_none() {
                    self.failing = Some(what);
                    warn!(sink = %self.name, "cannot {what}: {cause}; further failures are counted, not logged");
                }
                Ok(false)
            }
            Ok(Err(closed)) => Err(closed),
            Err(panic) => {
                self.panicked = true;
                error!(sink = %self.name, "the sink panicked in {what}: {}", said(&*panic));
                Err(SinkError::closed("the sink panicked"))
            }
        }
    }
}
