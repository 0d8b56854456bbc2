//! Words by which readings are known, and numbers that look random and are the same for the same seed.

/// What every word begins with.
const HEAD: &str = "zq";

/// Letters and digits of words: those of the head are not among them, so that a word does not begin in another one.
const LETTERS: &[u8; 32] = b"abcdefghijkmnprstuvwxy0123456789";

/// How long a word is.
const LENGTH: usize = 8;

/// Makes words and numbers from a seed.
#[derive(Clone, Debug)]
pub(super) struct Words {
    state: u64,
    seed: u64,
    made: u64,
}

impl Words {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed, seed, made: 0 }
    }

    /// A word that was not there before. After 32,768 they begin again.
    pub(super) fn word(&mut self) -> String {
        let mut number = (mix(self.seed) << 15) | (self.made & 0x7fff);
        self.made += 1;
        let mut word = HEAD.to_owned();
        for _ in 0..LENGTH - HEAD.len() {
            word.push(char::from(LETTERS[usize::try_from(number & 31).unwrap_or_default()]));
            number >>= 5;
        }
        word
    }

    /// A number below another one.
    pub(super) const fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state) % if limit == 0 { 1 } else { limit }
    }
}

/// The finalizer of `SplitMix64`.
const fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The words in a text, sorted, each once, one behind the other: the key by which a series is known.
pub(super) fn key(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    let mut words: Vec<&str> = text
        .match_indices(HEAD)
        .filter_map(|(at, _)| text.get(at..at + LENGTH))
        .filter(|word| word.bytes().skip(HEAD.len()).all(|byte| LETTERS.contains(&byte)))
        .collect();
    words.sort_unstable();
    words.dedup();
    words.concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_are_different_and_found_in_any_text() {
        let mut words = Words::new(7);
        let made: Vec<_> = (0..20_000).map(|_| words.word()).collect();
        assert_eq!(made.iter().collect::<HashSet<_>>().len(), made.len());
        let [a, b] = [&made[0], &made[19_999]];
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        assert_eq!(key(&format!("x_{}_{b}{{c={a}{b}}}", a.to_uppercase())), format!("{low}{high}"));
        assert_eq!(key("zq"), "");
        assert_eq!(Words::new(7).word(), made[0]);
        assert_ne!(Words::new(8).word(), made[0]);
    }
}
