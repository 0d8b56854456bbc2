//! The way from the collecting thread to one sink: a bounded queue, a thread and a ledger.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use tracing::warn;

use crate::batch::{Batch, Block};
use crate::ledger::{FINAL, Ledger, NEVER_SETTLED, QUEUE_FULL};
use crate::lens::Lens;
use crate::outlet_spec::{OutletSpec, WhenFull};
use crate::pace::{Pace, random_part};
use crate::part::{Predecessor, SinkKey, SinkMaker};
use crate::sink::{Legacy, Sink, Stop};
use crate::top::Top;
use crate::worker::{CLOSED, Origin, Parcel, Shared, Worker};

/// Why samples are dropped that a sink still held at the end of the grace period.
const STOPPED: &str = "agent stopped";

/// The collecting thread's end of the way.
#[derive(Debug)]
pub(crate) struct Outlet {
    spec: OutletSpec,
    lens: Option<Arc<Lens>>,
    /// Counts the selections that there were.
    edition: u64,
    /// Which rows are the sink's, where it does not want all.
    top: Option<Top>,
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
    shared: Arc<Shared>,
    /// Rows that ended before, and that the sink whose place this one takes has not been given.
    left: Vec<Arc<Block>>,
    /// Samples of ended rows that were lost since this was asked last.
    lost_finals: u64,
    /// Hangs up when the sink's thread has ended.
    ended: Receiver<()>,
    stop: Stop,
    key: Option<SinkKey>,
    /// The agent's time between two batches.
    base: Duration,
}

/// How an outlet comes to its sink.
pub(crate) struct Beginning {
    /// The sink, if it is built already.
    pub(crate) built: Option<Box<dyn Sink>>,
    /// Why it is not, where it was tried.
    pub(crate) absent: Option<String>,
    /// Builds it, also later and again; and by what it is known again.
    pub(crate) make: Option<(SinkMaker, SinkKey)>,
    pub(crate) predecessor: Option<Predecessor>,
}

impl Beginning {
    /// With a sink that nobody can build anew.
    pub(crate) const fn with(sink: Box<dyn Sink>) -> Self {
        Self { built: Some(sink), absent: None, make: None, predecessor: None }
    }
}

impl Outlet {
    /// Starts the sink's thread; `base` is the agent's time between two batches, and `ends` is told the
    /// sink's name when the sink is over by itself.
    pub(crate) fn start(
        spec: OutletSpec,
        beginning: Beginning,
        (ledger, stop): (Arc<Ledger>, Stop),
        base: Duration,
        ends: Sender<String>,
    ) -> std::io::Result<Self> {
        let Beginning { built, absent, make, predecessor } = beginning;
        let (make, key) = make.unzip();
        let (queue, oldest) = bounded(spec.queue.max(1));
        let (alive, ended) = bounded(0);
        let (running, stopping) = bounded(0);
        let pace = Pace::new(base, spec.interval);
        let delay = Some(random_part(spec.jitter)).filter(|delay| !delay.is_zero());
        let shared = Arc::new(Shared::new(spec.finals_bytes));
        let top = Top::new(&spec.selection);
        let mut worker = Worker::new((&spec.name, spec.queue), oldest.clone(), &ledger, &shared, stopping);
        if let Some(reason) = absent {
            worker.be_absent(&reason);
        }
        let origin = Origin { built, make, stop: stop.clone(), predecessor };
        let name = spec.name.clone();
        thread::Builder::new().name(format!("sink {name}")).spawn(move || {
            // Dropped at the end of the thread: that is what the closing waits for.
            let _alive: Sender<()> = alive;
            if worker.run(origin).is_err() {
                // Whoever listens has one place per sink, and each sink ends once.
                let _ = ends.try_send(name);
            }
        })?;
        Ok(Self {
            spec,
            lens: None,
            edition: 0,
            top,
            pace,
            withheld: None,
            delay,
            running,
            queue,
            oldest,
            ledger,
            shared,
            left: Vec::new(),
            lost_finals: 0,
            ended,
            stop,
            key,
            base,
        })
    }

    /// Whether the sink was built from this.
    pub(crate) fn key(&self) -> Option<&SinkKey> {
        self.key.as_ref()
    }

    /// Takes over another selection, pace and limits from the next batch on; the queue's length stays. Whether that
    /// was something else.
    pub(crate) fn respecify(&mut self, spec: OutletSpec, base: Duration) -> bool {
        if self.spec == spec && self.base == base {
            return false;
        }
        if self.spec.selection != spec.selection {
            self.lens = None;
            self.edition += 1;
            if !self.spec.selection.takes_the_same(&spec.selection) {
                self.top = Top::new(&spec.selection);
            }
        }
        if (self.spec.interval, self.base) != (spec.interval, base) {
            self.pace = Pace::new(base, spec.interval);
        }
        if self.spec.jitter != spec.jitter {
            self.delay = Some(random_part(spec.jitter)).filter(|delay| !delay.is_zero());
        }
        (self.spec, self.base) = (spec, base);
        true
    }

    pub(crate) const fn spec(&self) -> &OutletSpec {
        &self.spec
    }

    pub(crate) fn is_over(&self) -> bool {
        self.shared.is_over()
    }

    /// How many samples of ended rows the sink has lost since this was asked last.
    pub(crate) fn take_lost_finals(&mut self) -> u64 {
        std::mem::take(&mut self.lost_finals)
    }

    /// Hands a batch over if it is the sink's. Never waits. The rows that ended in it are the sink's in any case.
    pub(crate) fn offer(&mut self, batch: &Arc<Batch>) {
        let own = self.top.as_mut().map(|top| top.narrow(batch));
        let batch = own.as_ref().unwrap_or(batch);
        self.look(batch);
        if self.shared.is_absent() {
            // Totals make up for it, and the rows that end are kept.
        } else if self.pace.takes(batch.tick()) {
            self.withheld = None;
            self.hand_over(batch);
        } else {
            self.withheld = Some(Arc::clone(batch));
        }
    }

    /// Works out what the sink takes of a batch's columns, and keeps the rows that ended in it.
    fn look(&mut self, batch: &Arc<Batch>) {
        let lens = match &self.lens {
            Some(lens) if lens.fits(&batch.live) => lens,
            _ => {
                let selection = &self.spec.selection;
                let lens = Lens::new(selection, &batch.live.layout, self.edition).behind_top(selection);
                self.lens.insert(Arc::new(lens))
            }
        };
        let left = std::mem::take(&mut self.left);
        let lost: u64 = left.iter().chain(&batch.ended).map(|ended| self.shared.finals.push(ended, lens)).sum();
        if self.is_over() {
            self.ledger.lost(lost, CLOSED);
        } else {
            self.lost_finals += lost;
            self.ledger.lost(lost, FINAL);
        }
    }

    fn hand_over(&mut self, batch: &Arc<Batch>) {
        let Some(lens) = &self.lens else { return };
        let elapsed = self.pace.take(batch.tick()).unwrap_or(batch.elapsed());
        let due = self.delay.map(|delay| Instant::now() + delay);
        let (samples, bytes) = (lens.count(&batch.live), batch.memory());
        let mut parcel = Parcel { batch: Arc::clone(batch), lens: Arc::clone(lens), samples, bytes, elapsed, due };
        self.ledger.offered(samples);
        // Into an empty queue any batch goes, whatever the worker has not yet entered as taken out.
        let too_many = || !self.queue.is_empty() && self.shared.waiting() + bytes > self.spec.queue_bytes;
        while !self.is_over() {
            let result = if too_many() {
                Err(TrySendError::Full(parcel))
            } else {
                self.shared.waits(bytes);
                self.queue.try_send(parcel).inspect_err(|_| self.shared.left(bytes))
            };
            match result {
                Ok(()) => break,
                Err(TrySendError::Full(rejected)) if self.spec.when_full == WhenFull::DropOldest => {
                    parcel = rejected;
                    // The worker may have taken one meanwhile: then there is room, and nothing is lost.
                    if let Ok(oldest) = self.oldest.try_recv() {
                        self.shared.left(oldest.bytes);
                        self.ledger.turned_away(oldest.samples, QUEUE_FULL);
                    }
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.ledger.turned_away(samples, QUEUE_FULL);
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

    /// Takes out the rows that have ended and that the sink has not been given, for the one that takes its place.
    pub(crate) fn take_waiting(&mut self) -> Vec<Arc<Block>> {
        let mut left = std::mem::take(&mut self.left);
        left.extend(self.shared.finals.take_waiting());
        left
    }

    /// Takes over what [`take_waiting`](Self::take_waiting) gave.
    pub(crate) fn take_over(&mut self, left: Vec<Arc<Block>>) {
        self.left = left;
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.shared.is_absent()
    }

    /// Hangs up: the worker writes what is queued, the newest totals last, closes its sink and ends. The sink has this long;
    /// what it cannot deliver goes to its heir, if it has one.
    pub(crate) fn hang_up(mut self, grace: Duration, heir: Option<Sender<Legacy>>) -> Closing {
        let deadline = self.stop.begin(grace);
        if let Some(heir) = heir {
            self.shared.leave_to(heir);
        }
        if let Some(batch) = self.withheld.take() {
            self.hand_over(&batch);
        }
        let Self { spec, queue, running, oldest, ledger, shared, ended, .. } = self;
        drop((queue, running));
        Closing { name: spec.name, oldest, ledger, shared, ended, deadline }
    }
}

/// An outlet whose queue takes nothing more.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) name: String,
    pub(crate) ledger: Arc<Ledger>,
    oldest: Receiver<Parcel>,
    shared: Arc<Shared>,
    ended: Receiver<()>,
    deadline: Instant,
}

impl Closing {
    /// When it is waited for no longer.
    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Hangs up when the sink's thread has ended.
    pub(crate) fn ended(&self) -> Receiver<()> {
        self.ended.clone()
    }

    /// Whether [`wait`](Self::wait) returns at once.
    pub(crate) fn is_due(&self) -> bool {
        // Nothing is ever sent.
        let is_running = matches!(self.ended.try_recv(), Err(crossbeam_channel::TryRecvError::Empty));
        !is_running || Instant::now() >= self.deadline
    }

    /// Waits for the worker until the deadline. Whatever is not written then is counted as
    /// dropped; returns whether the worker ended in time.
    pub(crate) fn wait(&mut self) -> bool {
        // Nothing is ever sent: the worker's end of the channel goes when the worker does.
        let timed_out = matches!(self.ended.recv_deadline(self.deadline), Err(RecvTimeoutError::Timeout));
        while self.oldest.try_recv().is_ok() {}
        if timed_out {
            warn!(
                sink = %self.name,
                "the sink did not finish in the grace period; what it still held is dropped: raise grace"
            );
            self.ledger.says_itself(STOPPED);
        }
        let reason = match (self.shared.is_over(), timed_out) {
            (true, _) => CLOSED,
            (false, true) => STOPPED,
            // It has ended in order, and has not said what became of them.
            (false, false) => NEVER_SETTLED,
        };
        self.ledger.close(reason);
        if !self.shared.is_over() {
            self.ledger.lost(self.shared.finals.end(), FINAL);
        }
        self.ledger.tell_losses(&self.name);
        !timed_out
    }
}
