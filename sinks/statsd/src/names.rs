//! What stands in names and tags, and what of it is replaced.

use std::borrow::Cow;

use ebpf_process_core::ColumnView;

use crate::dialect::{Syntax, key_holds};

/// What stands for the host's name in a prefix and in the namespace.
const HOST: &str = "{host}";

/// The key of the tag that has the host's name.
const HOST_KEY: &str = "host";

/// The key of the tag, or the last part of the name, that says which slot of a histogram it is.
pub(crate) const BOUND: &str = "le";

/// What all lines have in common.
#[derive(Debug)]
pub(crate) struct Naming {
    pub(crate) syntax: Syntax,
    pub(crate) namespace: String,
    /// The host's name; none while [`HOST`] means nothing.
    pub(crate) host: Option<String>,
    /// Whether it is a tag.
    pub(crate) host_is_tag: bool,
}

impl Naming {
    /// Whether a column's lines tell hosts apart.
    pub(crate) fn tells_hosts_apart(&self, column: &ColumnView<'_>) -> bool {
        let host = self.host.as_deref().unwrap_or_default();
        self.host_is_tag
            || self.namespace.contains(HOST)
            || column.name().contains(HOST)
            || column.tags().any(|(key, value)| key == HOST_KEY || value == host)
    }

    /// The parts of a metric's name before its last one, and the last one.
    pub(crate) fn parts<'a>(&'a self, metric: &'a str) -> (impl Iterator<Item = Cow<'a, str>>, Cow<'a, str>) {
        let (area, what) = metric.rsplit_once('.').unwrap_or(("", metric));
        (self.dotted(area), self.part(what))
    }

    /// The parts of a text with dots; a host's name may have dots and is one part all the same.
    pub(crate) fn dotted<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
        text.split('.').filter(|part| !part.is_empty()).map(|part| self.part(part))
    }

    fn part<'a>(&self, part: &'a str) -> Cow<'a, str> {
        match &self.host {
            Some(host) if part.contains(HOST) => Cow::Owned(part.replace(HOST, host)),
            _ => Cow::Borrowed(part),
        }
    }

    /// The tag that has the host's name, if one does.
    pub(crate) fn host_tag(&self) -> Option<(&str, &str)> {
        self.host.as_deref().filter(|_| self.host_is_tag).map(|host| (HOST_KEY, host))
    }

    /// Adds a part of a name.
    pub(crate) fn push_part(&self, text: &mut String, part: &str) {
        push_clean(text, part, |c| self.syntax.name_holds(c));
    }

    /// Adds a tag's value.
    pub(crate) fn push_value(&self, text: &mut String, value: &str) {
        push_clean(text, value, |c| self.syntax.value_holds(c));
    }

    /// A tag's key that the receiver does not take for itself.
    pub(crate) fn key(&self, key: &str) -> String {
        let mut clean = String::new();
        push_clean(&mut clean, key, key_holds);
        if clean == BOUND || self.syntax.reserved_key() == Some(&clean) {
            clean.push('_');
        }
        clean
    }

    /// The keys of labels, each once: a label is never left out, since two series could become one.
    pub(crate) fn keys<'a>(&self, labels: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for label in labels {
            let mut key = self.key(label);
            while keys.contains(&key) {
                key.push('_');
            }
            keys.push(key);
        }
        keys
    }
}

/// Adds a text that is never empty; what must not be in it becomes `_`.
fn push_clean(text: &mut String, part: &str, holds: impl Fn(char) -> bool) {
    if part.is_empty() {
        text.push('_');
    }
    text.extend(part.chars().map(|c| if holds(c) { c } else { '_' }));
}
