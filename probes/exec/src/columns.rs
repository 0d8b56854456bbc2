//! The columns that a program has had, over all its runs.

use std::collections::HashMap;
use std::sync::Arc;

use ebpf_process_core::MetricKind;

use crate::answer::Schema;
use crate::spec::{Numbers, Spec};

/// Columns of a probe at most.
pub(crate) const MOST: usize = 256;

/// What a program may have numbers for: it grows, and nothing of it changes.
#[derive(Debug)]
pub(crate) struct Columns {
    schema: Arc<Schema>,
    /// By what tells columns apart.
    places: HashMap<String, usize>,
    /// By name: all columns of one name have the same kind of numbers.
    kinds: HashMap<String, MetricKind>,
}

impl Columns {
    /// None so far, on this kind with these keys.
    pub(crate) fn new(kind: String, keys: Vec<String>) -> Self {
        let schema = Arc::new(Schema { kind, keys, columns: Vec::new() });
        Self { schema, places: HashMap::new(), kinds: HashMap::new() }
    }

    /// All that there are.
    pub(crate) const fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The place of a column, which is made if it is new. An error is why it cannot be.
    pub(crate) fn place(&mut self, spec: &Spec) -> Result<usize, String> {
        let key = spec.key();
        let name = key.split('\0').next().unwrap_or_default();
        if let Some(place) = self.places.get(&key) {
            let known = &self.schema.columns[*place];
            return if known.is_like(spec) {
                Ok(*place)
            } else {
                Err(format!("{name} has another type, unit or other bounds than it had before"))
            };
        }
        let kind = match spec.numbers {
            Numbers::Counter => MetricKind::Counter,
            Numbers::Gauge => MetricKind::Gauge,
            Numbers::Histogram(..) => MetricKind::Histogram,
        };
        if let Some(known) = self.kinds.get(name).filter(|known| **known != kind) {
            return Err(format!("{name} is a {kind} here and a {known} with other labels"));
        }
        if let Some((key, _)) = spec.labels.iter().find(|(key, _)| self.schema.keys.contains(key)) {
            return Err(format!("{name} has a label {key}, which is a key of rows"));
        }
        let column = spec.column();
        let mut keys: Vec<_> = column.own_labels().map(|(key, _)| key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|two| two[0] == two[1]) {
            return Err(format!("{name} has two labels of one key"));
        }
        let place = self.schema.columns.len();
        if place >= MOST {
            return Err(format!(
                "{name} would be one more than {MOST} columns: what tells rows apart is no column's label"
            ));
        }
        Arc::make_mut(&mut self.schema).columns.push(spec.clone());
        self.kinds.insert(name.to_owned(), kind);
        self.places.insert(key, place);
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(name: &str, label: &str) -> Spec {
        Spec {
            name: name.to_owned(),
            labels: vec![("a".to_owned(), label.to_owned())],
            numbers: Numbers::Gauge,
            unit: "1".to_owned(),
            help: String::new(),
        }
    }

    #[test]
    fn columns_become_more_and_never_others() {
        let mut columns = Columns::new("gpu".to_owned(), vec!["card".to_owned()]);
        assert_eq!(columns.place(&gauge("load", "x")), Ok(0));
        let before = Arc::clone(columns.schema());
        assert_eq!(columns.place(&gauge("load", "y")), Ok(1));
        assert_eq!(columns.place(&gauge("load", "x")), Ok(0));
        assert_eq!((before.columns.len(), columns.schema().columns.len()), (1, 2));
        let counter = Spec { numbers: Numbers::Counter, ..gauge("load", "x") };
        assert!(columns.place(&counter).expect_err("another type").contains("than it had before"));
        let counter = Spec { numbers: Numbers::Counter, ..gauge("load", "z") };
        assert!(columns.place(&counter).expect_err("another type").contains("a counter here and a gauge"));
        let row_key = Spec { labels: vec![("card".to_owned(), "0".to_owned())], ..gauge("heat", "") };
        assert!(columns.place(&row_key).expect_err("a key of rows").contains("a key of rows"));
        let twice = ["b", "B"].map(|key| (key.to_lowercase(), String::new()));
        let twice = Spec { labels: twice.into(), ..gauge("heat", "") };
        assert!(columns.place(&twice).expect_err("one key").contains("two labels of one key"));
        for number in 2..MOST {
            assert_eq!(columns.place(&gauge("load", &number.to_string())), Ok(number));
        }
        assert!(columns.place(&gauge("more", "")).expect_err("too many").contains("more than 256"));
        assert_eq!(columns.place(&gauge("load", "x")), Ok(0));
    }
}
