//! Levels and growth as text.

use std::io::Write as _;

use ebpf_process_core::Scaled;

/// What a counter that was recorded in another unit than its metric's is sent in. What is not yet a whole one stays due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Billionths of the unit, as decimals.
    Billionths,
    /// Units.
    Whole,
}

impl Parts {
    /// Writes what a total has grown by in the metric's unit; false if it is nothing. What is written of a total, all
    /// together, is the total itself, rounded down once.
    pub(crate) fn push_growth(self, bytes: &mut Vec<u8>, before: u64, scaled: Scaled) -> bool {
        let parts = match self {
            Self::Billionths => BILLION,
            Self::Whole => 1,
        };
        let grown = in_parts(scaled, parts).saturating_sub(in_parts(Scaled { total: before, ..scaled }, parts));
        let parts = u128::from(parts);
        bytes.extend_from_slice(itoa::Buffer::new().format(grown / parts).as_bytes());
        if !grown.is_multiple_of(parts) {
            bytes.push(b'.');
            // Another billion in front keeps the zeros.
            bytes.extend_from_slice(&itoa::Buffer::new().format(parts + grown % parts).as_bytes()[1..]);
            while bytes.last() == Some(&b'0') {
                bytes.pop();
            }
        }
        grown > 0
    }
}

/// A total in parts of the metric's unit, rounded down.
#[expect(clippy::float_cmp, reason = "whether a scale is exactly what was written")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and below 2^53")]
fn in_parts(scaled: Scaled, parts: u64) -> u128 {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let Scaled { total, scale } = scaled;
    // A billionth is no binary number, a billion is.
    let inverse = (1.0 / scale).round();
    let exact = u128::from(total) * u128::from(parts);
    if (1.0..EXACT).contains(&inverse) && 1.0 / inverse == scale {
        exact / inverse as u128
    } else if (1.0..EXACT).contains(&scale) && scale.fract() == 0.0 {
        exact.saturating_mul(scale as u128)
    } else {
        #[expect(clippy::cast_precision_loss, reason = "such a scale is a rounded number anyway")]
        let rounded = exact as f64 * scale;
        rounded as u128
    }
}

/// Writes a level's digits without its sign, rounded to nine decimals and never with an exponent;
/// returns whether the sign was a minus. What rounds to nothing has none.
pub(crate) fn push_level(bytes: &mut Vec<u8>, level: f64) -> bool {
    let start = bytes.len();
    let size = level.abs();
    if size < QUICK {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and below 2^53")]
        let billionths = (size * 1e9).round() as u64;
        let mut digits = itoa::Buffer::new();
        bytes.extend_from_slice(digits.format(billionths / BILLION).as_bytes());
        bytes.push(b'.');
        // Another billion in front keeps the zeros.
        bytes.extend_from_slice(&digits.format(BILLION + billionths % BILLION).as_bytes()[1..]);
    } else {
        // Writing to memory does not fail.
        let _ = write!(bytes, "{size:.9}");
    }
    while bytes.last() == Some(&b'0') {
        bytes.pop();
    }
    if bytes.last() == Some(&b'.') {
        bytes.pop();
    }
    level < 0.0 && bytes[start..] != *b"0"
}

/// Billionths in one.
const BILLION: u64 = 1_000_000_000;

/// Below this a level in billionths is far from what a float can no longer tell apart.
const QUICK: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent of these totals, one after another; nothing is an empty text.
    fn growth(parts: Parts, scale: f64, totals: &[u64]) -> Vec<String> {
        let mut before = 0;
        let push = |&total: &u64| {
            let mut bytes = Vec::new();
            if !parts.push_growth(&mut bytes, before, Scaled { total, scale }) {
                return String::new();
            }
            before = total;
            String::from_utf8(bytes).expect("text")
        };
        totals.iter().map(push).collect()
    }

    #[test]
    fn what_is_sent_of_a_total_in_another_unit_adds_up_to_it() {
        let totals = [1, 1_500_000_000, 1_999_999_999, 2_000_000_000, u64::MAX];
        let sent = growth(Parts::Billionths, 1e-9, &totals);
        assert_eq!(sent, ["0.000000001", "1.499999999", "0.499999999", "0.000000001", "18446744071.709551615"]);
        assert_eq!(growth(Parts::Whole, 1e-9, &totals), ["", "1", "", "1", "18446744071"]);
        assert_eq!(growth(Parts::Whole, 4096.0, &[0, 2, 3]), ["", "8192", "4096"]);
        assert_eq!(growth(Parts::Billionths, 0.01, &[0, 7, 100]), ["", "0.07", "0.93"]);
        // Thirds are rounded, and their sum is not: seven of them are two and a third.
        let thirds = growth(Parts::Billionths, 1.0 / 3.0, &[1, 2, 4, 7]);
        let sum: f64 = thirds.iter().map(|text| text.parse::<f64>().expect("a number")).sum();
        assert!((sum - 7.0 / 3.0).abs() < 2e-9, "{thirds:?}");
        assert_eq!(growth(Parts::Whole, 1.5e-3, &[500, 1000, 2000]), ["", "1", "2"]);
    }

    #[test]
    fn a_level_has_no_exponent_and_no_noise() {
        let cases = [
            (0.0, "0", false),
            (-0.0, "0", false),
            (1.0, "1", false),
            (100.0, "100", false),
            (0.1 + 0.2, "0.3", false),
            (-2.5, "2.5", true),
            (12e-6, "0.000012", false),
            (-1e-12, "0", false),
            (999_999.999_999_999, "999999.999999999", false),
            (1_000_000.5, "1000000.5", false),
            (-123_456_789.25, "123456789.25", true),
            (1e21, "1000000000000000000000", false),
        ];
        for (level, text, negative) in cases {
            let mut bytes = Vec::new();
            assert_eq!(push_level(&mut bytes, level), negative, "{level}");
            assert_eq!(String::from_utf8(bytes).expect("text"), text);
        }
        let mut bytes = Vec::new();
        push_level(&mut bytes, f64::MAX);
        assert!(bytes.iter().all(u8::is_ascii_digit));
    }
}
