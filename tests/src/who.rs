//! Who did it: the agent's rows by process, app and control group beside a crew that knows what each of it has done.
//!
//! Without a filter the crew is told apart by its numbers, names and groups, and whatever else the machine does has to add
//! up with it; under a filter for the crew's group the host's own numbers are the crew's. At each tick the rows of a kind
//! gain what the host gains; at the end each row of the crew is what the crew says.

mod judge;
mod seen;

pub use seen::{KINDS, Seen};

use self::judge::Known;
use crate::agent::{self, Agent};
use crate::crew::{Crew, Told};
use crate::exact::Row;
use crate::held;
use crate::hidden::Hidden;
use crate::{Failure, Outcome, wait};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

/// Ticks to see while the crew is at work, or soon after it.
pub const TICKS: usize = 200;
/// Between two steps of the crew: the ninety of them take a little longer than the ticks.
const PAUSE: Duration = Duration::from_millis(240);

/// A crew at work, all kinds of rows, a tier in a mode.
///
/// # Errors
/// A number is wrong, or could not be had.
pub fn crew_at_work(row: &Row) -> Outcome<String> {
    crew(row, false)
}

/// The same, and nobody else counts.
///
/// # Errors
/// As [`crew_at_work`].
pub fn crew_alone(row: &Row) -> Outcome<String> {
    crew(row, true)
}

fn crew(row: &Row, alone: bool) -> Outcome<String> {
    let folder = agent::folder()?;
    let path = folder.path().join("lines.json");
    let mut crew = Crew::new(PAUSE)?;
    let hidden = Hidden::of(crew.prefix());
    let mut settings = settings(row, &path);
    if alone {
        settings.push(format!("probes.only={{cgroup=\"{}\"}}", crew.cgroup()));
    }
    let mut agent = Agent::start(&settings)?;
    agent.wait_for_first_batch()?;
    held::nothing_but_what_reading_takes(agent.pid())?;
    let mut lines = Lines::open(&path)?;
    lines.read()?;
    let before = lines.seen.ticks();

    let told = crew.run_beside(|| {
        agent.totals()?;
        lines.read()
    })?;
    lines.read()?;
    let meanwhile = lines.seen.ticks() - before;
    follow(&mut agent, &mut lines, wait::LIMIT, |_, lines| lines.seen.ticks() >= before + TICKS)?;
    let wrong = |agent: &mut Agent, lines: &Lines| {
        let released = hidden.releases().unwrap_or_default();
        agent
            .totals()
            .map(|totals| judge::wrong(row, &Known { crew: &crew, told: &told, alone }, &lines.seen, totals, released))
    };
    follow(&mut agent, &mut lines, wait::LIMIT, |agent, lines| {
        wrong(agent, lines).is_ok_and(|wrong| wrong.is_empty())
    })?;
    let mut wrong = wrong(&mut agent, &lines)?;
    if Path::new("/proc/self/io").exists()
        && let Err(failure) = told.compare_with_the_kernel()
    {
        wrong.push(failure.to_string());
    }
    let (status, totals) = agent.stop()?;
    lines.read()?;
    if status.code() != Some(0) {
        wrong.push(format!("the agent ended with {status}"));
    }
    if lines.seen.ticks() < before + TICKS {
        wrong.push(format!("{} ticks, not {TICKS}", lines.seen.ticks() - before));
    }
    let tiers = totals.tiers().into_iter().collect::<Vec<_>>().join("+");
    let details = format!("tiers={tiers}; {meanwhile} ticks beside the crew; {}; {}", lives(&told), lines.seen);
    if wrong.is_empty() { Ok(details) } else { Err(Failure::new(format!("{details}; {}", shortened(&wrong)))) }
}

fn settings(row: &Row, path: &Path) -> Vec<String> {
    let kinds = KINDS.map(|kind| format!("\"{kind}\"")).join(",");
    let mut settings = row.settings();
    settings.extend([
        format!("probes.by=[{kinds}]"),
        // On an emulated processor it takes a crew's member long to get its name.
        "probes.patience=\"1m\"".to_owned(),
        // The lines that the tests read of every agent are about hooks here.
        "sinks.out.kinds=[\"host\",\"hook\"]".to_owned(),
        "sinks.rows.type=json".to_owned(),
        format!("sinks.rows.options.path={}", path.display()),
    ]);
    settings
}

/// Reads on until something holds, or for so long; what it is then is judged by others.
fn follow(
    agent: &mut Agent,
    lines: &mut Lines,
    limit: Duration,
    mut holds: impl FnMut(&mut Agent, &Lines) -> bool,
) -> Outcome<()> {
    let held = wait::until("the rows", limit, || {
        agent.totals()?;
        lines.read().map_err(|failure| lines.broken.insert(failure).clone())?;
        Ok(holds(agent, lines).then_some(()))
    });
    match (held, lines.broken.take()) {
        (_, Some(failure)) => Err(failure),
        _ => Ok(()),
    }
}

/// The sink's file, as far as its lines are whole.
#[derive(Debug)]
struct Lines {
    file: File,
    rest: String,
    seen: Seen,
    broken: Option<Failure>,
}

impl Lines {
    fn open(path: &Path) -> Outcome<Self> {
        let file = File::open(path).map_err(Failure::at(path.display()))?;
        Ok(Self { file, rest: String::new(), seen: Seen::default(), broken: None })
    }

    fn read(&mut self) -> Outcome<()> {
        self.file.read_to_string(&mut self.rest).map_err(Failure::at("reading the lines"))?;
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        for line in self.rest[..whole].lines() {
            self.seen.read(line)?;
        }
        self.rest.drain(..whole);
        Ok(())
    }
}

/// How long the short ones lived: an agent that looks at processes in /proc would not have met them.
fn lives(told: &Told) -> String {
    let mut lives: Vec<Duration> = told.members.iter().map(|member| member.lived).collect();
    lives.sort();
    let median = lives.get(lives.len() / 2).copied().unwrap_or_default();
    let under = lives.iter().filter(|lived| **lived < Duration::from_millis(5)).count();
    format!("half of the crew lived {median:?} at most, {under} under 5 ms")
}

/// The first few, and how many there are.
fn shortened(wrong: &[String]) -> String {
    const SHOWN: usize = 20;
    let more = wrong.len().saturating_sub(SHOWN);
    let shown = wrong[..wrong.len() - more].join("; ");
    if more == 0 { shown } else { format!("{shown}; and {more} more") }
}
