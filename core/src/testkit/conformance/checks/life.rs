//! The life of sinks: `check`, build, end, restart, reload, panic, and what is left behind.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::{BuildError, BuildErrorKind, said};
use crate::metric::MetricKind::Counter;
use crate::metric::{Column, Unit};
use crate::options::Options;
use crate::selection::Selection;
use crate::sink::SinkContext;
use crate::testkit::conformance::player::{Deed, Number};
use crate::testkit::conformance::row::Row;
use crate::testkit::conformance::run::{Run, Sign, Stop};
use crate::testkit::conformance::stage::Stage;
use crate::testkit::conformance::usage::Usage;
use crate::testkit::conformance::watch::Mood;
use crate::testkit::{Bench, offer};

const SECOND: Duration = Duration::from_secs(1);

/// So long sinks are built anew.
const ENOUGH: Duration = Duration::from_secs(60);

/// Asks the plugin all that it can be asked without building, three times.
pub(super) fn check_has_no_effect(run: &mut Run) -> Result<(), Stop> {
    let row = Row::CheckHasNoEffect;
    let (plugin, options) = (Arc::clone(&run.plugin), run.options.clone());
    let mut paths: Vec<PathBuf> =
        plugin.opens(&options).iter().filter_map(|access| access.path().map(PathBuf::from)).collect();
    // And what looks like a path among the options.
    let table: BTreeMap<String, serde_json::Value> = options.extract().unwrap_or_default();
    let named = table.values().filter_map(|value| value.as_str()).filter(|text| text.starts_with('/'));
    paths.extend(named.map(PathBuf::from));
    let look = |run: &mut Run| {
        let there: Vec<bool> = paths.iter().map(|path| path.exists()).collect();
        let readings = run.read().map(|readings| readings.len());
        (there, readings, Usage::now().without_memory())
    };
    let before = look(run);
    let ask = || {
        let claims = plugin.check(&options).map_err(|error| error.to_string());
        let place = plugin.destination(&options);
        format!("{claims:?} {place:?} {} {:?}", plugin.confined(&options), plugin.opens(&options))
    };
    let asked = catch_unwind(AssertUnwindSafe(|| [ask(), ask(), ask()]));
    let Ok([first, second, third]) = asked else {
        run.blame(Row::Panic, Sign::Other, "it panics in check, destination, confined or opens");
        return Err(Stop);
    };
    if first != second || second != third {
        run.blame(row, Sign::Other, format!("the answers differ: {first}, then {second}, then {third}"));
    }
    if let Err(error) = plugin.check(&options) {
        run.end(format!("the options are wrong: {error}"));
        run.blame(row, Sign::Other, format!("the options are wrong: {error}"));
        return Err(Stop);
    }
    let deadline = Instant::now() + run.limits.patience;
    loop {
        let after = look(run);
        let differs = [after.0 != before.0, after.1 != before.1, after.2.exceeds(&before.2)];
        let Some(place) = differs.iter().position(|differs| *differs) else { return Ok(()) };
        // A thread or descriptor of somebody else's in this process goes again; and a number may come late.
        if place < 2 || Instant::now() >= deadline {
            let what = ["a file comes or goes", "a number arrives at the receiver", "a thread or descriptor stays"];
            run.blame(row, Sign::Other, what[place]);
            return Err(Stop);
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Options with a key that nobody knows.
pub(super) fn refusal(run: &mut Run) -> Result<(), Stop> {
    let plugin = Arc::clone(&run.plugin);
    let options = Options::from_value(Unknown { conformance_unknown_key: 1 });
    let context = || SinkContext::new("conformance", SECOND);
    let tried =
        catch_unwind(AssertUnwindSafe(|| (plugin.check(&options), plugin.build(&options, context()).map(drop))));
    match tried {
        Err(panic) => {
            run.blame(Row::Refusal, Sign::Other, format!("it panics where options are wrong: {}", said(&*panic)));
            Err(Stop)
        }
        Ok((Err(error), Ok(()))) => {
            run.blame(Row::Refusal, Sign::Other, format!("check refuses what build takes: {error}"));
            Err(Stop)
        }
        Ok((Ok(_), Err(error))) if error.kind() == BuildErrorKind::Options => {
            run.blame(Row::Refusal, Sign::Other, format!("build refuses options that check takes: {error}"));
            Err(Stop)
        }
        Ok((Ok(_), _)) => {
            run.note(Row::Refusal, "a key that nobody knows is not refused: a typo in the options is not noticed");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

#[derive(Serialize)]
struct Unknown {
    conformance_unknown_key: u32,
}

/// A few batches and the end. Where nothing at all is delivered there is nothing to be found out.
pub(super) fn in_time(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::InTime)?;
    for _ in 0..3 {
        stage.tick(Vec::new());
        stage.idle()?;
    }
    let refused = stage.watch.take_refused();
    // What is fetched is settled when somebody fetches it.
    let is_read = stage.run.read().is_some_and(|readings| readings.iter().any(|reading| stage.is_known(reading)));
    stage.end()?;
    let tally = stage.tally();
    if !is_read && tally.written + tally.unconfirmed + tally.superseded + tally.rejected_total() == 0 {
        let why = refused.unwrap_or_else(|| format!("{tally:?}"));
        let seen = format!("nothing of three batches was delivered: {why}");
        stage.run.end(seen.clone());
        return Err(stage.blame(Sign::Other, seen));
    }
    Ok(())
}

/// A sink ends in order, and another one begins with totals of its own. A row that only the first one had is not made up
/// for by anything later: whoever begins with an empty receiver loses it.
pub(super) fn restart(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::Restart)?;
    let (calls, row) = (stage.what(Counter), stage.who(""));
    let record = |total| vec![Deed::Record(calls.clone(), Some(row.clone()), Number::Counter(total))];
    let once = stage.who("once");
    let gone = Deed::Record(calls.clone(), Some(once), Number::Counter(1));
    stage.step(record(10))?;
    stage.step([record(20), vec![gone]].concat())?;
    stage.end()?;
    stage.judge(true)?;
    stage.renew()?;
    stage.step(record(3))?;
    stage.step(record(5))?;
    stage.close()
}

/// While the agent runs the selection becomes another one, then another sink takes the place of the first one.
pub(super) fn reload(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::Reload)?;
    let (calls, hidden, row) = (stage.what(Counter), stage.what(Counter), stage.who(""));
    let all = Selection::default();
    let without = Selection { exclude: vec![format!("*{}*", hidden.word)], ..Selection::default() };
    let record = |total, later| {
        let first = Deed::Record(calls.clone(), Some(row.clone()), Number::Counter(total));
        vec![first, Deed::Record(hidden.clone(), Some(row.clone()), Number::Counter(later))]
    };
    stage.reload(without, SECOND);
    stage.step(record(10, 0))?;
    stage.reload(all.clone(), SECOND);
    // Who sends gains begins with what it sees first.
    stage.step(record(20, 0))?;
    stage.step(record(20, 7))?;
    stage.reload(all, 2 * SECOND);
    // Nothing is counted between the last batch of the first sink and the first one of the second.
    stage.repeat(record(20, 7));
    stage.idle()?;
    stage.judge(false)?;
    stage.step(record(30, 9))?;
    stage.close()
}

/// The sink's thread panics by force, and a new sink is built.
pub(super) fn panic(run: &mut Run) -> Result<(), Stop> {
    let mut stage = Stage::new(run, Row::Panic)?;
    stage.step(Vec::new())?;
    stage.watch.be(Mood::Panics);
    stage.tick(Vec::new());
    stage.absent()?;
    stage.end()?;
    stage.renew()?;
    stage.step(Vec::new())?;
    stage.step(Vec::new())?;
    stage.close()
}

/// Builds, uses, closes and drops sinks, over and over.
pub(super) fn no_growth(run: &mut Run) -> Result<(), Stop> {
    let mut bench = Bench::new();
    let word = run.words.word();
    run.known.insert(word.clone());
    let cell = bench.host(Column::counter(format!("conformance_test.{word}"), Unit::CALLS, "A made-up counter"));
    // By then everything that is made once has been made.
    let warm = run.limits.rebuilds / 5 + 1;
    let (start, mut before, mut rounds) = (Instant::now(), Usage::now(), 0);
    for round in 0..=run.limits.rebuilds + warm {
        if round == warm {
            before = Usage::now();
        }
        rounds = round.saturating_sub(warm);
        if start.elapsed() > ENOUGH {
            run.note(Row::NoGrowth, format!("{rounds} sinks in {ENOUGH:?}"));
            break;
        }
        let context = SinkContext::new("conformance", SECOND);
        let ledger = Arc::clone(&context.ledger);
        let (plugin, options) = (Arc::clone(&run.plugin), run.options.clone());
        let live = || -> Result<(), BuildError> {
            let mut sink = plugin.build(&options, context)?;
            bench.tick(
                &Selection::default(),
                |recorder| cell.counter(recorder, u64::from(round) + 1),
                |view| {
                    offer(&ledger, u64::try_from(view.len()).unwrap_or_default());
                    ledger.taken(u64::try_from(view.len()).unwrap_or_default());
                    // Whether it succeeds is for other checks to say.
                    let _ = sink.write(view);
                },
            );
            let _ = sink.flush();
            let _ = sink.close();
            Ok(())
        };
        match catch_unwind(AssertUnwindSafe(live)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                run.blame(Row::NoGrowth, Sign::Other, format!("it is refused after {round} others: {error}"));
                return Err(Stop);
            }
            Err(panic) => {
                run.blame(Row::Panic, Sign::Other, format!("it panics after {round} others: {}", said(&*panic)));
                return Err(Stop);
            }
        }
    }
    let deadline = Instant::now() + run.limits.patience;
    loop {
        let Some(growth) = Usage::now().growth(&before, rounds) else { return Ok(()) };
        if Instant::now() >= deadline {
            run.blame(Row::NoGrowth, Sign::Other, format!("after {rounds} sinks {growth}"));
            return Err(Stop);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
