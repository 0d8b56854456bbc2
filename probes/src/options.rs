//! The options of the kernel probes, common to all of them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::{Options, OptionsError, duration};
use ebpf_process_names::Apps;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::only::Only;
use crate::who::{By, ProcessLabel, WhoOptions};

/// Keys of the table `[probes]` that every kernel probe understands.
pub(crate) const COMMON_KEYS: &[&str] =
    &["mode", "hooks", "object", "only", "by", "process_labels", "apps", "processes", "rows", "linger", "patience"];

/// What a kernel probe can be told.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProbeOptions {
    /// How much is counted.
    pub(crate) mode: Mode,
    /// Which hooks may be used.
    pub(crate) hooks: Hooks,
    /// Which kernel object is loaded.
    pub(crate) object: ObjectChoice,
    /// Whose events count.
    pub(crate) only: Option<Only>,
    /// What has rows beside the host: each process, each app, each control group, each subtree of control groups.
    pub(crate) by: Vec<By>,
    /// What the row of a process says of it beside `pid` and `comm`.
    pub(crate) process_labels: Vec<ProcessLabel>,
    /// Rules for apps, a file in the language of netdata's `apps_groups.conf`; whom no rule fits is counted in the row
    /// `other`. Without it a process's app is its name.
    pub(crate) apps: Option<PathBuf>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) rules: Option<Arc<Apps>>,
    /// How many processes have records of their own with `by`; the others are counted in the row `other`.
    #[schemars(range(min = 16, max = 1_048_576))]
    pub(crate) processes: u32,
    /// How many rows each kind of `by` has; the others are counted in the row `other`. Without it there are as many of
    /// processes as `processes` says, and 1024 of each other kind.
    #[schemars(range(min = 1))]
    pub(crate) rows: Option<usize>,
    /// How long the row of an app or a control group stays after its last process.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub(crate) linger: Duration,
    /// How long the numbers of a process that was forked wait for the name that it gets when it runs a program; then, and
    /// where it runs none, they are told under its parent's name.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub(crate) patience: Duration,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            hooks: Hooks::default(),
            object: ObjectChoice::default(),
            only: None,
            by: Vec::new(),
            process_labels: Vec::new(),
            apps: None,
            rules: None,
            processes: 8192,
            rows: None,
            linger: Duration::from_mins(5),
            patience: Duration::from_secs(1),
        }
    }
}

impl ProbeOptions {
    /// Reads them.
    pub(crate) fn of(options: &Options) -> Result<Self, OptionsError> {
        let mut read: Self = options.extract()?;
        if !(16..=1 << 20).contains(&read.processes) {
            return Err(options.refuse("processes", "expected a number from 16 to 1048576"));
        }
        if read.patience > Duration::from_mins(1) {
            return Err(
                options.refuse("patience", "expected a minute at most: so long nothing is told of such a process")
            );
        }
        if read.rows == Some(0) {
            return Err(options.refuse("rows", "expected a number above 0"));
        }
        let wants_apps = read.by.contains(&By::App) || read.chosen_labels().contains(&ProcessLabel::App);
        if let Some(file) = read.apps.as_ref().filter(|_| wants_apps) {
            let rules = rules_of(file).map_err(|problem| options.refuse("apps", problem))?;
            read.rules = Some(Arc::new(rules));
        }
        Ok(read)
    }

    /// All of them in one text, by which two processes know whether they have read the same.
    pub(crate) fn fingerprint(&self) -> String {
        // The rules are in a file, which each reads for itself.
        format!("{:?}", Self { rules: None, ..self.clone() })
    }

    /// The labels of a process beside its number and its name, each once, if processes have rows.
    fn chosen_labels(&self) -> Vec<ProcessLabel> {
        let mut labels = if self.by.contains(&By::Process) { self.process_labels.clone() } else { Vec::new() };
        labels.sort_unstable();
        labels.dedup();
        labels
    }

    /// Whether `/proc/PID/exe` is read.
    pub(crate) fn asks_for_executables(&self) -> bool {
        self.chosen_labels().contains(&ProcessLabel::Exe) || self.rules.as_ref().is_some_and(|rules| rules.asked().exe)
    }

    /// Who has rows, if anybody.
    pub(crate) fn who(&self) -> Option<WhoOptions> {
        let mut by = self.by.clone();
        by.sort_unstable();
        by.dedup();
        let options = WhoOptions {
            by,
            process_labels: self.chosen_labels(),
            apps: self.rules.clone(),
            processes: self.processes,
            rows: self.rows,
            linger: self.linger,
        };
        (!options.by.is_empty()).then_some(options)
    }
}

/// The longest file of rules.
const RULES: u64 = 1 << 20;

fn rules_of(file: &Path) -> Result<Apps, String> {
    let shown = file.display();
    let unreadable =
        |error: io::Error| format!("{shown} cannot be read: {error}; name a file of rules, or leave it out");
    let mut text = String::new();
    let opened = File::open(file).map_err(unreadable)?;
    if !opened.metadata().map_err(unreadable)?.is_file() {
        return Err(format!("{shown} is no file; name a file of rules, or leave it out"));
    }
    opened.take(RULES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > RULES {
        return Err(format!("{shown} has more than {RULES} bytes"));
    }
    Apps::read(&text).map_err(|error| format!("{shown}: {error}"))
}

/// How much is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Calls, by the cheapest hooks.
    #[default]
    Entry,
    /// Calls, errors and bytes.
    Return,
}

/// Which hooks may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hooks {
    /// The cheapest tier that is exact on this kernel.
    #[default]
    Auto,
    /// The cheapest tier; what it misses is counted.
    Cheapest,
    /// This tier alone.
    Fentry,
    /// This tier alone.
    Kprobe,
    /// This tier alone.
    Tracepoint,
}

/// Which kernel object is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ObjectChoice {
    /// What the kernel can do.
    #[default]
    Auto,
    /// For kernels without BTF.
    Floor,
    /// Relocated by the kernel's BTF, Linux 5.5 and later.
    Core,
}

/// A way to hook the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// A trampoline on the function: fentry or fexit.
    Fentry,
    /// A breakpoint on the function: kprobe or kretprobe.
    Kprobe,
    /// A raw tracepoint.
    Tracepoint,
}

impl Tier {
    /// The word in the configuration and in `hook.info`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Hooks {
    /// Whether a tier may be used.
    pub(crate) const fn allows(self, tier: Tier) -> bool {
        match self {
            Self::Auto | Self::Cheapest => true,
            Self::Fentry => matches!(tier, Tier::Fentry),
            Self::Kprobe => matches!(tier, Tier::Kprobe),
            Self::Tracepoint => matches!(tier, Tier::Tracepoint),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn of(pairs: &[(&str, &[&str])]) -> Result<ProbeOptions, OptionsError> {
        ProbeOptions::of(&Options::from_value(pairs.iter().copied().collect::<BTreeMap<_, _>>()))
    }

    #[test]
    fn labels_of_processes_are_chosen_each_once_and_for_rows_of_processes_alone() {
        let labels: &[&str] = &["ns_pid", "exe", "ns_pid", "user"];
        let keys = |by: &[&str]| {
            let who = of(&[("by", by), ("process_labels", labels)]).expect("options").who().expect("rows");
            let kinds: Vec<_> = crate::who::kinds(&who).collect();
            let keys = kinds.iter().map(|kind| kind.label_keys().map(str::to_owned).collect::<Vec<_>>().join(" "));
            (keys.collect::<Vec<_>>(), who.asks_for_groups())
        };
        assert_eq!(keys(&["process"]), (vec!["pid comm exe user ns_pid".to_owned()], false));
        assert_eq!(keys(&["app"]), (vec!["app".to_owned()], false));
        let groups = "cgroup unit container pod namespace container_name".to_owned();
        assert_eq!(keys(&["subtree"]), (vec![groups], true));
        let options = of(&[("by", &["process"]), ("process_labels", &["container"])]).expect("options");
        assert!(options.who().is_some_and(|who| who.asks_for_groups()) && !options.asks_for_executables());
        // Without rows of processes nobody reads anything of them.
        assert!(!of(&[("by", &["app"]), ("process_labels", labels)]).expect("options").asks_for_executables());
    }

    #[test]
    fn a_label_or_kind_that_there_is_not_is_refused_with_the_nearest() {
        let refused = |key, word| of(&[(key, &[word])]).expect_err("an unknown word").to_string();
        let label = refused("process_labels", "nspid");
        assert!(label.starts_with("options.process_labels.0 "), "{label}");
        let words =
            "unknown value \"nspid\"; known are exe, user, app, cgroup, container, ns_pid; did you mean \"ns_pid\"?";
        assert!(label.ends_with(words), "{label}");
        assert!(refused("by", "subtre").ends_with("did you mean \"subtree\"?"));
    }
}
