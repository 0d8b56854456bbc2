//! A tick in which no row comes or goes allocates nothing, from the recorder to a sink's caches.

mod allocations;

use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::engine::*;
use ebpf_process_core::testkit::{ManualClock, drained};
use ebpf_process_core::*;

const SECOND: Duration = Duration::from_secs(1);

/// Rows that stay, with numbers of every kind, and one more that is refused at each tick.
struct Steady {
    kind: KindId,
    columns: [ColumnId; 4],
    rows: Vec<RowId>,
    ticks: u64,
}

impl Probe for Steady {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.ticks += 1;
        let [total, added, level, spread] = self.columns;
        let mut slots = [0; HISTOGRAM_SLOTS];
        slots[..8].fill(self.ticks);
        for (identity, row) in (0..).zip(&self.rows) {
            // As a probe does that does not keep ids.
            let found = recorder.row(self.kind, identity, &["worker", ["even", "odd"][usize::from(identity % 2 == 1)]]);
            assert_eq!(found.as_ref(), Ok(row));
            recorder.counter(*row, total, self.ticks);
            recorder.add(*row, added, 1);
            recorder.gauge(*row, level, 0.5);
            recorder.histogram(*row, spread, &slots, self.ticks);
        }
        let other = recorder.row(self.kind, u64::MAX, &["worker", "late"])?;
        recorder.add(other, added, 1);
        Ok(())
    }
}

struct SteadyPlugin;

impl ProbePlugin for SteadyPlugin {
    fn name(&self) -> &'static str {
        "steady"
    }
    fn summary(&self) -> &'static str {
        "rows that stay"
    }
    fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
        Ok(Vec::new())
    }
    fn build(&self, _: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let recorder = context.recorder;
        let kind = recorder.kind(EntityKind::new("thing").keys(["name", "what"]).limit(500))?;
        let columns = [
            Column::counter("steady.total", Unit::CALLS, "Calls"),
            Column::counter("steady.added", Unit::CALLS, "Calls"),
            Column::gauge("steady.level", Unit::ONE, "Level"),
            Column::histogram("steady.spread", Unit::BYTES, "Spread"),
        ];
        let [a, b, c, d] = columns.map(|column| recorder.column(kind, column));
        let columns = [a?, b?, c?, d?];
        let row = |n: u64| recorder.row(kind, n, &["worker", ["even", "odd"][usize::from(n % 2 == 1)]]);
        let rows = (0..500).map(row).collect::<Result<_, _>>()?;
        Ok(Box::new(Steady { kind, columns, rows, ticks: 0 }))
    }
}

/// Looks at everything in each way, and keeps what a sink keeps.
#[derive(Default)]
struct Looks {
    rows: RowCache<u64>,
    columns: ColumnCache<u64>,
}

impl Sink for Looks {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.rows.update(view, |_| ());
        let mut cells = 0;
        for kind in view.kinds() {
            for row in kind.rows() {
                *self.rows.entry(&row, || 0) += row.labels().map(|(_, value)| value.len() as u64).sum::<u64>();
                for (column, value) in row.cells() {
                    let column = kind.column(column).ok_or_else(|| SinkError::failed("a column of another"))?;
                    *self.columns.entry(&column, || 0) += column.name().len() as u64;
                    cells += usize::from(value != Value::Gauge(0.0));
                }
            }
        }
        let flat = view.samples().filter(|sample| sample.labels().count() > 0 && !sample.name().is_empty()).count();
        assert!(flat == cells && cells == view.len(), "{flat} {cells} {}", view.len());
        Ok(())
    }
}

#[test]
fn a_tick_without_coming_and_going_allocates_nothing() {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), 100 * SECOND));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    agent.add_probe(&VITALS, &Options::none()).expect("a probe");
    agent.add_probe(&SteadyPlugin, &Options::none()).expect("a probe");
    let matching = [("what".to_owned(), "odd".to_owned())].into();
    let top = [("thing".to_owned(), 20)].into();
    let selections = [
        ("all", Selection::default()),
        ("odd", Selection { matching, ..Selection::default() }),
        ("top", Selection { top, ..Selection::default() }),
    ];
    let books = selections.map(|(name, selection)| {
        let book = Arc::new(Ledger::default());
        let spec = OutletSpec { selection, ..OutletSpec::new(name) };
        agent.push_sink(Box::<Looks>::default(), spec, Arc::clone(&book)).expect("a sink");
        book
    });
    let mut ticks = |count| {
        for _ in 0..count {
            agent.tick(clock.advance(SECOND));
            for book in &books {
                drained(book);
            }
        }
        allocations::so_far()
    };
    let before = ticks(20);
    assert_eq!(ticks(100) - before, 0, "allocations in a hundred ticks");
    let kinds = agent.vitals().kinds();
    let thing = KindVitals { kind: "thing".to_owned(), rows: 500, limit: 500, began: 500, ..KindVitals::default() };
    assert_eq!(kinds, [KindVitals { refused: 1, series: 2000 + 1, ..thing }], "what there is of each kind");
    assert!(agent.close(Duration::from_secs(60)).iter().all(|closed| closed.tally.balances() && closed.in_time));
}
