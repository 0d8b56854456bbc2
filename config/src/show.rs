//! The effective configuration as TOML, each value with its origin.

use std::fmt::Write as _;

use figment::value::{Empty, Num, Value};

use crate::layer::walk;
use crate::load::{Loaded, in_words};

/// A key that contains one of these holds a secret.
const SECRETS: [&str; 6] = ["password", "passwd", "secret", "token", "credential", "authorization"];

/// What stands in place of a secret.
const HIDDEN: &str = "***";

impl Loaded {
    /// The effective configuration: TOML, one table after another, the origin of each value beside
    /// it. Secrets are shown as `***`.
    pub fn show(&self) -> String {
        let mut lines: Vec<(Vec<String>, String, String)> = Vec::new();
        walk(&self.root, &mut Vec::new(), &mut |key, value| {
            let Some((name, table)) = key.split_last() else { return };
            let origin = self.figment.get_metadata(value.tag()).map_or_else(String::new, in_words);
            let value = if is_secret(name) { quoted(HIDDEN) } else { literal(value) };
            lines.push((table.to_vec(), format!("{} = {value}", bare_or_quoted(name)), origin));
        });
        // A value under the last header would belong to that table: values come before tables.
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        let width = lines.iter().map(|(_, line, _)| line.chars().count()).filter(|width| *width <= 60).max();
        let mut text = String::new();
        let mut current: &[String] = &[];
        for (table, line, origin) in &lines {
            if table != current {
                let path: Vec<_> = table.iter().map(|name| bare_or_quoted(name)).collect();
                // Writing to a string cannot fail.
                let _ = writeln!(text, "\n[{}]", path.join("."));
                current = table;
            }
            let width = width.unwrap_or(0);
            let origin = origin.replace(|c: char| c.is_control(), " ");
            let _ = writeln!(text, "{line:width$}  # {origin}");
        }
        text
    }
}

/// Whether what this key holds must not be shown.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRETS.iter().any(|secret| key.contains(secret))
}

/// A value on one line.
pub(crate) fn literal(value: &Value) -> String {
    match value {
        Value::String(_, text) => quoted(&without_userinfo(text)),
        Value::Char(_, c) => quoted(&c.to_string()),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, Num::F32(number)) => format!("{number:?}"),
        Value::Num(_, Num::F64(number)) => format!("{number:?}"),
        Value::Num(_, number) => number
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| number.to_u128().map(|n| n.to_string()))
            .unwrap_or_default(),
        Value::Empty(_, Empty::None | Empty::Unit) => quoted(""),
        Value::Array(_, values) => {
            let values: Vec<_> = values.iter().map(literal).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Dict(_, table) => {
            let pair = |(key, value): (&String, &Value)| {
                let value = if is_secret(key) { quoted(HIDDEN) } else { literal(value) };
                format!("{} = {value}", bare_or_quoted(key))
            };
            let pairs: Vec<_> = table.iter().map(pair).collect();
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
        }
    }
}

/// `http://user:password@host/` keeps no user and no password.
fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://{HIDDEN}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn bare_or_quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { quoted(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_as_toml_and_a_secret_is_not() {
        let cases = [
            (Value::from("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#),
            (Value::from(8), "8"),
            (Value::from(-8), "-8"),
            (Value::from(0.5), "0.5"),
            (Value::from(true), "true"),
            (Value::from(vec!["*", "b"]), r#"["*", "b"]"#),
            (Value::from("http://me:hush@host:8086/x?y=@z"), r#""http://***@host:8086/x?y=@z""#),
            (Value::from("http://host/a@b"), r#""http://host/a@b""#),
        ];
        for (value, shown) in cases {
            assert_eq!(literal(&value), shown);
        }
        for secret in ["password", "auth_token", "client-secret", "Authorization"] {
            assert!(is_secret(secret), "{secret}");
        }
        assert!(!is_secret("address"));
    }
}
