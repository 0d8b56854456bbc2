//! One line of the rules for apps: a name and words.

use crate::rule::Key;

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) words: Vec<Word>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// What the pattern is about, where the word says so.
    pub(crate) key: Option<Key>,
    pub(crate) pattern: String,
}

const FORM: &str = "a line is `name: pattern pattern ...`";

/// Takes a line apart; nothing for one without rules. An error says what is wrong and what would be right.
pub(crate) fn read(text: &str) -> Result<Option<Line>, String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (name, rest) = name(text)?;
    let mut rest = rest;
    let mut words = Vec::new();
    while let Some(start) = next(rest) {
        let (word, after) = word(start)?;
        words.push(word);
        rest = after;
    }
    Ok(Some(Line { name, words }))
}

/// The name in front of the colon.
fn name(text: &str) -> Result<(String, &str), String> {
    let (name, rest) = match quoted(text)? {
        Some((name, rest)) => match rest.trim_start().strip_prefix(':') {
            Some(rest) => (name, rest),
            None => return Err(format!("there is no `:` after the name {}; {FORM}", shown(name))),
        },
        None => text.split_once(':').ok_or_else(|| format!("there is no `:` in it; {FORM}"))?,
    };
    let name = without_marks(name.trim());
    if name.is_empty() {
        return Err(format!("there is no name in front of the `:`; {FORM}"));
    }
    if name.contains(char::is_whitespace) {
        let right = name.split_whitespace().collect::<Vec<_>>().join("-");
        return Err(format!("the name {} has a blank in it; a name has none: {}", shown(name), shown(&right)));
    }
    Ok((name.to_owned(), rest))
}

/// Where the next word begins; a colon is as good as a blank.
fn next(rest: &str) -> Option<&str> {
    let start = rest.trim_start_matches(is_end);
    (!start.is_empty() && !start.starts_with('#')).then_some(start)
}

fn word(text: &str) -> Result<(Word, &str), String> {
    if let Some((pattern, rest)) = quoted(text)? {
        return Ok((checked(None, pattern)?, rest));
    }
    if let Some((key, value)) = key(text)? {
        let (pattern, rest) = match quoted(value)? {
            Some(found) => found,
            None => value.split_at(value.find(char::is_whitespace).unwrap_or(value.len())),
        };
        return Ok((checked(Some(key), pattern)?, rest));
    }
    let (pattern, rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
    Ok((checked(None, without_marks(pattern))?, rest))
}

fn checked(key: Option<Key>, pattern: &str) -> Result<Word, String> {
    if pattern.is_empty() {
        return Err("there is an empty pattern, which fits nothing; leave it out, or write `*` for whatever".to_owned());
    }
    Ok(Word { key, pattern: pattern.to_owned() })
}

/// The key in front of a `=`, and what is behind it.
fn key(text: &str) -> Result<Option<(Key, &str)>, String> {
    let Some((word, value)) = text.split_once('=') else { return Ok(None) };
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
        return Ok(None);
    }
    let known = Key::ALL.iter().find(|(_, name)| *name == word);
    let known = known.ok_or_else(|| {
        let names = Key::ALL.map(|(_, name)| format!("`{name}`")).join(", ");
        format!(
            "there is no key {}; the keys are {names}, and a name that has a `=` in it stands in quotes",
            shown(word)
        )
    })?;
    Ok(Some((known.0, value)))
}

/// What is between the quotes that a text begins with, and what is behind them.
fn quoted(text: &str) -> Result<Option<(&str, &str)>, String> {
    let Some(quote) = text.chars().next().filter(|first| matches!(first, '"' | '\'')) else { return Ok(None) };
    let Some((inside, rest)) = text[1..].split_once(quote) else {
        return Err(format!("the quote {quote} is never closed; write {quote}like this{quote}"));
    };
    if !rest.is_empty() && !rest.starts_with(is_end) {
        let problem = "goes on behind its quotes; what belongs to it, a `*` too, stands inside, and a blank after it";
        return Err(format!("{} {problem}", shown(inside)));
    }
    Ok(Some((inside, rest)))
}

/// netdata's marks for what a chart hides or what is debugged.
fn without_marks(text: &str) -> &str {
    text.trim_start_matches(['-', '+'])
}

fn is_end(c: char) -> bool {
    c.is_whitespace() || c == ':'
}

/// What somebody wrote, short enough to be read and without control characters.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect();
    let more = if text.chars().nth(60).is_some() { "..." } else { "" };
    format!("`{start}{more}`")
}
