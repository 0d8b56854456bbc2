//! Whether batches arrive: all, in order, also the last one and an empty one.

use crate::metric::MetricKind::{Counter, Gauge, Histogram};
use crate::testkit::conformance::player::{Deed, Number};
use crate::testkit::conformance::row::Row;
use crate::testkit::conformance::run::{Run, Sign, Stop};
use crate::testkit::conformance::stage::Stage;
use crate::testkit::conformance::watch::Mood;

/// Numbers of every kind, of the host and of rows, some of which change in each batch; and a row for each batch that has
/// a value in that one alone, which no later batch makes up for.
pub(super) fn gaps(run: &mut Run) -> Result<(), Stop> {
    let batches = run.limits.batches;
    let mut stage = Stage::new(run, Row::Gaps)?;
    let (calls, level, sizes) = (stage.what(Counter), stage.what(Gauge), stage.what(Histogram));
    let rows = [stage.who("a"), stage.who("b"), stage.who("c")];
    let mut totals = [0; 3];
    let mut slots = vec![0; 12];
    for batch in 0..batches {
        let lucky = usize::try_from(stage.run.words.below(3)).unwrap_or_default();
        totals[lucky] += 1 + stage.run.words.below(9);
        slots[usize::try_from(stage.run.words.below(12)).unwrap_or_default()] += 1;
        let counters = rows
            .iter()
            .zip(totals)
            .map(|(row, total)| Deed::Record(calls.clone(), Some(row.clone()), Number::Counter(total)));
        let mut deeds: Vec<_> = counters.collect();
        let only = stage.who("once");
        deeds.push(Deed::Record(calls.clone(), Some(only), Number::Counter(1)));
        deeds.push(Deed::Record(level.clone(), None, Number::Gauge(f64::from(batch) + 0.25)));
        deeds.push(Deed::Record(sizes.clone(), None, Number::Histogram(slots.clone(), u64::from(batch) * 10)));
        stage.step(deeds)?;
    }
    stage.close()
}

/// Batches that wait together for the sink.
pub(super) fn order(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::Order)?;
    stage.step(Vec::new())?;
    for round in 2..6 {
        stage.watch.be(Mood::Held);
        for _ in 0..round {
            stage.tick(Vec::new());
        }
        stage.held()?;
        stage.watch.be(Mood::Plain);
        stage.idle()?;
        stage.judge(false)?;
    }
    stage.close()
}

/// A batch behind which nothing comes but the end.
pub(super) fn last_batch(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::LastBatch)?;
    stage.step(Vec::new())?;
    stage.watch.be(Mood::Held);
    stage.tick(Vec::new());
    stage.held()?;
    stage.tick(Vec::new());
    stage.close()
}

/// A batch in which nobody has a value, between two others.
pub(super) fn empty_view(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::EmptyView)?;
    stage.step(Vec::new())?;
    // Whatever it was refused before does not count.
    let _ = stage.watch.take_refused();
    stage.tick_without_pulse(Vec::new());
    stage.idle()?;
    if let Some(refused) = stage.watch.take_refused() {
        return Err(stage.blame(Sign::Other, format!("an empty batch is an error: {refused}")));
    }
    stage.judge(false)?;
    stage.step(Vec::new())?;
    stage.close()
}
