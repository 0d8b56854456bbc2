//! Whether rows stay what they are: those that end, those that resemble each other, those with evil names, very many.

use crate::metric::MetricKind::Counter;
use crate::testkit::conformance::player::{Deed, Number, What, Who};
use crate::testkit::conformance::row::Row;
use crate::testkit::conformance::run::{Run, Stop};
use crate::testkit::conformance::stage::Stage;
use crate::testkit::conformance::watch::Mood;

/// What names can have in them: all that has a meaning in some protocol, and what is no text.
const TAILS: &[&str] = &[
    "a,b=c d",
    "x\" y=\"z",
    "back\\slash\\",
    "1:2|c",
    "3|g|#t:v",
    "semi;colon=1",
    "{brace=\"x\"} 9",
    "[list]",
    "'; DROP TABLE x; --",
    "$(id) `id` %s %n",
    "../../etc/passwd",
    "new\nconformance_forged 1",
    "crlf\r\nHTTP/1.1 200 OK\r\n",
    "tab\tnul\0bell\u{7}",
    "# comment",
    "\u{2028}line\u{85}end",
    "\u{202e}txt.exe",
    "Größe\u{301} 日本語 🦀",
    "e = 1e9, NaN, inf, null, true",
    "~0123456789abcdef",
    " ends in space ",
    "..",
    "%2e%0a&amp;<b>",
];

fn counter(what: &What, who: &Who, total: u64) -> Deed {
    Deed::Record(what.clone(), Some(who.clone()), Number::Counter(total))
}

/// A row that ends and comes again with a smaller total, beside one that stays.
pub(super) fn end_and_return(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::RowsEnd)?;
    let (calls, goes, stays) = (stage.what(Counter), stage.who("goes"), stage.who("stays"));
    stage.step(vec![counter(&calls, &goes, 40), counter(&calls, &stays, 1)])?;
    // More has been counted by its end.
    stage.step(vec![counter(&calls, &goes, 50), Deed::End(goes.clone()), counter(&calls, &stays, 2)])?;
    stage.step(vec![counter(&calls, &stays, 3)])?;
    let returned = |total| counter(&calls, &Who { identity: goes.identity + 1, ..goes.clone() }, total);
    stage.step(vec![returned(7), counter(&calls, &stays, 4)])?;
    stage.step(vec![returned(8), counter(&calls, &stays, 5)])?;
    stage.step(vec![returned(8), counter(&calls, &stays, 5)])?;
    stage.close()
}

/// A row ends in a batch that is lost before the sink has seen it.
pub(super) fn late_final(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::LateFinal)?;
    let (calls, goes, stays) = (stage.what(Counter), stage.who("goes"), stage.who("stays"));
    stage.step(vec![counter(&calls, &goes, 40), counter(&calls, &stays, 1)])?;
    stage.watch.be(Mood::Lost);
    stage.tick(vec![counter(&calls, &goes, 50), Deed::End(goes.clone()), counter(&calls, &stays, 2)]);
    stage.idle()?;
    stage.forget_losses();
    stage.step(vec![counter(&calls, &stays, 3)])?;
    stage.step(vec![counter(&calls, &stays, 3)])?;
    stage.close()
}

/// Rows whose names are equal once they are cleaned: by the agent, or by many a protocol.
pub(super) fn twins(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::TwinRows)?;
    let calls = stage.what(Counter);
    let names = [["same\n", "same\t"], ["a.b", "a_b"], ["a:b", "a|b"], ["A", "a"]];
    let mut rows = Vec::new();
    for [one, other] in names {
        let first = stage.who(one);
        let word = first.label.trim_end_matches(one);
        let second = Who { identity: first.identity + 1, label: format!("{word}{other}") };
        rows.extend([first, second]);
    }
    // Two long names that differ at their end.
    let long = stage.who(&"long".repeat(40));
    rows.push(Who { identity: long.identity + 1, label: format!("{}2", long.label) });
    rows.push(Who { label: format!("{}1", long.label), ..long });
    for round in [1, 2, 2] {
        let numbers = rows.iter().zip(1..);
        stage.step(numbers.map(|(row, number)| counter(&calls, row, 1000 * round + (1 << number))).collect())?;
    }
    stage.close()
}

/// Rows with names that somebody has chosen who means no good.
pub(super) fn hostile_names(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::HostileNames)?;
    let calls = stage.what(Counter);
    let long = "\u{e9}".repeat(300);
    let rows: Vec<_> = TAILS.iter().copied().chain([long.as_str()]).map(|tail| stage.who(tail)).collect();
    for round in [1, 2, 2] {
        stage.step(rows.iter().zip(0..).map(|(row, number)| counter(&calls, row, 100 * round + number)).collect())?;
    }
    stage.close()
}

/// Very many rows at once.
pub(super) fn many(run: &mut Run) -> Result<(), Stop> {
    let count = run.limits.rows;
    let mut stage = Stage::new(run, Row::ManyRows)?;
    let calls = stage.what(Counter);
    let rows: Vec<_> = (0..count).map(|_| stage.who("")).collect();
    for round in [1, 2] {
        stage
            .step(rows.iter().zip(0..).map(|(row, number)| counter(&calls, row, 20_000 * round + number)).collect())?;
    }
    stage.close()
}
