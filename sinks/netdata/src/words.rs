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

/// A word that needs no quotes: of letters, digits, `_`, `.` and `-`, never empty.
pub(crate) fn id(text: &str) -> String {
    let mut id = String::with_capacity(text.len());
    push_cleaned(&mut id, text, ID_LIMIT, |c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if id.is_empty() {
        id.push('_');
    }
    id
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
