//! In which words a batch is said.

/// How a program wants its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// How values are arranged.
    pub format: Format,
    /// How integers are written.
    pub integers: Integers,
}

/// How values are arranged in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A table for each kind.
    Rows,
    /// An object for each value.
    Samples,
}

/// How integers are written that may be beyond 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integers {
    /// As numbers.
    Numbers,
    /// As strings of digits, for readers that round numbers.
    Text,
}

impl Format {
    /// The format of this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            "rows" => Some(Self::Rows),
            "samples" => Some(Self::Samples),
            _ => None,
        }
    }

    /// Its name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Samples => "samples",
        }
    }
}

impl Encoding {
    /// All there are, by the byte with which a batch says that it is in it; no others are ever given these.
    const MARKS: [(u8, Self); 4] = [
        (b'R', Self { format: Format::Rows, integers: Integers::Numbers }),
        (b'r', Self { format: Format::Rows, integers: Integers::Text }),
        (b'S', Self { format: Format::Samples, integers: Integers::Numbers }),
        (b's', Self { format: Format::Samples, integers: Integers::Text }),
    ];

    /// The byte that stands before a batch in memory and on disk, since a program may want another encoding when that is
    /// sent.
    pub(crate) fn mark(self) -> u8 {
        Self::MARKS.into_iter().find(|(_, encoding)| *encoding == self).map_or(0, |(mark, _)| mark)
    }

    /// The encoding and the rest of a batch; none for bytes that are no batch.
    pub(crate) fn of(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (mark, body) = bytes.split_first()?;
        let known = Self::MARKS.into_iter().find(|(known, _)| known == mark);
        known.map(|(_, encoding)| (encoding, body))
    }
}

/// The beginning of a batch's line; the rest of it has no number.
pub fn head(stream: u128, number: u64, resent: bool) -> Vec<u8> {
    format!("{{\"batch\":{number},\"stream\":\"{stream:032x}\",\"resent\":{resent},").into_bytes()
}

/// The most that the beginning takes.
pub(crate) const HEAD: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_has_a_mark() {
        for format in [Format::Rows, Format::Samples] {
            for integers in [Integers::Numbers, Integers::Text] {
                let encoding = Encoding { format, integers };
                assert_eq!(Encoding::of(&[encoding.mark(), b'x']), Some((encoding, &b"x"[..])));
            }
        }
        assert_eq!((Encoding::of(b""), Encoding::of(b"x")), (None, None));
    }
}
