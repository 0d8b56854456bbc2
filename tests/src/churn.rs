//! Very many processes and control groups that come and go, beside an agent that has rows for all of them.
//!
//! Each process opens a file, reads a byte and closes it, under a name that is the crowd's alone. What the agent has of
//! them must add up: each has a row of its own, and afterwards nothing is left of any.

mod entries;
mod ledger;

pub use entries::{can_be_counted, entries};
pub use ledger::{Kind, Ledger};

use crate::agent::Agent;
use crate::cgroup::Cgroup;
use crate::hidden::Hidden;
use crate::usage::{processor_time, resident};
use crate::workload::{Place, Workload};
use crate::{Failure, Outcome, wait};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at the agent and its lines.
const NOW_AND_THEN: Duration = Duration::from_millis(50);

/// How many come and go.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Processes, one after the other.
    pub count: u32,
    /// So many a second; 0 is as many as there can be.
    pub per_second: u32,
    /// Whether each has a control group of its own that is made and removed for it.
    pub has_groups: bool,
}

/// An agent with all kinds of rows.
#[derive(Debug)]
pub struct Watched {
    agent: Agent,
    place: Place,
    cgroup: Cgroup,
    prefix: String,
    file: File,
    rest: String,
    ledger: Ledger,
    hidden: u32,
    _lines: tempfile::TempDir,
}

/// What came of a crowd.
#[derive(Debug, Clone)]
pub struct Came {
    /// The crowd.
    pub crowd: Crowd,
    /// How long it took.
    pub took: Duration,
    /// All ticks from its start until nothing of it was left.
    pub ledger: Ledger,
    /// The agent's own memory in KiB: before, at most, after.
    pub memory: [u64; 3],
    /// The agent's processor time while it ran.
    pub spent: Duration,
    /// Ends of the crowd's that no program can have seen on this machine.
    pub hidden: u32,
}

impl Watched {
    /// Starts an agent with these settings besides, and waits until it counts.
    ///
    /// # Errors
    /// It does not start, or there are no control groups of version 2.
    pub fn start(settings: &[&str]) -> Outcome<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (place, cgroup) = (Place::new()?, Cgroup::new()?);
        let prefix = format!("ch{:x}{:x}-", process::id() & 0xf_ffff, MADE.fetch_add(1, Ordering::Relaxed) & 0xff);
        let lines = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        let path = lines.path().join("lines.json");
        let mut all = vec![
            "probes.mode=return".to_owned(),
            "probes.by=[\"process\",\"app\",\"cgroup\"]".to_owned(),
            "sinks.out.kinds=[\"host\",\"hook\"]".to_owned(),
            "sinks.rows.type=json".to_owned(),
            format!("sinks.rows.options.path={}", path.display()),
        ];
        all.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let mut agent = Agent::start(&all)?;
        agent.wait_for_first_batch()?;
        let file = File::open(&path).map_err(Failure::at(path.display()))?;
        let (rest, ledger) = (String::new(), Ledger::default());
        let mut watched = Self { agent, place, cgroup, prefix, file, rest, ledger, hidden: 0, _lines: lines };
        watched.read()?;
        Ok(watched)
    }

    /// The agent's process.
    pub fn pid(&self) -> u32 {
        self.agent.pid()
    }

    /// Has a crowd come and go, and waits until it has no rows any more; those of apps and groups may linger.
    ///
    /// # Errors
    /// It cannot be started, or the agent's lines are not those of the sink json.
    pub fn crowd(&mut self, crowd: Crowd) -> Outcome<Came> {
        let program = self.program()?;
        let mut workload = self.spawner(crowd, &program)?;
        self.read()?;
        self.ledger = Ledger::new([self.prefix.clone(), format!("{}/", self.cgroup.name())]);
        let before = resident(self.pid())?;
        let (start, spent) = (Instant::now(), processor_time(self.pid())?);
        let mut most = before;
        let hidden = Hidden::of(&self.prefix);
        workload.resume()?;
        while !workload.has_ended()? {
            thread::park_timeout(NOW_AND_THEN);
            self.read()?;
            most = most.max(resident(self.pid())?);
        }
        let took = start.elapsed();
        let spent = processor_time(self.pid())?.saturating_sub(spent);
        let gone = wait::until("the end of the crowd's rows", wait::LIMIT, || {
            self.read()?;
            most = most.max(resident(self.pid())?);
            let kind = self.ledger.kinds.get("process").copied().unwrap_or_default();
            let is_told = kind.opened + kind.other_opened + self.ledger.missed >= u64::from(crowd.count);
            Ok((is_told && kind.living <= self.hidden(&hidden)?).then_some(()))
        });
        gone.map_err(|failure| Failure::new(format!("{failure}: {:?}", self.ledger)))?;
        self.ticks(5)?;
        let memory = [before, most, resident(self.pid())?];
        let hidden = hidden.releases()?;
        self.hidden += hidden;
        Ok(Came { crowd, took, ledger: self.ledger.clone(), memory, spent, hidden })
    }

    /// Ends of all crowds that no program has seen: their rows stay until their numbers are given away.
    fn hidden(&self, now: &Hidden) -> Outcome<usize> {
        Ok((self.hidden + now.releases()?) as usize)
    }

    /// Waits until no kind has a row of a crowd any more.
    ///
    /// # Errors
    /// Some stay.
    pub fn wait_for_no_rows(&mut self) -> Outcome<()> {
        wait::until("the end of all rows", wait::LIMIT, || {
            self.ticks(1)?;
            let living = self.ledger.kinds.values().map(|kind| kind.living);
            Ok((living.max().unwrap_or_default() <= self.hidden as usize).then_some(()))
        })
    }

    /// Waits for so many ticks more.
    ///
    /// # Errors
    /// They do not come.
    pub fn ticks(&mut self, ticks: usize) -> Outcome<()> {
        let until = self.ledger.ticks + ticks;
        wait::until("ticks", wait::LIMIT, || {
            self.read()?;
            Ok((self.ledger.ticks >= until).then_some(()))
        })
    }

    /// Ends the agent.
    ///
    /// # Errors
    /// It does not end, or not with 0.
    pub fn stop(self) -> Outcome<()> {
        match self.agent.stop()?.0 {
            status if status.success() => Ok(()),
            status => Err(Failure::new(format!("the agent ended with {status}"))),
        }
    }

    /// The program under the crowd's name.
    fn program(&self) -> Outcome<PathBuf> {
        let program = self.place.path().join(format!("{}x", self.prefix));
        match symlink(self.place.executable(), &program) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(Failure::new(format!("the crowd's name: {error}")))
            }
            _ => Ok(program),
        }
    }

    fn spawner(&self, crowd: Crowd, program: &std::path::Path) -> Outcome<Workload> {
        let mut command = Command::new(self.place.executable());
        command.arg(if crowd.has_groups { "churn-groups" } else { "churn" }).arg(program);
        command.args([crowd.count, crowd.per_second].map(|number| number.to_string()));
        if crowd.has_groups {
            command.arg(self.cgroup.folder());
        }
        Workload::start(command)
    }

    fn read(&mut self) -> Outcome<()> {
        self.agent.totals()?;
        self.file.read_to_string(&mut self.rest).map_err(Failure::at("reading the lines"))?;
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        for line in self.rest[..whole].lines() {
            self.ledger.read(line)?;
        }
        self.rest.drain(..whole);
        Ok(())
    }
}

impl Came {
    /// All that is wrong with it, where so much may be in the rows `other`, in millionths.
    pub fn wrong(&self, other: u64) -> Vec<String> {
        let Self { crowd, ledger, .. } = self;
        let count = u64::from(crowd.count);
        let mut wrong = ledger.unequal.clone();
        for (name, kind) in &ledger.kinds {
            let Kind { opened, other_opened, .. } = kind;
            if name != "cgroup" || crowd.has_groups {
                if opened + other_opened + ledger.missed < count || *opened > count {
                    wrong.push(format!("{name}: {opened} opened, {other_opened} in other, of {count}"));
                }
                wrong.extend(too_many(name, "opens", count.saturating_sub(*opened), count, other));
            }
            wrong.extend(too_many(name, "counts", kind.other, ledger.host, other));
        }
        // Each process has had a row of its own, and it has ended.
        let rows = ledger.kinds.get("process").map_or(0, |kind| kind.ended as u64);
        wrong.extend(too_many(
            "process",
            "ended rows",
            count.saturating_sub(rows + u64::from(self.hidden)),
            count,
            other,
        ));
        if rows > count + u64::from(self.hidden) {
            wrong.push(format!("{rows} rows of processes have ended, of {count}"));
        }
        wrong
    }
}

/// What is wrong where a part is more than so many millionths of all.
fn too_many(kind: &str, what: &str, part: u64, all: u64, millionths: u64) -> Option<String> {
    (part * 1_000_000 > all * millionths).then(|| format!("{kind}: {part} of {all} {what} have no row of their own"))
}
