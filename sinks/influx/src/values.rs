//! Lines taken apart, one sample each: for a server that refuses a line for one of its fields.

use ebpf_process_delivery::{Frame, Verdict};

/// The named lines of a frame, or all, with one sample each.
pub(crate) fn apart(frame: &Frame, named: Option<&[usize]>) -> Frame {
    let mut pieces = Frame::default();
    for (index, (line, samples)) in frame.items().enumerate() {
        if named.is_some_and(|named| !named.contains(&index)) {
            continue;
        }
        match Line::read(line).filter(|_| samples > 1) {
            Some(line) => line.samples(samples).iter().for_each(|piece| pieces.push(piece, 1)),
            None => pieces.push(line, samples),
        }
    }
    pieces
}

/// The same for a frame of one line that has several samples: what refuses it may take some of them.
pub(crate) fn single_apart(frame: &Frame) -> Option<Frame> {
    (frame.len() == 1 && frame.samples() > 1).then(|| apart(frame, None))
}

/// What it means that a frame is too large for a receiver.
pub(crate) fn too_large(frame: &Frame, problem: String) -> Verdict {
    match single_apart(frame) {
        Some(pieces) => Verdict::Again { pieces, reason: "too large for the receiver", problem },
        None => Verdict::TooLarge { problem },
    }
}

/// A line as the encoder writes it.
struct Line<'a> {
    /// The measurement and the tags.
    head: &'a [u8],
    /// `name=value`, each.
    fields: Vec<&'a [u8]>,
    /// The time, and the line break.
    end: &'a [u8],
}

impl<'a> Line<'a> {
    fn read(line: &'a [u8]) -> Option<Self> {
        let (head, rest) = cut(line, b' ')?;
        let (mut fields, end) = cut(rest, b' ')?;
        let mut found = Vec::new();
        while let Some((field, rest)) = cut(fields, b',') {
            found.push(field);
            fields = rest;
        }
        found.push(fields);
        Some(Self { head, fields: found, end })
    }

    /// A line for each of its samples. A histogram is one of several fields.
    fn samples(&self, samples: u32) -> Vec<Vec<u8>> {
        let samples = usize::try_from(samples).unwrap_or(usize::MAX);
        let mut groups: Vec<Vec<&[u8]>> = Vec::new();
        for field in &self.fields {
            match groups.last_mut() {
                Some(group) if belongs(group, field) => group.push(field),
                _ => groups.push(vec![field]),
            }
        }
        if groups.len() != samples {
            // Names that look like a histogram's: nobody knows who belongs together. No sample is counted twice.
            groups = self.fields.iter().map(|field| vec![*field]).collect();
            let rest: Vec<_> = groups.drain(samples.saturating_sub(1).min(groups.len())..).flatten().collect();
            groups.push(rest);
        }
        let line = |fields: &Vec<&[u8]>| [self.head, b" ", &fields.join(&b","[..]), b" ", self.end].concat();
        groups.iter().map(line).collect()
    }
}

/// Whether a field follows others of one histogram: its count, its sum, its slots.
fn belongs(group: &[&[u8]], field: &[u8]) -> bool {
    let stem = group.first().and_then(|first| name(first).strip_suffix(b"_count"));
    let own = stem.and_then(|stem| name(field).strip_prefix(stem)).unwrap_or_default();
    if group.len() == 1 { own == b"_sum" } else { own.starts_with(b"_le_") }
}

/// Whether a line has this measurement, and a field of this name.
pub(crate) fn has_field(line: &[u8], measurement: &str, field: &str) -> bool {
    let Some(line) = Line::read(line) else { return false };
    let measured = cut(line.head, b',').map_or(line.head, |(measured, _)| measured);
    plain(measured) == measurement.as_bytes() && line.fields.iter().any(|own| plain(name(own)) == field.as_bytes())
}

fn name(field: &[u8]) -> &[u8] {
    cut(field, b'=').map_or(field, |(name, _)| name)
}

/// What stands before a byte that no backslash precedes, and what behind it.
fn cut(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    let at = text.iter().position(|&this| {
        let found = this == byte && !escaped;
        escaped = this == b'\\' && !escaped;
        found
    })?;
    Some((&text[..at], &text[at + 1..]))
}

/// Without the backslashes before what they escape.
fn plain(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != b'\\').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(line: &str, samples: u32) -> Vec<String> {
        let mut frame = Frame::default();
        frame.push(line.as_bytes(), samples);
        let pieces = apart(&frame, None);
        assert_eq!((pieces.samples(), pieces.len() as u64), (u64::from(samples), u64::from(samples)));
        pieces.items().map(|(piece, _)| String::from_utf8(piece.to_vec()).expect("text")).collect()
    }

    #[test]
    fn each_piece_has_one_sample_and_all_of_the_line() {
        let line = "vfs\\ x,a\\,b=c\\ d,host=h calls=1i,a\\=b\\ c=2.5,q_count=3i,q_sum=4i,q_le_1=3i,z=1i 16\n";
        assert_eq!(
            pieces(line, 4),
            [
                "vfs\\ x,a\\,b=c\\ d,host=h calls=1i 16\n",
                "vfs\\ x,a\\,b=c\\ d,host=h a\\=b\\ c=2.5 16\n",
                "vfs\\ x,a\\,b=c\\ d,host=h q_count=3i,q_sum=4i,q_le_1=3i 16\n",
                "vfs\\ x,a\\,b=c\\ d,host=h z=1i 16\n",
            ]
        );
        assert_eq!(pieces("m a=1i,b=2i 1\n", 2), ["m a=1i 1\n", "m b=2i 1\n"]);
    }

    #[test]
    fn counters_that_are_called_like_a_histogram_are_samples_of_their_own() {
        assert_eq!(pieces("m a_count=1i,a_sum=2i 1\n", 2), ["m a_count=1i 1\n", "m a_sum=2i 1\n"]);
        // One of the two is a histogram; which one is not known.
        assert_eq!(pieces("m a_count=1i,a_sum=2i,b_count=1i,b_sum=2i 1\n", 3).len(), 3);
    }

    #[test]
    fn lines_that_nobody_named_are_left_out_and_a_single_sample_stays_whole() {
        let mut frame = Frame::default();
        for (line, samples) in [("m a=1i,b=2i 1\n", 2), ("m q_count=1i,q_sum=2i 1\n", 1), ("n a=1i,b=2i 1\n", 2)] {
            frame.push(line.as_bytes(), samples);
        }
        let named = apart(&frame, Some(&[1, 2]));
        assert_eq!(named.bytes(), b"m q_count=1i,q_sum=2i 1\nn a=1i 1\nn b=2i 1\n");
    }

    #[test]
    fn a_field_is_found_under_its_plain_name() {
        let line = b"a\\ b,t=x c\\,d=1i,e=2i 1\n";
        assert!(has_field(line, "a b", "c,d") && has_field(line, "a b", "e"));
        assert!(!has_field(line, "a b", "t") && !has_field(line, "a", "e") && !has_field(b"", "", ""));
    }
}
