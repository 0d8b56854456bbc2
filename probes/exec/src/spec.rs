//! A column as a program means it.

use ebpf_process_core::{Column, Unit};

/// How the numbers of a column behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    Counter,
    Gauge,
    /// With the first and the last slot.
    Histogram(u8, u8),
}

/// A column that a program has numbers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// In the order of their keys, so that columns can be compared.
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) numbers: Numbers,
    pub(crate) unit: String,
    pub(crate) help: String,
}

/// Bytes of a help at most.
const LONGEST_HELP: usize = 400;

/// Digits behind the point of a counter's total that are kept where its unit is not what is counted.
const NANO: u32 = 9;

impl Spec {
    /// Which column it is: the name and the labels as they will be, in one text.
    pub(crate) fn key(&self) -> String {
        let column = self.column();
        let mut key = column.name().to_owned();
        for (name, value) in column.own_labels() {
            // Neither is in what is cleaned.
            key.extend(["\0", name, "\n", value]);
        }
        key
    }

    /// As the recorder wants it.
    pub(crate) fn column(&self) -> Column {
        let (name, unit) = (self.name.clone(), Unit::new(self.unit.clone()));
        let mut end = self.help.len().min(LONGEST_HELP);
        while !self.help.is_char_boundary(end) {
            end -= 1;
        }
        let help = if end == 0 { self.name.clone() } else { self.help[..end].to_owned() };
        let column = match self.numbers {
            Numbers::Counter if self.digits() > 0 => Column::counter(name, unit, help).scale(1e-9),
            Numbers::Counter => Column::counter(name, unit, help),
            Numbers::Gauge => Column::gauge(name, unit, help),
            Numbers::Histogram(first, last) => Column::histogram(name, unit, help).slots(first..=last),
        };
        column.labels(self.labels.iter().map(|(key, value)| (key.clone(), value)))
    }

    /// Digits of a counter behind the point: a total in seconds is counted in nanoseconds.
    pub(crate) fn digits(&self) -> u32 {
        if self.numbers == Numbers::Counter && self.unit == Unit::SECONDS.as_str() { NANO } else { 0 }
    }

    /// Whether numbers of the one are numbers of the other.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.numbers == other.numbers && self.digits() == other.digits()
    }
}

/// The slots that these bounds are: the largest value of each, inclusive, of the last one none. None where they are others
/// than 2^k-1, or not one after another.
pub(crate) fn slots(bounds: &[Option<u64>]) -> Option<(u8, u8)> {
    let (last, bounded) = bounds.split_last()?;
    let slot = |bound: u64| {
        let above = bound.checked_add(1)?;
        (above.is_power_of_two() && above > 1).then(|| above.trailing_zeros() - 1)
    };
    if last.is_some() {
        return None;
    }
    let Some(first) = bounded.first().copied().flatten() else {
        return bounded.is_empty().then_some((0, 0));
    };
    let first = slot(first)?;
    let in_order = (first..).zip(bounded).all(|(expected, bound)| bound.and_then(slot) == Some(expected));
    let end = u8::try_from(first).ok()?.checked_add(u8::try_from(bounded.len()).ok()?)?;
    (in_order && end < 64).then_some((u8::try_from(first).ok()?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_slots_where_they_are_powers_of_two_less_one_and_none_is_left_out() {
        for (bounds, expected) in [
            (&[Some(1), Some(3), Some(7), None][..], Some((0, 3))),
            (&[Some(7), Some(15), None], Some((2, 4))),
            (&[None], Some((0, 0))),
            (&[Some((1 << 63) - 1), None], Some((62, 63))),
            (&[Some(u64::MAX), None], None),
            (&[Some(1), Some(7), None], None),
            (&[Some(2), Some(4), None], None),
            (&[Some(0), None], None),
            (&[Some(1), Some(3)], None),
            (&[Some(1), None, None], None),
            (&[None, None], None),
            (&[], None),
        ] {
            assert_eq!(slots(bounds), expected, "{bounds:?}");
        }
    }

    #[test]
    fn a_column_is_known_by_what_it_becomes() {
        let spec = |name: &str, value: &str| Spec {
            name: name.to_owned(),
            labels: vec![("a".to_owned(), value.to_owned())],
            numbers: Numbers::Gauge,
            unit: "1".to_owned(),
            help: "é".repeat(300),
        };
        assert_eq!(spec("load", "x\ny").key(), spec("load", "x_y").key());
        assert_ne!(spec("load", "x").key(), spec("loads", "x").key());
        assert_eq!(spec("load", "x").column().help().len(), LONGEST_HELP);
    }
}
