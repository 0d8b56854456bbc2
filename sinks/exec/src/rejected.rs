//! How many values a refusal is about, by what the batch itself says.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::message::Rejection;

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

/// Counts the values that these refusals are about.
pub(crate) fn count(body: &[u8], rejections: &[Rejection]) -> Refused {
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
    for Rejection { row, column, .. } in rejections {
        let named = match (rows.get_mut(row), column) {
            (Some(cells), None) => cells.as_mut_slice(),
            (Some(cells), Some(column)) => cells.get_mut(*column).map(std::slice::from_mut).unwrap_or_default(),
            (None, _) => &mut [],
        };
        refused.astray += u64::from(named.is_empty());
        refused.cells += named.iter_mut().map(|cell| u64::from(std::mem::take(cell))).sum::<u64>();
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(row: u64, column: Option<usize>) -> Rejection {
        Rejection { row, column, reason: String::new() }
    }

    #[test]
    fn a_value_is_refused_once_and_what_points_nowhere_is_astray() {
        let rows = br#""kinds":[{"rows":[{"id":1,"values":[1,null,{"count":0}]},{"id":2,"values":[4,5]}]}]}"#;
        let samples =
            br#""samples":[{"row":1,"column":0},{"row":1,"column":2},{"row":2,"column":0},{"row":2,"column":1}]}"#;
        for body in [&rows[..], samples] {
            let counted = |rejections: &[Rejection]| {
                let Refused { cells, astray } = count(body, rejections);
                (cells, astray)
            };
            assert_eq!(counted(&[of(1, None)]), (2, 0));
            assert_eq!(counted(&[of(1, Some(0)), of(1, Some(0)), of(1, None)]), (2, 0));
            assert_eq!(counted(&[of(1, Some(1))]), (0, 0), "there is a column, and no value");
            assert_eq!(counted(&[of(1, Some(3)), of(3, None), of(2, Some(usize::MAX))]), (0, 3));
            assert_eq!(counted(&[of(1, None), of(2, None)]), (4, 0));
        }
    }
}
