//! Label values: text from outside, made safe to keep.

/// The longest label value that is kept, in bytes.
pub const LABEL_VALUE_LIMIT: usize = 200;

/// Makes a label value safe to keep: no control characters or line separators, no more than
/// [`LABEL_VALUE_LIMIT`] bytes, never empty.
///
/// Process, cgroup and file system names are chosen by whoever runs a process. What a protocol
/// gives a meaning beyond this (quotes, commas, colons) is its sink's to clean.
pub fn clean_label(value: &str) -> Box<str> {
    let mut cleaned = String::with_capacity(value.len().min(LABEL_VALUE_LIMIT));
    push_clean(value, &mut cleaned);
    cleaned.into_boxed_str()
}

/// Puts a cleaned label value behind a text.
pub(crate) fn push_clean(value: &str, text: &mut String) {
    let start = text.len();
    for c in value.chars() {
        let c = if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { '_' } else { c };
        if text.len() - start + c.len_utf8() > LABEL_VALUE_LIMIT {
            break;
        }
        text.push(c);
    }
    if text.len() == start {
        text.push('_');
    }
}

/// A cleaned label value with a suffix for what it was before.
pub(crate) fn told_apart(cleaned: &str, given: u64) -> Box<str> {
    let suffix = format!("~{given:016x}");
    let mut end = cleaned.len().min(LABEL_VALUE_LIMIT - suffix.len());
    while !cleaned.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &cleaned[..end]).into_boxed_str()
}

/// A label value without the suffix that tells it apart, if it ends in one.
pub(crate) fn untold(value: &str) -> Option<&str> {
    let (plain, suffix) = value.rsplit_once('~')?;
    let is_suffix = suffix.len() == 16 && suffix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_suffix.then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_label_value_becomes_one_bounded_line() {
        assert_eq!(&*clean_label("plain"), "plain");
        assert_eq!(&*clean_label("a\nb\0c\u{85}d\u{2028}e"), "a_b_c_d_e");
        assert_eq!(&*clean_label(""), "_");
        let long = clean_label(&"é".repeat(4096));
        assert_eq!(long.len(), LABEL_VALUE_LIMIT);
        assert!(long.chars().all(|c| c == 'é'));
    }
}
