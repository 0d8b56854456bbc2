//! The queries of `docs/who.md`, so that what the document tells is what the tests ask.

use crate::{Failure, Outcome};

const WHO: &str = include_str!("../../docs/who.md");
const CHAPTER: &str = "\n## The ten busiest services\n";

/// The blocks of one language in the chapter about the ten busiest, in their order.
///
/// # Errors
/// There are not so many.
pub fn busiest<const N: usize>(language: &str) -> Outcome<[&'static str; N]> {
    let (_, chapter) = WHO.split_once(CHAPTER).ok_or_else(|| Failure::new("docs/who.md has lost its chapter"))?;
    let blocks = blocks(chapter, language);
    let found = blocks.len();
    blocks.try_into().map_err(|_| Failure::new(format!("docs/who.md has {found} blocks of {language}, not {N}")))
}

fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    // Behind each opening fence comes the block, and behind its end a text without one.
    let fenced = text.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_apart_by_their_language() {
        let text = "one\n```sh\na\n```\ntwo\n```sql\nb\n```\n```sh\nc\nd\n```\n";
        assert_eq!(blocks(text, "sh"), ["a\n", "c\nd\n"]);
        assert_eq!(blocks(text, "sql"), ["b\n"]);
        assert!(blocks(text, "s").is_empty());
    }

    #[test]
    fn the_document_has_a_query_of_each_kind() {
        busiest::<5>("promql").unwrap();
        busiest::<1>("sql").unwrap();
        busiest::<1>("metricsql").unwrap();
    }
}
