//! A selection that becomes another one while rows that have ended wait for the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ebpf_process_core::engine::*;
use ebpf_process_core::testkit::{Bench, Cell, ManualClock};
use ebpf_process_core::*;
use parking_lot::Mutex;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Counts for one row that ends and returns with each tick, in two columns.
struct Fleeting(u64);

impl Probe for Fleeting {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.0 += 1;
        let kind = match recorder.existing_kind("thing") {
            Some(kind) => kind,
            None => recorder.kind(EntityKind::new("thing").keys(["n"]))?,
        };
        let row = recorder.row(kind, self.0, &[&self.0.to_string()])?;
        for name in ["calls", "errors"] {
            let column = Column::counter(name, Unit::CALLS, "Calls");
            let column = recorder.column(kind, column)?;
            recorder.counter(row, column, 1);
        }
        recorder.end(row);
        Ok(())
    }
}

/// Settles itself, and takes nothing while it is stopped.
struct Fussy {
    ledger: Arc<Ledger>,
    stopped: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<(String, String)>>>,
}

impl Sink for Fussy {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let samples = view.len() as u64;
        if self.stopped.load(Ordering::SeqCst) {
            self.ledger.failed(samples);
            return Err(SinkError::failed("the receiver is away"));
        }
        self.taken.lock().extend(view.samples().map(|it| (it.name().to_owned(), it.labels().to_string())));
        self.ledger.written(samples);
        Ok(())
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

struct FussyPlugin;

impl SinkPlugin for FussyPlugin {
    fn name(&self) -> &'static str {
        "fussy"
    }

    fn summary(&self) -> &'static str {
        "takes nothing at times"
    }

    fn check(&self, _: &Options) -> Result<Claims, OptionsError> {
        Ok(Claims::default())
    }

    fn build(&self, _: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        Err(BuildError::refused("a test makes it", "write one"))
    }
}

#[test]
fn rows_that_wait_are_counted_as_the_sink_gets_them() {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), 100 * SECOND));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.push_probe("fleeting", Box::new(Fleeting(0)));
    let (stopped, taken) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let part = |selection: Selection| {
        let (stopped, taken) = (Arc::clone(&stopped), Arc::clone(&taken));
        SinkPart {
            spec: OutletSpec { selection, ..OutletSpec::new("fussy") },
            plugin: Arc::new(FussyPlugin),
            options: Options::none(),
            setting: Setting { instance: None, interval: SECOND, scope: Scope::Host },
            make: Box::new(move |ledger, _| {
                let (stopped, taken) = (Arc::clone(&stopped), Arc::clone(&taken));
                Ok(Box::new(Fussy { ledger, stopped, taken }))
            }),
        }
    };
    agent.start_sink(part(Selection { exclude: vec!["*errors".to_owned()], ..Selection::default() })).expect("a sink");
    let ledger = Arc::clone(&agent.vitals().sinks()[0].ledger);
    // Each view has all rows that have ended so far, and fails.
    let fails = |samples: u64| {
        let start = Instant::now();
        while ledger.read(|tally| tally.failed < samples) {
            assert!(start.elapsed() < MINUTE, "{:?}", ledger.tally());
            std::thread::yield_now();
        }
    };
    for samples in [1, 1 + 2, 1 + 2 + 3] {
        agent.tick(clock.advance(SECOND));
        fails(samples);
    }
    let all = Selection { prefix: "my.".to_owned(), ..Selection::default() };
    agent.apply(Parts { interval: SECOND, grace: MINUTE, probes: Vec::new(), sinks: vec![part(all)] });
    agent.tick(clock.advance(SECOND));
    // Now each row has two samples.
    fails(6 + 2 * 4);
    stopped.store(false, Ordering::SeqCst);
    agent.tick(clock.advance(SECOND));
    let [closed] = &agent.close(MINUTE)[..] else { panic!("one sink") };
    assert!(closed.tally.balances() && closed.tally.dropped.is_empty(), "{closed:?}");
    let taken = taken.lock();
    assert_eq!(taken.len(), 10, "{taken:?}");
    assert!(taken.iter().all(|(name, _)| name.starts_with("my.thing.")), "{taken:?}");
}

#[test]
fn places_among_the_most_active_are_kept_when_only_names_change() {
    let mut bench = Bench::new();
    let kind = EntityKind::new("thing").keys(["n"]);
    let column = || Column::counter("calls", Unit::CALLS, "Calls");
    let cells: Vec<Cell> = ["a", "b"].into_iter().map(|n| bench.cell(&kind, &[n], column())).collect();
    let first = Selection { top: [("thing".to_owned(), 1)].into(), ..Selection::default() };
    let renamed = Selection { prefix: "my.".to_owned(), ..first.clone() };
    let mut total = 0;
    let mut tick = |selection: &Selection| {
        total += 10;
        let record = |recorder: &mut Recorder| cells.iter().for_each(|cell| cell.counter(recorder, total));
        bench.tick(selection, record, |view| {
            let rows = view.kinds().flat_map(|kind| kind.rows()).collect::<Vec<_>>();
            rows.iter().map(|row| (row.id(), row.value(0).map(|it| it.to_string()))).collect::<Vec<_>>()
        })
    };
    let before = tick(&first);
    let after = tick(&renamed);
    assert_eq!(before.iter().map(|(id, _)| id).collect::<Vec<_>>(), after.iter().map(|(id, _)| id).collect::<Vec<_>>());
    assert!(after.iter().all(|(_, total)| total.as_deref() == Some("20")), "{before:?} {after:?}");
    let wider = Selection { top: [("thing".to_owned(), 2)].into(), ..renamed };
    assert!(tick(&wider).iter().all(|(id, _)| after.iter().all(|(known, _)| known != id)), "others have other rows");
}
