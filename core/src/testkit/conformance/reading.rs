//! What can be read back at the receiver.

use std::fmt;

/// A number as the receiver has it: a whole one with all its digits, or one in floating point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number: it is compared digit by digit.
    Whole(i128),
    /// Of a receiver that knows floating-point numbers only: a total counts as the same if this is the nearest to it.
    Real(f64),
}

impl Number {
    /// Reads a number: digits alone are a whole one; with a point or an exponent it is in floating point.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().map(Self::Whole).ok().or_else(|| text.parse().map(Self::Real).ok())
    }

    #[expect(clippy::cast_precision_loss, reason = "the nearest number is what is meant")]
    pub(super) const fn real(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }

    /// Whether this is a total, as far as the receiver can tell.
    #[expect(clippy::cast_precision_loss, reason = "the nearest number is what is meant")]
    #[expect(clippy::float_cmp, reason = "the nearest number, and no other one")]
    pub(super) fn is(self, total: u128) -> bool {
        match self {
            Self::Whole(whole) => u128::try_from(whole) == Ok(total),
            Self::Real(real) => real == total as f64,
        }
    }
}

impl From<u64> for Number {
    fn from(whole: u64) -> Self {
        Self::Whole(whole.into())
    }
}

impl From<i64> for Number {
    fn from(whole: i64) -> Self {
        Self::Whole(whole.into())
    }
}

impl From<i128> for Number {
    fn from(whole: i128) -> Self {
        Self::Whole(whole)
    }
}

impl From<f64> for Number {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => whole.fmt(f),
            Self::Real(real) => real.fmt(f),
        }
    }
}

/// A number that the receiver has, and for what.
///
/// The text has the name and the labels in whatever form the protocol gives them: `name{key="value"}`, `name,key=value`,
/// a path with dots. Names are not compared letter by letter, since protocols change letters: each metric and each label
/// value of the kit has a word of eight letters and digits in it that no other one has (it begins with `zq`), and by
/// these words a reading is known. Upper and lower case are the same.
///
/// Of a histogram several readings are understood: one whose text has a bound as `le` (`le="63"`, `le_63`, `+Inf`), with the
/// count of that slot or of all up to it; the word `sum`; the word `count`, or none of them, for the number of values.
///
/// A reading with the word `created` is when a series began, and is not looked at.
///
/// Where the receiver keeps several numbers of one series, the newest comes last.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub(super) text: String,
    pub(super) number: Number,
}

impl Reading {
    /// A number, and for what.
    pub fn new(text: impl Into<String>, number: impl Into<Number>) -> Self {
        Self { text: text.into(), number: number.into() }
    }

    /// Reads a line `name{labels} value`: the value is what stands behind the last space.
    pub fn parse(line: &str) -> Option<Self> {
        let (text, number) = line.trim_end().rsplit_once(' ')?;
        Some(Self { text: text.trim().to_owned(), number: Number::parse(number)? })
    }
}

/// What a reading of a histogram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Count,
    Sum,
    Bound(u64),
    /// When the series began, which some protocols tell.
    Created,
}

/// What a text says of a histogram; a counter's is a count.
pub(super) fn part(text: &str) -> Part {
    let text = text.to_ascii_lowercase();
    let words =
        || text.split(|c: char| !c.is_ascii_alphanumeric() && c != '+' && c != '.').filter(|word| !word.is_empty());
    let bound = words()
        .zip(words().skip(1))
        .filter(|(word, _)| word.rsplit('.').next() == Some("le"))
        .find_map(|(_, bound)| self::bound(bound));
    // A path has its parts between dots.
    let has = |wanted: &str| words().flat_map(|word| word.split('.')).any(|word| word == wanted);
    match bound {
        Some(bound) => Part::Bound(bound),
        None if has("sum") => Part::Sum,
        None if has("created") => Part::Created,
        None => Part::Count,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bound is a whole number or the largest")]
fn bound(text: &str) -> Option<u64> {
    let whole = text.parse().ok();
    whole.or_else(|| text.parse::<f64>().ok().filter(|bound| *bound >= 0.0).map(|bound| bound as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_reading() {
        let read = |line| Reading::parse(line);
        assert_eq!(read("a.b{c=\"d e\"} 7\n"), Some(Reading::new("a.b{c=\"d e\"}", 7_u64)));
        assert_eq!(read("a 18446744073709551615"), Some(Reading::new("a", u64::MAX)));
        assert_eq!(read("a 1.5"), Some(Reading::new("a", 1.5)));
        assert_eq!(read("a"), None);
        assert_eq!(read("a b"), None);
    }

    #[test]
    fn a_receiver_with_floating_point_has_the_nearest_number_and_one_with_digits_all_of_them() {
        assert!(
            Number::from(u64::MAX).is(u64::MAX.into()) && Number::Real(1.844_674_407_370_955_2e19).is(u64::MAX.into())
        );
        let odd = (1 << 53) + 1;
        assert!(Number::Whole(i128::try_from(odd).expect("small")).is(odd) && !Number::Whole(1 << 53).is(odd));
        assert!(!Number::Whole(-1).is(u64::MAX.into()));
    }

    #[test]
    fn the_parts_of_a_histogram_are_known_by_their_words() {
        for (text, expected) in [
            ("conformance_zqaaaaaa_bucket{le=\"63\",a=\"b\"}", Part::Bound(63)),
            ("conformance.zqaaaaaa.le_18446744073709551615", Part::Bound(u64::MAX)),
            ("conformance_zqaaaaaa{le=+Inf}", Part::Bound(u64::MAX)),
            ("conformance_zqaaaaaa{le=127.0}", Part::Bound(127)),
            ("conformance_zqaaaaaa_sum", Part::Sum),
            ("conformance_zqaaaaaa_created{a=b}", Part::Created),
            ("conformance.zqaaaaaa.sum", Part::Sum),
            ("conformance_zqaaaaaa_count{a=b}", Part::Count),
            ("conformance.zqaaaaaa", Part::Count),
        ] {
            assert_eq!(part(text), expected, "{text}");
        }
    }
}
