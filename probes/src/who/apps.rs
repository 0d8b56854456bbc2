//! Which app a process is.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use ebpf_process_names::{Apps, Process, parts};

use super::groups;

/// More decisions than this are not remembered.
const REMEMBERED: usize = 65_536;

/// The longest command line that is looked at.
const COMMAND_LINE: u64 = 4096;

/// Decides, once for a process under a name in a group.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    known: HashMap<(u64, u64), Option<Arc<str>>>,
}

/// Whom it is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whom<'a> {
    pub(super) tgid: u32,
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

/// What rules ask for of a process that is over already is not known: only its name, user and group are.
fn decide(rules: &Apps, whom: Whom<'_>) -> Option<Arc<str>> {
    let asked = rules.asked();
    let process = |file: &str| PathBuf::from(format!("/proc/{}/{file}", whom.tgid));
    let exe = asked.exe.then(|| fs::read_link(process("exe")).ok()).flatten();
    let exe = exe.as_ref().map(|exe| exe.to_string_lossy());
    let cmdline = asked.cmdline.then(|| command_line(&process("cmdline"))).flatten();
    let user = asked.user.then(|| user(whom.uid));
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

fn command_line(file: &PathBuf) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(COMMAND_LINE).read_to_end(&mut bytes).ok()?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
    (!line.is_empty()).then_some(line)
}

/// The name in /etc/passwd, or the number.
fn user(uid: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_see_what_is_known_of_a_process() {
        let rules = Apps::read("root: user=root\nme: *rules_see_what*\nnamed: worker").expect("rules");
        let mut decisions = Decisions::default();
        let whom = Whom { tgid: u32::MAX, comm: "worker", uid: 4_000_000_000, cgroup: 0 };
        assert_eq!(decisions.app_of(&rules, 1, whom).as_deref(), Some("named"));
        assert_eq!(decisions.app_of(&rules, 2, Whom { uid: 0, ..whom }).as_deref(), Some("root"));
        assert_eq!(decisions.app_of(&rules, 3, Whom { comm: "x", ..whom }), None);
        // What was decided stays.
        assert_eq!(decisions.app_of(&rules, 3, whom), None);
        assert_eq!((user(0).as_str(), user(4_000_000_000).as_str()), ("root", "4000000000"));
        let own = PathBuf::from("/proc/self/cmdline");
        assert!(command_line(&own).is_some_and(|line| !line.contains('\0')));
    }
}
