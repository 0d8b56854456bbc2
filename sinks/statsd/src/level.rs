//! Levels as text.

use std::io::Write as _;

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
