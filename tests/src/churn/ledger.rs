//! Lines of the sink json, without keeping what is in them: hundreds of thousands of rows go by.

use crate::{Failure, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;

/// The counter that each process of a crowd moves by one.
const OPENS: &str = "file.calls{\"operation\":\"open\"}";
/// What hooks have missed.
const MISSED: &str = "hook.missed{}";
/// The labels by which a crowd is known.
const NAMES: [&str; 3] = ["comm", "app", "cgroup"];

/// What the rows of all ticks come to.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// What the names of the crowd begin with, and its groups' paths.
    prefixes: Vec<String>,
    /// Lines read so far.
    pub ticks: usize,
    /// What the host has gained, over all counters that rows have as well.
    pub host: u64,
    /// By kind.
    pub kinds: BTreeMap<String, Kind>,
    /// Ticks at which the rows of a kind did not gain what the host did.
    pub unequal: Vec<String>,
    /// Calls that no program has seen.
    pub missed: u64,
}

/// One kind of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kind {
    /// Rows that have not ended, at the last tick and at most, without `other`.
    pub rows: usize,
    /// As above.
    pub most: usize,
    /// Rows of the crowd that have not ended at the last tick.
    pub living: usize,
    /// Rows of the crowd that have ended.
    pub ended: usize,
    /// What the crowd's rows have opened.
    pub opened: u64,
    /// What `other` has gained over all counters.
    pub other: u64,
    /// What it has opened.
    pub other_opened: u64,
}

impl Ledger {
    /// Of a crowd that is known by these beginnings of names and paths.
    pub fn new(prefixes: impl IntoIterator<Item = String>) -> Self {
        Self { prefixes: prefixes.into_iter().collect(), ..Self::default() }
    }

    /// Takes in one line, a tick.
    ///
    /// # Errors
    /// It is not what the sink's documentation says.
    pub fn read(&mut self, line: &str) -> Outcome<()> {
        let value: Value = serde_json::from_str(line).map_err(Failure::at(format!("not an object: {line:.200}")))?;
        self.tick(&value).ok_or_else(|| Failure::new(format!("not a tick of the sink json: {line:.200}")))
    }

    fn tick(&mut self, line: &Value) -> Option<()> {
        self.ticks += 1;
        let mut host = BTreeMap::new();
        for sample in line["samples"].as_array()?.iter().filter(|sample| sample["kind"] == "counter") {
            if let Some(by) = sample["delta"].as_u64() {
                *host.entry(series(sample["name"].as_str()?, &sample["labels"])).or_insert(0) += by;
            }
        }
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        self.kinds.values_mut().for_each(|kind| (kind.rows, kind.living) = (0, 0));
        for table in line["tables"].as_array().into_iter().flatten() {
            let name = table["kind"].as_str()?;
            if name == "hook" {
                self.missed += sums(table, name, |_, _, _, _| {})?.get(MISSED).copied().unwrap_or_default();
                continue;
            }
            if !matches!(name, "process" | "app" | "cgroup") {
                continue;
            }
            let kind = self.kinds.entry(name.to_owned()).or_default();
            let prefixes = &self.prefixes;
            let gained =
                sums(table, name, |labels, is_over, series, by| kind.row(prefixes, labels, is_over, series, by))?;
            kind.most = kind.most.max(kind.rows);
            for (series, rows) in &gained {
                let host = host.get(series).copied().unwrap_or_default();
                if host != *rows {
                    let tick = self.ticks;
                    self.unequal.push(format!("tick {tick}: {series} by {name} gained {rows}, the host {host}"));
                }
                counted.insert(series.clone(), host);
            }
        }
        self.host += counted.values().sum::<u64>();
        Some(())
    }
}

impl Kind {
    /// A row, then each of its gains.
    fn row(&mut self, prefixes: &[String], labels: &[(&str, &str)], is_over: bool, series: Option<&str>, by: u64) {
        let is_other = labels.iter().all(|(_, value)| *value == "other");
        let is_crowd = labels.iter().any(|(key, value)| {
            NAMES.contains(key) && prefixes.iter().any(|prefix| value.starts_with(prefix.as_str()))
        });
        match series {
            None => {
                self.rows += usize::from(!is_over && !is_other);
                self.living += usize::from(!is_over && is_crowd);
                self.ended += usize::from(is_over && is_crowd);
            }
            Some(series) => {
                let opened = if series == OPENS { by } else { 0 };
                if is_other {
                    self.other += by;
                    self.other_opened += opened;
                } else if is_crowd {
                    self.opened += opened;
                }
            }
        }
    }
}

/// What a table's rows have gained, by counter without the kind's name in front. Each row, and each of its gains, is shown to
/// `look`: its labels, whether it has ended, the counter and its gain.
fn sums(
    table: &Value,
    kind: &str,
    mut look: impl FnMut(&[(&str, &str)], bool, Option<&str>, u64),
) -> Option<BTreeMap<String, u64>> {
    let keys = table["labels"].as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
    let mut columns = Vec::new();
    for column in table["columns"].as_array()? {
        let name = column["name"].as_str()?;
        let name = if kind == "hook" { name } else { name.strip_prefix(kind)?.strip_prefix('.')? };
        columns.push((column["kind"] == "counter").then(|| series(name, &column["labels"])));
    }
    let mut all = vec![0; columns.len()];
    for row in table["rows"].as_array()? {
        let values = row["labels"].as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
        let labels: Vec<(&str, &str)> = keys.iter().copied().zip(values).collect();
        let is_over = row["ended"].as_bool() == Some(true);
        look(&labels, is_over, None, 0);
        for ((column, delta), sum) in columns.iter().zip(row["deltas"].as_array()?).zip(&mut all) {
            if let (Some(series), Some(by)) = (column, delta.as_u64()) {
                *sum += by;
                look(&labels, is_over, Some(series), by);
            }
        }
    }
    Some(columns.into_iter().zip(all).filter_map(|(series, sum)| Some((series?, sum))).collect())
}

fn series(name: &str, labels: &Value) -> String {
    format!("{name}{labels}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn line(host: u64, rows: &[(&str, u64, bool)]) -> String {
        let mut line = format!(
            "{{\"samples\":[{{\"name\":\"file.calls\",\"labels\":{{\"operation\":\"open\"}},\"kind\":\"counter\",\
             \"delta\":{host}}}],\"tables\":[{{\"kind\":\"hook\",\"labels\":[\"counter\"],\"columns\":[{{\"name\":\
             \"hook.missed\",\"labels\":{{}},\"kind\":\"counter\"}}],\"rows\":[{{\"labels\":[\"x\"],\"deltas\":[2]}}]}},\
             {{\"kind\":\"app\",\"labels\":[\"app\"],\"columns\":[{{\"name\":\"app.file.calls\",\"labels\":\
             {{\"operation\":\"open\"}},\"kind\":\"counter\"}}],\"rows\":["
        );
        for (index, (app, by, is_over)) in rows.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(line, "{comma}{{\"labels\":[\"{app}\"],\"deltas\":[{by}],\"ended\":{is_over}}}").unwrap();
        }
        line + "]}]}"
    }

    #[test]
    fn gains_are_the_crowds_or_others_or_a_strangers() {
        let mut ledger = Ledger::new(["ch1".to_owned()]);
        ledger
            .read(&line(9, &[("ch1-a", 3, false), ("ch1-b", 1, true), ("other", 2, false), ("sh", 3, false)]))
            .unwrap();
        let kind = Kind { rows: 2, most: 2, living: 1, ended: 1, opened: 4, other: 2, other_opened: 2 };
        assert_eq!((ledger.kinds["app"], ledger.host, ledger.missed), (kind, 9, 2));
        ledger.read("{\"samples\":[]}").unwrap();
        assert_eq!((ledger.ticks, ledger.kinds["app"].rows, ledger.kinds["app"].most), (2, 0, 2));
        assert_eq!(ledger.unequal, [""; 0]);
        ledger.read(&line(2, &[("sh", 3, false)])).unwrap();
        assert_eq!(ledger.unequal, ["tick 3: file.calls{\"operation\":\"open\"} by app gained 3, the host 2"]);
        assert!(ledger.read("[]").is_err() && ledger.read("").is_err());
    }
}
