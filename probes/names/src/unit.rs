//! Names of systemd units, as they stand in a control group's path.

use std::borrow::Cow;

/// What can have processes of its own, apart from slices, which are folders for others.
const SUFFIXES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// The unit that a component of a path is, in readable form: `\x2d` is the `-` that it stands for.
pub(crate) fn of(component: &str) -> Option<Cow<'_, str>> {
    named(component, &SUFFIXES)
}

/// The slice that a component is, in readable form.
pub(crate) fn slice(component: &str) -> Option<Cow<'_, str>> {
    named(component, &[".slice"])
}

fn named<'a>(component: &'a str, suffixes: &[&str]) -> Option<Cow<'a, str>> {
    // systemd puts a `_` in front of a name that the kernel has a file of: `_cpu.service`.
    let name = component.strip_prefix('_').unwrap_or(component);
    let stem = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix))?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    (!stem.is_empty() && name.len() <= 255 && name.chars().all(allowed)).then(|| readable(name))
}

/// A text with each `\xNN` as the byte that it stands for; as it is, where that would be no text, or one with control
/// characters.
pub(crate) fn readable(escaped: &str) -> Cow<'_, str> {
    if !escaped.contains("\\x") {
        return Cow::Borrowed(escaped);
    }
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if let Some(byte) = rest.strip_prefix(b"\\x").and_then(|digits| hex(digits.get(..2)?)) {
            bytes.push(byte);
            rest = &rest[4..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => Cow::Owned(text),
        _ => Cow::Borrowed(escaped),
    }
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let [high, low] = digits else { return None };
    Some(digit(*high)? * 16 + digit(*low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_what_they_stand_for_unless_it_is_no_text() {
        for (escaped, expected) in [
            (r"dev-disk-by\x2duuid-1.swap", "dev-disk-by-uuid-1.swap"),
            (r"caf\xc3\xa9.service", "café.service"),
            (r"a\x0ab.service", r"a\x0ab.service"),
            (r"a\x00b.service", r"a\x00b.service"),
            (r"a\xffb.service", r"a\xffb.service"),
            (r"a\x2", r"a\x2"),
            (r"a\x+f\x", r"a\x+f\x"),
            (r"\\x2d", r"\-"),
        ] {
            assert_eq!(readable(escaped), expected, "{escaped}");
        }
    }

    #[test]
    fn only_what_systemd_would_take_for_a_name_is_a_unit() {
        for name in [".service", "a b.service", "a\nb.service", "a\0.scope", "service", "x.slice", "é.service"] {
            assert_eq!(of(name), None, "{name:?}");
        }
        assert_eq!(of(&format!("{}.service", "a".repeat(300))), None);
        assert_eq!(of("_cpu.service").as_deref(), Some("cpu.service"));
        assert_eq!(slice(".slice"), None);
    }
}
