//! The checks, each a stage or a few calls.

mod delivery;
mod ledger;
mod life;
mod peer;
mod rows;
mod values;

use super::row::Row;
use super::run::{Run, Stop};

/// A check: which rows it is for, and what it does.
type Check = (&'static [Row], fn(&mut Run) -> Result<(), Stop>);

/// All checks, in the order in which they are made: what would spoil others comes first.
const CHECKS: &[Check] = &[
    (&[Row::CheckHasNoEffect], life::check_has_no_effect),
    (&[Row::Refusal], life::refusal),
    (&[Row::InTime], life::in_time),
    (&[Row::Gaps], delivery::gaps),
    (&[Row::Order], delivery::order),
    (&[Row::LastBatch], delivery::last_batch),
    (&[Row::EmptyView], delivery::empty_view),
    (&[Row::AbsentCells], values::absent_cells),
    (&[Row::LargeNumbers], values::large_numbers),
    (&[Row::Histograms], values::histograms),
    (&[Row::RowsEnd], rows::end_and_return),
    (&[Row::LateFinal], rows::late_final),
    (&[Row::TwinRows], rows::twins),
    (&[Row::HostileNames], rows::hostile_names),
    (&[Row::EarlyAck], ledger::early),
    (&[Row::LateAck], ledger::late),
    (&[Row::DeltaDoubled], ledger::delta),
    (&[Row::SlowPeer], peer::slow),
    (&[Row::EachVerdict], peer::verdicts),
    (&[Row::Restart], life::restart),
    (&[Row::Reload], life::reload),
    (&[Row::Panic], life::panic),
    (&[Row::Purity], values::purity),
    (&[Row::ManyRows], rows::many),
    // What every check looks at.
    (&[Row::DoubleAck, Row::MissingAck, Row::LedgerIdentity], |_| Ok(())),
    (&[Row::NoGrowth], life::no_growth),
];

/// Makes all checks, or as many as make sense. `tells` hears of each before it is made.
pub(super) fn make(run: &mut Run, mut tells: impl FnMut(&Run, Row)) {
    for (rows, check) in CHECKS {
        tells(run, rows[0]);
        // A check that ends early has said why.
        let _ = check(run);
        run.finish(rows);
        if matches!(rows, [Row::CheckHasNoEffect | Row::Refusal]) {
            // What somebody writes who should only look has been said.
            run.look_before();
        }
        if run.is_over() {
            return;
        }
    }
}
