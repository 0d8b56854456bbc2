//! Numbers as JSON has them, and what stands in the place of one that there is not.

use ebpf_process_core::{Histogram, Scaled};

/// What eight digits can say, and one more.
const EIGHT: u64 = 100_000_000;

/// Below this a whole number is written with all its digits.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// What stands where there is no number, many times.
const NULLS: &[u8; RUN * NULL] = b"null,null,null,null,null,null,null,null,";
const NULL: usize = b"null,".len();
const RUN: usize = 8;

/// Appends a number.
#[inline]
pub(crate) fn digits(number: u64, line: &mut Vec<u8>) {
    if number < EIGHT {
        short(number, line);
    } else {
        long(number, line);
    }
}

fn long(number: u64, line: &mut Vec<u8>) {
    digits(number / EIGHT, line);
    line.extend_from_slice(&(eight(number % EIGHT) | ZEROS).to_le_bytes());
}

/// Appends a number of at most eight digits. What is copied has a fixed length and is cut: that takes less time than asking
/// how long it is, and nothing that was just written is read again.
#[inline]
fn short(number: u64, line: &mut Vec<u8>) {
    let digits = eight(number);
    // The last digit stands, also where it is 0.
    let before = (digits | 1 << 56).trailing_zeros() / 8;
    line.extend_from_slice(&((digits | ZEROS) >> (8 * before)).to_le_bytes());
    line.truncate(line.len() - before as usize);
}

/// As digits, what a byte each of its digits is.
const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);

/// The eight digits of a number, a byte each, the first one in the lowest. Both halves are cut into pairs at once, and all
/// pairs into digits: multiplying and shifting divides what is small enough.
#[inline]
const fn eight(number: u64) -> u64 {
    let halves = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | ((halves - hundreds * 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((pairs - tens * 10) << 8)
}

/// Appends so many times `null,`.
#[inline]
pub(crate) fn nulls(mut count: usize, line: &mut Vec<u8>) {
    while count > 0 {
        let run = count.min(RUN);
        line.extend_from_slice(NULLS);
        line.truncate(line.len() - (RUN - run) * NULL);
        count -= run;
    }
}

/// Appends a number that need not be whole.
pub(crate) fn float(number: f64, line: &mut Vec<u8>) -> serde_json::Result<()> {
    serde_json::to_writer(line, &number)
}

/// Appends what was added per second, and the end of a sample's object.
pub(crate) fn rate(delta: f64, elapsed: f64, line: &mut Vec<u8>) -> serde_json::Result<()> {
    if elapsed <= 0.0 {
        line.extend_from_slice(b"null}");
        return Ok(());
    }
    if delta == 0.0 {
        // Of most of what is counted, which stands still.
        line.extend_from_slice(b"0.0}");
        return Ok(());
    }
    let rate = delta / elapsed;
    // Signed, which a processor converts in one step.
    #[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
    let whole = rate as i64;
    #[expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "whether it is whole")]
    if rate < WHOLE && whole as f64 == rate {
        digits(whole.unsigned_abs(), line);
        line.extend_from_slice(b".0}");
        return Ok(());
    }
    float(rate, line)?;
    line.push(b'}');
    Ok(())
}

/// Appends a histogram. Slot *k* is at index *k*; the empty ones at the end are left away.
pub(crate) fn distribution(histogram: &Histogram<'_>, line: &mut Vec<u8>) -> serde_json::Result<()> {
    line.extend_from_slice(b"{\"count\":");
    digits(histogram.count(), line);
    line.extend_from_slice(b",\"sum\":");
    let scale = histogram.scale();
    #[expect(clippy::float_cmp, reason = "1 is what it is unless it was set")]
    if scale == 1.0 {
        digits(histogram.sum(), line);
    } else {
        float(Scaled { total: histogram.sum(), scale }.in_unit(), line)?;
        line.extend_from_slice(b",\"scale\":");
        float(scale, line)?;
    }
    line.extend_from_slice(b",\"slots\":[");
    let below = if histogram.counts().is_empty() { 0 } else { histogram.first() };
    for (index, count) in std::iter::repeat_n(&0, below).chain(histogram.counts()).enumerate() {
        if index > 0 {
            line.push(b',');
        }
        digits(*count, line);
    }
    line.extend_from_slice(b"]}");
    Ok(())
}

/// A count as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "a rate is a rounded number anyway")]
pub(crate) const fn approximate(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length_have_all_their_digits() {
        // A pair of halves for each step of what divides them.
        for half in 0..10_000 {
            let number = half * 10_000 + (9_999 - half);
            let mut line = Vec::new();
            digits(number, &mut line);
            assert_eq!(line, number.to_string().as_bytes());
        }
        let lengths = (0..20).map(|exponent| 10_u64.pow(exponent)).flat_map(|power| [power - 1, power, power + 1]);
        for number in lengths.chain([u64::MAX]) {
            let mut line = b"x".to_vec();
            digits(number, &mut line);
            assert_eq!(line, format!("x{number}").as_bytes());
        }
    }

    #[test]
    fn a_rate_is_whole_where_it_is_and_has_an_exponent_where_it_is_large() {
        for (delta, expected) in [(0.0, "0.0}"), (5.0, "5.0}"), (0.5, "0.5}"), (1e16, "1e+16}"), (3e18, "3e+18}")] {
            let mut line = Vec::new();
            rate(delta, 1.0, &mut line).expect("a number");
            assert_eq!(String::from_utf8(line).expect("text"), expected);
        }
    }

    #[test]
    fn a_run_of_nulls_is_as_long_as_it_is_asked_for() {
        for count in 0..40 {
            let mut line = b"x".to_vec();
            nulls(count, &mut line);
            assert_eq!(line, format!("x{}", "null,".repeat(count)).as_bytes());
        }
    }
}
