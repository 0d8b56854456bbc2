//! Counters as text, exactly: no detour over floating point, which rounds above 2^53.

/// A number that is not below 0, in units of `10^-digits`; the flag says whether nothing was cut off. None for what is no
/// such number or does not fit.
pub(crate) fn decimal(text: &str, digits: u32) -> Option<(u64, bool)> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    // Digits that stand before the point of the result.
    let before = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(digits);
    let (mut value, mut exact) = (0_u64, true);
    for (place, byte) in (0_i64..).zip(whole.bytes().chain(fraction.bytes())) {
        let digit = byte - b'0';
        if place < before {
            value = value.checked_mul(10)?.checked_add(digit.into())?;
        } else {
            exact &= digit == 0;
        }
    }
    let given = i64::try_from(whole.len() + fraction.len()).ok()?;
    if value > 0 {
        for _ in given..before {
            value = value.checked_mul(10)?;
        }
    }
    Some((value, exact))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_to_the_last_digit() {
        for (text, digits, expected) in [
            ("0", 0, Some((0, true))),
            ("18446744073709551615", 0, Some((u64::MAX, true))),
            ("18446744073709551616", 0, None),
            ("9007199254740993", 0, Some((9_007_199_254_740_993, true))),
            ("12.345", 9, Some((12_345_000_000, true))),
            ("12.9", 0, Some((12, false))),
            ("12.0", 0, Some((12, true))),
            ("1e3", 0, Some((1000, true))),
            ("1.5E+2", 0, Some((150, true))),
            ("1e-7", 9, Some((100, true))),
            ("1e-10", 9, Some((0, false))),
            ("1e2147483647", 0, None),
            ("0e2147483647", 9, Some((0, true))),
            ("1e-2147483648", 9, Some((0, false))),
            (".5", 1, Some((5, true))),
            ("5.", 0, Some((5, true))),
            ("-1", 0, None),
            ("", 0, None),
            (".", 0, None),
            ("NaN", 0, None),
            ("1e", 0, None),
        ] {
            assert_eq!(decimal(text, digits), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_number_or_none(text in "[0-9eE.+-]{0,24}", digits in 0..10_u32) {
            let _ = decimal(&text, digits);
        }

        #[test]
        fn what_is_written_is_what_is_read(value: u64, cut in 0..9_usize) {
            let nanoseconds = format!("{}.{:09}", value / 1_000_000_000, value % 1_000_000_000);
            prop_assert_eq!(decimal(&nanoseconds, 9), Some((value, true)));
            let shorter = &nanoseconds[..nanoseconds.len() - cut];
            let rest = value % 10_u64.pow(u32::try_from(cut).unwrap_or_default());
            prop_assert_eq!(decimal(shorter, 9), Some((value - rest, true)));
        }
    }
}
