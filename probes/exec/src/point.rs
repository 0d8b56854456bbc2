//! One number of a text, whatever the text's format.

use std::collections::{HashMap, HashSet};

use crate::answer::{Row, Value};
use crate::columns::Columns;
use crate::spec::Spec;

/// A number, with all its labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    /// Its column; the labels are all that it has.
    pub(crate) spec: Spec,
    pub(crate) value: Value,
}

/// What was found in a text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) points: Vec<Point>,
    /// What is there and cannot be used: the name, and why.
    pub(crate) refused: Vec<(String, String)>,
}

impl Found {
    /// Something of this name cannot be used.
    pub(crate) fn refuse(&mut self, name: &str, why: &str) {
        self.refused.push((name.to_owned(), why.to_owned()));
    }
}

/// What a label of rows is where a number has none.
const NONE: &str = "";

/// Puts numbers into rows: the labels under the keys of rows tell these apart, all others are of the column. What cannot
/// have a column is refused by name. An error is what is wrong with the whole.
pub(crate) fn into_rows(
    points: Vec<Point>,
    columns: &mut Columns,
    most: usize,
    refused: &mut Vec<(String, String)>,
) -> Result<Vec<Row>, String> {
    let keys = columns.schema().keys.clone();
    let mut places: HashMap<Vec<String>, usize> = HashMap::new();
    let mut cells: HashSet<(usize, usize)> = HashSet::new();
    let mut rows: Vec<Row> = Vec::new();
    for Point { mut spec, value } in points {
        let mut labels = vec![NONE.to_owned(); keys.len()];
        spec.labels.retain_mut(|(key, value)| match keys.iter().position(|known| known == key) {
            Some(place) => {
                labels[place] = std::mem::take(value);
                false
            }
            None => true,
        });
        spec.labels.sort_unstable();
        let column = match columns.place(&spec) {
            Ok(column) => column,
            Err(why) => {
                refused.push((spec.name, why));
                continue;
            }
        };
        let new = rows.len();
        let row = *places.entry(labels).or_insert_with_key(|labels| {
            rows.push(Row { labels: labels.clone(), values: Vec::new() });
            new
        });
        if rows.len() > most {
            return Err(format!("it has more than {most} rows, which are the most that are looked at"));
        }
        if !cells.insert((row, column)) {
            return Err(format!("{} is there twice with the same labels", spec.name));
        }
        rows[row].values.push((column, value));
    }
    for row in &mut rows {
        row.values.sort_unstable_by_key(|(column, _)| *column);
    }
    Ok(rows)
}

/// A name as metrics have them: lower-case, in words of letters, digits and `_`.
pub(crate) fn name_of(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
    text.chars().map(|c| c.to_ascii_lowercase()).map(|c| if is_word(c) { c } else { '_' }).collect()
}

/// A label's key: the same without a dot.
pub(crate) fn key_of(text: &str) -> String {
    name_of(text).replace('.', "_")
}

/// The unit that a name ends in, if it says one.
pub(crate) fn unit_of(name: &str) -> &'static str {
    match name.rsplit(['_', '.']).next() {
        Some("seconds") => "seconds",
        Some("bytes") => "bytes",
        _ => "1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Numbers;

    fn point(name: &str, labels: &[(&str, &str)], level: f64) -> Point {
        let spec = Spec {
            name: name.to_owned(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            numbers: Numbers::Gauge,
            unit: "1".to_owned(),
            help: String::new(),
        };
        Point { spec, value: Value::Gauge(level) }
    }

    #[test]
    fn labels_under_keys_tell_rows_apart_and_all_others_columns() {
        let mut columns = Columns::new("disks".to_owned(), vec!["disk".to_owned()]);
        let points = vec![
            point("io", &[("way", "in"), ("disk", "a")], 1.0),
            point("io", &[("disk", "b"), ("way", "out")], 2.0),
            point("io", &[("disk", "a"), ("way", "out")], 3.0),
            point("up", &[], 4.0),
        ];
        let mut refused = Vec::new();
        let rows = into_rows(points.clone(), &mut columns, 3, &mut refused).expect("rows");
        let row = |label: &str, values: &[(usize, f64)]| Row {
            labels: vec![label.to_owned()],
            values: values.iter().map(|(column, level)| (*column, Value::Gauge(*level))).collect(),
        };
        assert_eq!(rows, [row("a", &[(0, 1.0), (1, 3.0)]), row("b", &[(1, 2.0)]), row("", &[(2, 4.0)])]);
        assert_eq!(refused, []);
        let names: Vec<_> = columns.schema().columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["io", "io", "up"]);
        let too_many = into_rows(points.clone(), &mut columns, 2, &mut refused);
        assert!(too_many.expect_err("three rows").contains("more than 2 rows"));
        let twice = into_rows([points.clone(), points].concat(), &mut columns, 9, &mut refused);
        assert!(twice.expect_err("each twice").contains("io is there twice"));
        let other = Point { value: Value::Counter(1), ..point("io", &[("way", "in")], 0.0) };
        let other = Point { spec: Spec { numbers: Numbers::Counter, ..other.spec }, ..other };
        assert_eq!(into_rows(vec![other], &mut columns, 9, &mut refused), Ok(Vec::new()));
        assert_eq!(refused.len(), 1);
    }

    #[test]
    fn names_become_those_of_metrics() {
        assert_eq!((name_of("Http:Requests-x.y"), key_of("A.b")), ("http_requests_x.y".to_owned(), "a_b".to_owned()));
        assert_eq!(["a_seconds", "a.bytes", "seconds", "a"].map(unit_of), ["seconds", "bytes", "seconds", "1"]);
    }
}
