//! How many values a refusal is about.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::item::Item;
use crate::message::{Place, Rejection};

/// A batch as far as a refusal points into it.
#[derive(Debug, Deserialize)]
struct Shape {
    #[serde(default)]
    kinds: Vec<KindShape>,
    #[serde(default)]
    samples: Vec<SampleShape>,
}

#[derive(Debug, Deserialize)]
struct KindShape {
    rows: Vec<RowShape>,
}

#[derive(Debug, Deserialize)]
struct RowShape {
    id: u64,
    values: Vec<Option<IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
struct SampleShape {
    row: u64,
    column: usize,
}

/// What of a batch is refused.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Values, each counted once.
    pub(crate) cells: u64,
    /// Refusals that point at nothing in the batch.
    pub(crate) astray: u64,
}

/// Counts the values that these refusals are about, by what a batch in JSON itself says.
pub(crate) fn of_values(body: &[u8], rejections: &[Rejection]) -> Refused {
    let whole = [b"{", body].concat();
    // It was made here, from the same words.
    let Ok(shape) = serde_json::from_slice::<Shape>(&whole) else { return Refused::default() };
    let mut rows: HashMap<u64, Vec<bool>> = HashMap::new();
    for row in shape.kinds.into_iter().flat_map(|kind| kind.rows) {
        rows.insert(row.id, row.values.iter().map(Option::is_some).collect());
    }
    for SampleShape { row, column } in shape.samples {
        let cells = rows.entry(row).or_default();
        if cells.len() <= column {
            cells.resize(column + 1, false);
        }
        cells[column] = true;
    }
    let mut refused = Refused::default();
    for Rejection { place, .. } in rejections {
        let named = match *place {
            Place::Row(row, column) => match (rows.get_mut(&row), column) {
                (Some(cells), None) => cells.as_mut_slice(),
                (Some(cells), Some(column)) => cells.get_mut(column).map(std::slice::from_mut).unwrap_or_default(),
                (None, _) => &mut [],
            },
            Place::Line(_) => &mut [],
        };
        refused.astray += u64::from(named.is_empty());
        refused.cells += named.iter_mut().map(|cell| u64::from(std::mem::take(cell))).sum::<u64>();
    }
    refused
}

/// The same of a batch of lines, by what these carry.
pub(crate) fn of_lines(items: &[Item], rejections: &[Rejection]) -> Refused {
    let mut lines: Vec<u64> = rejections.iter().filter_map(Rejection::line).collect();
    let mut refused = Refused { astray: (rejections.len() - lines.len()) as u64, ..Refused::default() };
    lines.sort_unstable();
    let (mut rest, mut start) = (&lines[..], 0);
    for item in items {
        let end = start + u64::from(item.lines);
        let (named, behind) = rest.split_at(rest.partition_point(|line| *line < end));
        refused.cells += if named.is_empty() { 0 } else { item.samples.into() };
        (rest, start) = (behind, end);
    }
    refused.astray += rest.len() as u64;
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(place: Place) -> Rejection {
        Rejection { place, reason: String::new() }
    }

    fn of(row: u64, column: Option<usize>) -> Rejection {
        at(Place::Row(row, column))
    }

    #[test]
    fn a_value_is_refused_once_and_what_points_nowhere_is_astray() {
        let rows = br#""kinds":[{"rows":[{"id":1,"values":[1,null,{"count":0}]},{"id":2,"values":[4,5]}]}]}"#;
        let samples =
            br#""samples":[{"row":1,"column":0},{"row":1,"column":2},{"row":2,"column":0},{"row":2,"column":1}]}"#;
        for body in [&rows[..], samples] {
            let counted = |rejections: &[Rejection]| {
                let Refused { cells, astray } = of_values(body, rejections);
                (cells, astray)
            };
            assert_eq!(counted(&[of(1, None)]), (2, 0));
            assert_eq!(counted(&[of(1, Some(0)), of(1, Some(0)), of(1, None)]), (2, 0));
            assert_eq!(counted(&[of(1, Some(1))]), (0, 0), "there is a column, and no value");
            assert_eq!(counted(&[of(1, Some(3)), of(3, None), of(2, Some(usize::MAX))]), (0, 3));
            assert_eq!(counted(&[of(1, None), of(2, None)]), (4, 0));
            assert_eq!(counted(&[at(Place::Line(0))]), (0, 1));
        }
    }

    #[test]
    fn a_line_takes_all_with_it_that_stands_and_falls_with_it() {
        let items = [(2, 0), (1, 3), (2, 1), (1, 5)].map(|(lines, samples)| Item { lines, samples });
        let counted = |lines: &[u64]| {
            let rejections: Vec<_> = lines.iter().map(|line| at(Place::Line(*line))).collect();
            let Refused { cells, astray } = of_lines(&items, &rejections);
            (cells, astray)
        };
        assert_eq!(counted(&[]), (0, 0));
        assert_eq!(counted(&[0, 1]), (0, 0), "headings carry nothing");
        assert_eq!(counted(&[2]), (3, 0));
        assert_eq!((counted(&[3]), counted(&[4]), counted(&[4, 3, 3])), ((1, 0), (1, 0), (1, 0)));
        assert_eq!(counted(&[5, 2]), (8, 0));
        assert_eq!(counted(&[6, u64::MAX, 5]), (5, 2));
        assert_eq!(of_lines(&items, &[of(1, None)]), Refused { cells: 0, astray: 1 });
    }
}
