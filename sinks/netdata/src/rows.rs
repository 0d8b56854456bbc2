//! The charts of one kind of entity whose rows come and go: for each column its own, with a dimension for each row.
//!
//! A row has a place, and the place says in which chart of every column its dimension is. What is told of it is one
//! text; a cell is a number at its row's place.

use std::collections::HashMap;
use std::time::Duration;

use ebpf_process_core::{KindView, MetricKind, RowView, Value, identity_of};

use crate::bits::bit;
use crate::catalog::Catalog;
use crate::name::Name;
use crate::number::{Algorithm, number};
use crate::numbers::{DIMENSIONS, Numbers, WORDS};
use crate::rule::{self, Part};
use crate::words;

/// The rows of one kind and their charts.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// By place.
    names: Vec<Name>,
    free: Vec<usize>,
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
    /// Makes room for the charts of columns that are new.
    pub(crate) fn widen(&mut self, kind: &KindView<'_>, catalog: &mut Catalog) {
        let known = self.columns.len();
        for column in kind.columns().skip_while(|column| column.index() < known) {
            self.columns.resize_with(column.index(), Vec::new);
            let mut numbers = |part, algorithm| Numbers::new(&column, part, algorithm, catalog);
            let declared = column.column();
            self.columns.push(if rule::is_information(&column) {
                Vec::new()
            } else if declared.kind() == MetricKind::Histogram {
                let count = numbers(Some(Part::Count), Algorithm::TOTAL);
                vec![count, numbers(Some(Part::Sum), Algorithm::scaled(declared.factor()))]
            } else {
                vec![numbers(None, Algorithm::of(declared))]
            });
        }
    }

    /// A place for a row; the one that it has left if it comes back at once.
    pub(crate) fn enter(&mut self, row: &RowView<'_>) -> usize {
        let name = rule::joined(row.labels());
        let mut labels = String::new();
        row.labels().for_each(|(_, value)| labels.extend([value, "\0"]));
        let labels = identity_of(&labels);
        let plain = words::id(&name);
        // Somebody else may have this id, after cleaning: the second one is told apart by the whole of its labels.
        let others = (0_u64..).map(|number| format!("{plain}_{:016x}", labels.wrapping_add(number)));
        for id in std::iter::once(plain.clone()).chain(others) {
            match self.places.get(&*id) {
                None => return self.occupy(&id, Name::new(&id, &name, labels)),
                Some(&place) if self.names[place].gone && self.names[place].labels == labels => {
                    self.names[place].gone = false;
                    return place;
                }
                Some(_) => {}
            }
        }
        unreachable!("one of 2^64 ids is free")
    }

    fn occupy(&mut self, id: &str, name: Name) -> usize {
        let place = self.free.pop().unwrap_or(self.names.len());
        match self.names.get_mut(place) {
            Some(free) => *free = name,
            None => self.names.push(name),
        }
        self.gone.resize(self.names.len().div_ceil(DIMENSIONS) * WORDS, 0);
        self.places.insert(id.into(), place);
        place
    }

    /// A row is gone.
    pub(crate) fn leave(&mut self, place: usize) {
        self.names[place].gone = true;
        self.leaving.push(place);
    }

    /// Sets the value of a cell for this view. False where there is no room for its chart.
    #[inline]
    pub(crate) fn set(&mut self, place: usize, column: usize, value: Value<'_>, catalog: &mut Catalog) -> bool {
        match (self.columns.get_mut(column).map(Vec::as_mut_slice), value) {
            (Some([numbers]), value) => numbers.set(place, number(value), catalog),
            (Some([count, sum]), Value::Histogram(histogram)) => {
                let total = sum.algorithm().total(histogram.sum(), histogram.scale());
                count.set(place, number(value), catalog) && sum.set(place, total, catalog)
            }
            _ => true,
        }
    }

    /// Writes what is new and the values of this view, and forgets rows and charts that are over.
    pub(crate) fn write(&mut self, bytes: &mut Vec<u8>, boottime: Duration, catalog: &mut Catalog) {
        let Self { names, free, places, leaving, gone, columns } = self;
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
            free.push(place);
        }
    }

    /// Takes all charts from the dashboard.
    pub(crate) fn retire(&self, bytes: &mut Vec<u8>) {
        self.columns.iter().flatten().for_each(|numbers| numbers.retire(bytes));
    }
}
