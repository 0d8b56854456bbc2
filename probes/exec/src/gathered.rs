//! Lines of a text, until it is whole.

/// Bytes of a text at most.
const LONGEST: usize = 8 << 20;

/// The line that ends a text; an empty one does so too.
const END: &[u8] = b"# EOF";

/// A text that is coming.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    text: Vec<u8>,
    began: bool,
    too_long: bool,
}

/// A whole text, or what is wrong with it.
pub(crate) type Whole = Result<String, &'static str>;

impl Gathered {
    /// Takes a line in. The text, where that was its end; an empty line behind nothing ends nothing.
    pub(crate) fn push(&mut self, line: &[u8]) -> Option<Whole> {
        let is_end = line == END;
        if !is_end && !line.is_empty() {
            self.began = true;
            self.too_long |= self.text.len() + line.len() >= LONGEST;
            if self.too_long {
                self.text = Vec::new();
            } else {
                self.text.extend_from_slice(line);
                self.text.push(b'\n');
            }
            return None;
        }
        if !is_end && !self.began {
            return None;
        }
        let Self { text, too_long, .. } = std::mem::take(self);
        if too_long {
            return Some(Err("has more than 8 MiB"));
        }
        Some(String::from_utf8(text).map_err(|_| "is no UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &[&[u8]]) -> Vec<Whole> {
        let mut gathered = Gathered::default();
        lines.iter().filter_map(|line| gathered.push(line)).collect()
    }

    #[test]
    fn a_text_ends_with_its_end_or_an_empty_line() {
        let found = all(&[b"", b"a 1", b"b 2", b"", b"", b"# EOF", b"c 3", b"# EOF", b"", b"d 4"]);
        let expected = ["a 1\nb 2\n", "", "c 3\n"].map(|text| Ok(text.to_owned()));
        assert_eq!(found, expected);
        assert_eq!(all(&[b"\xff", b""]), [Err("is no UTF-8")]);
    }

    #[test]
    fn a_text_that_is_too_long_costs_no_memory_and_not_the_next_one() {
        let (mut gathered, line) = (Gathered::default(), vec![b'x'; 1 << 20]);
        for _ in 0..20 {
            assert_eq!(gathered.push(&line), None);
        }
        assert_eq!(gathered.text.capacity(), 0);
        assert_eq!(gathered.push(b""), Some(Err("has more than 8 MiB")));
        assert_eq!(gathered.push(b"a 1"), None);
        assert_eq!(gathered.push(b"# EOF"), Some(Ok("a 1\n".to_owned())));
    }
}
