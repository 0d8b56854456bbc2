//! A text that is made of very many short pieces.

use crate::integers::Integers;

/// The longest number, its quotes and what is behind it.
const LONGEST: usize = 20 + 3;

/// How much is made ready at a time.
const STEP: usize = 2048;

const NULLS: &[u8; 40] = b"null,null,null,null,null,null,null,null,";

/// A text that grows. The bytes behind its end are there already, so that room is looked for and made once for many pieces,
/// and what is short is written in place.
#[derive(Debug, Default)]
pub(crate) struct Line {
    bytes: Vec<u8>,
    /// Where the text ends; what is behind it is of no meaning.
    end: usize,
    /// For what is not written in place.
    other: Vec<u8>,
}

impl Line {
    /// Begins in a buffer; what that has is of no meaning.
    pub(crate) fn begin(&mut self, buffer: Vec<u8>) {
        (self.bytes, self.end) = (buffer, 0);
    }

    /// The buffer, and how many of its bytes are the text.
    pub(crate) fn finish(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.end))
    }

    /// How long it is.
    pub(crate) const fn len(&self) -> usize {
        self.end
    }

    /// Takes back all that is behind a place.
    pub(crate) fn truncate(&mut self, end: usize) {
        self.end = self.end.min(end);
    }

    /// Takes out what is behind a place.
    pub(crate) fn split_off(&mut self, start: usize) -> Vec<u8> {
        let rest = self.bytes[start..self.end].to_vec();
        self.end = start;
        rest
    }

    /// Appends some text.
    #[inline]
    pub(crate) fn text(&mut self, text: &[u8]) {
        let end = self.end + text.len();
        self.make_room(end);
        self.bytes[self.end..end].copy_from_slice(text);
        self.end = end;
    }

    /// Appends a whole number and what is behind it.
    #[inline]
    pub(crate) fn integer(&mut self, number: u64, integers: Integers, behind: u8) {
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
        room[len] = behind;
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

    /// Appends something else.
    pub(crate) fn other(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut other = std::mem::take(&mut self.other);
        write(&mut other);
        self.text(&other);
        other.clear();
        self.other = other;
    }

    /// The bytes behind the end, at least so many.
    #[inline]
    fn room<const SIZE: usize>(&mut self) -> &mut [u8; SIZE] {
        self.make_room(self.end + SIZE);
        self.bytes[self.end..].first_chunk_mut().unwrap_or_else(|| unreachable!("there is room"))
    }

    #[inline]
    fn make_room(&mut self, end: usize) {
        if self.bytes.len() < end {
            self.bytes.resize(end + STEP, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn text(mut line: Line) -> String {
        let (mut bytes, length) = line.finish();
        bytes.truncate(length);
        String::from_utf8(bytes).expect("text")
    }

    /// Pieces of all sorts, behind a text, in a buffer that has something.
    fn appends(start: &str, buffer: Vec<u8>) {
        let mut line = Line::default();
        line.begin(buffer);
        line.text(start.as_bytes());
        let mut expected = start.to_owned();
        let lengths = (0..20).map(|exponent| 10_u64.pow(exponent)).flat_map(|power| [power - 1, power]);
        for (absent, number) in lengths.chain([u64::MAX]).enumerate() {
            line.nulls(absent);
            line.integer(number, Integers::Numbers, b',');
            line.integer(number, Integers::Text, b';');
            line.nulls(1);
            line.other(|line| line.extend_from_slice(b"0.5,"));
            line.text(&b"0123456789"[..absent % 10]);
            let (nulls, text) = ("null,".repeat(absent), &"0123456789"[..absent % 10]);
            write!(expected, "{nulls}{number},\"{number}\";null,0.5,{text}").expect("text");
        }
        line.nulls(9);
        expected += &"null,".repeat(9);
        assert_eq!(line.len(), expected.len());
        assert_eq!(text(line), expected);
    }

    #[test]
    fn what_is_appended_piece_by_piece_is_one_text() {
        appends("[", Vec::new());
        appends("[", b"of another batch".to_vec());
        appends(&"x".repeat(STEP), Vec::new());
    }

    #[test]
    fn a_line_may_begin_with_a_number() {
        appends("", Vec::new());
    }

    #[test]
    fn what_is_taken_back_or_out_is_not_in_the_text() {
        let mut line = Line::default();
        line.text(b"abcdef");
        line.truncate(5);
        line.truncate(9);
        assert_eq!(line.split_off(3), b"de");
        line.text(b"g");
        assert_eq!(text(line), "abcg");
    }
}
