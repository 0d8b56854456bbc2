//! Numbers in base units, exactly.

use ebpf_process_core::{Column, Scaled, Unit, slot_bound};
use lexical_core::BUFFER_SIZE;

/// How the recorded numbers of a column are said in the base unit that Prometheus wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// One of the metric's unit is ten to the power of minus this of the base unit.
    level: u8,
    factor: Factor,
}

/// What one of the recorded numbers is in the base unit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Factor {
    /// Ten to the power of minus this.
    Decimals(u8),
    /// So many times ten to the power of minus that.
    Times(u64, u8),
    /// So many of the metric's unit: no number of digits says it.
    Other(f64),
}

/// The powers of ten that a floating-point number holds exactly.
const POWERS: [f64; 19] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];

/// Up to here a floating-point number holds every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// How many digits the largest integer has.
const DIGITS: usize = 20;

impl Scale {
    /// Of a column.
    pub(crate) fn of(column: &Column) -> Self {
        let (_, level) = base_of(column.unit());
        Self { level, factor: factor_of(column.factor(), level) }
    }

    /// Writes a recorded integer: no digit is lost, unless the column's scale is no decimal number.
    #[inline]
    pub(crate) fn integer(self, value: u64, to: &mut Vec<u8>) {
        match self.factor {
            Factor::Decimals(0) => digits(value, to),
            Factor::Decimals(decimals) => decimal(lexical_core::write(value, &mut [0; BUFFER_SIZE]), decimals, to),
            Factor::Times(times, decimals) => {
                let product = u128::from(value) * u128::from(times);
                decimal(lexical_core::write(product, &mut [0; BUFFER_SIZE]), decimals, to);
            }
            Factor::Other(scale) => self.level(Scaled { total: value, scale }.in_unit().min(f64::MAX), to),
        }
    }

    /// Writes a finite level, which is recorded in the metric's unit.
    pub(crate) fn level(self, value: f64, to: &mut Vec<u8>) {
        let unit = POWERS.get(usize::from(self.level)).copied().unwrap_or(1.0);
        to.extend_from_slice(ryu::Buffer::new().format_finite(value / unit).as_bytes());
    }

    /// The largest value that falls into a histogram's slot, as a bound: a number with a point.
    pub(crate) fn bound(self, slot: usize) -> String {
        let mut text = Vec::new();
        self.integer(slot_bound(slot), &mut text);
        if !text.iter().any(|byte| b".e".contains(byte)) {
            text.extend_from_slice(b".0");
        }
        text.into_iter().map(char::from).collect()
    }
}

/// The base unit of a unit, for the metric's name, and how many decimals the one is of the other; none for what is merely
/// counted.
pub(crate) fn base_of(unit: &Unit) -> (Option<&'static str>, u8) {
    match unit.as_str() {
        "seconds" | "s" => (Some("seconds"), 0),
        "milliseconds" | "ms" => (Some("seconds"), 3),
        "microseconds" | "us" => (Some("seconds"), 6),
        "nanoseconds" | "ns" => (Some("seconds"), 9),
        "bytes" => (Some("bytes"), 0),
        _ => (None, 0),
    }
}

#[expect(clippy::float_cmp, reason = "what is equal to a power of ten is one")]
fn factor_of(scale: f64, decimals: u8) -> Factor {
    if let Some((more, _)) = (0..).zip(POWERS).find(|(_, power)| 1.0 / power == scale) {
        return Factor::Decimals(decimals + more);
    }
    if scale.fract() == 0.0 && scale <= EXACT {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an integer above 0 that fits")]
        return Factor::Times(scale as u64, decimals);
    }
    Factor::Other(scale)
}

/// Writes an integer.
#[inline]
pub(crate) fn digits(number: u64, to: &mut Vec<u8>) {
    let start = to.len();
    to.resize(start + DIGITS, 0);
    let len = lexical_core::write(number, &mut to[start..]).len();
    to.truncate(start + len);
}

/// Puts a point in front of the last so many digits, without zeros at the end.
fn decimal(digits: &[u8], decimals: u8, to: &mut Vec<u8>) {
    let decimals = usize::from(decimals);
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(decimals));
    to.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    let significant = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    if significant > 0 {
        to.push(b'.');
        to.resize(to.len() + decimals - fraction.len(), b'0');
        to.extend_from_slice(&fraction[..significant]);
    }
}

/// A time since the epoch in seconds, as of the millisecond in which it is.
pub(crate) fn seconds(time: std::time::Duration) -> Box<str> {
    let mut text = Vec::new();
    decimal(lexical_core::write(time.as_millis(), &mut [0; BUFFER_SIZE]), 3, &mut text);
    text.into_iter().map(char::from).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes);
        String::from_utf8(bytes).expect("text")
    }

    fn scale(unit: &'static str, factor: f64) -> Scale {
        Scale::of(&Column::counter("a.b", Unit::new(unit), "B").scale(factor))
    }

    #[test]
    fn a_time_becomes_seconds_without_losing_a_digit() {
        // Nanoseconds are a unit of their own, or what is recorded of seconds.
        for scale in [scale("ns", 1.0), scale("seconds", 1e-9), scale("ms", 1e-6)] {
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
        }
        assert_eq!(base_of(&Unit::new("ns")), (Some("seconds"), 9));
        assert_eq!(text(|to| scale("ns", 1.0).level(2.5e9, to)), "2.5");
        assert_eq!(text(|to| scale("calls", 1.0).integer(u64::MAX, to)), u64::MAX.to_string());
    }

    #[test]
    fn a_scale_that_is_a_whole_number_loses_no_digit_either() {
        let sectors = scale("bytes", 512.0);
        assert_eq!(text(|to| sectors.integer(u64::MAX, to)), (u128::from(u64::MAX) * 512).to_string());
        assert_eq!(text(|to| scale("us", 10.0).integer(7, to)), "0.00007");
        // Of any other the nearest floating-point number is said.
        assert_eq!(text(|to| scale("seconds", 0.25).integer(3, to)), "0.75");
        assert_eq!(text(|to| scale("ms", 0.5).integer(3, to)), "0.0015");
    }

    #[test]
    fn a_slots_bound_is_the_largest_value_in_it() {
        let calls = scale("calls", 1.0);
        for (slot, bound) in [(0, "1.0"), (1, "3.0"), (9, "1023.0"), (62, "9223372036854775807.0")] {
            assert_eq!(calls.bound(slot), bound);
        }
        assert_eq!(scale("us", 1.0).bound(9), "0.001023");
        assert_eq!(scale("seconds", 1e-6).bound(9), "0.001023");
        assert_eq!(scale("bytes", 512.0).bound(1), "1536.0");
    }

    #[test]
    fn a_start_is_said_to_the_millisecond() {
        assert_eq!(&*seconds(Duration::new(1_600_000_000, 120_999_999)), "1600000000.12");
        assert_eq!(&*seconds(Duration::from_secs(7)), "7");
    }
}
