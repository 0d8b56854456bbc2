//! What one sink wants to see of a batch, and under which names.

use std::collections::BTreeMap;

use serde::Deserialize;
use wildmatch::WildMatch;

use crate::series::clean_label;

/// A sink's choice of metrics: patterns, names and tags. The default takes everything as it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Patterns (`*` and `?`) of metric names to take.
    pub include: Vec<String>,
    /// Patterns of metric names to leave out, stronger than `include`.
    pub exclude: Vec<String>,
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
            include: vec!["*".to_owned()],
            exclude: Vec::new(),
            rename: BTreeMap::new(),
            prefix: String::new(),
            tags: BTreeMap::new(),
        }
    }
}

impl Selection {
    /// Whether the metric of this name is taken.
    pub fn takes(&self, name: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| WildMatch::new(pattern).matches(name));
        any(&self.include) && !any(&self.exclude)
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
}
