//! Whether what is acknowledged is what has arrived.

use crate::metric::MetricKind::Counter;
use crate::testkit::conformance::player::{Deed, Number};
use crate::testkit::conformance::row::Row;
use crate::testkit::conformance::run::{Run, Stop};
use crate::testkit::conformance::stage::Stage;
use crate::testkit::conformance::watch::Mood;

/// After a batch the sink gets no further call: what it has acknowledged by then must have arrived.
pub(super) fn early(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::EarlyAck)?;
    stage.step(Vec::new())?;
    for _ in 0..2 {
        stage.watch.be(Mood::HeldAfter);
        stage.tick(Vec::new());
        stage.held()?;
        // Where the outlet settles, nothing is settled yet.
        stage.judge(false)?;
        stage.watch.be(Mood::Plain);
        stage.idle()?;
        stage.judge(false)?;
    }
    stage.close()
}

/// Batches follow each other while earlier ones may not be settled yet.
pub(super) fn late(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::LateAck)?;
    let calls = stage.what(Counter);
    let row = stage.who("");
    for total in 1..8 {
        stage.tick(vec![Deed::Record(calls.clone(), Some(row.clone()), Number::Counter(total))]);
    }
    stage.idle()?;
    stage.judge(false)?;
    stage.close()
}

/// Batches get lost before the sink sees them: the next one has the gains of both.
pub(super) fn delta(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::DeltaDoubled)?;
    let calls = stage.what(Counter);
    let row = stage.who("");
    let record = |total| vec![Deed::Record(calls.clone(), Some(row.clone()), Number::Counter(total))];
    stage.step(record(100))?;
    for round in 1..4_u64 {
        stage.watch.be(Mood::Lost);
        stage.tick(record(100 + 20 * round));
        stage.idle()?;
        stage.forget_losses();
        stage.step(record(110 + 20 * round))?;
    }
    stage.close()
}
