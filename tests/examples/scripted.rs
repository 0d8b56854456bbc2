//! The agent with one probe that does what a test's configuration says, and the sinks as they are.
//!
//! netdata starts it as its plugin (`tests/netdata.rs`): what netdata reads is what the real agent writes, for values
//! that no kernel would give.

use std::path::PathBuf;
use std::process::ExitCode;

use ebpf_process_core::{
    BuildError, Column, ColumnId, Declared, EntityKind, HISTOGRAM_SLOTS, KindId, Options, OptionsError, Probe,
    ProbeContext, ProbeError, ProbePlugin, Recorder, Refused, RowId, Unit,
};
use ebpf_process_tests::hostile;
use serde::Deserialize;

fn main() -> ExitCode {
    ebpf_process::App::default().registry(ebpf_process_sinks::registry().probe(Scripted)).run()
}

struct Scripted;

/// The table `[probes.scripted]`; `enabled` is the agent's.
#[derive(Deserialize)]
struct Script {
    /// Refuses to start: "passing" or "lasting".
    refuse: Option<String>,
    /// Ticks without values before the first.
    #[serde(default)]
    silent: u64,
    /// The metric `scripted.brief` ends when this file exists.
    #[serde(default)]
    end: PathBuf,
    /// How many rows there are of which one ends and one begins in each tick.
    #[serde(default)]
    rows: u64,
}

impl ProbePlugin for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn summary(&self) -> &'static str {
        "does what a test says"
    }

    fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
        let [calls, level] = by_name().map(|column| Declared::new(names(), column));
        let (time, brief) = (Declared::new(timed(), time()), Declared::new(passing(), brief()));
        let work = Declared::new(parts(), work());
        Ok(vec![calls, level, time, brief, work])
    }

    fn build(&self, options: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        let script: Script = options.extract()?;
        match script.refuse.as_deref() {
            None => Ok(Box::new(Player::new(script, context.recorder)?)),
            Some(how) => Err(BuildError::refused("the script says so", "change it").passing(how == "passing")),
        }
    }
}

/// What has a hostile name.
fn names() -> EntityKind {
    EntityKind::new("scripted").keys(["name"]).names_as_they_are()
}

/// What has a time.
fn timed() -> EntityKind {
    EntityKind::new("timed").keys(["name"]).names_as_they_are()
}

/// The one row that ends.
fn passing() -> EntityKind {
    EntityKind::new("passing").names_as_they_are()
}

/// What comes and goes.
fn parts() -> EntityKind {
    EntityKind::new("part").keys(["number"])
}

fn by_name() -> [Column; 2] {
    [
        Column::counter("scripted.calls", Unit::CALLS, "It's \"called\" = \\"),
        Column::gauge("scripted.level", Unit::SECONDS, "A level"),
    ]
}

fn time() -> Column {
    Column::histogram("scripted.time", Unit::SECONDS, "A time")
}

fn brief() -> Column {
    Column::counter("scripted.brief", Unit::CALLS, "What ends")
}

fn work() -> Column {
    Column::counter("scripted.work", Unit::CALLS, "Work").labels([("of", "parts")])
}

struct Player {
    script: Script,
    tick: u64,
    calls: ColumnId,
    level: ColumnId,
    names: Vec<RowId>,
    time: ColumnId,
    timed: Vec<RowId>,
    brief: Option<(RowId, ColumnId)>,
    parts: KindId,
    work: ColumnId,
}

impl Player {
    fn new(script: Script, recorder: &mut Recorder) -> Result<Self, Refused> {
        let (by_text, timed, passing) = (recorder.kind(names())?, recorder.kind(timed())?, recorder.kind(passing())?);
        let [calls, level] = by_name();
        let parts = recorder.kind(parts())?;
        let row = |recorder: &mut Recorder, kind, (identity, name): (u64, &str)| recorder.row(kind, identity, &[name]);
        let distinct = hostile::distinct_names();
        let names = (0..).zip(distinct.iter().map(String::as_str)).map(|name| row(recorder, by_text, name));
        let names = names.collect::<Result<_, _>>()?;
        let timed_rows = (0..).zip(["plain", "it's \"=\" \\\nDISABLE"]).map(|name| row(recorder, timed, name));
        let timed_rows = timed_rows.collect::<Result<_, _>>()?;
        Ok(Self {
            script,
            tick: 0,
            calls: recorder.column(by_text, calls)?,
            level: recorder.column(by_text, level)?,
            names,
            time: recorder.column(timed, time())?,
            timed: timed_rows,
            brief: Some((recorder.row(passing, 0, &[])?, recorder.column(passing, brief())?)),
            parts,
            work: recorder.column(parts, work())?,
        })
    }

    /// Counter number N is 1000 times the tick and N. Two histograms grow, one of them into slots that it had not.
    fn record(&mut self, recorder: &mut Recorder) {
        for (number, row) in (0_u64..).zip(&self.names) {
            recorder.counter(*row, self.calls, self.tick * 1000 + number);
            recorder.gauge(*row, self.level, if number % 2 == 0 { f64::MAX } else { 0.125 });
        }
        for row in &self.timed {
            let mut slots = [0; HISTOGRAM_SLOTS];
            slots[3] = self.tick;
            slots[40] = self.tick.saturating_sub(self.script.silent + 2);
            recorder.histogram(*row, self.time, &slots, 1);
        }
        if !self.script.end.exists() {
            if let Some((row, column)) = self.brief {
                recorder.counter(row, column, self.tick);
            }
        } else if let Some((row, _)) = self.brief.take() {
            recorder.end(row);
        }
    }

    /// The rows from the tick's number on. Row N is 1000 times the tick and N, and ends in tick N.
    fn record_parts(&mut self, recorder: &mut Recorder) -> Result<(), Refused> {
        for number in self.tick..self.tick + self.script.rows {
            let row = recorder.row(self.parts, number, &[&number.to_string()])?;
            recorder.counter(row, self.work, self.tick * 1000 + number);
            if number == self.tick {
                recorder.end(row);
            }
        }
        Ok(())
    }
}

impl Probe for Player {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.tick += 1;
        if self.tick > self.script.silent {
            self.record(recorder);
            self.record_parts(recorder)?;
        }
        Ok(())
    }
}
