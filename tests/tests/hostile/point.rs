//! A series as a receiver stores it, read for what it says of itself.

use ebpf_process_tests::totals::Totals;
use ebpf_process_tests::{Failure, Outcome};
use std::collections::BTreeMap;

/// The number of a series and its value.
pub(crate) type Point = (usize, f64);

/// The value of a series: its own, so that a mix-up shows.
pub(crate) const fn value(id: usize) -> u64 {
    1000 + id as u64
}

/// What is not as it should be if the points 0 to `count` are wanted, each once.
pub(crate) fn differences(count: usize, points: &[Point]) -> String {
    let mut values = BTreeMap::<usize, Vec<f64>>::new();
    for (id, value) in points {
        values.entry(*id).or_default().push(*value);
    }
    let mut differences = Vec::new();
    for id in (0..count).chain(values.range(count..).map(|(id, _)| *id)) {
        let got = values.get(&id).map_or(&[][..], Vec::as_slice);
        #[expect(clippy::cast_precision_loss, reason = "small whole numbers")]
        let wanted = value(id) as f64;
        if id >= count || got != [wanted] {
            differences.push(format!("point {id} is {got:?}"));
        }
    }
    // One cause has many of them.
    differences.truncate(10);
    differences.join("\n")
}

/// A series with tags: its name must be this one, and of its labels one is the number and one came with the hostile
/// name. Any other was forged.
pub(crate) fn labelled<'a>(
    (name, wanted): (&str, &str),
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    value: f64,
) -> Outcome<Point> {
    let labels: Vec<_> = labels.collect();
    let id = match &*labels {
        [("id", id), _] | [_, ("id", id)] if name == wanted => id.parse().ok(),
        _ => None,
    };
    id.map(|id| (id, value)).ok_or_else(|| Failure::new(format!("nobody meant {name:?} with {labels:?} = {value}")))
}

/// All series that a receiver of labels holds, but for the labels that the sink or the receiver added (`others`).
pub(crate) fn of_totals(totals: &Totals, wanted: &str, others: &[&str]) -> Outcome<Vec<Point>> {
    let point = |(name, labels, value): (&str, &BTreeMap<String, String>, f64)| {
        let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        labelled((name, wanted), labels.filter(|(key, _)| !others.contains(key)), value)
    };
    totals.series().map(point).collect()
}
