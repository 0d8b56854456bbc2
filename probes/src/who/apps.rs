//! Which app a process is.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ebpf_process_names::{Apps, Process, parts};

use super::process::Directory;
use super::{groups, users};

/// More decisions than this are not remembered.
const REMEMBERED: usize = 65_536;

/// Decides, once for a process under a name in a group.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    known: HashMap<(u64, u64), Option<Arc<str>>>,
}

/// Whom it is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whom<'a> {
    pub(super) tgid: u32,
    /// In nanoseconds since the boot.
    pub(super) started: u64,
    pub(super) comm: &'a str,
    pub(super) uid: u32,
    pub(super) cgroup: u64,
}

impl Decisions {
    /// The app; none where no rule fits. `identity` is the process's under this name.
    pub(super) fn app_of(&mut self, rules: &Apps, identity: u64, whom: Whom<'_>) -> Option<Arc<str>> {
        let key = (identity, whom.cgroup);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let app = decide(rules, whom);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(key, app.clone());
        app
    }
}

/// What rules ask for of a process that is over already, or called otherwise by now, is not known: only its name, user and
/// group are.
fn decide(rules: &Apps, whom: Whom<'_>) -> Option<Arc<str>> {
    let asked = rules.asked();
    let directory = (asked.exe || asked.cmdline).then(|| Directory::open(Path::new("/proc"), whom.tgid)).flatten();
    let read = directory.as_ref().map(|directory| {
        let exe = asked.exe.then(|| directory.exe()).flatten();
        (exe, asked.cmdline.then(|| directory.command_line()).flatten())
    });
    let is_meant = directory.is_some_and(|directory| directory.is(whom.started, whom.comm));
    let (exe, cmdline) = read.filter(|_| is_meant).unwrap_or_default();
    let user = asked.user.then(|| users::name_of(whom.uid));
    let path = (asked.cgroup || asked.unit).then(|| groups::with(|groups| groups.path(whom.cgroup, Instant::now())));
    let unit = path.as_ref().filter(|_| asked.unit).and_then(|path| parts(path).unit);
    let process = Process {
        comm: whom.comm,
        exe: exe.as_deref(),
        cmdline: cmdline.as_deref(),
        user: user.as_deref(),
        cgroup: path.as_deref(),
        unit: unit.as_deref(),
    };
    rules.app_of(&process).map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::super::process::tests::started;
    use super::*;

    #[test]
    fn rules_see_what_is_known_of_a_process() {
        let rules = Apps::read("root: user=root\nme: *ebpf_process_probes*\nnamed: worker").expect("rules");
        let mut decisions = Decisions::default();
        let whom = Whom { tgid: u32::MAX, started: 5, comm: "worker", uid: 4_000_000_000, cgroup: 0 };
        assert_eq!(decisions.app_of(&rules, 1, whom).as_deref(), Some("named"));
        assert_eq!(decisions.app_of(&rules, 2, Whom { uid: 0, ..whom }).as_deref(), Some("root"));
        assert_eq!(decisions.app_of(&rules, 3, Whom { comm: "x", ..whom }), None);
        // What was decided stays.
        assert_eq!(decisions.app_of(&rules, 3, whom), None);
        let comm = std::fs::read_to_string("/proc/self/comm").expect("a name");
        let tgid = std::process::id();
        let own = Whom { tgid, started: started(tgid), comm: comm.trim_end(), ..whom };
        assert_eq!(decide(&rules, own).as_deref(), Some("me"));
        assert_eq!(
            decide(&rules, Whom { started: own.started + 1_000_000_000, ..own }),
            None,
            "another had the number"
        );
    }
}
