//! Lines out of what arrives in pieces.

/// Bytes of a line at most.
pub(crate) const LONGEST: usize = 1 << 20;

/// What UTF-8 may begin with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Puts pieces together.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
    /// Where the next line begins.
    at: usize,
    /// Up to where no end of it was found.
    searched: usize,
    began: bool,
}

/// A line that is longer than it may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Lines {
    /// Takes a piece in.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
    }

    /// The next whole line, without its end.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let end = self.rest[self.searched..].iter().position(|byte| *byte == b'\n').map(|end| self.searched + end);
        let length = end.unwrap_or(self.rest.len()) - self.at;
        if length > LONGEST {
            return Err(TooLong);
        }
        let Some(end) = end else {
            self.rest.drain(..self.at);
            (self.at, self.searched) = (0, self.rest.len());
            return Ok(None);
        };
        let mut line = self.rest[self.at..end].to_vec();
        (self.at, self.searched) = (end + 1, end + 1);
        line.pop_if(|last| *last == b'\r');
        if !std::mem::replace(&mut self.began, true) && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines) -> Vec<String> {
        std::iter::from_fn(|| lines.next().expect("short lines"))
            .map(|line| String::from_utf8_lossy(&line).into())
            .collect()
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let text = b"\xef\xbb\xbfone\r\ntwo\n\nthr\ree\nhalf";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                lines.push(piece);
                found.extend(all(&mut lines));
            }
            assert_eq!(found, ["one", "two", "", "thr\ree"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_has_a_limit_with_and_without_an_end() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; LONGEST]);
        lines.push(b"\n");
        assert_eq!(lines.next().expect("just short enough").map(|line| line.len()), Some(LONGEST));
        lines.push(&vec![b'x'; LONGEST]);
        assert_eq!(lines.next(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.next(), Err(TooLong));
        lines.push(b"\n");
        assert_eq!(lines.next(), Err(TooLong));
    }
}
