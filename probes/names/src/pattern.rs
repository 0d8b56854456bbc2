//! Patterns with `*` for any text.

/// A pattern, and what it fits: a whole text, from end to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Box<str>>);

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.split('*').map(Into::into).collect())
    }

    /// One walk over the text, whatever the pattern is.
    pub(crate) fn fits(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return false };
        let Some((last, inner)) = rest.split_last() else { return **first == *text };
        let Some(text) = text.strip_prefix(&**first).and_then(|text| text.strip_suffix(&**last)) else { return false };
        let after = |text: &mut &str, piece: &str| {
            let at = text.find(piece)?;
            *text = &text[at + piece.len()..];
            Some(())
        };
        if let [piece] = inner {
            // Several times cheaper than finding where it is.
            return text.contains(&**piece);
        }
        let mut text = text;
        inner.iter().all(|piece| after(&mut text, piece).is_some())
    }

    /// The shortest text that it fits.
    pub(crate) fn shortest(&self) -> usize {
        self.0.iter().map(|piece| piece.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, fit, other) in [
            ("a", &["a"][..], &["", "aa", "b"][..]),
            ("a*", &["a", "ab"], &["", "ba"]),
            ("*a", &["a", "ba"], &["", "ab"]),
            ("*a*", &["a", "bab"], &["", "b"]),
            ("a*a", &["aa", "aba", "aaa"], &["a", "ab", "baa"]),
            ("*ab*ab*", &["abab", "xabxabx"], &["ab", "aba"]),
            ("a*b*c", &["abc", "axbxc", "abbc"], &["ac", "abcb", "acb"]),
            ("*", &["", "a"], &[]),
            ("**", &["", "a"], &[]),
            ("*é*", &["é", "aéb"], &["e"]),
            ("", &[""], &["a"]),
        ] {
            assert!(fit.iter().all(|text| Pattern::new(pattern).fits(text)), "{pattern}");
            assert!(!other.iter().any(|text| Pattern::new(pattern).fits(text)), "{pattern}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_one_walk() {
        let pattern = Pattern::new(&"*a".repeat(5000));
        assert!(!pattern.fits(&("a".repeat(4999) + &"b".repeat(100_000))));
        assert!(pattern.fits(&"a".repeat(5000)));
    }
}
