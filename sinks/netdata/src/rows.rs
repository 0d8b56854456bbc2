//! The charts of one kind of entity whose rows come and go: for each column its own, with a dimension for each row.
//!
//! A row has a place, and the place says in which chart of every column its dimension is. What is told of it is one
//! text; a cell is a number at its row's place.
//!
//! A chart whose dimensions go gets no new ones for a while. Where a dimension comes to a chart from whose list netdata
//! 1.37 is just removing others, each of its two threads waits for the other's lock, for ever.

use std::collections::HashMap;
use std::time::Duration;

use ebpf_process_core::{Before, ColumnView, KindView, MetricKind, RowView, Seen, Value, identity_of};

use crate::bits::{Places, bit};
use crate::called;
use crate::catalog::Catalog;
use crate::name::Name;
use crate::number::{Algorithm, number};
use crate::numbers::{DIMENSIONS, Numbers, WORDS};
use crate::rule::{self, Part};
use crate::words;

/// How long a chart gets no new dimensions after one went. Netdata removes what is over every ten seconds, from the
/// charts of which it was told since.
const REST: Duration = Duration::from_secs(15);

/// Why a cell has no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untold {
    /// There are too many charts.
    NoChart,
    /// The protocol has no such number.
    TooLarge,
}

/// The rows of one kind and their charts.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// By place.
    names: Vec<Name>,
    /// The places that have a row, as words of 64.
    taken: Vec<u64>,
    /// By chart: the time since boot from which on it may have new rows again.
    rests: Vec<Duration>,
    /// The first chart in which this view may find a place.
    open: usize,
    /// The place of each dimension's id.
    places: HashMap<Box<str>, usize>,
    /// Places whose rows have gone since the last lines.
    leaving: Vec<usize>,
    /// The same as words of 64 places.
    gone: Vec<u64>,
    /// By column: none has no chart; a histogram has two, for how many values and for their sum.
    columns: Vec<Vec<Numbers>>,
}

impl Rows {
    /// Begins a view: charts that have rested may have rows again, and columns that are new have room for theirs.
    pub(crate) fn begin(&mut self, kind: &KindView<'_>, catalog: &mut Catalog) {
        self.open = 0;
        let known = self.columns.len();
        for column in kind.columns().skip_while(|column| column.index() < known) {
            self.columns.resize_with(column.index(), Vec::new);
            self.columns.push(numbers(&column, catalog));
        }
    }

    /// The selection is another one: charts of columns that are called otherwise now, or are not selected any more, are
    /// taken from the dashboard, and others take their places. Of a kind of which nothing is selected there are none.
    pub(crate) fn renew(
        &mut self,
        kind: Option<&KindView<'_>>,
        before: &Seen,
        bytes: &mut Vec<u8>,
        catalog: &mut Catalog,
    ) {
        for (index, numbers_of) in self.columns.iter_mut().enumerate() {
            let column = kind.and_then(|kind| kind.column(index));
            if column.is_some_and(|column| before.of(&column) == Before::Same) {
                continue;
            }
            for over in std::mem::take(numbers_of) {
                over.retire(bytes);
                over.release(catalog);
            }
        }
        // All of those that go are gone before the first of those that come: one may have the other's id.
        for column in kind.into_iter().flat_map(KindView::columns) {
            if let Some(numbers_of) = self.columns.get_mut(column.index())
                && before.of(&column) != Before::Same
            {
                *numbers_of = numbers(&column, catalog);
            }
        }
    }

    /// A place for a row; the one that it has left if it comes back at once.
    pub(crate) fn enter(&mut self, row: &RowView<'_>, boottime: Duration, catalog: &Catalog) -> usize {
        let mut name = called::row(row.labels());
        let mut labels = String::new();
        row.labels().for_each(|(_, value)| labels.extend([value, "\0"]));
        let labels = identity_of(&labels);
        let plain = words::id(&name);
        // Somebody else may have this id or name: the second one is told apart by the whole of its labels.
        let others = (0_u64..).map(|number| format!("{plain}_{:016x}", labels.wrapping_add(number)));
        for id in std::iter::once(plain.clone()).chain(others) {
            match self.places.get(&*id) {
                None => {
                    let place = self.vacant(boottime, catalog);
                    return self.occupy(place, &id, Name::new(&id, &name, labels));
                }
                Some(&place) if self.names[place].gone && self.names[place].labels == labels => {
                    self.names[place].gone = false;
                    return place;
                }
                Some(_) => name = called::row_in_full(row.labels()),
            }
        }
        unreachable!("one of 2^64 ids is free")
    }

    /// A place without a row: in the first chart that has one and does not rest. Where charts are scarce, none rests.
    fn vacant(&mut self, boottime: Duration, catalog: &Catalog) -> usize {
        loop {
            let first = self.open * WORDS;
            let Some(chart) = self.taken.get(first..first + WORDS) else { return self.open * DIMENSIONS };
            if self.rests[self.open] <= boottime || catalog.is_scarce() {
                let mut free = Places::of(chart.iter().map(|word| !word));
                if let Some(place) = free.next() {
                    return self.open * DIMENSIONS + place;
                }
            }
            self.open += 1;
        }
    }

    fn occupy(&mut self, place: usize, id: &str, name: Name) -> usize {
        if self.names.len() <= place {
            let charts = place / DIMENSIONS + 1;
            self.names.resize_with(charts * DIMENSIONS, Name::default);
            self.taken.resize(charts * WORDS, 0);
            self.gone.resize(charts * WORDS, 0);
            self.rests.resize(charts, Duration::ZERO);
        }
        self.names[place] = name;
        self.taken[place / 64] |= bit(place);
        self.places.insert(id.into(), place);
        place
    }

    /// A row is gone.
    pub(crate) fn leave(&mut self, place: usize, boottime: Duration) {
        self.names[place].gone = true;
        self.rests[place / DIMENSIONS] = boottime + REST;
        self.leaving.push(place);
    }

    /// Sets the value of a cell for this view, or says why it has no line.
    #[inline]
    pub(crate) fn set(
        &mut self,
        place: usize,
        column: usize,
        value: Value<'_>,
        catalog: &mut Catalog,
    ) -> Result<(), Untold> {
        let has_room = match (self.columns.get_mut(column).map(Vec::as_mut_slice), value) {
            (Some([numbers]), value) => numbers.set(place, number(value).ok_or(Untold::TooLarge)?, catalog),
            (Some([count, sum]), Value::Histogram(histogram)) => {
                let total = sum.algorithm().total(histogram.sum(), histogram.scale()).ok_or(Untold::TooLarge)?;
                let number = number(value).ok_or(Untold::TooLarge)?;
                count.set(place, number, catalog) && sum.set(place, total, catalog)
            }
            _ => true,
        };
        if has_room { Ok(()) } else { Err(Untold::NoChart) }
    }

    /// Writes what is new and the values of this view, and forgets rows and charts that are over.
    pub(crate) fn write(&mut self, bytes: &mut Vec<u8>, boottime: Duration, catalog: &mut Catalog) {
        let Self { names, taken, places, leaving, gone, columns, .. } = self;
        leaving.retain(|place| names[*place].gone);
        for place in &*leaving {
            gone[place / 64] |= bit(*place);
        }
        // Chart by chart, so that the rows' text stays in the processor's caches for all columns.
        for (chart, gone) in gone.chunks_exact(WORDS).enumerate() {
            for numbers in columns.iter_mut().flatten() {
                numbers.write(chart, bytes, names, gone, boottime, catalog);
            }
        }
        for place in leaving.drain(..) {
            gone[place / 64] &= !bit(place);
            places.remove(names[place].id());
            names[place] = Name::default();
            taken[place / 64] &= !bit(place);
        }
    }

    /// Takes all charts from the dashboard.
    pub(crate) fn retire(&self, bytes: &mut Vec<u8>) {
        self.columns.iter().flatten().for_each(|numbers| numbers.retire(bytes));
    }
}

/// The numbers of a column: none has no chart; a histogram has two, for how many values and for their sum.
fn numbers(column: &ColumnView<'_>, catalog: &mut Catalog) -> Vec<Numbers> {
    let mut numbers = |part, algorithm| Numbers::new(column, part, algorithm, catalog);
    let declared = column.column();
    if rule::is_information(column) {
        Vec::new()
    } else if declared.kind() == MetricKind::Histogram {
        let count = numbers(Some(Part::Count), Algorithm::TOTAL);
        vec![count, numbers(Some(Part::Sum), Algorithm::scaled(declared.factor()))]
    } else {
        vec![numbers(None, Algorithm::of(declared))]
    }
}
