//! Values as the protocol's numbers: whole ones of 63 bits and a sign, which a dimension may multiply and divide. What is
//! beyond those is none.

use std::fmt;

use ebpf_process_core::{Column, MetricKind, Scaled, Value};

/// What netdata does with the numbers of a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Totals, of which it shows the rate, each so many units times the first by the second number.
    Incremental(u32, u32),
    /// Numbers as they are.
    Absolute,
    /// Numbers sent as thousandths.
    Thousandths,
    /// Totals sent as thousandths, of a scale that is no fraction which netdata could keep.
    IncrementalThousandths,
}

impl Algorithm {
    /// Totals in their own unit.
    pub(crate) const TOTAL: Self = Self::Incremental(1, 1);

    /// That of a column's values: a histogram's are counts.
    pub(crate) fn of(column: &Column) -> Self {
        match column.kind() {
            MetricKind::Counter => Self::scaled(column.factor()),
            MetricKind::Gauge => Self::Thousandths,
            MetricKind::Histogram => Self::TOTAL,
        }
    }

    /// That of totals of which one is so much in the unit.
    pub(crate) fn scaled(scale: f64) -> Self {
        let inverse = 1.0 / scale;
        match (whole(scale), whole(inverse)) {
            (Some(multiplier), _) => Self::Incremental(multiplier, 1),
            // 1e-9 is no binary number, and its inverse is one only nearly.
            (None, Some(divisor)) => Self::Incremental(1, divisor),
            (None, None) => Self::IncrementalThousandths,
        }
    }

    /// A total of which one is so much in the unit, as this algorithm takes it.
    pub(crate) fn total(self, total: u64, scale: f64) -> Option<i64> {
        match self {
            Self::IncrementalThousandths => thousandths(Scaled { total, scale }.in_unit()),
            _ => i64::try_from(total).ok(),
        }
    }
}

/// A value as its column's [algorithm](Algorithm::of) takes it; of a histogram its count.
#[inline]
pub(crate) fn number(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Counter(total) => i64::try_from(total).ok(),
        Value::Scaled(Scaled { total, scale }) => Algorithm::scaled(scale).total(total, scale),
        Value::Gauge(level) => thousandths(level),
        Value::Histogram(histogram) => i64::try_from(histogram.count()).ok(),
    }
}

impl fmt::Display for Algorithm {
    /// The words of a dimension from the algorithm to the divisor.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incremental(multiplier, divisor) => write!(f, "incremental {multiplier} {divisor}"),
            Self::Absolute => f.write_str("absolute 1 1"),
            Self::Thousandths => f.write_str("absolute 1 1000"),
            Self::IncrementalThousandths => f.write_str("incremental 1 1000"),
        }
    }
}

/// A multiplier or divisor that netdata can keep, if the number is one: it has 31 bits for them.
fn whole(number: f64) -> Option<u32> {
    let rounded = number.round();
    let is_whole = (number - rounded).abs() <= rounded * f64::EPSILON * 4.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number of 31 bits")]
    (is_whole && (1.0..f64::from(i32::MAX)).contains(&rounded)).then_some(rounded as u32)
}

fn thousandths(level: f64) -> Option<i64> {
    let thousandths = (level * 1000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "it is in the range")]
    (-LIMIT..LIMIT).contains(&thousandths).then_some(thousandths as i64)
}

/// 2^63, the first number that is too large.
const LIMIT: f64 = 9_223_372_036_854_775_808.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_fraction_that_netdata_can_keep_or_thousandths() {
        for (scale, words) in [
            (1.0, "incremental 1 1"),
            (1e-9, "incremental 1 1000000000"),
            (1e-6, "incremental 1 1000000"),
            (1e-3, "incremental 1 1000"),
            (0.25, "incremental 1 4"),
            (512.0, "incremental 512 1"),
            (1.5, "incremental 1 1000"),
            (1e-12, "incremental 1 1000"),
            (1e300, "incremental 1 1000"),
        ] {
            assert_eq!(Algorithm::scaled(scale).to_string(), words, "{scale}");
        }
        assert_eq!(Algorithm::scaled(1e-9).total(7, 1e-9), Some(7));
        assert_eq!(Algorithm::scaled(1.5).total(7, 1.5), Some(10_500));
        assert_eq!(Algorithm::scaled(1e300).total(u64::MAX, 1e300), None);
    }

    #[test]
    fn what_is_beyond_63_bits_and_a_sign_is_no_number() {
        let largest = i64::MAX.unsigned_abs();
        assert_eq!(
            [largest, largest + 1, u64::MAX].map(|total| number(Value::Counter(total))),
            [Some(i64::MAX), None, None]
        );
        let levels = [-9_223_372_036_854_775.808, -9.3e15, 9.2e15, 9.3e15];
        let expected = [Some(i64::MIN), None, Some(9_200_000_000_000_000_000), None];
        assert_eq!(levels.map(|level| number(Value::Gauge(level))), expected);
    }
}
