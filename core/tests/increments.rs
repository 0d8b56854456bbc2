//! What a tick adds over all rows of a kind is what it adds to the host, at every tick.

mod totals;
mod workshop;

use std::collections::{HashMap, HashSet};

use ebpf_process_core::testkit::Bench;
use ebpf_process_core::*;
use proptest::prelude::*;
use totals::{Totals, totals};
use workshop::{Workshop, deeds};

/// What a row's totals have gained since they were seen last.
fn gain(row: &RowView<'_>, last: &mut HashMap<RowId, Totals>) -> Totals {
    let before = last.get(&row.id()).copied().unwrap_or_default();
    let now = totals(row, before);
    if row.is_final() {
        last.remove(&row.id());
    } else {
        last.insert(row.id(), now);
    }
    std::array::from_fn(|index| now[index] - before[index])
}

fn sum(totals: impl Iterator<Item = Totals>) -> Totals {
    totals.fold(Totals::default(), |sum, totals| std::array::from_fn(|index| sum[index] + totals[index]))
}

proptest! {
    #[test]
    fn rows_gain_what_the_host_gains(ticks in deeds(), limit in 0usize..9) {
        let mut bench = Bench::new();
        let mut workshop = Workshop::new(bench.recorder(), limit);
        let mut last = HashMap::new();
        let mut ended = HashSet::new();
        for (tick, deeds) in ticks.iter().enumerate() {
            let record = |recorder: &mut Recorder| workshop.tick(recorder, deeds);
            let gains = bench.tick(&Selection::default(), record, |view| {
                let of_kind = |kind: KindView<'_>| {
                    let (mut texts, mut ids) = (HashSet::new(), HashSet::new());
                    let gains: Vec<Totals> = kind.rows().map(|row| {
                        assert!(texts.insert(row.labels().collect::<Vec<_>>()), "two rows of one name");
                        assert!(ids.insert(row.id()) && !ended.contains(&row.id()), "a row twice");
                        ended.extend(row.is_final().then_some(row.id()));
                        gain(&row, &mut last)
                    }).collect();
                    let living = kind.rows().filter(|row| !row.is_final()).count();
                    assert!(living <= kind.kind().row_limit() + 1, "beyond the limit");
                    sum(gains.into_iter())
                };
                view.kinds().map(of_kind).collect::<Vec<_>>()
            });
            prop_assert_eq!(gains[0], gains[1], "tick {}", tick);
        }
    }
}
