//! Whether numbers arrive as they were.

use std::collections::BTreeMap;

use crate::metric::MetricKind::{Counter, Gauge, Histogram};
use crate::testkit::conformance::player::{Deed, Number};
use crate::testkit::conformance::row::Row;
use crate::testkit::conformance::run::{Run, Sign, Stop};
use crate::testkit::conformance::stage::Stage;
use crate::testkit::conformance::words::key;

/// Cells that have a value, then none, then another one.
pub(super) fn absent_cells(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::AbsentCells)?;
    let (calls, level) = (stage.what(Counter), stage.what(Gauge));
    let rows = [stage.who("a"), stage.who("b")];
    let record = |who: usize, total: u32| {
        let number = [Number::Counter(total.into()), Number::Gauge(f64::from(total) + 0.5)];
        [&calls, &level]
            .into_iter()
            .zip(number)
            .map(|(what, number)| Deed::Record(what.clone(), Some(rows[who].clone()), number))
            .collect::<Vec<_>>()
    };
    stage.step([record(0, 7), record(1, 5)].concat())?;
    stage.step(record(1, 6))?;
    stage.step(Vec::new())?;
    stage.step([record(0, 9), record(1, 6)].concat())?;
    stage.close()
}

/// Totals beyond what 32 bits, 53 bits and a signed number hold.
pub(super) fn large_numbers(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::LargeNumbers)?;
    let calls = stage.what(Counter);
    let totals = [u64::from(u32::MAX) + 2, (1 << 53) + 1, i64::MAX as u64 + 2, u64::MAX];
    let rows: Vec<_> = totals.iter().map(|_| stage.who("")).collect();
    let record = |less: u64| {
        let each = rows.iter().zip(totals);
        each.map(|(row, total)| Deed::Record(calls.clone(), Some(row.clone()), Number::Counter(total - less))).collect()
    };
    stage.step(record(2))?;
    stage.step(record(0))?;
    // Where the batch was lost, it is here again.
    stage.step(record(0))?;
    stage.close()
}

/// Histograms that grow: one slot, many slots, the last one.
pub(super) fn histograms(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::Histograms)?;
    let sizes = stage.what(Histogram);
    let rows = [stage.who("a"), stage.who("b")];
    let mut slots = [vec![0; 41], vec![0; 41]];
    for step in 0..6 {
        for (place, slots) in slots.iter_mut().enumerate() {
            slots[(step * 7 + place) % 40] += 1 + stage.run.words.below(5);
            slots[40] = u64::from(step > 3);
        }
        let record = |place: usize| {
            let sum = slots[place].iter().zip(1..).map(|(count, size)| count * size).sum();
            Deed::Record(sizes.clone(), Some(rows[place].clone()), Number::Histogram(slots[place].clone(), sum))
        };
        stage.step(vec![record(0), record(1)])?;
    }
    stage.close()
}

/// Two sinks, one after the other, with the same numbers under other names.
pub(super) fn purity(run: &mut Run) -> Result<(), Stop> {
    let first = output(run)?;
    let second = output(run)?;
    let Some(difference) = first.iter().zip(&second).find(|(first, second)| first != second) else {
        if first.len() == second.len() {
            return Ok(());
        }
        let seen = format!("{} readings the first time, {} the second", first.len(), second.len());
        run.blame(Row::Purity, Sign::Loss, seen);
        return Err(Stop);
    };
    let ((text, number), (other, value)) = difference;
    run.blame(Row::Purity, Sign::Other, format!("{text} is {number} the first time, {other} is {value} the second"));
    Err(Stop)
}

/// What a sink leaves of a few batches, with its words numbered.
fn output(run: &mut Run) -> Result<Vec<(String, String)>, Stop> {
    let mut stage = Stage::new(run, Row::Purity)?;
    let (calls, level, sizes) = (stage.what(Counter), stage.what(Gauge), stage.what(Histogram));
    let rows = [stage.who("a"), stage.who("b")];
    for batch in 1..5_u32 {
        let counters = rows
            .iter()
            .map(|row| Deed::Record(calls.clone(), Some(row.clone()), Number::Counter(u64::from(batch) * 3)));
        let mut deeds: Vec<_> = counters.collect();
        deeds.push(Deed::Record(level.clone(), None, Number::Gauge(f64::from(batch) + 0.25)));
        deeds.push(Deed::Record(sizes.clone(), None, Number::Histogram(vec![batch.into(), 0, 1], batch.into())));
        stage.step(deeds)?;
    }
    stage.end()?;
    stage.judge(true)?;
    let words = [&calls.word, &level.word, &sizes.word].into_iter().chain(rows.iter().map(|row| &row.label));
    let words: Vec<(String, String)> =
        words.enumerate().map(|(number, word)| (key(word), format!("word{number}"))).collect();
    let mut newest = BTreeMap::new();
    for reading in stage.run.read().unwrap_or_default() {
        let mut text = reading.text.to_ascii_lowercase();
        let before = text.clone();
        for (word, plain) in &words {
            text = text.replace(word, plain);
        }
        if text != before {
            newest.insert(text, reading.number.to_string());
        }
    }
    Ok(newest.into_iter().collect())
}
