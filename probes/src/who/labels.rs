//! What the rows of processes say beside number and name.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ebpf_process_names::parts;

use super::apps::Whom;
use super::options::{ProcessLabel, WhoOptions};
use super::process::Directory;
use super::{groups, users};

/// Finds out labels, once for a process under a name and, where that can make a difference, in a group.
#[derive(Debug, Default)]
pub(super) struct ProcessLabels {
    chosen: Vec<ProcessLabel>,
    /// A process that is moved to another group may have others.
    by_group: bool,
    /// Those that were asked for of late, and those that were before: as many again.
    recent: HashMap<(u64, u64), Labels>,
    former: HashMap<(u64, u64), Labels>,
    remembered: usize,
}

/// The labels of one process.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    /// In the order of those that were chosen. Empty: not known, or there is none.
    pub(super) values: Arc<[String]>,
    /// What the row's identity is told apart by from those of the same process in other groups.
    pub(super) apart: String,
}

impl ProcessLabels {
    pub(super) fn new(options: &WhoOptions) -> Self {
        let chosen = options.process_labels.clone();
        let asked = options.apps.as_ref().map(|rules| rules.asked()).unwrap_or_default();
        let apps_by_group = chosen.contains(&ProcessLabel::App) && (asked.cgroup || asked.unit);
        let by_group = apps_by_group || chosen.iter().any(|label| label.is_of_group());
        // However many processes come and go, those that live are remembered.
        let remembered = usize::try_from(options.processes).unwrap_or(usize::MAX);
        Self { chosen, by_group, remembered, ..Self::default() }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Those of a process, of which nothing is read that is known already. `identity` is the process's under its name;
    /// `whom` is nobody for the threads of the kernel, which have an app and nothing else.
    pub(super) fn of(&mut self, identity: u64, whom: Option<Whom<'_>>, app: impl FnOnce() -> Arc<str>) -> Labels {
        let group = whom.filter(|_| self.by_group).map_or(0, |whom| whom.cgroup);
        let key = (identity, group);
        if let Some(known) = self.recent.get(&key) {
            return known.clone();
        }
        let labels = self.former.remove(&key).unwrap_or_else(|| self.find_out(whom, app));
        if self.recent.len() >= self.remembered {
            self.former = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, labels.clone());
        labels
    }

    fn find_out(&self, whom: Option<Whom<'_>>, app: impl FnOnce() -> Arc<str>) -> Labels {
        let has = |label| self.chosen.contains(&label);
        let mut found = whom.map(|whom| Found::of(whom, &has)).unwrap_or_default();
        let app = if has(ProcessLabel::App) { app().to_string() } else { String::new() };
        let mut apart = String::new();
        if self.by_group && whom.is_some() {
            // No name of a process has a NUL in it: no group's name is taken for one.
            for part in [&found.cgroup, &found.container, &app] {
                apart.push('\0');
                apart.push_str(part);
            }
        }
        let mut app = Some(app);
        let values = self.chosen.iter().map(|label| match label {
            ProcessLabel::Exe => std::mem::take(&mut found.exe),
            ProcessLabel::User => std::mem::take(&mut found.user),
            ProcessLabel::App => app.take().unwrap_or_default(),
            ProcessLabel::Cgroup => std::mem::take(&mut found.cgroup),
            ProcessLabel::Container => std::mem::take(&mut found.container),
            ProcessLabel::NsPid => std::mem::take(&mut found.ns_pid),
        });
        Labels { values: values.collect(), apart }
    }
}

/// What was looked for; the rest is empty.
#[derive(Debug, Default)]
struct Found {
    exe: String,
    user: String,
    cgroup: String,
    container: String,
    ns_pid: String,
}

impl Found {
    fn of(whom: Whom<'_>, has: &impl Fn(ProcessLabel) -> bool) -> Self {
        let mut found = Self::default();
        if has(ProcessLabel::Exe) || has(ProcessLabel::NsPid) {
            found.read(whom, has);
        }
        if has(ProcessLabel::User) {
            found.user = users::name_of(whom.uid);
        }
        if has(ProcessLabel::Cgroup) || has(ProcessLabel::Container) {
            let path = groups::with(|groups| groups.path(whom.cgroup, Instant::now()));
            if has(ProcessLabel::Container) {
                found.container = parts(&path).readable_container().unwrap_or_default().into_owned();
            }
            if has(ProcessLabel::Cgroup) {
                found.cgroup = path.to_string();
            }
        }
        found
    }

    /// What `/proc` says, unless its process is over, or has run another program by now.
    fn read(&mut self, whom: Whom<'_>, has: &impl Fn(ProcessLabel) -> bool) {
        let Some(directory) = Directory::open(Path::new("/proc"), whom.tgid) else { return };
        let exe = if has(ProcessLabel::Exe) { directory.exe() } else { None };
        let number = if has(ProcessLabel::NsPid) { directory.innermost_number() } else { None };
        if directory.is(whom.started, whom.comm) {
            self.exe = exe.unwrap_or_default();
            self.ns_pid = number.map_or_else(String::new, |number| number.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::options::By;
    use super::super::process::tests::started;
    use super::*;

    fn labels(chosen: &[ProcessLabel], processes: u32) -> ProcessLabels {
        let (by, process_labels) = (vec![By::Process], chosen.to_vec());
        ProcessLabels::new(&WhoOptions {
            by,
            process_labels,
            apps: None,
            processes,
            rows: Some(9),
            linger: Duration::ZERO,
        })
    }

    fn values(labels: &Labels) -> Vec<&str> {
        labels.values.iter().map(String::as_str).collect()
    }

    #[test]
    fn what_proc_says_is_of_the_process_that_is_meant_or_of_nobody() {
        let mut labels = labels(&[ProcessLabel::Exe, ProcessLabel::User, ProcessLabel::NsPid], 16);
        let tgid = std::process::id();
        let comm = std::fs::read_to_string("/proc/self/comm").expect("a name");
        let whom = Whom { tgid, started: started(tgid), comm: comm.trim_end(), uid: 4_000_000_000, cgroup: 0 };
        let exe = std::env::current_exe().expect("a path");
        let mut of = |identity, whom| labels.of(identity, Some(whom), || unreachable!("nobody asks for an app"));
        let own = of(1, whom);
        let pid = std::fs::read_to_string("/proc/self/status").expect("a status");
        let pid = pid.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().next_back());
        assert_eq!(values(&own), [exe.to_str().expect("text"), "4000000000", pid.expect("a number")]);
        assert_eq!(own.apart, "");
        // Its number was another's, it was called otherwise, nobody has the number: the user is known all the same.
        for (identity, whom) in [
            (2, Whom { started: whom.started + 1_000_000_000, ..whom }),
            (3, Whom { comm: "former", ..whom }),
            (4, Whom { tgid: u32::MAX, ..whom }),
        ] {
            assert_eq!(values(&of(identity, whom)), ["", "4000000000", ""]);
        }
        // It was found out once.
        assert_eq!(values(&of(1, Whom { tgid: u32::MAX, uid: 0, ..whom })), values(&own));
    }

    #[test]
    fn those_that_live_are_remembered_however_many_come_and_go() {
        let mut labels = labels(&[ProcessLabel::User], 8);
        let whom = |uid| Whom { tgid: u32::MAX, started: 1, comm: "x", uid, cgroup: uid.into() };
        let mut user = |identity: u64, uid| {
            let found = labels.of(identity, Some(whom(uid)), || unreachable!("nobody asks for an app"));
            assert!(labels.recent.len() + labels.former.len() <= 16);
            found.values.concat()
        };
        assert_eq!(user(0, 3_000_000_000), "3000000000");
        for identity in 1..1000 {
            user(identity, 3_000_000_001);
            if identity % 5 == 0 {
                assert_eq!(user(0, 3_000_000_002), "3000000000");
            }
        }
        assert_eq!(user(1, 3_000_000_003), "3000000003", "who is gone is forgotten");
    }
}
