//! A value as it is written in TOML, without what is secret.

use std::fmt::Write as _;

use figment::value::{Empty, Num, Value};

/// A key that contains one of these holds a secret.
const SECRETS: [&str; 7] = ["password", "passwd", "secret", "token", "credential", "authorization", "header"];

/// What stands in place of a secret.
pub(crate) const HIDDEN: &str = "***";

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

/// Text in quotes, as a value of TOML in one line.
pub fn quoted(text: &str) -> String {
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

/// A key as it is written.
pub(crate) fn bare_or_quoted(key: &str) -> String {
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
        for secret in ["password", "auth_token", "client-secret", "Authorization", "headers"] {
            assert!(is_secret(secret), "{secret}");
        }
        assert!(!is_secret("address"));
    }
}
