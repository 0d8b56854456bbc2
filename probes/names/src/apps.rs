//! Rules that put processes together under a name, as netdata's `apps_groups.conf` has them.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use crate::line::{self, Line};
use crate::rule::{Asked, Known, Process, Rule};

/// Lines about netdata's tree of processes.
const NO_APPS: [&str; 2] = ["managers", "interpreters"];

/// Which process belongs to which app; the [crate] says how it is written.
#[derive(Clone, Debug, Default)]
pub struct Apps {
    /// In the order of the file, each with the number of its app.
    rules: Vec<(Rule, usize)>,
    names: Vec<Box<str>>,
}

/// A line that cannot be read: which one, what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppsError {
    line: usize,
    problem: String,
}

impl Apps {
    /// Reads rules. A line that cannot be read is an error, so that no process is counted where nobody wanted it.
    pub fn read(text: &str) -> Result<Self, AppsError> {
        let mut apps = Self::default();
        let mut known = HashMap::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (at, line) in text.lines().enumerate() {
            let line = line::read(line).map_err(|problem| AppsError { line: at + 1, problem })?;
            let Some(Line { name, words }) = line.filter(|line| !NO_APPS.contains(&line.name.as_str())) else {
                continue;
            };
            for word in words {
                let app = *known.entry(name.clone()).or_insert_with(|| {
                    apps.names.push(name.as_str().into());
                    apps.names.len() - 1
                });
                apps.rules.push((Rule::new(word.key, &word.pattern), app));
            }
        }
        Ok(apps)
    }

    /// The app of a process: that of the first rule that fits it. None fits: none.
    pub fn app_of(&self, process: &Process<'_>) -> Option<&str> {
        let known = Known::new(process);
        let (_, app) = self.rules.iter().find(|(rule, _)| rule.fits(&known))?;
        self.names.get(*app).map(|name| &**name)
    }

    /// The names of all apps, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// What has to be found out about processes for these rules.
    pub fn asked(&self) -> Asked {
        let mut asked = Asked::default();
        self.rules.iter().for_each(|(rule, _)| rule.ask(&mut asked));
        asked
    }
}

impl AppsError {
    /// The number of the line, the first being 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for AppsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl Error for AppsError {}
