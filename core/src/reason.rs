//! Reasons that are text from outside: columns of a ledger have to be few and fixed.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::label::clean_label;

/// The longest reason from outside, in bytes.
const LONGEST: usize = 80;
/// How many different ones one ledger has, and all of the process together: they are kept for its life.
const MOST: usize = 16;
const MOST_OF_ALL: usize = 256;

/// What stands for those beyond.
pub(crate) const OTHER: &str = "other";

static KNOWN: Words = Words(Mutex::new(BTreeSet::new()));

/// Texts that are kept for the life of the process, each once.
#[derive(Debug)]
struct Words(Mutex<BTreeSet<&'static str>>);

impl Words {
    /// The text as one that is kept; none where too many are.
    fn keep(&self, text: &str) -> Option<&'static str> {
        let mut words = self.0.lock();
        if let Some(known) = words.get(text) {
            return Some(known);
        }
        if words.len() >= MOST_OF_ALL {
            return None;
        }
        let kept: &'static str = Box::leak(Box::from(text));
        words.insert(kept);
        Some(kept)
    }
}

/// The reasons from outside of one ledger.
#[derive(Debug, Default)]
pub(crate) struct Foreign(Vec<&'static str>);

impl Foreign {
    /// The text, clean and cut, if there is room for it.
    pub(crate) fn reason(&mut self, text: &str) -> &'static str {
        let clean = clean_label(text.trim());
        let end = (0..=LONGEST.min(clean.len())).rfind(|end| clean.is_char_boundary(*end));
        let clean = clean[..end.unwrap_or_default()].trim_end();
        if let Some(known) = self.0.iter().find(|known| **known == clean) {
            return known;
        }
        match KNOWN.keep(clean) {
            Some(kept) if self.0.len() < MOST => {
                self.0.push(kept);
                kept
            }
            _ => OTHER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_reason_becomes_one_short_line() {
        let mut foreign = Foreign::default();
        assert_eq!(foreign.reason(" no such\ncolumn "), "no such_column");
        assert_eq!(foreign.reason(""), "_");
        let long = foreign.reason(&"é".repeat(1000));
        assert_eq!((long.len(), long.chars().all(|c| c == 'é')), (LONGEST, true));
    }

    #[test]
    fn a_ledger_has_a_few_of_them_and_the_same_text_is_the_same_reason() {
        let mut foreign = Foreign::default();
        let texts: Vec<_> = (0..MOST).map(|n| format!("few {n}")).collect();
        for text in texts.iter().chain(&texts) {
            assert_eq!(foreign.reason(text), text);
        }
        assert_eq!((foreign.reason("one more"), foreign.reason("few 3")), (OTHER, "few 3"));
        assert_eq!(Foreign::default().reason("one more"), "one more", "another ledger has its own");
    }

    #[test]
    fn a_process_keeps_a_bounded_number() {
        let words = Words(Mutex::default());
        for n in 0..MOST_OF_ALL {
            assert!(words.keep(&n.to_string()).is_some());
        }
        assert_eq!((words.keep("one more"), words.keep("7")), (None, Some("7")));
    }
}
