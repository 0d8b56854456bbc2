//! What the rows of the workshop have counted.

use ebpf_process_core::{RowView, Value};

use crate::workshop::{CALLS, SIZES, TOLD};

/// Calls, and of the histogram its count, its sum and what fell into each of four slots.
pub(crate) type Totals = [u64; 7];

/// The totals of a row that add up to the host's, none of which may have fallen.
pub(crate) fn totals(row: &RowView<'_>, before: Totals) -> Totals {
    let mut now = before;
    for (column, value) in row.cells() {
        match (column, value) {
            (CALLS, Value::Counter(total)) => now[0] = total,
            (SIZES, Value::Histogram(histogram)) => {
                (now[1], now[2]) = (histogram.count(), histogram.sum());
                histogram.buckets().for_each(|bucket| now[3 + bucket.slot - 2] = bucket.count);
            }
            (TOLD, _) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(now.iter().zip(before).all(|(now, before)| *now >= before), "a total falls: {before:?} to {now:?}");
    now
}
