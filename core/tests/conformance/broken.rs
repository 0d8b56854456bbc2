//! Sinks that do not do what they promise, each in one way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ebpf_process_core::testkit::conformance::Number;
use ebpf_process_core::{Ledger, RowId, Settlement, Sink, SinkContext, SinkError, Value, View};

use crate::store::{Point, Store, points_of};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    LosesOneBatchInTen,
    AcknowledgesBeforeSending,
    AcknowledgesTwice,
    BlocksForEver,
    ForgesALine,
    TruncatesLargeNumbers,
    RoundsLargeNumbers,
    MergesTwoRows,
    NeverSettles,
    TurnsBatchesAround,
    HasZeroForAbsentCells,
    LeavesOutEnds,
    AddsGainsTwice,
    LosesTheLastSlot,
    LosesTheLastBatch,
    RefusesEmptyBatches,
    PanicsAtNames,
    NamesItsInstance,
    NamesTheView,
    LeavesThreads,
    ForgetsReturningRows,
    LosesOneOfItsBatches,
    PanicsAtItsEnd,
    BlocksAtTheEnd,
    /// What its receiver does not take it counts as written.
    LosesWhatIsRefused,
    /// What it writes is all that its receiver has: what was there before it is gone.
    BeginsAnew,
}

/// A sink with a fault.
pub(crate) struct Broken {
    pub(crate) fault: Fault,
    pub(crate) store: Store,
    pub(crate) ledger: Arc<Ledger>,
    views: u64,
    waiting: Vec<Vec<Point>>,
    unsettled: u64,
    known: HashMap<String, RowId>,
    totals: HashMap<String, u64>,
    instance: u64,
    joins: bool,
}

static INSTANCES: AtomicU64 = AtomicU64::new(0);

fn block() -> ! {
    loop {
        std::thread::park();
    }
}

impl Broken {
    pub(crate) fn new(fault: Fault, store: Store, context: SinkContext) -> Self {
        if fault == Fault::LeavesThreads {
            std::thread::Builder::new().spawn(|| block()).expect("a thread");
        }
        if fault == Fault::BeginsAnew {
            store.clear();
        }
        let instance = INSTANCES.fetch_add(1, Ordering::Relaxed);
        Self {
            fault,
            store,
            ledger: context.ledger,
            views: 0,
            waiting: Vec::new(),
            unsettled: 0,
            known: HashMap::new(),
            totals: HashMap::new(),
            instance,
            joins: context.joins,
        }
    }

    /// The points of a view, changed by the fault.
    fn changed(&mut self, view: View<'_>) -> Vec<Point> {
        let mut all = Vec::new();
        for sample in view.samples() {
            let mut points = points_of(&sample);
            match self.fault {
                Fault::LeavesOutEnds if sample.row().is_final() => continue,
                Fault::ForgesALine if points[0].text.contains('\\') => {
                    all.push(Point { text: "forged".to_owned(), number: 1_u64.into() });
                }
                Fault::PanicsAtNames => assert!(!points[0].text.contains("DROP"), "made up"),
                Fault::LosesTheLastSlot if points.len() > 4 => drop(points.pop()),
                Fault::AddsGainsTwice | Fault::ForgetsReturningRows => {
                    let Value::Counter(total) = sample.value() else { continue };
                    self.gain(&mut points, sample.row().id(), total);
                }
                _ => {}
            }
            for point in &mut points {
                match (self.fault, point.number) {
                    (Fault::TruncatesLargeNumbers, Number::Whole(whole)) => {
                        point.number = Number::Whole(whole & i128::from(u32::MAX));
                    }
                    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "the fault")]
                    (Fault::RoundsLargeNumbers, Number::Whole(whole)) => {
                        point.number = Number::Whole(whole as f64 as i128);
                    }
                    (Fault::MergesTwoRows, _) => {
                        if let Some((text, _)) = point.text.split_once('~') {
                            point.text = format!("{text}}}");
                        }
                    }
                    (Fault::NamesTheView, _) => point.text = format!("{} at {}", point.text, self.views),
                    (Fault::NamesItsInstance, _) => point.text = format!("{} of {}", point.text, self.instance),
                    _ => {}
                }
            }
            all.extend(points);
        }
        if self.fault == Fault::HasZeroForAbsentCells {
            for kind in view.kinds() {
                for (row, column) in kind.rows().flat_map(|row| kind.columns().map(move |column| (row, column))) {
                    if row.value(column.index()).is_none() {
                        let labels: Vec<_> = row.labels().map(|(key, value)| format!("{key}={value}")).collect();
                        let text = format!("{}{{{}}}", column.name(), labels.join(","));
                        all.push(Point { text, number: 0_u64.into() });
                    }
                }
            }
        }
        all
    }

    /// Makes gains of totals.
    fn gain(&mut self, points: &mut [Point], row: RowId, total: u64) {
        let text = points[0].text.clone();
        let is_new = self.known.insert(text.clone(), row) != Some(row) && self.fault != Fault::ForgetsReturningRows;
        let before = if self.joins && self.views == 1 {
            total
        } else if is_new {
            0
        } else {
            self.totals.get(&text).copied().unwrap_or_default()
        };
        self.totals.insert(text, total);
        let times = if self.fault == Fault::AddsGainsTwice && self.views % 9 == 0 { 2 } else { 1 };
        points[0].number = Number::Whole(i128::from(total.saturating_sub(before)) * times);
    }
}

impl Sink for Broken {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.views += 1;
        let samples = view.len() as u64;
        let points = self.changed(*view);
        match self.fault {
            Fault::LosesOneBatchInTen if self.views % 10 == 0 => {}
            Fault::AcknowledgesBeforeSending => {
                self.ledger.written(samples);
                self.waiting.push(points);
            }
            Fault::AcknowledgesTwice => {
                self.store.put_all(points);
                self.ledger.written(samples);
                self.ledger.written(samples);
            }
            Fault::BlocksForEver if self.views == 2 => block(),
            Fault::TurnsBatchesAround => self.waiting.push(points),
            Fault::RefusesEmptyBatches if points.is_empty() => return Err(SinkError::failed("nothing in it")),
            Fault::LosesTheLastBatch | Fault::LosesOneOfItsBatches => {
                self.waiting.push(points);
                self.unsettled += samples;
                if self.waiting.len() == 4 {
                    let mut waiting = std::mem::take(&mut self.waiting);
                    if self.fault == Fault::LosesOneOfItsBatches && self.views >= 10 {
                        waiting.remove(0);
                    }
                    self.store.put_all(waiting.into_iter().flatten());
                    self.ledger.written(std::mem::take(&mut self.unsettled));
                }
            }
            Fault::LosesWhatIsRefused if self.store.refuses() => {}
            _ => self.store.put_all(points),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        if !matches!(self.fault, Fault::LosesTheLastBatch | Fault::LosesOneOfItsBatches) {
            let mut waiting = std::mem::take(&mut self.waiting);
            if self.fault == Fault::TurnsBatchesAround {
                waiting.reverse();
            }
            self.store.put_all(waiting.into_iter().flatten());
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        if self.fault == Fault::BlocksAtTheEnd {
            block();
        }
        if self.fault == Fault::LosesOneOfItsBatches {
            let waiting = std::mem::take(&mut self.waiting);
            self.store.put_all(waiting.into_iter().flatten());
        }
        self.ledger.written(std::mem::take(&mut self.unsettled));
        Ok(())
    }

    fn settles(&self) -> Settlement {
        match self.fault {
            Fault::AcknowledgesBeforeSending
            | Fault::AcknowledgesTwice
            | Fault::NeverSettles
            | Fault::LosesTheLastBatch
            | Fault::LosesOneOfItsBatches => Settlement::BySink,
            _ => Settlement::OnReturn,
        }
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        assert!(self.fault != Fault::PanicsAtItsEnd || std::thread::panicking(), "made up");
    }
}
