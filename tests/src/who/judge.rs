//! The rows of a crew against what the crew says.

use super::seen::{KINDS, Seen, shown};
use crate::crew::{Crew, Told};
use crate::exact::{Row, explained};
use crate::expect::{self, Done, Expected, Layer, Mode, RELEASES};
use crate::known::Counted;
use crate::totals::Totals;
use std::collections::BTreeMap;

/// The labels of a row.
type Labels = BTreeMap<String, String>;

/// What is known of a crew.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) crew: &'a Crew,
    pub(super) told: &'a Told,
    /// Nobody else was counted.
    pub(super) alone: bool,
}

/// All that is wrong, where so many releases of the crew's may have been hidden from every program.
pub(super) fn wrong(row: &Row, known: &Known<'_>, seen: &Seen, totals: &Totals, hidden: u32) -> Vec<String> {
    let Known { crew, told, alone } = *known;
    let names = Names { prefix: crew.prefix(), cgroup: crew.cgroup() };
    Judge { row, names, told, alone, seen, totals, hidden }.wrong()
}

/// By what a crew's rows are told from all others.
#[derive(Debug, Clone, Copy)]
struct Names<'a> {
    prefix: &'a str,
    cgroup: &'a str,
}

impl Names<'_> {
    /// Whether a row is the crew's.
    fn are_in(self, labels: &Labels) -> bool {
        let begins = |key: &str, with: &str| labels.get(key).is_some_and(|value| value.starts_with(with));
        begins("comm", self.prefix) || begins("app", self.prefix) || begins("cgroup", self.cgroup)
    }
}

struct Judge<'a> {
    row: &'a Row,
    names: Names<'a>,
    told: &'a Told,
    alone: bool,
    seen: &'a Seen,
    totals: &'a Totals,
    hidden: u32,
}

impl Judge<'_> {
    fn wrong(&self) -> Vec<String> {
        let mut wrong = self.seen.unequal().to_vec();
        for kind in KINDS {
            let expected = self.expected(kind);
            for (labels, counted) in &expected {
                self.row(kind, labels, counted, &mut wrong);
            }
            let strange = self.seen.labels(kind).filter(|labels| self.names.are_in(labels));
            // A group's row has the names of its unit and container besides.
            let is_of =
                |labels: &Labels, known: &Labels| known.iter().all(|(key, value)| labels.get(key) == Some(value));
            let strange = strange.filter(|labels| !expected.keys().any(|known| is_of(labels, known)));
            wrong.extend(strange.map(|labels| format!("{} is nobody's row", shown(kind, labels))));
            self.releases(kind, &mut wrong);
            if self.alone {
                // At each tick that is what the host has gained.
                self.row(kind, &Labels::new(), &self.told.sum(), &mut wrong);
            }
        }
        let living: Vec<&Labels> = self.seen.living("process").filter(|labels| self.names.are_in(labels)).collect();
        // Whose release no program saw is over all the same, and the agent finds that out in its own time.
        if living.len() > self.hidden as usize {
            wrong.extend(living.iter().map(|labels| format!("{} has not ended", shown("process", labels))));
        }
        wrong
    }

    /// What the rows of a kind must have gained, by their labels.
    fn expected(&self, kind: &str) -> BTreeMap<Labels, Counted> {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        match kind {
            "process" => {
                let of = |((pid, comm), counted): ((u32, &str), Counted)| {
                    (labels(&[("pid", &pid.to_string()), ("comm", comm)]), counted)
                };
                self.told.by_process().into_iter().map(of).collect()
            }
            "app" => self.told.by_app().into_iter().map(|(app, counted)| (labels(&[("app", app)]), counted)).collect(),
            _ => self.told.by_cgroup().into_iter().map(|(path, c)| (labels(&[("cgroup", path)]), c)).collect(),
        }
    }

    /// One row, each of its numbers.
    fn row(&self, kind: &str, labels: &Labels, counted: &Counted, wrong: &mut Vec<String>) {
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        for metric in metrics(*counted).filter(|expected| expected.metric.name != RELEASES) {
            let Expected { metric: of, .. } = metric;
            let got = self.seen.gained(kind, &pairs, of.name, of.label);
            let is_reported = self.row.mode == Mode::Return || !of.return_only;
            let hook = self.totals.hook(&of);
            let lacking = hook.map_or(0.0, |hook| if self.row.hooks == "auto" { 0.0 } else { hook.lacking });
            let value = if is_reported { metric.at(hook.map_or(Layer::Syscall, |hook| hook.layer)) } else { 0 };
            // A row whose number never moved need not have it.
            #[expect(clippy::cast_precision_loss, reason = "the crew's totals are far below 2^53")]
            let holds = explained(&of, value, got.unwrap_or_default() as f64, lacking);
            if is_reported && !self.seen.has(kind, of.name, of.label) {
                wrong.push(format!("{kind} has no {of}"));
            } else if !holds {
                let got = got.map_or("absent".to_owned(), |got| got.to_string());
                wrong.push(format!("{of} of {} is {got}, not {value}", shown(kind, labels)));
            }
        }
    }

    /// A task is released some time after it has ended, and its process may have another name by then: only the sum is
    /// known. A thread that is released after its process is in `other`.
    fn releases(&self, kind: &str, wrong: &mut Vec<String>) {
        if !self.seen.has(kind, RELEASES, None) || kind == "cgroup" {
            return;
        }
        let of_crew = self.seen.labels(kind).filter(|labels| self.names.are_in(labels));
        let gained = |labels: &Labels| {
            let pairs: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            self.seen.gained(kind, &pairs, RELEASES, None).unwrap_or_default()
        };
        let (got, all) = (of_crew.map(gained).sum::<u64>(), self.told.sum());
        let is_other = |labels: &&Labels| labels.values().all(|value| value == "other");
        let other = self.seen.labels(kind).find(is_other).map_or(0, gained);
        let late = other.min(all.threads);
        if got > all.exits || got + u64::from(self.hidden) + late < all.exits {
            let hidden = self.hidden;
            let late = format!("{other} are in other, and {hidden} were hidden");
            wrong.push(format!("{RELEASES} of the crew by {kind} is {got}, not {}; {late}", all.exits));
        }
    }
}

/// What rows can have of it: nobody counts mounts by whom.
fn metrics(counted: Counted) -> impl Iterator<Item = Expected> {
    expect::after(Done::Counted(counted)).into_iter().filter(|expected| !expected.metric.name.starts_with("mount."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crew::Stage;

    /// Lines as an agent writes them that has counted one process of the crew, which has read `reads` times.
    fn seen(told: &Told, change: impl Fn(&str, &Labels, &Expected) -> u64) -> Seen {
        let nothing = Seen::default();
        let judge = judge(told, &nothing);
        let mut host: BTreeMap<String, u64> = BTreeMap::new();
        let mut tables = Vec::new();
        for kind in KINDS {
            let columns: Vec<String> = metrics(Counted::default()).map(|e| column(&format!("{kind}."), &e)).collect();
            let mut rows = Vec::new();
            let mut keys = Vec::new();
            for (labels, counted) in judge.expected(kind) {
                let deltas: Vec<String> = metrics(counted)
                    .map(|e| {
                        let by = change(kind, &labels, &e);
                        *host.entry(column("", &e)).or_default() += if kind == "app" { by } else { 0 };
                        by.to_string()
                    })
                    .collect();
                keys = labels.keys().map(|key| format!("\"{key}\"")).collect();
                let labels: Vec<String> = labels.values().map(|value| format!("\"{value}\"")).collect();
                rows.push(format!(
                    "{{\"labels\":[{}],\"deltas\":[{}],\"ended\":true}}",
                    labels.join(","),
                    deltas.join(",")
                ));
            }
            tables.push(format!(
                "{{\"kind\":\"{kind}\",\"labels\":[{}],\"columns\":[{}],\"rows\":[{}]}}",
                keys.join(","),
                columns.join(","),
                rows.join(",")
            ));
        }
        let samples: Vec<String> =
            host.iter().map(|(sample, by)| format!("{},\"delta\":{by}}}", &sample[..sample.len() - 1])).collect();
        let mut seen = Seen::default();
        seen.read(&format!("{{\"samples\":[{}],\"tables\":[{}]}}", samples.join(","), tables.join(","))).unwrap();
        seen
    }

    fn column(prefix: &str, expected: &Expected) -> String {
        let label = expected.metric.label.map(|(key, value)| format!("\"{key}\":\"{value}\"")).unwrap_or_default();
        let name = expected.metric.name;
        format!("{{\"name\":\"{prefix}{name}\",\"kind\":\"counter\",\"labels\":{{{label}}}}}")
    }

    fn judge<'a>(told: &'a Told, seen: &'a Seen) -> Judge<'a> {
        static ROW: std::sync::LazyLock<Row> =
            std::sync::LazyLock::new(|| Row { hooks: "auto".into(), mode: Mode::Return });
        static TOTALS: std::sync::LazyLock<Totals> = std::sync::LazyLock::new(Totals::default);
        let names = Names { prefix: "cr1", cgroup: "/crew" };
        Judge { row: &ROW, names, told, alone: true, seen, totals: &TOTALS, hidden: 0 }
    }

    fn told() -> Told {
        let stage = |pid, comm: &str, cgroup: &str, reads| Stage {
            pid,
            comm: comm.into(),
            cgroup: cgroup.into(),
            counted: Counted { reads, read_bytes: 3 * reads, exits: 1, ..Counted::default() },
        };
        Told {
            members: Vec::new(),
            stages: vec![
                stage(1, "cr1-a", "/crew", 1),
                stage(1, "cr1-b", "/crew", 2),
                stage(2, "cr1-b", "/crew/g1", 4),
            ],
        }
    }

    fn right(_: &str, _: &Labels, expected: &Expected) -> u64 {
        expected.syscall
    }

    #[test]
    fn numbers_that_are_right_are_right() {
        let told = told();
        let seen = seen(&told, right);
        assert_eq!(judge(&told, &seen).wrong(), [""; 0]);
    }

    #[test]
    fn one_unit_in_a_wrong_row_is_told_for_both() {
        let told = told();
        let moved = |kind: &str, labels: &Labels, expected: &Expected| {
            let is_calls = expected.metric.name == "vfs.calls" && expected.metric.label == Some(("operation", "read"));
            match labels.get("comm").map(String::as_str) {
                Some("cr1-a") if is_calls && kind == "process" => expected.syscall - 1,
                Some("cr1-b") if is_calls && kind == "process" && labels["pid"] == "1" => expected.syscall + 1,
                _ => expected.syscall,
            }
        };
        let seen = seen(&told, moved);
        assert_eq!(
            judge(&told, &seen).wrong(),
            [
                "vfs.calls{operation=read} of process{comm=cr1-a,pid=1} is 0, not 1",
                "vfs.calls{operation=read} of process{comm=cr1-b,pid=1} is 3, not 2",
            ]
        );
    }

    #[test]
    fn rows_of_nobody_and_rows_that_stay_are_wrong() {
        let told = told();
        let mut seen = seen(&told, right);
        let stranger = super::super::seen::tests::line(1, "process", &["pid", "comm"], &[(&["3", "cr1-c"], 1, false)]);
        seen.read(&stranger).unwrap();
        assert_eq!(
            judge(&told, &seen).wrong(),
            [
                // There the host has gained one that these two kinds do not have.
                "tick 2: vfs.calls{operation=read} gained 0 over the rows of app, and 1 of the host",
                "tick 2: vfs.calls{operation=read} gained 0 over the rows of cgroup, and 1 of the host",
                "process{comm=cr1-c,pid=3} is nobody's row",
                "vfs.calls{operation=read} of process{} is 8, not 7",
                "process{comm=cr1-c,pid=3} has not ended",
            ]
        );
    }

    #[test]
    fn a_kind_without_rows_or_columns_is_wrong() {
        let told = told();
        let wrong = judge(&told, &Seen::default()).wrong();
        for kind in KINDS {
            assert!(wrong.contains(&format!("{kind} has no vfs.calls{{operation=read}}")), "{wrong:?}");
        }
    }
}
