//! Text that is safe inside a line of netdata's protocol.
//!
//! A line is split at blanks and `=`; a word in quotes ends at the next quote of its kind, and
//! there is no escape. What cannot be said is therefore replaced by `_`.

/// The longest identifier, in bytes. Netdata cuts longer ones, and then does not find them again.
pub(crate) const ID_LIMIT: usize = 150;

/// The longest free text, in bytes; with at most 13 words a line stays far below the 15,487 bytes
/// that netdata reads.
const TEXT_LIMIT: usize = 300;

/// A word in quotes; never an empty one, which some fields would take for a missing word.
pub(crate) fn quoted(text: &str) -> String {
    let mut word = String::with_capacity(text.len() + 2);
    word.push('\'');
    push_cleaned(&mut word, text, TEXT_LIMIT, |c| !c.is_control() && !"'\"\\=\u{2028}\u{2029}".contains(c));
    if word.len() == 1 {
        word.push('_');
    }
    word.push('\'');
    word
}

/// A title: as [`quoted`], but an apostrophe stays one. Quotes of the other kind say so.
pub(crate) fn title(text: &str) -> String {
    if !text.contains('\'') {
        return quoted(text);
    }
    let mut word = String::with_capacity(text.len() + 2);
    word.push('"');
    push_cleaned(&mut word, text, TEXT_LIMIT, |c| !c.is_control() && !"\"\\=\u{2028}\u{2029}".contains(c));
    word.push('"');
    word
}

/// A label's key: netdata refuses one without an ASCII letter, and logs that each time it hears it.
pub(crate) fn key(text: &str) -> String {
    if text.contains(|c: char| c.is_ascii_alphabetic()) {
        return text.to_owned();
    }
    format!("tag_{}", id(text))
}

/// A word that needs no quotes: of letters, digits, `_`, `.` and `-`, never empty.
pub(crate) fn id(text: &str) -> String {
    let mut id = String::with_capacity(text.len());
    push_cleaned(&mut id, text, ID_LIMIT, |c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if id.is_empty() {
        id.push('_');
    }
    id
}

/// What stands before the value of a dimension: the end of the line before it, then its own SET.
pub(crate) fn set(id: &str) -> String {
    format!("\nSET {id} = ")
}

/// `wanted`, or the first of `wanted_2`, `wanted_3`, ... that is not taken.
pub(crate) fn unique(wanted: String, taken: impl Fn(&str) -> bool) -> String {
    if !taken(&wanted) {
        return wanted;
    }
    let mut number = 2_u64;
    loop {
        let candidate = format!("{wanted}_{number}");
        if !taken(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

fn push_cleaned(word: &mut String, text: &str, limit: usize, allowed: impl Fn(char) -> bool) {
    let end = word.len() + limit;
    for c in text.chars().map(|c| if allowed(c) { c } else { '_' }) {
        if word.len() + c.len_utf8() > end {
            break;
        }
        word.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_cannot_be_left_early() {
        let cases = [
            ("plain words", "'plain words'"),
            ("it's a \"title\" = \\x", "'it_s a _title_ _ _x'"),
            ("two\nlines\u{2028}", "'two_lines_'"),
            ("é", "'é'"),
            ("", "'_'"),
        ];
        for (text, expected) in cases {
            assert_eq!(quoted(text), expected);
        }
        assert_eq!(quoted(&"é".repeat(1000)).len(), TEXT_LIMIT + 2);
    }

    #[test]
    fn an_apostrophe_of_a_title_stays() {
        for (text, expected) in [
            ("plain words", "'plain words'"),
            ("a \"title\"", "'a _title_'"),
            ("the agent's own", "\"the agent's own\""),
            ("it's \"a\\b\" = c\n", "\"it's _a_b_ _ c_\""),
        ] {
            assert_eq!(title(text), expected);
        }
        assert_eq!(title(&"'".repeat(1000)).len(), TEXT_LIMIT + 2);
    }

    #[test]
    fn a_key_has_a_letter_that_netdata_knows() {
        for (text, expected) in
            [("rack", "rack"), ("é1a", "é1a"), ("1", "tag_1"), ("é", "tag__"), ("", "tag__"), ("-", "tag_-")]
        {
            assert_eq!(key(text), expected);
        }
    }

    #[test]
    fn an_id_is_a_plain_word() {
        let cases = [("read", "read"), ("/usr/bin/a b", "_usr_bin_a_b"), ("SET x=1", "SET_x_1"), ("", "_"), ("é", "_")];
        for (text, expected) in cases {
            assert_eq!(id(text), expected);
        }
        assert_eq!(id(&"x".repeat(1000)).len(), ID_LIMIT);
    }

    #[test]
    fn equal_ids_are_told_apart() {
        let taken = ["a", "a_2"];
        assert_eq!(unique("a".to_owned(), |id| taken.contains(&id)), "a_3");
        assert_eq!(unique("b".to_owned(), |id| taken.contains(&id)), "b");
    }
}
