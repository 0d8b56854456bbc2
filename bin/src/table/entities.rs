//! Rows that are about something else than the host: processes, disks, whatever a probe counts by. There may be
//! thousands: the first of them in the table's order are kept, and the rest as one.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::time::Duration;

use ebpf_process_core::{ColumnView, KindView, RowCache, RowView, Sample, Scaled, Unit, Value};

use super::operation::{Figure, named, remark, title};
use super::text::clean;
use super::units;

/// How many remarks of a kind's rows are shown.
const REMARKS: usize = 10;

/// What each label of a row says that stands for all that have none; no other row is called so.
const OTHER: &str = "other";

/// What earlier views said of each counter, by row and column.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) known: RowCache<Vec<u64>>,
    /// What rates are of; none where there is too little time for one.
    pub(super) elapsed: Option<Duration>,
    /// Kinds and columns in which there ever was something.
    moved: HashSet<(usize, usize)>,
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

/// The rows of a kind in a view, in the table's order.
pub(super) struct Entities {
    pub(super) kind: String,
    /// Whether rows are parts of others: then a sum of them is none of anything.
    pub(super) is_nested: bool,
    /// The keys of the labels.
    pub(super) keys: Vec<String>,
    pub(super) columns: Vec<Heading>,
    /// As many as are shown at most.
    pub(super) rows: Vec<Entity>,
    /// How many there are more, and their numbers.
    pub(super) rest: (usize, Numbers),
    /// The numbers of what has no row of its own.
    pub(super) other: Option<Numbers>,
    /// The column that sorts the rows.
    pub(super) sort: Option<usize>,
}

/// A column of numbers.
pub(super) struct Heading {
    pub(super) title: String,
    rank: usize,
    /// Its place among the kind's columns.
    index: usize,
    unit: Unit,
    /// What one of its counters' units is in its own.
    scale: f64,
    /// Whether there ever was something in it.
    pub(super) moved: bool,
}

/// One row.
pub(super) struct Entity {
    pub(super) labels: Vec<String>,
    pub(super) numbers: Numbers,
}

/// A number for each column.
pub(super) type Numbers = Vec<Option<Number>>;

/// What a row has in a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// What was added since the view before.
    Added(u64),
    /// How much there is.
    Level(f64),
}

impl Number {
    fn size(self) -> f64 {
        match self {
            Self::Added(count) => units::approximate(count),
            Self::Level(level) => level,
        }
    }
}

impl Heading {
    fn of(column: &ColumnView<'_>) -> Option<Self> {
        let (index, column) = (column.index(), column.column());
        let title = title(column)?;
        let (unit, scale) = (column.unit().clone(), column.factor());
        Some(Self { title: title.text, rank: title.rank, index, unit, scale, moved: false })
    }

    /// A number as text.
    pub(super) fn text(&self, number: Option<Number>) -> String {
        match number {
            None => String::new(),
            #[expect(clippy::float_cmp, reason = "1 is what it is unless it was set")]
            Some(Number::Added(count)) if self.scale == 1.0 && self.unit != Unit::BYTES => units::total(count),
            Some(Number::Added(total)) => self.amount(Scaled { total, scale: self.scale }.in_unit()),
            Some(Number::Level(level)) => self.amount(level),
        }
    }

    fn amount(&self, amount: f64) -> String {
        if self.unit == Unit::BYTES { units::bytes(amount) } else { units::level(amount) }
    }
}

impl Entities {
    /// The title of the column that sorts the rows.
    pub(super) fn sorted_by(&self) -> Option<&str> {
        self.sort.map(|sort| self.columns[sort].title.as_str())
    }

    /// The numbers of all rows together, whether or not they are shown. Levels of several rows are none of all.
    pub(super) fn total(&self) -> Numbers {
        let all = self.rows.iter().map(|row| &row.numbers).chain([&self.rest.1]).chain(&self.other);
        all.fold(vec![None; self.columns.len()], sum)
    }
}

/// Adds up what was added.
pub(super) fn sum(mut a: Numbers, b: &Numbers) -> Numbers {
    for (a, b) in a.iter_mut().zip(b) {
        if let Some(Number::Added(b)) = *b {
            let Number::Added(a) = a.get_or_insert(Number::Added(0)) else { continue };
            *a = a.saturating_add(b);
        }
    }
    a
}

/// A row of the view: what it is sorted by, and where its numbers are.
struct Candidate<'a> {
    row: RowView<'a>,
    numbers: usize,
    order: [f64; 4],
}

/// The rows of a kind, `limit` of them as they are: those first that have most in the column of the title `sort`, or
/// without one the busiest. Then what else they have to say.
pub(super) fn read(
    kind: &KindView<'_>,
    totals: &mut Totals,
    sort: Option<&str>,
    limit: usize,
) -> (Entities, Vec<String>) {
    let mut columns: Vec<Heading> = kind.columns().filter_map(|column| Heading::of(&column)).collect();
    columns.sort_by_key(|column| column.rank);
    let mut places = vec![None; kind.width()];
    columns.iter().enumerate().for_each(|(place, column)| places[column.index] = Some(place));
    let sort = sort.and_then(|title| columns.iter().position(|column| column.title == title));

    let (mut rows, mut other, mut remarks) = (Vec::new(), None, Remarks::default());
    // Of all rows, one behind the other.
    let mut numbers: Numbers = Vec::new();
    for row in kind.rows() {
        let start = numbers.len();
        numbers.resize(start + columns.len(), None);
        let own = &mut numbers[start..];
        // Calls that were added, then bytes, then calls in all.
        let mut activity = [0_u64; 3];
        for (column, value) in row.cells() {
            let Some(place) = places[column] else {
                remarks.extend(row.sample(column));
                continue;
            };
            own[place] = Some(match value {
                Value::Counter(total) | Value::Scaled(Scaled { total, .. }) => {
                    let (delta, _) = totals.count(&row, column, total);
                    let heading = &columns[place];
                    if heading.rank == 0 {
                        activity[0] = activity[0].saturating_add(delta);
                        activity[2] = activity[2].saturating_add(total);
                    } else if heading.unit == Unit::BYTES {
                        activity[1] = activity[1].saturating_add(delta);
                    }
                    Number::Added(delta)
                }
                Value::Gauge(level) => Number::Level(level),
                Value::Histogram(_) => continue,
            });
            columns[place].moved |= own[place].is_some_and(|number| number.size() != 0.0);
        }
        if kind.kind().label_keys().len() > 0 && row.labels().all(|(_, value)| value == OTHER) {
            other = Some(own.to_vec());
            continue;
        }
        let first = sort.map_or(0.0, |sort| own[sort].map_or(f64::NEG_INFINITY, Number::size));
        let [added, bytes, all] = activity.map(units::approximate);
        rows.push(Candidate { row, numbers: start, order: [first, added, bytes, all] });
    }
    rows.sort_by(|a, b| {
        let orders = b.order.iter().zip(&a.order).map(|(b, a)| b.total_cmp(a));
        orders.fold(Ordering::Equal, Ordering::then)
    });
    for column in &mut columns {
        let place = (kind.index(), column.index);
        if column.moved {
            totals.moved.insert(place);
        }
        column.moved = totals.moved.contains(&place);
    }
    let width = columns.len();
    let of = |candidate: &Candidate<'_>| numbers[candidate.numbers..candidate.numbers + width].to_vec();
    let (shown, rest) = rows.split_at(rows.len().min(limit));
    let shown = shown.iter().map(|candidate| Entity {
        labels: candidate.row.labels().map(|(_, value)| clean(value)).collect(),
        numbers: of(candidate),
    });
    let entities = Entities {
        kind: kind.kind().name().to_owned(),
        is_nested: kind.kind().is_nested(),
        keys: kind.kind().label_keys().map(str::to_owned).collect(),
        rows: shown.collect(),
        rest: (rest.len(), rest.iter().fold(vec![None; width], |a, candidate| sum(a, &of(candidate)))),
        other,
        sort,
        columns,
    };
    (entities, remarks.told(kind.kind().name()))
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
        if self.told.len() == REMARKS {
            self.more += 1;
            return;
        }
        let labels: Vec<&str> = sample.own_labels().map(|(_, value)| value).collect();
        self.told.push(remark(&named(sample.name(), &labels), sample.column().column().unit(), sample.value()));
    }

    fn told(mut self, kind: &str) -> Vec<String> {
        self.told.extend((self.more > 0).then(|| format!("{kind}: {} more distributions", self.more)));
        self.told
    }
}
