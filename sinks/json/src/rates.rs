//! Rates that a line has already.

use crate::number::{approximate, rate};

/// How many are remembered at most.
const MOST: usize = 1024;

/// The longest: a number of 24 characters and a brace, and some more, so that a fixed length is copied.
const LONGEST: usize = 31;

/// The rates of a line by what was added. Counters that have grown by as much have the same rate, and to find the shortest
/// digits of one takes as long as all else of a sample.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// Seconds since the line before.
    pub(crate) elapsed: f64,
    line: u64,
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The line that it is of; the first is 1.
    line: u64,
    delta: u64,
    text: [u8; LONGEST],
    length: u8,
}

impl Rates {
    /// A line begins, so many seconds after the one before and with so many samples.
    pub(crate) fn begin(&mut self, elapsed: f64, samples: usize) {
        let wanted = samples.clamp(1, MOST).next_power_of_two();
        if self.slots.len() < wanted {
            self.slots = vec![Slot::default(); wanted].into();
        }
        self.elapsed = elapsed;
        self.line += 1;
    }

    /// Appends what was added per second, and the end of a sample's object.
    #[inline]
    pub(crate) fn append(&mut self, delta: u64, line: &mut Vec<u8>) -> serde_json::Result<()> {
        // Their number is a power of two.
        #[expect(clippy::cast_possible_truncation, reason = "only the lowest bits count")]
        let place = delta as usize & self.slots.len().wrapping_sub(1);
        let Some(slot) = self.slots.get_mut(place) else { return rate(approximate(delta), self.elapsed, line) };
        let start = line.len();
        if slot.line == self.line && slot.delta == delta {
            line.extend_from_slice(&slot.text);
            line.truncate(start + usize::from(slot.length));
            return Ok(());
        }
        rate(approximate(delta), self.elapsed, line)?;
        let text = &line[start..];
        if let (Some(place), Ok(length)) = (slot.text.get_mut(..text.len()), u8::try_from(text.len())) {
            place.copy_from_slice(text);
            (slot.line, slot.delta, slot.length) = (self.line, delta, length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_rate_is_the_same_the_second_time_and_in_no_other_line(
            lines in prop::collection::vec((0.0_f64..1e9, 1_usize..3000), 1..5),
            deltas in prop::collection::vec(prop_oneof![0_u64..5000, any::<u64>()], 1..50),
        ) {
            let mut rates = Rates::default();
            for (elapsed, samples) in lines {
                rates.begin(elapsed, samples);
                for delta in deltas.iter().chain(&deltas) {
                    let (mut found, mut expected) = (b"x".to_vec(), b"x".to_vec());
                    rates.append(*delta, &mut found).expect("a number");
                    rate(approximate(*delta), elapsed, &mut expected).expect("a number");
                    prop_assert_eq!(String::from_utf8(found), String::from_utf8(expected));
                }
            }
        }
    }

    #[test]
    fn before_the_first_line_there_is_none() {
        let mut line = Vec::new();
        Rates::default().append(5, &mut line).expect("a number");
        assert_eq!(line, b"null}");
    }
}
