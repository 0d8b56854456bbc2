//! An agent that tells apps apart, each of which is a name.

use super::account::Account;
use crate::agent::Agent;
use crate::exact::Row;
use crate::expect::Mode;
use crate::who::Seen;
use crate::{Failure, Outcome};
use std::fs;
use tempfile::TempDir;

/// Our words for a column.
const COLUMNS: [(&str, &str, Option<&str>); 8] = [
    ("reads", "vfs.calls", Some("read")),
    ("failed reads", "vfs.errors", Some("read")),
    ("bytes read", "vfs.bytes", Some("read")),
    ("writes", "vfs.calls", Some("write")),
    ("bytes written", "vfs.bytes", Some("write")),
    ("opens", "file.calls", Some("open")),
    ("failed opens", "file.errors", Some("open")),
    ("tasks", "task.exits", None),
];

/// The agent while it counts.
#[derive(Debug)]
pub(super) struct Ours {
    agent: Agent,
    folder: TempDir,
}

impl Ours {
    /// Returns when it counts, at system calls and in return mode.
    ///
    /// # Errors
    /// As [`Agent::wait_for_first_batch`].
    pub(super) fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        let mut settings = Row { hooks: "tracepoint".into(), mode: Mode::Return }.settings();
        settings.extend([
            "probes.by=[\"app\"]".to_owned(),
            "sinks.out.kinds=[\"host\",\"hook\"]".to_owned(),
            "sinks.rows.type=json".to_owned(),
            format!("sinks.rows.options.path={}", folder.path().join("rows").display()),
        ]);
        let mut agent = Agent::start(&settings)?;
        agent.wait_for_first_batch()?;
        Ok(Self { agent, folder })
    }

    /// Stops it; its last batch has everything that has happened by then.
    ///
    /// # Errors
    /// It does not end with 0, its lines are not what they should be, or something has no owner: then the machine has
    /// more processes than the agent has places, and what the load did is among it.
    pub(super) fn stop(self) -> Outcome<Counted> {
        let (status, _) = self.agent.stop()?;
        if !status.success() {
            return Err(Failure::new(format!("the agent ended with {status}")));
        }
        let lines = fs::read_to_string(self.folder.path().join("rows")).map_err(Failure::at("the rows"))?;
        let mut seen = Seen::default();
        lines.lines().try_for_each(|line| seen.read(line))?;
        let other = Counted(seen.clone()).of("other");
        let lost: Vec<String> = other.iter().map(|(word, number)| format!("{number} {word}")).collect();
        if !lost.is_empty() {
            return Err(Failure::new(format!("too many processes on this machine: `other` has {}", lost.join(", "))));
        }
        match seen.unequal() {
            [] => Ok(Counted(seen)),
            [first, ..] => Err(Failure::new(first)),
        }
    }
}

/// What it has counted.
#[derive(Debug)]
pub(super) struct Counted(Seen);

impl Counted {
    /// Of all apps together whose names begin so.
    pub(super) fn of(&self, prefix: &str) -> Account {
        let mut account = Account::new();
        for labels in self.0.labels("app").filter(|labels| labels["app"].starts_with(prefix)) {
            for (word, metric, operation) in COLUMNS {
                let label = operation.map(|operation| ("operation", operation));
                let by = self.0.gained("app", &[("app", &labels["app"])], metric, label).unwrap_or(0);
                if by > 0 {
                    *account.entry(word.to_owned()).or_default() += by;
                }
            }
        }
        account
    }
}
