//! Numbers as JSON has them, and what stands in the place of one that there is not.

use ebpf_process_core::{Histogram, Scaled};

/// How many digits the largest number has.
const DIGITS: usize = 20;

/// Below this a whole number is written with all its digits.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// What stands where there is no number, many times.
const NULLS: &[u8; RUN * NULL] = b"null,null,null,null,null,null,null,null,";
const NULL: usize = b"null,".len();
const RUN: usize = 8;

/// Appends a number.
#[inline]
pub(crate) fn digits(number: u64, line: &mut Vec<u8>) {
    let start = line.len();
    line.resize(start + DIGITS, 0);
    let len = lexical_core::write(number, &mut line[start..]).len();
    line.truncate(start + len);
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
