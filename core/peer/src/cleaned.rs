//! Words of a program's, as they can be told.

/// Bytes of a line of a program's that are told where it is wrong.
pub const TOLD: usize = 200;

/// A line of a program's, for a log: cleaned, [`TOLD`] bytes of it.
pub fn told(line: &[u8]) -> String {
    cleaned(line, TOLD)
}

/// The first bytes of what it said, on one line, and "..." where there were more.
pub fn cleaned(words: &[u8], limit: usize) -> String {
    let cut = words.get(..limit).unwrap_or(words);
    let text = String::from_utf8_lossy(cut);
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if cut.len() < words.len() {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_a_line_of_its_own() {
        assert_eq!(cleaned(b"a\nb\x1b[1m\xff", 200), "a b [1m\u{fffd}");
        assert_eq!(cleaned(b"abc", 2), "ab...");
    }
}
