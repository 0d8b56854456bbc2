//! The way from the collecting thread to one sink: a bounded queue, a thread and a ledger.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use crate::batch::Batch;
use crate::error::{SinkError, chain};
use crate::ledger::Ledger;
use crate::pace::{Pace, random_part};
use crate::selection::Selection;
use crate::sink::{Settlement, Sink};
use crate::view::{Projection, View};

/// What gives way when a sink's queue is full. Collection never waits, so one batch is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The oldest batch goes: the sink catches up with the present.
    #[default]
    DropOldest,
    /// The new batch goes: the sink sees an unbroken past.
    DropNewest,
}

/// How one sink is connected.
#[derive(Clone, Debug)]
pub struct OutletSpec {
    /// The sink's name in the configuration.
    pub name: String,
    /// Which samples it sees, under which names.
    pub selection: Selection,
    /// How many batches may wait, at least 1.
    pub queue: usize,
    /// What gives way when they are that many.
    pub when_full: WhenFull,
    /// The time between two batches for this sink, a whole multiple of the agent's; none for every
    /// batch. It gets the batches at the multiples of this on the wall clock, the first one, and the
    /// last one before it is closed. Totals make up for those in between.
    pub interval: Option<Duration>,
    /// A random part of this, drawn once, is waited before each batch is written, so that many agents
    /// do not write at the same moment. Not longer than the interval; a stop ends the wait.
    pub jitter: Duration,
    /// Whether the agent ends when this sink does.
    pub essential: bool,
}

impl OutletSpec {
    /// The queue length unless the configuration says otherwise, in batches.
    pub const DEFAULT_QUEUE: usize = 8;

    /// A sink that sees everything, with the default queue.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            selection: Selection::default(),
            queue: Self::DEFAULT_QUEUE,
            when_full: WhenFull::default(),
            interval: None,
            jitter: Duration::ZERO,
            essential: false,
        }
    }
}

/// A batch on its way to one sink.
#[derive(Debug)]
struct Parcel {
    batch: Arc<Batch>,
    projection: Arc<Projection>,
    samples: u64,
    /// Time since the sink's batch before.
    elapsed: Duration,
    /// Not written earlier.
    due: Option<Instant>,
}

/// The collecting thread's end of the way.
#[derive(Debug)]
pub(crate) struct Outlet {
    spec: OutletSpec,
    projection: Option<Arc<Projection>>,
    pace: Pace,
    /// The newest batch, if it was not the sink's.
    withheld: Option<Arc<Batch>>,
    /// How long each batch waits for its turn.
    delay: Option<Duration>,
    /// Dropping it ends the wait.
    running: Sender<()>,
    queue: Sender<Parcel>,
    /// The same queue's other end, to take the oldest batch out when it is full.
    oldest: Receiver<Parcel>,
    ledger: Arc<Ledger>,
    over: Arc<AtomicBool>,
    /// One more than the number of the last batch that the sink took without an error.
    delivered: Arc<AtomicU64>,
    /// Hangs up when the sink's thread has ended.
    ended: Receiver<()>,
}

impl Outlet {
    /// Starts the sink's thread; `base` is the agent's time between two batches, and `ends` is told the
    /// sink's name when the sink is over by itself.
    pub(crate) fn start(
        spec: OutletSpec,
        sink: Box<dyn Sink>,
        ledger: Arc<Ledger>,
        base: Duration,
        ends: Sender<String>,
    ) -> std::io::Result<Self> {
        let (queue, oldest) = bounded(spec.queue.max(1));
        let (alive, ended) = bounded(0);
        let (running, stopping) = bounded(0);
        let pace = Pace::new(base, spec.interval);
        let delay = Some(random_part(spec.jitter)).filter(|delay| !delay.is_zero());
        let over = Arc::new(AtomicBool::new(false));
        let delivered = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            name: spec.name.clone(),
            queue: oldest.clone(),
            ledger: Arc::clone(&ledger),
            delivered: Arc::clone(&delivered),
            failing: false,
            stopping,
            _alive: alive,
        };
        let flag = Arc::clone(&over);
        let name = spec.name.clone();
        thread::Builder::new().name(format!("sink {name}")).spawn(move || {
            if worker.run(sink).is_err() {
                flag.store(true, Ordering::Release);
                // Whoever listens has one place per sink, and each sink ends once.
                let _ = ends.try_send(name);
            }
        })?;
        Ok(Self {
            spec,
            projection: None,
            pace,
            withheld: None,
            delay,
            running,
            queue,
            oldest,
            ledger,
            over,
            delivered,
            ended,
        })
    }

    pub(crate) const fn spec(&self) -> &OutletSpec {
        &self.spec
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// One more than the number of the last batch that the sink took; a sink that is over needs
    /// nothing any more.
    pub(crate) fn delivered(&self) -> u64 {
        if self.is_over() { u64::MAX } else { self.delivered.load(Ordering::Acquire) }
    }

    /// Hands a batch over if it is the sink's. Never waits.
    pub(crate) fn offer(&mut self, batch: &Arc<Batch>) {
        if self.pace.takes(batch.tick()) {
            self.withheld = None;
            self.hand_over(batch);
        } else {
            self.withheld = Some(Arc::clone(batch));
        }
    }

    fn hand_over(&mut self, batch: &Arc<Batch>) {
        let elapsed = self.pace.take(batch.tick()).unwrap_or(batch.elapsed());
        let due = self.delay.map(|delay| Instant::now() + delay);
        let projection = match &self.projection {
            Some(projection) if projection.fits(batch) => projection,
            _ => self.projection.insert(Arc::new(Projection::new(&self.spec.selection, &batch.table))),
        };
        let samples = projection.count(batch);
        let mut parcel = Parcel { batch: Arc::clone(batch), projection: Arc::clone(projection), samples, elapsed, due };
        self.ledger.offered(samples);
        loop {
            if self.is_over() {
                self.ledger.dropped(samples, "sink closed");
                return;
            }
            match self.queue.try_send(parcel) {
                Ok(()) => return,
                Err(TrySendError::Full(rejected)) if self.spec.when_full == WhenFull::DropOldest => {
                    parcel = rejected;
                    // The worker may have taken one meanwhile: then there is room, and nothing is lost.
                    if let Ok(oldest) = self.oldest.try_recv() {
                        self.ledger.dropped(oldest.samples, "queue full");
                    }
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.ledger.dropped(samples, "queue full");
                    return;
                }
            }
        }
    }

    /// Hangs up: the worker writes what is queued, the newest totals last, closes its sink and ends.
    pub(crate) fn hang_up(mut self) -> Closing {
        if let Some(batch) = self.withheld.take() {
            self.hand_over(&batch);
        }
        let Self { spec, queue, running, oldest, ledger, over, ended, .. } = self;
        drop((queue, running));
        Closing { name: spec.name, oldest, ledger, over, ended }
    }
}

/// An outlet whose queue takes nothing more.
#[derive(Debug)]
pub(crate) struct Closing {
    name: String,
    oldest: Receiver<Parcel>,
    ledger: Arc<Ledger>,
    over: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl Closing {
    /// Waits for the worker until the deadline. Whatever is not written then is counted as
    /// dropped; returns whether the worker ended in time.
    pub(crate) fn wait(self, deadline: Instant) -> bool {
        // Nothing is ever sent: the worker's end of the channel goes when the worker does.
        let timed_out = matches!(self.ended.recv_deadline(deadline), Err(RecvTimeoutError::Timeout));
        while self.oldest.try_recv().is_ok() {}
        let reason = if self.over.load(Ordering::Acquire) { "sink closed" } else { "agent stopped" };
        if timed_out {
            warn!(sink = %self.name, "the sink did not finish in the grace period; what it still held is dropped");
        }
        self.ledger.close(reason);
        !timed_out
    }
}

/// The sink's thread.
struct Worker {
    name: String,
    queue: Receiver<Parcel>,
    ledger: Arc<Ledger>,
    delivered: Arc<AtomicU64>,
    failing: bool,
    /// Hangs up when nothing more is to be waited for.
    stopping: Receiver<()>,
    _alive: Sender<()>,
}

impl Worker {
    /// Runs until the queue is hung up (`Ok`) or the sink is over (`Err`).
    fn run(mut self, mut sink: Box<dyn Sink>) -> Result<(), SinkError> {
        let result = self.drain(&mut *sink);
        if let Err(error) = &result {
            self.ledger.is_over(&chain(error));
            info!(sink = %self.name, "the sink is over: {}", chain(error));
        }
        // A sink that panicked in use may panic again when dropped.
        if catch_unwind(AssertUnwindSafe(move || drop(sink))).is_err() {
            error!(sink = %self.name, "the sink panicked while it was dropped");
        }
        result
    }

    fn drain(&mut self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        loop {
            let parcel = match self.queue.try_recv() {
                Ok(parcel) => parcel,
                Err(TryRecvError::Empty) => {
                    self.guard("flush", sink, |sink| sink.flush())?;
                    match self.wait(sink)? {
                        Ok(parcel) => parcel,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
                Err(TryRecvError::Disconnected) => break,
            };
            let Parcel { batch, projection, samples, elapsed, due } = parcel;
            if let Some(due) = due {
                // Nothing is ever sent: either the time comes or the end.
                let _ = self.stopping.recv_deadline(due);
            }
            let view = View::new(&batch, &projection, elapsed);
            let outcome = self.guard("write", sink, |sink| sink.write(&view));
            let seq = batch.tick().seq;
            // Before the samples are settled: whoever sees an empty queue finds the batch free again.
            drop((batch, projection));
            if sink.settles() == Settlement::OnReturn || matches!(outcome, Err(SinkError::Closed(_))) {
                match &outcome {
                    Ok(true) => self.ledger.written(samples),
                    Ok(false) | Err(_) => self.ledger.failed(samples),
                }
            }
            if outcome? {
                self.delivered.store(seq + 1, Ordering::Release);
            }
        }
        self.guard("flush", sink, |sink| sink.flush())?;
        self.guard("close", sink, |sink| sink.close())?;
        Ok(())
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
        what: &str,
        sink: &mut dyn Sink,
        call: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>,
    ) -> Result<bool, SinkError> {
        match catch_unwind(AssertUnwindSafe(|| call(sink))) {
            Ok(Ok(())) => {
                if self.failing && what == "write" {
                    self.failing = false;
                    self.ledger.works();
                    info!(sink = %self.name, "the sink works again");
                }
                Ok(true)
            }
            Ok(Err(SinkError::Failed(cause))) => {
                self.ledger.fails(&chain(&*cause));
                // Said once per outage; the ledger counts the rest.
                if !self.failing {
                    self.failing = true;
                    warn!(sink = %self.name, "cannot {what}: {}; further failures are counted, not logged", chain(&*cause));
                }
                Ok(false)
            }
            Ok(Err(closed @ SinkError::Closed(_))) => Err(closed),
            Err(_) => {
                error!(sink = %self.name, "the sink panicked in {what}: it is closed");
                Err(SinkError::closed("the sink panicked"))
            }
        }
    }
}
