//! Sinks that go about it in an unusual way, and do what they promise.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};
use ebpf_process_core::{Ledger, RowId, Settlement, Sink, SinkContext, SinkError, Value, View};

use crate::store::{Point, Store, points, points_of};

/// What is unusual about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Nothing: it stores the newest numbers at once.
    Plain,
    /// The receiver keeps all numbers.
    KeepsHistory,
    /// Three views are one batch of its own; the rest goes at the end.
    HasBatchesOfItsOwn,
    /// A thread of its own sends and settles.
    SettlesOnAThread,
    /// Each view is settled with the next one, or at the end.
    SettlesLate,
    /// It has counters only, and cannot say so.
    CountersOnly,
    /// It has counters only, and says so.
    RejectsOthers,
    /// It drops each fourth view, and says so.
    DropsAndSaysSo,
    /// It fails at each third view.
    Fails,
    /// Of two views the newer one is sent first; the receiver goes by the time.
    OutOfOrder,
    /// It sends gains, which the receiver adds up.
    SendsGains,
    /// It cannot say what is larger than a signed number.
    RejectsLargeNumbers,
    /// It always has something due.
    IsAlwaysDue,
    /// It sends each third view, with those that have ended before; the others are replaced by it.
    SendsTheNewest,
    /// What its receiver does not take it sends again with the next view.
    SendsAgain,
    /// Its receiver says nothing: it keeps everything until the end, and drops it then.
    Silent,
    /// Its receiver cannot be reached.
    Refused,
}

type Batch = (u64, u64, Vec<Point>);

/// A sink with a manner.
pub(crate) struct Unusual {
    manner: Manner,
    store: Store,
    ledger: Arc<Ledger>,
    views: u64,
    waiting: Vec<Batch>,
    unsettled: u64,
    silent: u64,
    times: HashMap<String, u64>,
    totals: HashMap<(RowId, usize), u64>,
    joins: bool,
    thread: Option<(Sender<Batch>, std::thread::JoinHandle<()>)>,
}

impl Unusual {
    pub(crate) fn new(manner: Manner, store: Store, context: SinkContext) -> Self {
        let SinkContext { ledger, joins, .. } = context;
        let thread = (manner == Manner::SettlesOnAThread).then(|| {
            let (sender, batches) = bounded::<Batch>(2);
            let (store, ledger) = (store.clone(), Arc::clone(&ledger));
            let send = move || {
                for (_, samples, points) in batches {
                    store.put_all(points);
                    ledger.written(samples);
                }
            };
            (sender, std::thread::Builder::new().spawn(send).expect("a thread"))
        });
        let (waiting, times, totals) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { manner, store, ledger, views: 0, waiting, unsettled: 0, silent: 0, times, totals, thread, joins }
    }

    /// Sends what waits, the newest first.
    fn send(&mut self) {
        for (seq, samples, points) in std::mem::take(&mut self.waiting).into_iter().rev() {
            for point in points {
                let newest = self.times.entry(point.text.clone()).or_default();
                if *newest <= seq {
                    *newest = seq;
                    self.store.put(point);
                }
            }
            self.ledger.written(samples);
        }
    }

    /// Waits until its thread has sent and settled everything.
    fn join(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            thread.join().expect("no panic");
        }
    }

    fn gains(&mut self, view: View<'_>) -> Vec<Point> {
        let mut all = Vec::new();
        for sample in view.samples() {
            let (row, mut points) = (sample.row(), points_of(&sample));
            let key = (row.id(), sample.column().index());
            match sample.value() {
                Value::Counter(total) => {
                    // What was sent before it came was somebody else's to send.
                    let first = if self.joins && self.views == 1 { total } else { 0 };
                    let before = self.totals.insert(key, total).unwrap_or(first);
                    points[0].number = (total - before).into();
                }
                // Levels are no gains, and a distribution has too many numbers for this one.
                _ => continue,
            }
            all.extend(points);
        }
        all
    }
}

impl Drop for Unusual {
    /// After a panic, which the kit plants, there is no other end: what its thread still has it must not settle later.
    fn drop(&mut self) {
        self.join();
    }
}

impl Sink for Unusual {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.views += 1;
        let samples = view.len() as u64;
        let counters = || view.samples().filter(|sample| matches!(sample.value(), Value::Counter(_)));
        match self.manner {
            Manner::Plain | Manner::KeepsHistory | Manner::IsAlwaysDue => {
                self.store.put_all(points(*view));
            }
            Manner::SendsTheNewest => {
                let ended = view.samples().filter(|sample| sample.row().is_final());
                let ended: Vec<_> = ended.flat_map(|sample| points_of(&sample)).collect();
                self.store.put_all(ended);
                self.ledger.superseded(std::mem::replace(&mut self.unsettled, samples));
                self.waiting = vec![(0, 0, points(*view))];
                if self.views % 3 == 0 {
                    self.send();
                    self.ledger.written(std::mem::take(&mut self.unsettled));
                }
            }
            Manner::SendsAgain => {
                self.waiting.insert(0, (view.tick().seq, samples, points(*view)));
                if !self.store.refuses() {
                    self.send();
                }
            }
            Manner::Silent => self.silent += samples,
            Manner::Refused => return Err(SinkError::failed("connection refused")),
            Manner::HasBatchesOfItsOwn | Manner::OutOfOrder => {
                self.waiting.push((view.tick().seq, samples, points(*view)));
                if self.waiting.len() == if self.manner == Manner::OutOfOrder { 2 } else { 3 } {
                    self.send();
                }
            }
            Manner::SettlesOnAThread => {
                let (sender, _) = self.thread.as_ref().expect("not closed");
                sender.send((0, samples, points(*view))).map_err(|_| SinkError::closed("no thread"))?;
            }
            Manner::SettlesLate => {
                self.store.put_all(points(*view));
                self.ledger.written(std::mem::replace(&mut self.unsettled, samples));
            }
            Manner::CountersOnly => {
                self.store.put_all(counters().flat_map(|sample| points_of(&sample)));
            }
            Manner::RejectsOthers => {
                self.store.put_all(counters().flat_map(|sample| points_of(&sample)));
                let written = counters().count() as u64;
                self.ledger.written(written);
                self.ledger.rejected(samples - written, "no counter");
            }
            Manner::DropsAndSaysSo => {
                if self.views % 4 == 0 {
                    self.ledger.dropped(samples, "every fourth");
                } else {
                    self.store.put_all(points(*view));
                    self.ledger.written(samples);
                }
            }
            Manner::Fails if self.views % 3 == 0 => return Err(SinkError::failed("made up")),
            Manner::Fails => self.store.put_all(points(*view)),
            Manner::SendsGains => {
                let gains = self.gains(*view);
                let written = counters().count() as u64;
                self.store.put_all(gains);
                self.ledger.written(written);
                self.ledger.rejected(samples - written, "no counter");
            }
            Manner::RejectsLargeNumbers => {
                for sample in view.samples() {
                    if matches!(sample.value(), Value::Counter(total) if i64::try_from(total).is_err()) {
                        self.ledger.rejected(1, "too large");
                    } else {
                        self.store.put_all(points_of(&sample));
                        self.ledger.written(1);
                    }
                }
            }
        }
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        (self.manner == Manner::IsAlwaysDue).then(Instant::now)
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.send();
        self.ledger.dropped(std::mem::take(&mut self.silent), "no answer");
        self.ledger.written(std::mem::take(&mut self.unsettled));
        self.join();
        Ok(())
    }

    fn settles(&self) -> Settlement {
        match self.manner {
            Manner::Plain
            | Manner::KeepsHistory
            | Manner::CountersOnly
            | Manner::Fails
            | Manner::IsAlwaysDue
            | Manner::Refused => Settlement::OnReturn,
            _ => Settlement::BySink,
        }
    }
}
