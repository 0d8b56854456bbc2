//! Numbers in base units, exactly.

use ebpf_process_core::Unit;

/// How the values of a unit are said in the base unit that Prometheus wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    /// The base unit, for the metric's name; none for what is merely counted.
    pub(crate) unit: Option<&'static str>,
    /// One of the values is ten to the power of minus this of the base unit.
    pub(crate) decimals: usize,
}

impl Scale {
    /// Of a metric's unit.
    pub(crate) fn of(unit: &Unit) -> Self {
        let seconds = |decimals| Self { unit: Some("seconds"), decimals };
        match unit.as_str() {
            "seconds" | "s" => seconds(0),
            "milliseconds" | "ms" => seconds(3),
            "microseconds" | "us" => seconds(6),
            "nanoseconds" | "ns" => seconds(9),
            "bytes" => Self { unit: Some("bytes"), decimals: 0 },
            _ => Self { unit: None, decimals: 0 },
        }
    }

    /// Writes an integer: no digit is lost.
    pub(crate) fn integer(self, value: u64, to: &mut Vec<u8>) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value).as_bytes();
        if self.decimals == 0 {
            to.extend_from_slice(digits);
            return;
        }
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(self.decimals));
        to.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
        let significant = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        if significant > 0 {
            to.push(b'.');
            to.resize(to.len() + self.decimals - fraction.len(), b'0');
            to.extend_from_slice(&fraction[..significant]);
        }
    }

    /// Writes a finite level.
    pub(crate) fn level(self, value: f64, to: &mut Vec<u8>) {
        let unit = [1.0, 1e3, 1e6, 1e9].get(self.decimals / 3).copied().unwrap_or(1.0);
        to.extend_from_slice(ryu::Buffer::new().format_finite(value / unit).as_bytes());
    }

    /// The largest value that falls into a histogram's slot, as a bound: a number with a point.
    pub(crate) fn bound(self, slot: usize) -> String {
        let largest = u64::MAX >> (63 - slot.min(63));
        let mut text = Vec::new();
        self.integer(largest, &mut text);
        if !text.contains(&b'.') {
            text.extend_from_slice(b".0");
        }
        text.into_iter().map(char::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes);
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_time_becomes_seconds_without_losing_a_digit() {
        let scale = Scale::of(&Unit::new("ns"));
        assert_eq!(scale.unit, Some("seconds"));
        for (nanoseconds, seconds) in [
            (0, "0"),
            (1, "0.000000001"),
            (1023, "0.000001023"),
            (500_000_000, "0.5"),
            (2_000_000_000, "2"),
            (12_345_000_000_001, "12345.000000001"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(text(|to| scale.integer(nanoseconds, to)), seconds);
        }
        assert_eq!(text(|to| scale.level(2.5e9, to)), "2.5");
        assert_eq!(text(|to| Scale::of(&Unit::CALLS).integer(u64::MAX, to)), u64::MAX.to_string());
    }

    #[test]
    fn a_slots_bound_is_the_largest_value_in_it() {
        let calls = Scale::of(&Unit::CALLS);
        for (slot, bound) in [(0, "1.0"), (1, "3.0"), (9, "1023.0"), (62, "9223372036854775807.0")] {
            assert_eq!(calls.bound(slot), bound);
        }
        assert_eq!(Scale::of(&Unit::new("us")).bound(9), "0.001023");
    }
}
