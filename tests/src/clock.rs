//! The machine's clock is set forward, back and forward again while the agent counts. It is everybody's clock: for a
//! virtual machine only.
//!
//! No number changes and batches go on at once. A timestamp is the clock's, also where that goes back by more than an interval.
//! How long a batch took is the time that has passed, whatever the clock said meanwhile. A sink whose receiver was away
//! all the time brings every batch with its own timestamp.

mod differences;

use crate::agent::Agent;
use crate::expect::{self, Expected, Layer};
use crate::receivers::by_rules::{self, ByRules, Rules, Way};
use crate::receivers::lines::Lines;
use crate::rows;
use crate::totals::Totals;
use crate::workload::{Place, Workload, int80_works};
use crate::{Failure, Outcome, wait};
use differences::Differences;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::path::Path;
use std::time::{Duration, Instant};

/// No number of intervals: ticks have to find their places anew.
const STEP: Duration = Duration::from_millis(3_600_033);
/// To see after each step.
const BATCHES: u32 = 5;
/// To stdout, by datagrams, to a database that is away, and to a file.
const SINKS: [&str; 4] = ["out", "lan", "db", "lines"];

/// Steps the clock while the workload runs, with a sink of each kind.
///
/// # Errors
/// Something went by the clock that must not; the message has all of it.
pub fn steps() -> Outcome<String> {
    let place = Place::new()?;
    let mut target = place.all(int80_works(&place)?)?;
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
    let statsd = ByRules::start(Rules::Dogstatsd, Way::Unixgram)?;
    let clock = Clock::read()?;
    let start = Instant::now();
    let mut agent = Agent::start(&settings(&target, &statsd, folder.path()))?;
    agent.wait_for_first_batch()?;
    let first = Instant::now();

    let ahead = clock.ahead(STEP)?;
    let mut pauses = vec![goes_on(&mut agent, |totals| batches_since(totals, ahead))?];
    target.run_to_next_stop()?;
    let behind = clock.behind(STEP)?;
    let follows = |totals: &Totals| batches_between(totals, behind, behind + STEP / 2);
    pauses.push(goes_on(&mut agent, follows)?);
    target.run_to_end()?;
    let database = Lines::start(&folder.path().join("database"))?;
    pauses.push(goes_on(&mut agent, follows)?);
    let ahead = clock.ahead(2 * STEP)?;
    pauses.push(goes_on(&mut agent, |totals| batches_since(totals, ahead))?);

    let settled = agent.watch(wait::LIMIT, |totals| {
        wrong_totals(totals, &statsd).is_ok_and(|wrong| wrong.is_empty()) && waiting(totals, "db") == 0.0
    })?;
    let least = first.elapsed();
    let (status, totals) = agent.stop()?;
    let most = start.elapsed();

    let mut wrong = wrong_totals(&totals, &statsd)?;
    wrong.extend(SINKS.iter().filter_map(|sink| unbalanced(&totals, sink)));
    let stored = database.totals()?;
    if stored != totals {
        wrong.push(format!("of {} batches {} are stored, or they differ", totals.batches(), stored.batches()));
    }
    let lines = Differences::read(&folder.path().join("lines"))?;
    wrong.extend(lines.wrong(&totals, least..=most));
    if totals.get("agent.clock_steps", None) != Some(1.0) {
        wrong.push("it was set back once".into());
    }
    if status.code() != Some(0) || !settled {
        wrong.push(format!("the agent ended with {status}, settled: {settled}"));
    }
    let details = format!(
        "{} batches in {:?}, {BATCHES} of them {pauses:.1?} after each step, the clock was set back {} times",
        totals.batches(),
        lines.elapsed(),
        totals.get("agent.clock_steps", None).unwrap_or_default()
    );
    if wrong.is_empty() { Ok(details) } else { Err(Failure::new(format!("{details}; {}", wrong.join("; ")))) }
}

/// Those of an agent with all these sinks; the one on stdout is there already.
fn settings(target: &Workload, statsd: &ByRules, folder: &Path) -> Vec<String> {
    let folder = folder.display();
    let mut settings = vec![
        "probes.mode=return".to_owned(),
        format!("probes.only={{pid={}}}", target.pid()),
        "grace=\"20s\"".to_owned(),
        "sinks.lan.type=statsd".to_owned(),
        format!("sinks.lan.options.address=\"{}\"", statsd.address()),
        "sinks.lan.options.dialect=dogstatsd".to_owned(),
        "sinks.db.type=influx".to_owned(),
        format!("sinks.db.options.url=\"unix://{folder}/database\""),
        "sinks.db.options.database=telemetry".to_owned(),
        "sinks.db.options.gzip=false".to_owned(),
        format!("sinks.db.options.delivery={{spool=\"{folder}/spool\",retry_min=\"100ms\",retry_max=\"200ms\"}}"),
        "sinks.lines.type=json".to_owned(),
        format!("sinks.lines.options.path=\"{folder}/lines\""),
    ];
    // Nothing may be lost because an emulated processor is slow.
    settings.extend(rows::switched_on());
    settings.extend(SINKS.map(|sink| format!("sinks.{sink}.queue=1024")));
    settings
}

/// Returns when `count` has grown by some batches, and how long that took.
fn goes_on(agent: &mut Agent, count: impl Fn(&Totals) -> u32) -> Outcome<Duration> {
    let start = Instant::now();
    let enough = count(agent.totals()?) + BATCHES;
    if agent.watch(wait::LIMIT, |totals| count(totals) >= enough)? {
        return Ok(start.elapsed());
    }
    Err(Failure::new(format!("fewer than {BATCHES} batches in time after a step of the clock")))
}

/// How many batches have timestamps of this moment and later.
fn batches_since(totals: &Totals, moment: Duration) -> u32 {
    let moment = i64::try_from(moment.as_nanos()).unwrap_or(i64::MAX);
    u32::try_from(totals.times().filter(|time| *time >= moment).count()).unwrap_or(u32::MAX)
}

/// How many batches have timestamps from one moment to another.
fn batches_between(totals: &Totals, from: Duration, to: Duration) -> u32 {
    batches_since(totals, from).saturating_sub(batches_since(totals, to))
}

/// The counters that are wrong, as the agent says them and as the server has added them up.
fn wrong_totals(totals: &Totals, statsd: &ByRules) -> Outcome<Vec<String>> {
    let sums = statsd.counters()?;
    let check = |e: &Expected| {
        #[expect(clippy::cast_precision_loss, reason = "the workload's totals are far below 2^53")]
        let wanted = e.at(totals.layer(&e.metric).unwrap_or(Layer::Syscall)) as f64;
        let got = totals.get(e.metric.name, e.metric.label);
        // What has never grown is never sent.
        let sum = sums.get(&by_rules::name(&e.metric)).copied().unwrap_or_default();
        let right = got == Some(wanted) && Some(sum) == got;
        (!right).then(|| format!("{} is {got:?} and adds up to {sum}, not {wanted}", e.metric))
    };
    Ok(expect::whole_workload().iter().filter_map(check).collect())
}

/// A sink's ledger, if it does not add up or says that something was lost. A datagram that finds no room has failed: its
/// counts are due again.
fn unbalanced(totals: &Totals, sink: &str) -> Option<String> {
    let samples = totals.samples(sink);
    let of = |state| samples.get(state).copied().unwrap_or_default();
    let accounted = of("written") + of("superseded") + of("failed") + waiting(totals, sink);
    let right = of("written") > 0.0 && Some(accounted) == samples.get("offered").copied();
    (!right).then(|| format!("the ledger of {sink} is {samples:?} and {} waiting", waiting(totals, sink)))
}

fn waiting(totals: &Totals, sink: &str) -> f64 {
    totals.get("agent.samples_waiting", Some(("sink", sink))).unwrap_or(f64::NAN)
}

/// The machine's clock, which shows the true time again after a drop.
struct Clock {
    wall: Duration,
    read: Instant,
}

impl Clock {
    fn read() -> Outcome<Self> {
        let wall = Duration::try_from(clock_gettime(ClockId::Realtime)).map_err(Failure::at("the clock"))?;
        Ok(Self { wall, read: Instant::now() })
    }

    /// What it would show now if nobody had set it.
    fn truth(&self) -> Duration {
        self.wall + self.read.elapsed()
    }

    /// Sets it so far before the true time, and returns to what.
    fn ahead(&self, by: Duration) -> Outcome<Duration> {
        let wall = self.truth() + by;
        set(wall)?;
        Ok(wall)
    }

    /// Sets it so far behind the true time, and returns to what.
    fn behind(&self, by: Duration) -> Outcome<Duration> {
        let wall = self.truth().saturating_sub(by);
        set(wall)?;
        Ok(wall)
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // Who was allowed to set it is allowed to set it back.
        let _ = set(self.truth());
    }
}

fn set(wall: Duration) -> Outcome<()> {
    let time = Timespec::try_from(wall).map_err(Failure::at("a time"))?;
    clock_settime(ClockId::Realtime, time).map_err(Failure::at("setting the clock"))
}
