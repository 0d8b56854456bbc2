//! One layer of the configuration: a table from one origin.

use std::path::Path;

use ebpf_process_core::{Options, identity};
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};

use crate::error::ConfigError;
use crate::literal::{is_secret, literal};

/// A table and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    metadata: Metadata,
    table: Dict,
}

impl Layer {
    /// A table that stands in a file.
    pub(crate) fn file(path: &Path, table: Dict) -> Self {
        Self { metadata: Metadata::from("file", Source::File(path.to_owned())), table }
    }

    /// A table from somewhere else, in words: `built-in default`, `--set interval`.
    pub(crate) fn named(origin: impl Into<String>, table: Dict) -> Self {
        Self { metadata: Metadata::named(origin.into()), table }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.table.clone())]))
    }
}

/// Reads a TOML document; an error says the line.
pub(crate) fn parse_toml(path: &Path, text: &str) -> Result<Dict, ConfigError> {
    Toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let quoted = line.and_then(|line| text.lines().nth(line - 1)).and_then(with_quotes);
        let (problem, way_out) = match quoted {
            Some(quoted) => ("the quotes around a text are missing".to_owned(), format!("write {quoted}")),
            None => (
                error.message().replace('\n', ", "),
                identity().adapt("correct the line; `ebpf-process config default` prints an example"),
            ),
        };
        ConfigError::File { path: path.to_owned(), line, problem, way_out }
    })
}

/// The setting on a line with quotes around its value, if those are all that it lacks. A secret is not repeated.
fn with_quotes(line: &str) -> Option<String> {
    let reads = |text: &str| Toml::from_str::<Dict>(text).is_ok_and(|table| table.len() == 1);
    let (key, value) = line.split_once('=')?;
    // A comment is no part of it.
    let value = value.split(" #").next().unwrap_or_default().trim();
    let key = key.trim();
    let quoted = format!("{key} = \"{value}\"");
    let bare = !value.is_empty() && !value.contains(['"', '\'', '\\', '[', ']', '{', '}']);
    let shown = if is_secret(key) { "\"...\"".to_owned() } else { literal(&Value::from(value)) };
    (bare && !reads(&format!("{key} = {value}")) && reads(&quoted)).then(|| format!("{key} = {shown}"))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// A value as typed on a command line: TOML if it is a TOML value, else a string.
pub(crate) fn parse_value(text: &str) -> Value {
    let one_line = !text.contains(['\n', '\r']);
    let parsed = one_line.then(|| Toml::from_str::<Dict>(&format!("value = {text}")).ok()).flatten();
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    match value {
        // TOML's dates are no values of this configuration; what looks like one is a string.
        Some(Value::Dict(_, table)) if table.keys().any(|key| key.starts_with("$__")) => Value::from(text),
        Some(value) => value,
        None => Value::from(text),
    }
}

/// The segments of a dotted key as TOML reads it, quoted ones included; `None` if it is no key.
pub(crate) fn parse_key(text: &str) -> Option<Vec<String>> {
    if text.contains(['\n', '\r', '=', '#', '[']) {
        return None;
    }
    let mut table = Toml::from_str::<Dict>(&format!("{text} = 0")).ok()?;
    let mut segments = Vec::new();
    loop {
        let (key, value) = table.pop_first()?;
        segments.push(key);
        match value {
            Value::Dict(_, inner) => table = inner,
            _ => return Some(segments),
        }
    }
}

/// The table in which only this key is set.
pub(crate) fn nested(key: &[String], value: Value) -> Dict {
    match key {
        [] => Dict::new(),
        [last] => Dict::from([(last.clone(), value)]),
        [first, rest @ ..] => Dict::from([(first.clone(), Value::from(nested(rest, value)))]),
    }
}

/// Calls `visit` for each value that is no table, with its key; an empty table counts as a value.
pub(crate) fn walk(table: &Dict, key: &mut Vec<String>, visit: &mut impl FnMut(&[String], &Value)) {
    for (name, value) in table {
        key.push(name.clone());
        match value {
            Value::Dict(_, inner) if !inner.is_empty() => walk(inner, key, visit),
            _ => visit(key, value),
        }
        key.pop();
    }
}

/// Options with those at `path` above them, each value with its origin; the same where there is no table. Unlike figment's
/// `focus`, `path` may contain names with dots, and `keep` may leave keys out.
pub(crate) fn part(
    onto: Options,
    (whole, root): (&Figment, &Dict),
    path: &[&str],
    keep: impl Fn(&str) -> bool,
) -> Options {
    let table = path.iter().try_fold(root, |table, name| match table.get(*name) {
        Some(Value::Dict(_, inner)) => Some(inner),
        _ => None,
    });
    let Some(table) = table else { return onto };
    let kept: Dict =
        table.iter().filter(|(key, _)| keep(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut layers = Vec::new();
    walk(&kept, &mut Vec::new(), &mut |key, value| {
        let origin = whole.get_metadata(value.tag()).map(in_words).unwrap_or_default();
        layers.push((origin, nested(key, value.clone())));
    });
    layers.into_iter().fold(onto, |options, (origin, table)| options.layer(origin, table))
}

/// Where a value comes from, in words.
pub(crate) fn in_words(metadata: &Metadata) -> String {
    match &metadata.source {
        Some(Source::File(path)) => path.display().to_string(),
        _ => metadata.name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_value_is_toml_if_it_can_be_and_else_a_string() {
        let cases = [
            ("1s", Value::from("1s")),
            ("8", Value::from(8)),
            ("true", Value::from(true)),
            ("\"8\"", Value::from("8")),
            ("udp://127.0.0.1:8125", Value::from("udp://127.0.0.1:8125")),
            ("2020-01-01", Value::from("2020-01-01")),
            ("", Value::from("")),
            ("a # b", Value::from("a # b")),
            ("1\nother = 2", Value::from("1\nother = 2")),
        ];
        for (text, value) in cases {
            assert_eq!(parse_value(text), value, "{text}");
        }
        assert!(matches!(parse_value("{ pid = 3 }"), Value::Dict(..)));
        assert!(matches!(parse_value("[\"a\", \"b\"]"), Value::Array(..)));
    }

    #[test]
    fn what_lacks_quotes_and_nothing_else_is_shown_with_them() {
        for (line, expected) in [
            ("interval = 1s", Some("interval = \"1s\"")),
            ("  mode=return  # errors, too", Some("mode = \"return\"")),
            ("address = udp://127.0.0.1:8125", Some("address = \"udp://127.0.0.1:8125\"")),
            ("enabled = yes", Some("enabled = \"yes\"")),
            ("token = hunter2", Some("token = \"...\"")),
            ("options.Password = hunter2 # mine", Some("options.Password = \"...\"")),
            ("url = http://me:hunter2@db:8086", Some("url = \"http://***@db:8086\"")),
            ("queue = 8", None),
            ("interval = \"1s", None),
            ("interval =", None),
            ("a b = c", None),
            ("only = { pid = x }", None),
            ("[sinks.a]", None),
        ] {
            assert_eq!(with_quotes(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_key_may_quote_a_segment() {
        let cases: [(&str, Option<&[&str]>); 7] = [
            ("interval", Some(&["interval"])),
            ("sinks.lan.type", Some(&["sinks", "lan", "type"])),
            ("sinks.lan.rename.\"vfs.calls\"", Some(&["sinks", "lan", "rename", "vfs.calls"])),
            ("", None),
            ("a..b", None),
            ("[a]\nb", None),
            ("a b", None),
        ];
        for (text, segments) in cases {
            let expected = segments.map(|segments| segments.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
            assert_eq!(parse_key(text), expected, "{text}");
        }
    }
}
