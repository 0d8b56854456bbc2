//! The way from the collecting thread to one sink: a bounded queue, a thread and a ledger.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::batch::Batch;
use crate::finals::Finals;
use crate::ledger::{FINAL, Ledger, NEVER_SETTLED, QUEUE_FULL};
use crate::pace::{Pace, random_part};
use crate::selection::Selection;
use crate::sink::Sink;
use crate::view::Projection;
use crate::worker::{CLOSED, Parcel, Progress, Worker};

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

/// Why samples are dropped that a sink still held at the end of the grace period.
const STOPPED: &str = "agent stopped";

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
    progress: Arc<Progress>,
    /// One more than the number of the newest batch that the sink took, as of this tick.
    delivered: u64,
    /// The batches that the sink took since the tick before; only to be used again.
    taken: Vec<u64>,
    /// What it may still get of the ended series that are repeated no more.
    finals: Finals,
    /// Which metrics the sink takes, in the recorder's order.
    takes: Vec<bool>,
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
        let progress = Arc::new(Progress::default());
        let worker = Worker::new(&spec, oldest.clone(), &ledger, &progress, stopping);
        let name = spec.name.clone();
        thread::Builder::new().name(format!("sink {name}")).spawn(move || {
            // Dropped at the end of the thread: that is what the closing waits for.
            let _alive: Sender<()> = alive;
            if worker.run(sink).is_err() {
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
            progress,
            delivered: 0,
            taken: Vec::new(),
            finals: Finals::default(),
            takes: Vec::new(),
            ended,
        })
    }

    pub(crate) const fn spec(&self) -> &OutletSpec {
        &self.spec
    }

    pub(crate) fn is_over(&self) -> bool {
        self.progress.is_over()
    }

    /// Looks at the metrics that are new.
    pub(crate) fn learn_metrics<'a>(&mut self, metrics: impl Iterator<Item = &'a str>) {
        let known = self.takes.len();
        self.takes.extend(metrics.skip(known).map(|metric| self.spec.selection.takes(metric)));
    }

    /// Looks how far the sink has come. Returns how many finals are now known to be lost: they were given up
    /// earlier, and the sink took no batch that held them.
    pub(crate) fn learn_progress(&mut self) -> u64 {
        let done = self.progress.read(&mut self.taken);
        self.delivered = self.taken.last().map_or(self.delivered, |newest| newest + 1);
        if self.is_over() {
            // It needs nothing any more.
            self.delivered = u64::MAX;
            self.finals = Finals::default();
        }
        let lost = self.finals.settle(done, &self.taken);
        self.ledger.lost(lost, FINAL);
        lost
    }

    /// Whether the sink takes this metric and has not had any batch from this number on.
    pub(crate) fn lacks(&self, metric: usize, since: u64) -> bool {
        since >= self.delivered && self.takes.get(metric).copied().unwrap_or(true)
    }

    /// A final value that the sink lacks, and that the batches of these numbers hold, is given up. Returns how
    /// many finals are lost by that: none if such a batch is on its way, since it may still be taken.
    pub(crate) fn give_up(&mut self, since: u64, upto: u64) -> u64 {
        if self.finals.may_come(since) {
            self.finals.give_up(since, upto);
            return 0;
        }
        self.ledger.lost(1, FINAL);
        1
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
        while !self.is_over() {
            match self.queue.try_send(parcel) {
                Ok(()) => {
                    self.finals.sent(batch.tick().seq);
                    break;
                }
                Err(TrySendError::Full(rejected)) if self.spec.when_full == WhenFull::DropOldest => {
                    parcel = rejected;
                    // The worker may have taken one meanwhile: then there is room, and nothing is lost.
                    if let Ok(oldest) = self.oldest.try_recv() {
                        self.finals.dropped(oldest.batch.tick().seq);
                        self.ledger.dropped(oldest.samples, QUEUE_FULL);
                    }
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.ledger.dropped(samples, QUEUE_FULL);
                    break;
                }
            }
        }
        if self.is_over() {
            // The sink's book is closed and has entered the samples as dropped; the batches are free again.
            while self.oldest.try_recv().is_ok() {}
        }
        self.ledger.tell_losses(&self.spec.name);
    }

    /// Hangs up: the worker writes what is queued, the newest totals last, closes its sink and ends.
    pub(crate) fn hang_up(mut self) -> Closing {
        if let Some(batch) = self.withheld.take() {
            self.hand_over(&batch);
        }
        let Self { spec, queue, running, oldest, ledger, progress, finals, ended, .. } = self;
        drop((queue, running));
        Closing { name: spec.name, oldest, ledger, progress, finals, ended }
    }
}

/// An outlet whose queue takes nothing more.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) name: String,
    pub(crate) ledger: Arc<Ledger>,
    oldest: Receiver<Parcel>,
    progress: Arc<Progress>,
    finals: Finals,
    ended: Receiver<()>,
}

impl Closing {
    /// Waits for the worker until the deadline. Whatever is not written then is counted as
    /// dropped; returns whether the worker ended in time.
    pub(crate) fn wait(&mut self, deadline: Instant) -> bool {
        // Nothing is ever sent: the worker's end of the channel goes when the worker does.
        let timed_out = matches!(self.ended.recv_deadline(deadline), Err(RecvTimeoutError::Timeout));
        while self.oldest.try_recv().is_ok() {}
        if timed_out {
            warn!(
                sink = %self.name,
                "the sink did not finish in the grace period; what it still held is dropped: raise grace"
            );
            self.ledger.says_itself(STOPPED);
        }
        let reason = match (self.progress.is_over(), timed_out) {
            (true, _) => CLOSED,
            (false, true) => STOPPED,
            // It has ended in order, and has not said what became of them.
            (false, false) => NEVER_SETTLED,
        };
        self.ledger.close(reason);
        if !self.progress.is_over() {
            let mut taken = Vec::new();
            self.progress.read(&mut taken);
            self.ledger.lost(self.finals.end(&taken), FINAL);
        }
        self.ledger.tell_losses(&self.name);
        !timed_out
    }
}
