//! Which lines a server refused while it stored the others.

use ebpf_process_delivery::Frame;

use crate::options::Place;
use crate::values::has_field;

/// Lines of a frame that were refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// How many, one at least.
    pub(crate) lines: u64,
    /// Which, if that is said.
    pub(crate) named: Option<Vec<usize>>,
    /// Whether it was for one of their fields.
    pub(crate) for_a_field: bool,
}

impl Refusal {
    /// What a reply says; `None` if nothing was stored, or if that is not said.
    pub(crate) fn read(body: &str, status: u16, place: &Place, frame: &Frame) -> Option<Self> {
        let partial = body.contains("partial write");
        // Version 2's own words, whatever interface was asked: 400 is nothing, 422 is what the bucket cannot hold.
        if body.contains("\"code\":") {
            return (status == 422 && partial).then(|| Self::of(body, dropped(body), frame));
        }
        let unread = unreadable(body);
        match place {
            // Lines that cannot be read are named; the others are stored where it says so.
            Place::V1 { .. } if partial => Some(Self::of(body, dropped(body).saturating_add(unread), frame)),
            Place::V1 { .. } => (unread >= frame.len() as u64).then(|| Self::of(body, unread, frame)),
            // A list of the lines that were refused.
            Place::V3 { .. } if partial => {
                let named: Vec<_> = line_numbers(body).collect();
                let lines = named.len() as u64;
                let named = named.iter().map(|number| number.checked_sub(1).filter(|index| *index < frame.len()));
                (lines > 0).then(|| Self { lines, named: named.collect(), for_a_field: true })
            }
            Place::V2 { .. } | Place::V3 { .. } => None,
        }
    }

    fn of(body: &str, lines: u64, frame: &Frame) -> Self {
        let lines = lines.max(1);
        let (conflict, unread) = (body.contains("field type conflict"), unreadable(body) > 0);
        // The first conflict alone is named: that is all where it has as many lines as were dropped.
        let named = conflicting(body).filter(|_| !unread).map(|(measurement, field)| {
            let lines = frame.items().enumerate().filter(|(_, (line, _))| has_field(line, &measurement, &field));
            lines.map(|(index, _)| index).collect::<Vec<_>>()
        });
        let named = named.filter(|named| named.len() as u64 == lines);
        Self { lines, named, for_a_field: conflict || unread }
    }
}

/// The number after `dropped=`.
fn dropped(body: &str) -> u64 {
    let digits = body.rsplit_once("dropped=").map_or("", |(_, rest)| rest);
    number(digits)
}

fn number(text: &str) -> u64 {
    let digits = text.bytes().take_while(u8::is_ascii_digit);
    digits.fold(0, |number: u64, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

/// Lines that the server could not read; it does not count them as dropped.
fn unreadable(body: &str) -> u64 {
    body.matches("unable to parse").count() as u64
}

/// The numbers of the lines in a list, from 1. A list that breaks off still counts as far as it goes.
fn line_numbers(body: &str) -> impl Iterator<Item = usize> {
    let numbers = body.split("\"line_number\":").skip(1);
    numbers.map(|rest| usize::try_from(number(rest.trim_start())).unwrap_or(usize::MAX))
}

/// The measurement and the field of `input field "calls" on measurement "vfs" is type float`, in JSON.
fn conflicting(body: &str) -> Option<(String, String)> {
    const QUOTE: &str = "\\\"";
    let (_, rest) = body.split_once("input field \\\"")?;
    let (field, rest) = rest.split_once("\\\" on measurement \\\"")?;
    let (measurement, _) = rest.split_once("\\\" is type")?;
    // Go says "a\b" for a quote within, JSON doubles that: who is called so is not found, and nothing is lost by it.
    let plain = |name: &str| (!name.contains('\\') && !name.contains(QUOTE)).then(|| name.to_owned());
    plain(measurement).zip(plain(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let mut frame = Frame::default();
        for line in ["vfs,a=x calls=1i,bytes=2i 1\n", "vfs,a=y calls=1i 1\n", "task exits=1i,calls=1i 1\n"] {
            frame.push(line.as_bytes(), 2);
        }
        frame
    }

    #[test]
    fn the_lines_of_a_conflicting_field_are_found_where_they_are_all() {
        let v1 = Place::V1 { database: "db".to_owned(), retention_policy: None };
        let body = |field: &str, dropped| {
            format!(
                r#"{{"error":"partial write: field type conflict: input field \"{field}\" on measurement \"vfs\" is type float, already exists as type integer dropped={dropped}"}}"#
            )
        };
        for (field, dropped, named) in [
            ("calls", 2, Some(vec![0, 1])),
            ("bytes", 1, Some(vec![0])),
            // Another line was dropped for something else.
            ("calls", 3, None),
            ("bytes", 2, None),
            ("none", 1, None),
            (r#"a\\\"b"#, 1, None),
        ] {
            let refusal = Refusal::read(&body(field, dropped), 400, &v1, &frame());
            assert_eq!(refusal, Some(Refusal { lines: dropped, named, for_a_field: true }), "{field}");
        }
        let beyond = r#"{"error":"partial write: points beyond retention policy dropped=2"}"#;
        let refusal = Refusal::read(beyond, 400, &v1, &frame());
        assert_eq!(refusal, Some(Refusal { lines: 2, named: None, for_a_field: false }));
    }

    #[test]
    fn version_3_says_which_lines() {
        let v3 = Place::V3 { database: "db".to_owned() };
        let list = |numbers: &[u32]| {
            let lines = numbers.iter().map(|number| {
                format!(r#"{{"original_line":"a \"line_number\":5","line_number": {number},"error_message":"no"}}"#)
            });
            format!(
                r#"{{"error":"partial write of line protocol occurred","data":[{}]}}"#,
                lines.collect::<Vec<_>>().join(",")
            )
        };
        let refusal = |numbers| Refusal::read(&list(numbers), 400, &v3, &frame()).expect("a refusal");
        assert_eq!(refusal(&[1, 3]).named, Some(vec![0, 2]));
        // There is no such line.
        assert_eq!((refusal(&[4]).named, refusal(&[0]).named), (None, None));
        assert_eq!(Refusal::read(&list(&[]), 400, &v3, &frame()), None);
    }
}
