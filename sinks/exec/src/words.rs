//! In which words a batch is said.

use crate::encoding::{Encoding, Format};
use crate::form::LineFormat;
use crate::integers::Integers;

/// How a program wants its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// As JSON.
    Json(Encoding),
    /// As text, line by line.
    Lines(LineFormat),
}

impl Words {
    /// Those of JSON, by the byte with which a batch says that it is in them; no others are ever given these.
    const MARKS: [(u8, Encoding); 4] = [
        (b'R', Encoding { format: Format::Rows, integers: Integers::Numbers }),
        (b'r', Encoding { format: Format::Rows, integers: Integers::Text }),
        (b'S', Encoding { format: Format::Samples, integers: Integers::Numbers }),
        (b's', Encoding { format: Format::Samples, integers: Integers::Text }),
    ];

    /// The same for lines; the name of their format follows: its length in a byte, then its bytes.
    const LINES: u8 = b'L';

    /// The name of their format.
    pub(crate) const fn format(self) -> &'static str {
        match self {
            Self::Json(Encoding { format: Format::Rows, .. }) => "rows",
            Self::Json(Encoding { format: Format::Samples, .. }) => "samples",
            Self::Lines(format) => format.name,
        }
    }

    /// What stands before a batch in memory and on disk, since a program may want other words when that is sent.
    pub(crate) fn mark(self) -> Vec<u8> {
        match self {
            Self::Json(encoding) => {
                Self::MARKS.into_iter().filter(|(_, known)| *known == encoding).map(|(mark, _)| mark).collect()
            }
            Self::Lines(LineFormat { name, .. }) => {
                let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
                [&[Self::LINES, length], &name.as_bytes()[..length.into()]].concat()
            }
        }
    }

    /// The words and the rest of a batch; none for bytes that are no batch, or in a format that there is not.
    pub(crate) fn of(bytes: &[u8], formats: Formats) -> Option<(Self, &[u8])> {
        let (mark, rest) = bytes.split_first()?;
        if *mark != Self::LINES {
            let known = Self::MARKS.into_iter().find(|(known, _)| known == mark);
            return known.map(|(_, encoding)| (Self::Json(encoding), rest));
        }
        let (length, rest) = rest.split_first()?;
        let (name, rest) = rest.split_at_checked((*length).into())?;
        let format = formats.0.iter().find(|format| format.name.as_bytes() == name)?;
        Some((Self::Lines(*format), rest))
    }
}

/// The formats of lines of a sink.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Formats(pub(crate) &'static [LineFormat]);

impl Formats {
    fn all(self, integers: Integers) -> impl Iterator<Item = Words> {
        let json = [Format::Rows, Format::Samples].map(|format| Words::Json(Encoding { format, integers }));
        json.into_iter().chain(self.0.iter().copied().map(Words::Lines))
    }

    /// The words of the format of this name, in which lines have numbers as they are.
    pub(crate) fn of(self, name: &str, integers: Integers) -> Option<Words> {
        self.all(integers).find(|words| words.format() == name)
    }

    /// All names, as they are written in a hello.
    pub(crate) fn names(self) -> String {
        let names: Vec<String> = self.all(Integers::Numbers).map(|words| format!("\"{}\"", words.format())).collect();
        match names.split_last() {
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PLAIN: [LineFormat; 1] = [LineFormat { name: "plain", form: |_| unreachable!("nothing is written") }];

    #[test]
    fn words_have_marks_of_their_own() {
        let formats = Formats(&PLAIN);
        let all = [Integers::Numbers, Integers::Text].into_iter().flat_map(|integers| formats.all(integers));
        for words in all {
            let mark = words.mark();
            let batch = [&mark[..], b"x"].concat();
            assert_eq!(Words::of(&batch, formats), Some((words, &b"x"[..])));
            assert!((0..mark.len()).all(|cut| Words::of(&mark[..cut], formats).is_none()));
        }
        for wrong in [&b""[..], b"x", b"L\x04rows", b"L\x05other"] {
            assert_eq!(Words::of(wrong, formats), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_are_those_of_the_protocol_and_those_handed_in() {
        let (formats, numbers) = (Formats(&PLAIN), Integers::Numbers);
        assert_eq!(formats.names(), "\"rows\", \"samples\" or \"plain\"");
        assert_eq!(formats.of("plain", Integers::Text), Some(Words::Lines(PLAIN[0])));
        let samples = Words::Json(Encoding { format: Format::Samples, integers: numbers });
        assert_eq!((formats.of("samples", numbers), formats.of("xml", numbers)), (Some(samples), None));
        assert_eq!(Formats(&[]).of("plain", numbers), None);
        assert_ne!(PLAIN[0], LineFormat { name: "other", ..PLAIN[0] });
    }
}
