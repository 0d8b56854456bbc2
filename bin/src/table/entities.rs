//! Rows that are about something else than the host: processes, disks, whatever a probe counts by. There may be
//! thousands: the busiest are shown, and the rest as one.

use std::cmp::Reverse;
use std::time::Duration;

use ebpf_process_core::{ColumnView, KindView, RowCache, RowView, Sample, Value};

use super::operation::{Aspect, Cells, Figure, Operation, interrupted, named, place, remark};
use super::units;

/// How many operations of a kind's rows are shown, and how many of its remarks.
const SHOWN: usize = 10;

/// What earlier views said of each counter, by row and column.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) known: RowCache<Vec<u64>>,
    /// What rates are of; none where there is too little time for one.
    pub(super) elapsed: Option<Duration>,
}

impl Totals {
    /// Takes over a counter's total. Returns what was added, and both as a figure.
    pub(super) fn count(&mut self, row: &RowView<'_>, column: usize, total: u64) -> (u64, Figure) {
        let known = self.known.entry(row, Vec::new);
        if known.len() <= column {
            known.resize(column + 1, 0);
        }
        let delta = total.saturating_sub(std::mem::replace(&mut known[column], total));
        let rate = self.elapsed.map(|elapsed| units::approximate(delta) / elapsed.as_secs_f64());
        (delta, Figure { total, rate })
    }
}

/// An operation of one row.
struct Candidate<'a> {
    row: RowView<'a>,
    operation: usize,
    cells: Cells,
    /// Calls that were added, then bytes, then calls in all: by these the busiest are found.
    activity: [u64; 3],
}

/// The busiest operations of a kind's rows and what else they have to say, with a line for the rest of each.
pub(super) fn read(kind: &KindView<'_>, totals: &mut Totals) -> (Vec<Operation>, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let mut places = Vec::new();
    for column in kind.columns() {
        places.resize(column.index() + 1, None);
        places[column.index()] = stand(&column).map(|(name, aspect)| {
            let known = names.iter().position(|known| *known == name);
            let operation = known.unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            (operation, aspect)
        });
    }
    let (mut candidates, mut remarks) = (Vec::new(), Remarks::default());
    let mut of_row: Vec<(Cells, [u64; 3])> = Vec::new();
    for row in kind.rows() {
        of_row.clear();
        of_row.resize(names.len(), ([None; 3], [0; 3]));
        for (column, value) in row.cells() {
            match (value, places.get(column).copied().flatten()) {
                (Value::Counter(total), place) => {
                    let (delta, figure) = totals.count(&row, column, total);
                    let Some((operation, aspect)) = place else { continue };
                    let (cells, [added, bytes, all]) = &mut of_row[operation];
                    cells[aspect as usize] = Some(figure);
                    match aspect {
                        Aspect::Calls => (*added, *all) = (delta, total),
                        Aspect::Bytes => *bytes = delta,
                        Aspect::Errors => {}
                    }
                }
                _ => remarks.extend(row.sample(column)),
            }
        }
        let seen = of_row.iter().enumerate().filter(|(_, (cells, _))| cells.iter().any(Option::is_some));
        candidates.extend(seen.map(|(operation, &(cells, activity))| Candidate { row, operation, cells, activity }));
    }
    candidates.sort_by_key(|candidate| Reverse(candidate.activity));
    let (shown, rest) = candidates.split_at(candidates.len().min(SHOWN));
    let kind = kind.kind().name();
    let mut operations: Vec<Operation> = shown
        .iter()
        .map(|Candidate { row, operation, cells, .. }| {
            let labels = row.labels().map(|(_, value)| value).chain([names[*operation].as_str()]);
            Operation { name: named(kind, &labels.collect::<Vec<_>>()), cells: *cells }
        })
        .collect();
    if !rest.is_empty() {
        let cells = rest.iter().map(|candidate| candidate.cells).fold([None; 3], plus);
        operations.push(Operation { name: format!("{kind}: {} more", rest.len()), cells });
    }
    (operations, remarks.told(kind))
}

/// Where a column's counters stand; none where they are not shown.
fn stand(column: &ColumnView<'_>) -> Option<(String, Aspect)> {
    let column = column.column();
    let labels: Vec<&str> = column.own_labels().map(|(_, value)| value).collect();
    // Too seldom for a line.
    let hidden = interrupted(column.name(), &labels).is_some();
    (!hidden).then(|| place(column.name(), column.unit(), &labels))
}

fn plus(a: Cells, b: Cells) -> Cells {
    let sum = |(a, b): (Option<Figure>, Option<Figure>)| match (a, b) {
        (Some(a), Some(b)) => {
            Some(Figure { total: a.total.saturating_add(b.total), rate: a.rate.zip(b.rate).map(|(a, b)| a + b) })
        }
        (a, b) => a.or(b),
    };
    [0, 1, 2].map(|aspect| sum((a[aspect], b[aspect])))
}

/// The first few, and how many there are more.
#[derive(Default)]
struct Remarks {
    told: Vec<String>,
    more: usize,
}

impl Remarks {
    fn extend(&mut self, sample: Option<Sample<'_>>) {
        let Some(sample) = sample else { return };
        if self.told.len() == SHOWN {
            self.more += 1;
            return;
        }
        let labels: Vec<&str> = sample.own_labels().map(|(_, value)| value).collect();
        self.told.push(remark(&named(sample.name(), &labels), sample.column().column().unit(), sample.value()));
    }

    fn told(mut self, kind: &str) -> Vec<String> {
        self.told.extend((self.more > 0).then(|| format!("{kind}: {} more levels and times", self.more)));
        self.told
    }
}
