//! What of a line is the same each time: all but the numbers.

use std::borrow::Cow;
use std::sync::Arc;

use ebpf_process_core::{Kind, Metric, Sample};

use crate::dialect::{Syntax, key_holds};

/// What stands for the host's name in a prefix and in the namespace.
const HOST: &str = "{host}";

/// The key of the tag that has the host's name.
const HOST_KEY: &str = "host";

/// What all lines have in common.
#[derive(Debug)]
pub(crate) struct Naming {
    pub(crate) syntax: Syntax,
    pub(crate) namespace: String,
    /// The host's name; none while [`HOST`] means nothing.
    pub(crate) host: Option<String>,
    /// Whether it is a tag.
    pub(crate) host_is_tag: bool,
    /// How often the host was renamed.
    pub(crate) renames: u32,
}

impl Naming {
    /// A part of a name as it is written, but for what is cleaned.
    fn part<'a>(&self, part: &'a str) -> Cow<'a, str> {
        match &self.host {
            Some(host) if part.contains(HOST) => Cow::Owned(part.replace(HOST, host)),
            _ => Cow::Borrowed(part),
        }
    }

    /// Whether a metric's lines tell hosts apart.
    pub(crate) fn tells_hosts_apart(&self, metric: &Metric<'_>) -> bool {
        let host = self.host.as_deref().unwrap_or_default();
        self.host_is_tag
            || self.namespace.contains(HOST)
            || metric.name().contains(HOST)
            || metric.tags().any(|(key, value)| key == HOST_KEY || value == host)
    }
}

/// The key of the tag, or the last part of the name, that says which slot of a histogram it is.
const BOUND: &str = "le";

/// A series' line without its numbers. The text is the series' identity at the receiver.
#[derive(Debug)]
pub(crate) struct Line {
    text: Arc<[u8]>,
    /// Where the number belongs.
    number: usize,
    /// Where the largest value of a histogram's slot belongs; for others nothing does.
    bound: usize,
    /// How often the host had been renamed when this was made.
    pub(crate) renames: u32,
}

impl Line {
    /// The line of a series.
    pub(crate) fn new(naming: &Naming, metric: &Metric<'_>, sample: &Sample<'_>) -> Self {
        let syntax = naming.syntax;
        let mut text = name(naming, metric, sample);
        let kind = if metric.kind() == Kind::Gauge { "|g" } else { "|c" };
        let is_histogram = metric.kind() == Kind::Histogram;
        let (number, bound);
        if syntax == Syntax::Dogstatsd {
            text.push(':');
            number = text.len();
            text.push_str(kind);
            let mut separator = "|#";
            let mut push = |key: &str, value: &str| {
                text.extend([separator, key, ":", value]);
                separator = ",";
            };
            for (key, value) in tags(naming, metric, sample) {
                push(&key, &value);
            }
            if is_histogram {
                push(BOUND, "");
            }
            bound = text.len();
        } else {
            let separator = if syntax == Syntax::Graphite { ";" } else { "," };
            if syntax != Syntax::Plain {
                for (key, value) in tags(naming, metric, sample) {
                    text.extend([separator, &key, "=", &value]);
                }
            }
            match syntax {
                _ if !is_histogram => {}
                Syntax::Plain => text.extend([".", BOUND, "_"]),
                _ => text.extend([separator, BOUND, "="]),
            }
            bound = text.len();
            text.push(':');
            number = text.len();
            text.push_str(kind);
        }
        Self { text: text.into_bytes().into(), number, bound, renames: naming.renames }
    }

    /// What tells the series from others.
    pub(crate) const fn identity(&self) -> &Arc<[u8]> {
        &self.text
    }

    /// Writes the line of a counter or a gauge; the number comes in two pieces.
    pub(crate) fn push(&self, bytes: &mut Vec<u8>, sign: &[u8], digits: &[u8]) {
        let (head, tail) = self.text.split_at(self.number);
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(sign);
        bytes.extend_from_slice(digits);
        bytes.extend_from_slice(tail);
    }

    /// Writes the line of a histogram's slot.
    pub(crate) fn push_slot(&self, bytes: &mut Vec<u8>, bound: &[u8], digits: &[u8]) {
        let ((first, one), (second, other)) = if self.bound < self.number {
            ((self.bound, bound), (self.number, digits))
        } else {
            ((self.number, digits), (self.bound, bound))
        };
        bytes.extend_from_slice(&self.text[..first]);
        bytes.extend_from_slice(one);
        bytes.extend_from_slice(&self.text[first..second]);
        bytes.extend_from_slice(other);
        bytes.extend_from_slice(&self.text[second..]);
    }
}

/// `namespace.area.what`; without tags with their values and the labels' before and behind the area.
fn name(naming: &Naming, metric: &Metric<'_>, sample: &Sample<'_>) -> String {
    let syntax = naming.syntax;
    let mut name = String::new();
    let mut push = |part: &str| {
        if !name.is_empty() {
            name.push('.');
        }
        push_clean(&mut name, part, |c| syntax.name_holds(c));
    };
    let (area, what) = metric.name().rsplit_once('.').unwrap_or(("", metric.name()));
    // A host's name may have dots: it is one part.
    naming.namespace.split('.').filter(|part| !part.is_empty()).for_each(|part| push(&naming.part(part)));
    if syntax == Syntax::Plain {
        metric.tags().for_each(|(_, value)| push(value));
    }
    area.split('.').filter(|part| !part.is_empty()).for_each(|part| push(&naming.part(part)));
    if syntax == Syntax::Plain {
        sample.labels().for_each(|(_, value)| push(value));
    }
    push(&naming.part(what));
    // Datadog's names start with a letter; what starts with `_e` or `_sc` is not even a metric there.
    if syntax == Syntax::Dogstatsd && !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert(0, 'm');
    }
    name
}

/// Labels, then tags, then the host, each key once: a receiver would keep one of two, and series would become one.
fn tags(naming: &Naming, metric: &Metric<'_>, sample: &Sample<'_>) -> Vec<(String, String)> {
    let syntax = naming.syntax;
    let mut tags: Vec<(String, String)> = Vec::new();
    let host = naming.host.as_deref().filter(|_| naming.host_is_tag).map(|host| (HOST_KEY, host));
    for (key, value) in sample.labels().chain(metric.tags()).chain(host) {
        let (mut clean_key, mut clean_value) = (String::new(), String::new());
        push_clean(&mut clean_key, key, key_holds);
        push_clean(&mut clean_value, value, |c| syntax.value_holds(c));
        if clean_key == BOUND || syntax.reserved_key() == Some(&clean_key) {
            clean_key.push('_');
        }
        if tags.iter().all(|(known, _)| *known != clean_key) {
            tags.push((clean_key, clean_value));
        }
    }
    tags
}

/// Adds a text that is never empty; what must not be in it becomes `_`.
fn push_clean(text: &mut String, part: &str, holds: impl Fn(char) -> bool) {
    if part.is_empty() {
        text.push('_');
    }
    text.extend(part.chars().map(|c| if holds(c) { c } else { '_' }));
}
