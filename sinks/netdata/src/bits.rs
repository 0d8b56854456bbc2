//! Places as bits of words.

/// A place in its word of 64.
#[inline]
pub(crate) const fn bit(place: usize) -> u64 {
    1 << (place % 64)
}

/// The places whose bits are set, in order.
#[derive(Clone, Debug)]
pub(crate) struct Places<W> {
    words: W,
    word: u64,
    /// The place of the word's first bit.
    first: usize,
    next: usize,
}

impl<W: Iterator<Item = u64>> Places<W> {
    /// Of words that begin with place 0.
    pub(crate) const fn of(words: W) -> Self {
        Self { words, word: 0, first: 0, next: 0 }
    }
}

impl<W: Iterator<Item = u64>> Iterator for Places<W> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.word == 0 {
            self.word = self.words.next()?;
            (self.first, self.next) = (self.next, self.next + 64);
        }
        let bit = self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        Some(self.first + bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_again() {
        let mut words = [0; 4];
        let expected = [0, 63, 64, 130, 255];
        for place in expected {
            words[place / 64] |= bit(place);
        }
        assert_eq!(Places::of(words.into_iter()).collect::<Vec<_>>(), expected);
        assert_eq!(Places::of([0; 3].into_iter()).next(), None);
    }
}
