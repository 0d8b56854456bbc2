//! What a receiver has.

use std::collections::BTreeMap;

use ebpf_process_core::testkit::conformance::{Number, Reading};

/// A number that has come, and for what.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) series: String,
    pub(super) says: Says,
}

/// What a number is to its series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Says {
    /// Its value, at a time where one is told. Of two for one time the second holds.
    Is(Option<i64>, Number),
    /// It is so much more.
    Gains(Number),
}

impl Point {
    pub(super) fn new(series: impl Into<String>, says: Says) -> Self {
        Self { series: series.into(), says }
    }
}

/// So many numbers are kept, those of the kit many times over: whoever sends more sends something else.
const ROOM: usize = 2_000_000;

/// So many complaints are kept: one is enough.
const COMPLAINTS: usize = 16;

/// So much of a line is shown, in characters.
const SHOWN: usize = 100;

/// All numbers by series.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// By time, and without one in the order in which they came.
    series: BTreeMap<String, BTreeMap<(i64, usize), Number>>,
    numbers: usize,
    /// What was no number by the rules.
    wrong: Vec<String>,
}

impl Stored {
    /// Takes numbers.
    pub(super) fn take(&mut self, points: Vec<Point>) {
        for point in points {
            self.add(point);
        }
    }

    fn add(&mut self, Point { series, says }: Point) {
        if self.numbers >= ROOM {
            self.complain(&format!("more than {ROOM} numbers"));
            return;
        }
        self.numbers += 1;
        let series = self.series.entry(series).or_default();
        match says {
            Says::Is(Some(time), number) => drop(series.insert((time, 0), number)),
            Says::Is(None, number) => drop(series.insert((0, self.numbers), number)),
            Says::Gains(gain) => {
                let newest = series.last_entry();
                match newest {
                    Some(mut sum) => *sum.get_mut() = plus(*sum.get(), gain),
                    None => drop(series.insert((0, 0), gain)),
                }
            }
        }
    }

    /// Something came that is no number by the rules: the table will show it as what nobody has written.
    pub(super) fn complain(&mut self, problem: &str) {
        if self.wrong.len() < COMPLAINTS {
            // It is not taken for a series whose name is in it.
            let shown: String = problem.chars().take(SHOWN).collect();
            self.wrong.push(shown.replace(['z', 'Z'], "z_"));
        }
    }

    /// Everything, of each series the newest last.
    pub(super) fn readings(&self) -> Vec<Reading> {
        let each = self.series.iter().flat_map(|(text, numbers)| numbers.values().map(move |number| (text, *number)));
        let wrong = self.wrong.iter().map(|problem| Reading::new(problem, Number::Whole(1)));
        wrong.chain(each.map(|(text, number)| Reading::new(text, number))).collect()
    }
}

/// A sum, with all digits as long as both are whole.
#[expect(clippy::cast_precision_loss, reason = "a fraction has no more digits")]
fn plus(one: Number, other: Number) -> Number {
    let real = |number| match number {
        Number::Whole(whole) => whole as f64,
        Number::Real(real) => real,
    };
    match (one, other) {
        (Number::Whole(one), Number::Whole(other)) => Number::Whole(one.saturating_add(other)),
        _ => Number::Real(real(one) + real(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(number: u64) -> Number {
        number.into()
    }

    #[test]
    fn the_newest_number_of_a_series_comes_last_and_gains_add_up() {
        let mut stored = Stored::default();
        let point = |series, says| Point::new(series, says);
        stored.take(vec![
            point("timed", Says::Is(Some(20), whole(2))),
            point("timed", Says::Is(Some(10), whole(1))),
            point("timed", Says::Is(Some(20), whole(3))),
            point("plain", Says::Is(None, whole(9))),
            point("plain", Says::Is(None, whole(8))),
            point("sum", Says::Gains(whole(u64::MAX))),
            point("sum", Says::Gains(whole(5))),
            point("part", Says::Gains(0.5.into())),
            point("part", Says::Gains(whole(1))),
        ]);
        let expected = [
            Reading::new("part", 1.5),
            Reading::new("plain", 9_u64),
            Reading::new("plain", 8_u64),
            Reading::new("sum", i128::from(u64::MAX) + 5),
            Reading::new("timed", 1_u64),
            Reading::new("timed", 3_u64),
        ];
        assert_eq!(stored.readings(), expected);
    }

    #[test]
    fn a_complaint_is_a_reading_that_names_no_series() {
        let mut stored = Stored::default();
        for _ in 0..100 {
            stored.complain(&format!("no number: zqabcdef {}", "x".repeat(1000)));
        }
        let readings = stored.readings();
        assert_eq!(readings.len(), COMPLAINTS);
        let expected = format!("no number: z_qabcdef {}", "x".repeat(SHOWN - 20));
        assert_eq!(readings[0], Reading::new(expected, 1_u64));
    }
}
