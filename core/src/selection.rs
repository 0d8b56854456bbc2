//! What one sink wants to see of a batch, and under which names.

use std::collections::BTreeMap;

use serde::Deserialize;
use wildmatch::WildMatch;

use crate::label::clean_label;

/// For how many ticks nobody else gets a place that a row has got, even if that ends: so there is a bound on how many rows a
/// sink sees in a day.
pub(crate) const STAY: u64 = 10;

/// A sink's choice of metrics and rows, and under which names and tags it sees them. The default takes everything
/// as it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// The kinds of entity to take, by name; none is every kind.
    pub kinds: Option<Vec<String>>,
    /// Kinds not to take where [`kinds`](Self::kinds) says nothing.
    #[serde(skip)]
    pub unasked: Vec<String>,
    /// Patterns (`*` and `?`) of metric names to take, the kind in front included.
    pub include: Vec<String>,
    /// Patterns of metric names to leave out, stronger than `include`.
    pub exclude: Vec<String>,
    /// Patterns of label values by label key: a series that has the label is taken if its value matches, with or without
    /// the suffix that tells two rows apart.
    #[serde(rename = "where")]
    pub matching: BTreeMap<String, String>,
    /// The most rows at a time, by kind: those that are most active among the ones taken. The others are one row more, whose
    /// label values are all `other`, whatever [`matching`](Self::matching) says of these. A kind that is named here is asked
    /// for where [`kinds`](Self::kinds) says nothing.
    pub top: BTreeMap<String, usize>,
    /// Patterns of the counters whose gains make a row active; where a kind has none of these that is taken, all its
    /// counters that are.
    pub top_by: Vec<String>,
    /// New names by metric name.
    pub rename: BTreeMap<String, String>,
    /// Put before every name, after renaming.
    pub prefix: String,
    /// Tags added to every series that has no label of that key.
    pub tags: BTreeMap<String, String>,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            kinds: None,
            unasked: Vec::new(),
            include: vec!["*".to_owned()],
            exclude: Vec::new(),
            matching: BTreeMap::new(),
            top: BTreeMap::new(),
            top_by: vec!["*.calls".to_owned()],
            rename: BTreeMap::new(),
            prefix: String::new(),
            tags: BTreeMap::new(),
        }
    }
}

impl Selection {
    /// Whether the metric of this name is taken.
    pub fn takes(&self, name: &str) -> bool {
        any_matches(&self.include, name) && !any_matches(&self.exclude, name)
    }

    /// Whether another one takes the same metrics and rows, whatever it calls them.
    pub fn takes_the_same(&self, other: &Self) -> bool {
        let named =
            |it: &Self| Self { rename: BTreeMap::new(), prefix: String::new(), tags: BTreeMap::new(), ..it.clone() };
        named(self) == named(other)
    }

    /// How many rows of a kind there can be in so many ticks, if [`top`](Self::top) has a bound.
    pub fn most_rows(&self, kind: &str, ticks: u64) -> Option<u64> {
        self.top.get(kind).map(|places| (*places as u64).saturating_mul(ticks / STAY + 1))
    }

    /// Whether the counter of this name makes rows active.
    pub fn ranks_by(&self, name: &str) -> bool {
        any_matches(&self.top_by, name)
    }

    /// Whether rows of the kind of this name are taken.
    pub fn takes_kind(&self, name: &str) -> bool {
        match &self.kinds {
            Some(kinds) => kinds.iter().any(|kind| kind == name),
            None => self.top.contains_key(name) || !self.unasked.iter().any(|kind| kind == name),
        }
    }

    /// Whether a series with this label is taken, as far as that label goes.
    pub fn takes_label(&self, key: &str, value: &str) -> bool {
        self.matching.get(key).is_none_or(|pattern| WildMatch::new(pattern).matches(value))
    }

    /// The name under which the sink sees the metric.
    pub fn name(&self, name: &str) -> String {
        let name = self.rename.get(name).map_or(name, String::as_str);
        format!("{}{name}", self.prefix).chars().map(|c| if c.is_control() { '_' } else { c }).collect()
    }

    pub(crate) fn cleaned_tags(&self) -> Vec<(Box<str>, Box<str>)> {
        self.tags.iter().map(|(key, value)| (clean_label(key), clean_label(value))).collect()
    }
}

fn any_matches(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| WildMatch::new(pattern).matches(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclude_is_stronger_than_include() {
        let selection = Selection {
            include: vec!["vfs.*".into(), "task.exits".into()],
            exclude: vec!["*.errors".into()],
            ..Selection::default()
        };
        for (name, taken) in [("vfs.calls", true), ("vfs.errors", false), ("task.exits", true), ("file.calls", false)] {
            assert_eq!(selection.takes(name), taken, "{name}");
        }
    }

    #[test]
    fn kinds_and_labels_choose_beside_names() {
        let all = Selection::default();
        assert!(all.takes_kind("process") && all.takes_label("comm", "sh"));
        let unasked = Selection { unasked: vec!["process".into()], ..Selection::default() };
        assert!(!unasked.takes_kind("process") && unasked.takes_kind("cgroup"));
        let asked = Selection {
            kinds: Some(vec!["process".into()]),
            matching: [("comm".to_owned(), "nginx*".to_owned())].into(),
            ..unasked
        };
        assert!(asked.takes_kind("process") && !asked.takes_kind("host"));
        assert!(asked.takes_label("comm", "nginx: worker") && !asked.takes_label("comm", "sh"));
        assert!(asked.takes_label("pid", "7"), "of another label nothing is asked");
    }
}
