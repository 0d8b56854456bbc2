//! Services, containers and sessions as a service manager and container runtimes would have made them: control groups
//! with such paths, below one of the test's own, and in each of them processes that read so many bytes, one at a time.

use crate::cgroup::Cgroup;
use crate::workload::Place;
use crate::{Failure, Outcome};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A control group, whose it is, and what is done in it.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The path below the test's own group; `<1>` is an id of 64 digits.
    path: &'static str,
    /// What the agent must find in the path. A container's `<1>` is as in the path.
    unit: &'static str,
    container: &'static str,
    pod: &'static str,
    /// What netdata calls it.
    shown: &'static str,
    /// By [`RULES`].
    app: &'static str,
    /// Bytes, one by one. Two are two processes, and the group is removed and made again between them.
    reads: &'static [u64],
}

const fn service(path: &'static str, unit: &'static str, app: &'static str, reads: &'static [u64]) -> Group {
    Group { path, unit, container: "_", pod: "_", shown: unit, app, reads }
}

const fn container(path: &'static str, container: &'static str, shown: &'static str, reads: &'static [u64]) -> Group {
    Group { path, unit: "_", container, pod: "_", shown, app: "other", reads }
}

/// What tells apps apart, in the language of `apps_groups.conf`.
pub const RULES: &str = "\
web: unit=nginx.service
database: unit=postgresql@* unit=redis.service
node: unit=kubelet.service unit=containerd.service
people: unit=session-*.scope unit=app-*
";

const PODS: [&str; 3] = [
    "8dbc5577-d0e2-4706-8787-57d52c03ddf2",
    "c187a9e4-5b1f-4d2a-9f5e-2f4f4b8f7a01",
    "3f1e6a52-7c0d-4b6e-8f39-0d9c5a7be114",
];

/// Thirteen services, of which one has two groups, and what is busier than most of them and is no service.
const GROUPS: [Group; 22] = [
    service("system.slice/nginx.service", "nginx.service", "web", &[310, 520]),
    Group {
        shown: "nginx.service/workers",
        ..service("system.slice/nginx.service/workers", "nginx.service", "web", &[400])
    },
    service(
        "system.slice/system-postgresql.slice/postgresql@15-main.service",
        "postgresql@15-main.service",
        "database",
        &[1100],
    ),
    service(
        r"system.slice/system-serial\x2dgetty.slice/serial-getty@tty\x2dS0.service",
        "serial-getty@tty-S0.service",
        "other",
        &[95],
    ),
    service("runtime.slice/kubelet.service", "kubelet.service", "node", &[760]),
    service("podruntime.slice/containerd.service", "containerd.service", "node", &[640]),
    service("azure.slice/walinuxagent.service", "walinuxagent.service", "other", &[85]),
    Group {
        shown: "user@1000.service/app-editor@autostart.service",
        ..service(
            "user.slice/user-1000.slice/user@1000.service/app.slice/app-editor@autostart.service",
            "app-editor@autostart.service",
            "people",
            &[430],
        )
    },
    service("system.slice/cron.service", "cron.service", "other", &[75]),
    service("system.slice/ssh.service", "ssh.service", "other", &[350]),
    service("system.slice/rsyslog.service", "rsyslog.service", "other", &[270]),
    service("system.slice/redis.service", "redis.service", "database", &[980]),
    service("system.slice/dbus.service", "dbus.service", "other", &[100, 60]),
    service("system.slice/chrony.service", "chrony.service", "other", &[60]),
    // No service, though a unit.
    service("user.slice/user-1000.slice/session-3.scope", "session-3.scope", "people", &[1900]),
    container("system.slice/docker-<1>.scope", "<1>", "111111111111", &[2100]),
    // A service of a container's own.
    Group {
        unit: "inner.service",
        ..container(
            "system.slice/docker-<1>.scope/system.slice/inner.service",
            "<1>",
            "111111111111/system.slice/inner.service",
            &[1500],
        )
    },
    Group {
        pod: PODS[0],
        ..container(
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8dbc5577_d0e2_4706_8787_57d52c03ddf2.slice/cri-containerd-<2>.scope",
            "<2>",
            "8dbc5577-d0e2-4706-8787-57d52c03ddf2/222222222222",
            &[1700],
        )
    },
    Group {
        pod: PODS[1],
        ..container(
            "kubepods/besteffort/podc187a9e4-5b1f-4d2a-9f5e-2f4f4b8f7a01/<3>",
            "<3>",
            "c187a9e4-5b1f-4d2a-9f5e-2f4f4b8f7a01/333333333333",
            &[1300],
        )
    },
    // In the group of the runtime, whose unit it has; and yet it is the container that does it.
    Group {
        unit: "containerd.service",
        pod: PODS[2],
        app: "node",
        ..container(
            "system.slice/containerd.service/kubepods-burstable-pod3f1e6a52_7c0d_4b6e_8f39_0d9c5a7be114.slice:cri-containerd:<4>",
            "<4>",
            "3f1e6a52-7c0d-4b6e-8f39-0d9c5a7be114/444444444444",
            &[900],
        )
    },
    container("lxc/mail", "mail", "mail", &[700]),
    container(r"machine.slice/machine-qemu\x2d1\x2ddesk.scope", "desk", "desk", &[500]),
];

/// How many are asked for.
const TEN: usize = 10;

/// Names and numbers, those with most first.
pub type Ranking = Vec<(Vec<String>, f64)>;

/// The groups, empty so far.
#[derive(Debug)]
pub struct Machine {
    place: Place,
    /// Those above before those below.
    groups: Vec<Cgroup>,
}

impl Machine {
    /// Makes them.
    ///
    /// # Errors
    /// No control groups of version 2, or as [`Place::new`].
    pub fn new() -> Outcome<Self> {
        let mut machine = Self { place: Place::new()?, groups: vec![Cgroup::new()?] };
        for group in &GROUPS {
            machine.make(group)?;
        }
        Ok(machine)
    }

    fn make(&mut self, group: &Group) -> Outcome<()> {
        let path = with_ids(group.path);
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            if self.find(&path[..end]).is_none() {
                self.groups.push(self.groups[0].below(&path[..end])?);
            }
        }
        Ok(())
    }

    fn find(&self, path: &str) -> Option<&Cgroup> {
        let name = format!("{}/{path}", self.path());
        self.groups.iter().find(|group| group.name() == name)
    }

    /// The path of the group that all are below.
    pub fn path(&self) -> &str {
        self.groups[0].name()
    }

    /// Lets everybody do what is known of them, for so many rounds.
    ///
    /// # Errors
    /// A process does not do it.
    pub fn work(&self, rounds: u64) -> Outcome<()> {
        for group in &GROUPS {
            let cgroup = self.find(&with_ids(group.path)).ok_or_else(|| Failure::new("a group was never made"))?;
            for (number, reads) in group.reads.iter().enumerate() {
                // One that has others below it cannot be removed.
                if number > 0 && cgroup.is_leaf()? {
                    cgroup.remove()?;
                    cgroup.make_anew()?;
                }
                let mut process = self.place.reads(rounds * reads)?;
                cgroup.add(process.pid())?;
                process.run_to_next_stop()?;
                process.run_to_end()?;
            }
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Those below first.
        while self.groups.pop().is_some() {}
    }
}

/// The ten services with most reads in one round.
pub fn services() -> Ranking {
    let services = GROUPS.iter().filter(|group| group.unit.ends_with(".service") && group.container == "_");
    ranking(services, |group| vec![group.unit.to_owned()])
}

/// The containers with most, by namespace, pod and name: of one that has an id the name is in files that nobody wrote.
pub fn containers() -> Ranking {
    let containers = GROUPS.iter().filter(|group| group.container != "_");
    let name = |group: &Group| if group.container.starts_with('<') { "_" } else { group.container };
    ranking(containers, |group| ["_", group.pod, name(group)].map(str::to_owned).to_vec())
}

/// The slices right below the root: of the test's own groups there is one, which all are below.
pub fn slices(machine: &Machine) -> Ranking {
    vec![(vec![machine.path().to_owned()], GROUPS.iter().map(reads).sum())]
}

/// The pods with most, by namespace and pod: those that have a group of their own.
pub fn pods() -> Ranking {
    let pods = GROUPS.iter().filter(|group| group.pod != "_" && !group.path.contains(':'));
    ranking(pods, |group| ["_", group.pod].map(str::to_owned).to_vec())
}

/// The apps with most.
pub fn apps() -> Ranking {
    ranking(GROUPS.iter().filter(|group| group.app != "other"), |group| vec![group.app.to_owned()])
}

/// What those did that no rule names.
pub fn others() -> f64 {
    GROUPS.iter().filter(|group| group.app == "other").map(reads).sum()
}

/// What netdata calls each group, with its reads.
pub fn shown() -> BTreeMap<&'static str, f64> {
    GROUPS.iter().map(|group| (group.shown, reads(group))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn reads(group: &Group) -> f64 {
    group.reads.iter().sum::<u64>() as f64
}

fn ranking<'a>(groups: impl Iterator<Item = &'a Group>, key: impl Fn(&Group) -> Vec<String>) -> Ranking {
    let mut sums: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    for group in groups {
        *sums.entry(key(group)).or_default() += reads(group);
    }
    let mut ranking: Ranking = sums.into_iter().collect();
    ranking.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    ranking.truncate(TEN);
    ranking
}

/// How a ranking differs from the one that is known for so many rounds; empty when it does not.
pub fn differences(what: &str, got: &Ranking, known: &Ranking, rounds: f64) -> String {
    let known: Ranking = known.iter().map(|(names, reads)| (names.clone(), reads * rounds)).collect();
    let mut text = String::new();
    if *got != known {
        // Writing to memory does not fail.
        let _ = writeln!(text, "{what}: {got:?}, not {known:?}");
    }
    text
}

fn with_ids(path: &str) -> String {
    ["1", "2", "3", "4"]
        .iter()
        .fold(path.to_owned(), |path, digit| path.replace(&format!("<{digit}>"), &digit.repeat(64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_of_a_ranking_are_equal_and_some_services_are_not_in_it() {
        for ranking in [services(), containers(), apps()] {
            assert!(ranking.windows(2).all(|pair| pair[0].1 > pair[1].1), "{ranking:?}");
        }
        let services = services();
        assert_eq!((services.len(), services[0].1), (10, 1230.0));
        assert!(!services.iter().any(|(names, _)| names[0] == "cron.service"));
    }
}
