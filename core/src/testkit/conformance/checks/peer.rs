//! A receiver that is slow, refuses or is away, where somebody can make it so.

use crate::metric::MetricKind::Counter;
use crate::testkit::conformance::player::{Deed, Number};
use crate::testkit::conformance::row::Row;
use crate::testkit::conformance::run::{Peer, Run, Stop};
use crate::testkit::conformance::stage::Stage;

/// A receiver that takes its time.
pub(super) fn slow(run: &mut Run) -> Result<(), Stop> {
    behave(run, Row::SlowPeer, &[Peer::Slow])
}

/// A receiver that refuses, and one that is away; then all is well again.
pub(super) fn verdicts(run: &mut Run) -> Result<(), Stop> {
    behave(run, Row::EachVerdict, &[Peer::Refusing, Peer::Away])
}

fn behave(run: &mut Run, row: Row, manners: &[Peer]) -> Result<(), Stop> {
    let Some(mut set_peer) = run.set_peer.take() else {
        run.skip(row, "nobody can tell the receiver how to behave");
        return Ok(());
    };
    let result = with_peer(run, row, manners, &mut set_peer);
    set_peer(Peer::Well);
    run.set_peer = Some(set_peer);
    result
}

fn with_peer(run: &mut Run, row: Row, manners: &[Peer], set_peer: &mut dyn FnMut(Peer)) -> Result<(), Stop> {
    let mut stage = Stage::new(run, row)?;
    let calls = stage.what(Counter);
    for manner in manners {
        set_peer(*manner);
        for _ in 0..3 {
            // No later batch makes up for it.
            let only = stage.who("once");
            stage.tick(vec![Deed::Record(calls.clone(), Some(only), Number::Counter(1))]);
            stage.idle()?;
        }
        set_peer(Peer::Well);
        stage.step(Vec::new())?;
    }
    stage.close()
}
