//! Totals that go on where a program begins anew.

use crate::answer::{Distribution, Value};

/// What was counted of one cell. A total of the program's that falls is one that has begun anew: what it says then has
/// come since.
#[derive(Debug)]
pub(crate) enum Growth {
    Counter {
        /// As the program said it last.
        last: u64,
        /// Since the row began.
        total: u64,
    },
    Histogram {
        last: Distribution,
        total: Distribution,
    },
}

/// By how much a total has grown.
const fn grown(last: u64, now: u64) -> u64 {
    if now >= last { now - last } else { now }
}

impl Growth {
    /// Nothing so far, of such a value; none for a level.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Counter(_) => Some(Self::Counter { last: 0, total: 0 }),
            Value::Gauge(_) => None,
            Value::Histogram(_) => {
                Some(Self::Histogram { last: Distribution::default(), total: Distribution::default() })
            }
        }
    }

    /// Takes a value in: by how much it has grown. None for a value of another kind.
    pub(crate) fn grow(&mut self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::Counter { last, .. }, Value::Counter(now)) => {
                let gain = grown(*last, *now);
                *last = *now;
                Some(Value::Counter(gain))
            }
            (Self::Histogram { last, .. }, Value::Histogram(now)) => {
                let of = |slot: usize| last.slots.get(slot).copied().unwrap_or_default();
                let falls = now.sum < last.sum || now.slots.iter().enumerate().any(|(slot, now)| *now < of(slot));
                let gain = if falls {
                    now.clone()
                } else {
                    let slots = now.slots.iter().enumerate().map(|(slot, now)| now - of(slot)).collect();
                    Distribution { slots, sum: now.sum - last.sum }
                };
                last.clone_from(now);
                Some(Value::Histogram(gain))
            }
            _ => None,
        }
    }

    /// Adds what it has grown by to its total: the total.
    pub(crate) fn add(&mut self, gain: &Value) -> Option<Value> {
        match (self, gain) {
            (Self::Counter { total, .. }, Value::Counter(gain)) => {
                *total = total.saturating_add(*gain);
                Some(Value::Counter(*total))
            }
            (Self::Histogram { total, .. }, Value::Histogram(gain)) => {
                total.sum = total.sum.saturating_add(gain.sum);
                total.slots.resize(total.slots.len().max(gain.slots.len()), 0);
                for (slot, gain) in total.slots.iter_mut().zip(&gain.slots) {
                    *slot = slot.saturating_add(*gain);
                }
                Some(Value::Histogram(total.clone()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn totals(values: &[Value]) -> Vec<Option<Value>> {
        let mut growth = Growth::of(&values[0]).expect("a total");
        values.iter().map(|value| growth.grow(value).and_then(|gain| growth.add(&gain))).collect()
    }

    #[test]
    fn a_total_that_falls_goes_on_from_where_it_was() {
        let counters = [5, 7, 7, 3, 4, 0, 1].map(Value::Counter);
        let expected = [5, 7, 7, 10, 11, 11, 12].map(|total| Some(Value::Counter(total)));
        assert_eq!(totals(&counters), expected);
        let histogram = |slots: &[u64], sum| Value::Histogram(Distribution { slots: slots.to_vec(), sum });
        let values = [histogram(&[1, 2], 9), histogram(&[1, 4], 20), histogram(&[2, 1], 30), histogram(&[2, 2], 31)];
        let expected =
            [histogram(&[1, 2], 9), histogram(&[1, 4], 20), histogram(&[3, 5], 50), histogram(&[3, 6], 51)].map(Some);
        assert_eq!(totals(&values), expected);
        assert!(Growth::of(&Value::Gauge(1.0)).is_none());
        assert_eq!(totals(&[Value::Counter(1), Value::Gauge(1.0)])[1], None);
    }

    proptest! {
        #[test]
        fn the_sum_never_falls(values in prop::collection::vec(any::<u64>(), 1..20)) {
            let values: Vec<Value> = values.into_iter().map(Value::Counter).collect();
            let mut before = 0;
            for total in totals(&values) {
                let Some(Value::Counter(total)) = total else { panic!("{total:?}") };
                prop_assert!(total >= before);
                before = total;
            }
        }
    }
}
