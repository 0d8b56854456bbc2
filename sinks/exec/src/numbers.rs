//! The numbers of a row, one after another.

use crate::integers::Integers;

/// The longest number, its quotes and a comma.
const LONGEST: usize = 20 + 3;

/// How much is made ready at a time.
const STEP: usize = 256;

const NULLS: &[u8; 40] = b"null,null,null,null,null,null,null,null,";

/// Appends to a line what is short and of many. The bytes behind the end are there already, so that nothing is copied
/// and room is looked for once for each piece.
pub(crate) struct Numbers<'a> {
    line: &'a mut Vec<u8>,
    /// Where the text ends; what is behind it is of no meaning.
    end: usize,
}

impl<'a> Numbers<'a> {
    pub(crate) const fn new(line: &'a mut Vec<u8>) -> Self {
        let end = line.len();
        Self { line, end }
    }

    /// Appends a whole number and a comma, behind so many numbers that there are not.
    #[inline]
    pub(crate) fn integer(&mut self, absent: usize, number: u64, integers: Integers) {
        self.nulls(absent);
        let room = self.room::<LONGEST>();
        let len = match integers {
            Integers::Numbers => lexical_core::write(number, room).len(),
            Integers::Text => {
                room[0] = b'"';
                let len = 1 + lexical_core::write(number, &mut room[1..]).len();
                room[len] = b'"';
                len + 1
            }
        };
        room[len] = b',';
        self.end += len + 1;
    }

    /// Appends so often `null` and a comma.
    #[inline]
    pub(crate) fn nulls(&mut self, count: usize) {
        let mut rest = count;
        while rest > 0 {
            let some = rest.min(8);
            *self.room() = *NULLS;
            self.end += some * (NULLS.len() / 8);
            rest -= some;
        }
    }

    /// Appends something else, behind so many numbers that there are not.
    pub(crate) fn other(&mut self, absent: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.nulls(absent);
        self.line.truncate(self.end);
        write(self.line);
        self.end = self.line.len();
    }

    /// The bytes behind the end, at least so many.
    #[inline]
    fn room<const SIZE: usize>(&mut self) -> &mut [u8; SIZE] {
        if self.line.len() < self.end + SIZE {
            self.line.resize(self.end + STEP.max(SIZE), 0);
        }
        self.line[self.end..].first_chunk_mut().unwrap_or_else(|| unreachable!("there is room"))
    }
}

impl Drop for Numbers<'_> {
    fn drop(&mut self) {
        self.line.truncate(self.end);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Numbers of all lengths, behind a text.
    fn appends(start: &str) {
        let mut line = start.as_bytes().to_vec();
        let mut expected = start.to_owned();
        let mut numbers = Numbers::new(&mut line);
        let lengths = (0..20).map(|exponent| 10_u64.pow(exponent)).flat_map(|power| [power - 1, power]);
        for (absent, number) in lengths.chain([u64::MAX]).enumerate() {
            numbers.integer(absent, number, Integers::Numbers);
            numbers.integer(0, number, Integers::Text);
            numbers.other(1, |line| line.extend_from_slice(b"0.5,"));
            let nulls = "null,".repeat(absent);
            write!(expected, "{nulls}{number},\"{number}\",null,0.5,").expect("text");
        }
        numbers.nulls(9);
        drop(numbers);
        expected += &"null,".repeat(9);
        assert_eq!(String::from_utf8(line).expect("text"), expected);
    }

    #[test]
    fn what_is_appended_piece_by_piece_is_one_text() {
        appends("[");
    }

    #[test]
    fn a_line_may_begin_with_a_number() {
        appends("");
    }
}
