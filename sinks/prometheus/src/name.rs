//! Names and label values as the exposition formats can say them.

/// A metric's name: the namespace, then the name, with `_` for whatever is no letter or digit.
pub(crate) fn metric(namespace: &str, name: &str) -> String {
    let separator = if namespace.is_empty() { "" } else { "_" };
    clean(&format!("{namespace}{separator}{name}"))
}

/// A label's key. One that means something to the receiver is set apart: `le` is a bucket's bound,
/// and what begins with two underscores, like `__name__`, is Prometheus's own.
pub(crate) fn label(key: &str) -> String {
    let key = clean(key);
    if key == "le" || key.starts_with("__") { format!("exported_{key}") } else { key }
}

fn clean(text: &str) -> String {
    let starts_with_letter = text.starts_with(|c: char| c.is_ascii_alphabetic() || !c.is_ascii_digit());
    let start = if starts_with_letter && !text.is_empty() { "" } else { "_" };
    let rest = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    start.chars().chain(rest).collect()
}

/// Whether a text is a name as it stands.
pub(crate) fn is_name(text: &str) -> bool {
    clean(text) == text
}

/// A label value between quotes, or a help text that may contain none.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    push_escaped(text, &mut escaped);
    escaped
}

/// Writes a label value that stands between quotes.
pub(crate) fn push_escaped(mut text: &str, to: &mut String) {
    while let Some(at) = text.find(['\\', '\n', '"']) {
        to.push_str(&text[..at]);
        to.push_str(match text.as_bytes()[at] {
            b'\n' => "\\n",
            b'"' => "\\\"",
            _ => "\\\\",
        });
        text = &text[at + 1..];
    }
    to.push_str(text);
}

/// A help text that may contain quotes.
pub(crate) fn escape_help(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_consists_of_letters_digits_and_underscores() {
        for (namespace, name, expected) in [
            ("ebpf_process", "vfs.calls", "ebpf_process_vfs_calls"),
            ("", "vfs.calls", "vfs_calls"),
            ("", "9.lives", "_9_lives"),
            ("", "", "_"),
            ("n", "a:b-c é\"", "n_a_b_c___"),
        ] {
            assert_eq!(metric(namespace, name), expected);
        }
    }

    #[test]
    fn a_key_that_means_something_to_the_receiver_is_set_apart() {
        for (key, expected) in [
            ("operation", "operation"),
            ("_x", "_x"),
            ("le", "exported_le"),
            ("__name__", "exported___name__"),
            ("..name", "exported___name"),
            ("0", "_0"),
        ] {
            assert_eq!(label(key), expected);
        }
    }

    #[test]
    fn quotes_backslashes_and_line_ends_are_escaped_and_nothing_else() {
        assert_eq!(escape("a\"b\\n\nc{}=,é"), "a\\\"b\\\\n\\nc{}=,é");
        assert_eq!(escape_help("a\"b\\"), "a\"b\\\\");
    }
}
