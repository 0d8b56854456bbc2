//! A receiver that is slow, refuses or is away, where somebody can make it so.

use std::iter;

use crate::metric::MetricKind::Counter;
use crate::testkit::conformance::player::{Deed, Number};
use crate::testkit::conformance::report::Outcome;
use crate::testkit::conformance::row::Row;
use crate::testkit::conformance::run::{Peer, Run, SetPeer, Sign, Stop};
use crate::testkit::conformance::stage::Stage;

/// A receiver that takes its time.
pub(super) fn slow(run: &mut Run) -> Result<(), Stop> {
    behave(run, Row::SlowPeer, &[Peer::Slow])
}

/// A receiver that refuses in each of its ways, and one that is away; then all is well again.
pub(super) fn verdicts(run: &mut Run) -> Result<(), Stop> {
    let refusals = usize::try_from(run.limits.refusals).unwrap_or(usize::MAX);
    let manners: Vec<_> = iter::repeat_n(Peer::Refusing, refusals).chain([Peer::Away]).collect();
    behave(run, Row::EachVerdict, &manners)
}

fn behave(run: &mut Run, row: Row, manners: &[Peer]) -> Result<(), Stop> {
    let never: Vec<_> = run.never.iter().filter(|(peer, _)| manners.contains(peer)).cloned().collect();
    let is_possible = |manner: &&Peer| never.iter().all(|(peer, _)| peer != *manner);
    let manners: Vec<_> = manners.iter().filter(is_possible).copied().collect();
    let reasons: Vec<_> = never.iter().map(|(peer, why)| format!("no receiver is {}: {why}", peer.word())).collect();
    let reasons = reasons.join("; ");
    if manners.is_empty() {
        run.skip(row, Outcome::NotApplicable, reasons);
        return Ok(());
    }
    let Some(mut set_peer) = run.set_peer.take() else {
        run.skip(row, Outcome::NotRun, "nobody can tell the receiver how to behave");
        return Ok(());
    };
    if !reasons.is_empty() {
        run.note(row, reasons);
    }
    let result = with_peer(run, row, &manners, &mut set_peer);
    // Where it cannot be told, that has been said.
    let _ = set_peer(Peer::Well);
    run.set_peer = Some(set_peer);
    result
}

fn with_peer(run: &mut Run, row: Row, manners: &[Peer], set_peer: &mut SetPeer) -> Result<(), Stop> {
    let mut stage = Stage::new(run, row)?;
    let calls = stage.what(Counter);
    for manner in manners {
        set_peer(*manner).map_err(|problem| stage.blame(Sign::Other, problem))?;
        for _ in 0..3 {
            // No later batch makes up for it, and there is nothing beside it whose loss could excuse its own.
            let only = stage.who("once");
            stage.tick_without_pulse(vec![Deed::Record(calls.clone(), Some(only), Number::Counter(1))]);
            stage.idle()?;
        }
        set_peer(Peer::Well).map_err(|problem| stage.blame(Sign::Other, problem))?;
        stage.step(Vec::new())?;
    }
    stage.close()
}
