//! The text format as a strict reader understands it.

use std::collections::{BTreeMap, BTreeSet};

/// A page as a strict reader understands it: per family its samples.
pub(crate) type Families = BTreeMap<String, Vec<Sample>>;

/// A line's name, labels and number.
pub(crate) type Sample = (String, BTreeMap<String, String>, String);

/// Reads the text format by its grammar; refuses what a receiver could misunderstand.
pub(crate) fn read(text: &str) -> Result<Families, String> {
    let mut families = Families::new();
    let mut seen = BTreeSet::new();
    let mut current: Option<(String, String)> = None;
    let Some(body) = text.strip_suffix('\n') else { return Err("no line end at the end".to_owned()) };
    for line in body.split('\n') {
        let wrong = || format!("not a line: {line:?}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, _) = rest.split_once(' ').ok_or_else(wrong)?;
            if families.insert(name.to_owned(), Vec::new()).is_some() {
                return Err(format!("two families {name}"));
            }
            current = Some((name.to_owned(), String::new()));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(wrong)?;
            let (family, known) = current.as_mut().filter(|(family, _)| family == name).ok_or_else(wrong)?;
            if !known.is_empty() || families.get(family).is_none_or(|samples| !samples.is_empty()) {
                return Err(wrong());
            }
            kind.clone_into(known);
        } else {
            let (family, kind) = current.as_ref().ok_or_else(wrong)?;
            let sample = sample(line).ok_or_else(wrong)?;
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            if !suffixes.iter().any(|suffix| sample.0 == format!("{family}{suffix}")) {
                return Err(format!("{line:?} is in the family {family}"));
            }
            if !seen.insert((sample.0.clone(), sample.1.clone())) {
                return Err(format!("twice: {line:?}"));
            }
            families.get_mut(family).ok_or_else(wrong)?.push(sample);
        }
    }
    Ok(families)
}

/// `name{key="value",...} number`.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (key, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        c @ ('"' | '\\') => c,
                        _ => return None,
                    }),
                    (_, c) => value.push(c),
                }
            };
            if !is_name(key) || key.starts_with("__") || labels.insert(key.to_owned(), value).is_some() {
                return None;
            }
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}')?;
    }
    let number = rest.strip_prefix(' ')?;
    number.parse::<f64>().ok().filter(|number| number.is_finite())?;
    is_name(name).then(|| (name.to_owned(), labels, number.to_owned()))
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
