//! What the lines of the sink json say: what each row has gained, and whether the rows of a kind gain what the host does.

use crate::{Failure, Outcome};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The kinds that have rows.
pub const KINDS: [&str; 3] = ["process", "app", "cgroup"];

/// A metric's name with its labels; of rows that come and go the name is without their kind.
type Series = (String, BTreeMap<String, String>);
/// Labels by key.
type Labels = BTreeMap<String, String>;

/// Of all lines read so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    ticks: usize,
    /// By kind.
    kinds: BTreeMap<String, Kind>,
    /// Ticks at which a kind's rows did not gain what the host did.
    unequal: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Kind {
    columns: BTreeSet<Series>,
    rows: BTreeMap<Labels, Row>,
    /// Rows that have not ended.
    living: BTreeSet<Labels>,
}

/// All rows that had the same labels, one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
struct Row {
    gained: BTreeMap<Series, u64>,
}

impl Seen {
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
        let mut host: BTreeMap<Series, u64> = BTreeMap::new();
        for sample in line["samples"].as_array()?.iter().filter(|sample| sample["kind"] == "counter") {
            // One in another unit is no number of events.
            if let Some(by) = sample["delta"].as_u64() {
                *host.entry((sample["name"].as_str()?.to_owned(), labels(&sample["labels"])?)).or_default() += by;
            }
        }
        let mut gained: BTreeMap<&str, BTreeMap<Series, u64>> = BTreeMap::new();
        for kind in self.kinds.values_mut() {
            kind.living.clear();
        }
        for table in line["tables"].as_array().into_iter().flatten() {
            let name = table["kind"].as_str()?;
            let sums = gained.entry(name).or_default();
            self.kinds.entry(name.to_owned()).or_default().table(name, table, sums)?;
        }
        for (name, kind) in &self.kinds {
            for series in &kind.columns {
                let rows = gained.get(name.as_str()).and_then(|sums| sums.get(series)).copied().unwrap_or_default();
                let host = host.get(series).copied().unwrap_or_default();
                if rows != host {
                    let tick = self.ticks;
                    self.unequal.push(format!(
                        "tick {tick}: {} gained {rows} over the rows of {name}, and {host} of the host",
                        shown(&series.0, &series.1)
                    ));
                }
            }
        }
        Some(())
    }

    /// How many lines were read.
    pub fn ticks(&self) -> usize {
        self.ticks
    }

    /// Ticks at which the rows of a kind did not gain what the host gained.
    pub fn unequal(&self) -> &[String] {
        &self.unequal
    }

    /// Whether a kind has a metric at all.
    pub fn has(&self, kind: &str, metric: &str, label: Option<(&str, &str)>) -> bool {
        self.kinds.get(kind).is_some_and(|kind| kind.columns.iter().any(|series| is(series, metric, label)))
    }

    /// What all rows with these labels have gained; nothing where none had a value.
    pub fn gained(
        &self,
        kind: &str,
        wanted: &[(&str, &str)],
        metric: &str,
        label: Option<(&str, &str)>,
    ) -> Option<u64> {
        let rows = self.rows(kind).filter(|(labels, _)| has_all(labels, wanted));
        let values = rows.flat_map(|(_, row)| row.gained.iter());
        values.filter(|(series, _)| is(series, metric, label)).map(|(_, value)| *value).reduce(|a, b| a + b)
    }

    /// The labels of all rows that a kind has had and that have gained anything.
    pub fn labels(&self, kind: &str) -> impl Iterator<Item = &Labels> {
        self.rows(kind).filter(|(_, row)| row.gained.values().any(|by| *by > 0)).map(|(labels, _)| labels)
    }

    /// The labels of the rows that have not ended.
    pub fn living(&self, kind: &str) -> impl Iterator<Item = &Labels> {
        self.kinds.get(kind).into_iter().flat_map(|kind| kind.living.iter())
    }

    fn rows(&self, kind: &str) -> impl Iterator<Item = (&Labels, &Row)> {
        self.kinds.get(kind).into_iter().flat_map(|kind| kind.rows.iter())
    }
}

impl Kind {
    /// Takes in a table, and adds to `sums` what its rows have gained.
    fn table(&mut self, name: &str, table: &Value, sums: &mut BTreeMap<Series, u64>) -> Option<()> {
        let keys = table["labels"].as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
        let mut columns = Vec::new();
        for column in table["columns"].as_array()? {
            let series = (column["name"].as_str()?.strip_prefix(name)?.strip_prefix('.')?, labels(&column["labels"])?);
            let series = (series.0.to_owned(), series.1);
            let is_counter = column["kind"] == "counter";
            if is_counter {
                self.columns.insert(series.clone());
            }
            columns.push((series, is_counter));
        }
        for row in table["rows"].as_array()? {
            let values = row["labels"].as_array()?.iter().map(|value| value.as_str().map(plain));
            let values = values.collect::<Option<Vec<_>>>()?;
            let labels: Labels = keys.iter().map(|key| (*key).to_owned()).zip(values).collect();
            if row["ended"].as_bool() != Some(true) {
                self.living.insert(labels.clone());
            }
            let known = self.rows.entry(labels).or_default();
            for ((series, _), delta) in columns.iter().zip(row["deltas"].as_array()?).filter(|((_, is), _)| *is) {
                let Some(by) = delta.as_u64() else { continue };
                *known.gained.entry(series.clone()).or_default() += by;
                *sums.entry(series.clone()).or_default() += by;
            }
        }
        Some(())
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ticks", self.ticks)?;
        self.kinds.iter().try_for_each(|(name, kind)| write!(f, ", {} rows of {name}", kind.rows.len()))
    }
}

/// A metric or a row, for people.
pub(super) fn shown(name: &str, labels: &Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{name}{{{}}}", labels.join(","))
}

fn labels(value: &Value) -> Option<Labels> {
    let labels = value.as_object()?.iter();
    labels.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Whether a series is that of a metric; of its labels only the one that the metric names is asked.
fn is((name, labels): &Series, metric: &str, label: Option<(&str, &str)>) -> bool {
    name == metric && has_all(labels, label.as_slice())
}

fn has_all(labels: &Labels, wanted: &[(&str, &str)]) -> bool {
    wanted.iter().all(|(key, value)| labels.get(*key).is_some_and(|has| has == value))
}

/// Without what tells two rows apart that have the same labels at a time.
fn plain(value: &str) -> String {
    let suffix = value.rsplit_once('~');
    let suffix = suffix.filter(|(_, told)| told.len() == 16 && told.bytes().all(|byte| byte.is_ascii_hexdigit()));
    suffix.map_or(value, |(plain, _)| plain).to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// A line of made-up numbers: of the host and of rows, each with its labels, its gain and whether it has ended.
    pub(crate) fn line(host: u64, kind: &str, keys: &[&str], rows: &[(&[&str], u64, bool)]) -> String {
        let quoted = |texts: &[&str]| texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(",");
        let mut line = String::from("{\"timestamp\":1.0,\"elapsed\":1.0,\"samples\":[");
        let host_sample = "{\"name\":\"vfs.calls\",\"labels\":{\"operation\":\"read\"},\"kind\":\"counter\"";
        write!(line, "{host_sample},\"unit\":\"calls\",\"value\":9,\"delta\":{host},\"rate\":1.0}}]").unwrap();
        write!(line, ",\"tables\":[{{\"kind\":\"{kind}\",\"labels\":[{}],\"columns\":[", quoted(keys)).unwrap();
        write!(
            line,
            "{{\"name\":\"{kind}.load\",\"labels\":{{}},\"kind\":\"gauge\",\"unit\":\"1\"}},\
             {{\"name\":\"{kind}.vfs.calls\",\"labels\":{{\"operation\":\"read\"}},\"kind\":\"counter\",\
             \"unit\":\"calls\"}}],\"rows\":["
        )
        .unwrap();
        let rows = rows.iter().map(|(labels, gain, ended)| {
            let ended = if *ended { ",\"ended\":true" } else { "" };
            let labels = quoted(labels);
            format!("{{\"labels\":[{labels}],\"created\":1.0,\"values\":[0.5,9],\"deltas\":[null,{gain}]{ended}}}")
        });
        line.push_str(&rows.collect::<Vec<_>>().join(","));
        line.push_str("]}]}");
        line
    }

    const KEYS: &[&str] = &["pid", "comm"];
    const READ: Option<(&str, &str)> = Some(("operation", "read"));

    fn seen(lines: &[String]) -> Seen {
        let mut seen = Seen::default();
        for line in lines {
            seen.read(line).unwrap();
        }
        seen
    }

    #[test]
    fn rows_gain_over_all_ticks_whether_they_end_or_come_again() {
        let seen = seen(&[
            line(7, "process", KEYS, &[(&["1", "a"], 3, false), (&["other", "other"], 4, false)]),
            line(5, "process", KEYS, &[(&["1", "a"], 2, true), (&["1", "b"], 3, false)]),
            line(1, "process", KEYS, &[(&["1", "a~0123456789abcdef"], 1, false), (&["1", "b"], 0, true)]),
        ]);
        let gained = |comm| seen.gained("process", &[("pid", "1"), ("comm", comm)], "vfs.calls", READ);
        assert_eq!((gained("a"), gained("b"), gained("c")), (Some(6), Some(3), None));
        assert_eq!(seen.gained("process", &[], "vfs.calls", READ), Some(13));
        let living: Vec<&str> = seen.living("process").map(|labels| labels["comm"].as_str()).collect();
        assert_eq!((seen.ticks(), living), (3, vec!["a"]));
        assert_eq!(seen.unequal(), [""; 0]);
        assert!(seen.has("process", "vfs.calls", READ) && !seen.has("process", "load", None));
        assert!(!seen.has("app", "vfs.calls", READ));
    }

    #[test]
    fn a_tick_at_which_rows_gain_something_else_than_the_host_is_told() {
        let seen = seen(&[
            line(3, "app", &["app"], &[(&["a"], 3, false)]),
            line(4, "app", &["app"], &[(&["a"], 3, false)]),
            // Without a row there is no table: still the host has gained.
            "{\"samples\":[{\"name\":\"vfs.calls\",\"labels\":{\"operation\":\"read\"},\"kind\":\"counter\",\
             \"delta\":2}]}"
                .to_owned(),
        ]);
        assert_eq!(
            seen.unequal(),
            [
                "tick 2: vfs.calls{operation=read} gained 3 over the rows of app, and 4 of the host",
                "tick 3: vfs.calls{operation=read} gained 0 over the rows of app, and 2 of the host",
            ]
        );
    }

    #[test]
    fn rows_without_a_value_and_other_lines_are_told_apart() {
        let mut seen = Seen::default();
        seen.read("{\"samples\":[]}").unwrap();
        assert_eq!(seen.ticks(), 1);
        for line in ["", "[]", "{\"tables\":[]}", "{\"samples\":[],\"tables\":[{\"kind\":\"app\"}]}"] {
            assert!(seen.read(line).is_err(), "{line}");
        }
    }
}
