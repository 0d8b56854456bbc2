//! The numbers of one column by place, and the charts that show them.

use std::time::Duration;

use ebpf_process_core::ColumnView;

use crate::catalog::Catalog;
use crate::head::{DIMENSIONS, Head, Spec, labels};
use crate::name::Name;
use crate::number::Algorithm;
use crate::rule::{self, Part};

/// Words of 64 places for each chart.
const WORDS: usize = DIMENSIONS / 64;

/// A place in its word.
pub(crate) const fn bit(place: usize) -> u64 {
    1 << (place % 64)
}

/// The numbers of one column.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// The id is what each chart's begins with.
    spec: Spec,
    labels: String,
    algorithm: Algorithm,
    /// What follows the name of a dimension that comes, and of one that goes.
    words: [String; 2],
    /// By place.
    values: Vec<i64>,
    /// The places that have a value in this view, as words of 64.
    touched: Vec<u64>,
    /// The places that have a dimension.
    declared: Vec<u64>,
    /// A chart for each [`DIMENSIONS`] places.
    charts: Vec<Option<Head>>,
}

impl Numbers {
    pub(crate) fn new(
        column: &ColumnView<'_>,
        part: Option<Part>,
        algorithm: Algorithm,
        catalog: &mut Catalog,
    ) -> Self {
        Self {
            spec: rule::column(column, part, catalog),
            labels: labels(column.column().own_labels().chain(column.tags())),
            algorithm,
            words: [format!("{algorithm}\n"), format!("{algorithm} obsolete\n")],
            values: Vec::new(),
            touched: Vec::new(),
            declared: Vec::new(),
            charts: Vec::new(),
        }
    }

    pub(crate) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Sets a number for this view. False where there is no room for its chart.
    #[inline]
    pub(crate) fn set(&mut self, place: usize, number: i64, catalog: &mut Catalog) -> bool {
        let chart = place / DIMENSIONS;
        if !matches!(self.charts.get(chart), Some(Some(_))) && !self.open(chart, catalog) {
            return false;
        }
        self.values[place] = number;
        self.touched[place / 64] |= bit(place);
        true
    }

    #[cold]
    fn open(&mut self, chart: usize, catalog: &mut Catalog) -> bool {
        let base = &self.spec.id;
        let wanted = if chart == 0 { base.clone() } else { format!("{base}_{}", chart + 1) };
        let Some(id) = catalog.take(&wanted) else { return false };
        let spec = Spec { id, ..self.spec.clone() };
        if self.charts.len() <= chart {
            self.charts.resize_with(chart + 1, || None);
            self.values.resize(self.charts.len() * DIMENSIONS, 0);
            self.touched.resize(self.charts.len() * WORDS, 0);
            self.declared.resize(self.charts.len() * WORDS, 0);
        }
        self.charts[chart] = Some(Head::new(&spec, catalog.update_every, self.labels.clone()));
        true
    }

    /// Writes what is new and the values of this view, and forgets charts that are over.
    pub(crate) fn write(
        &mut self,
        bytes: &mut Vec<u8>,
        names: &[Name],
        gone: &[u64],
        boottime: Duration,
        catalog: &mut Catalog,
    ) {
        let Self { words: [comes, goes], values, touched, declared, charts, .. } = self;
        let mut digits = itoa::Buffer::new();
        let blocks =
            touched.chunks_exact_mut(WORDS).zip(declared.chunks_exact_mut(WORDS)).zip(gone.chunks_exact(WORDS));
        for ((index, place), ((touched, declared), gone)) in charts.iter_mut().enumerate().zip(blocks) {
            let Some(head) = place else { continue };
            let first = index * DIMENSIONS;
            let words = |word: fn(u64, u64, u64) -> u64| {
                let words = touched.iter().zip(&*declared).zip(gone);
                words.map(move |((touched, declared), gone)| word(*touched, *declared, *gone))
            };
            let is_any = |word| words(word).any(|word| word != 0);
            if !is_any(|touched, declared, gone| declared & !gone | touched) {
                head.retire(bytes);
                catalog.release(head.id());
                *place = None;
                declared.fill(0);
                continue;
            }
            if is_any(|touched, declared, gone| declared & gone | touched & !declared) {
                head.declare(bytes);
                for place in places(words(|_, declared, gone| declared & gone), first) {
                    bytes.extend_from_slice(names[place].definition());
                    bytes.extend_from_slice(goes.as_bytes());
                }
                for place in places(words(|touched, declared, _| touched & !declared), first) {
                    bytes.extend_from_slice(names[place].definition());
                    bytes.extend_from_slice(comes.as_bytes());
                }
            }
            if is_any(|touched, _, _| touched) {
                head.begin(bytes, boottime, &mut digits);
                for place in places(touched.iter().copied(), first) {
                    bytes.extend_from_slice(names[place].set());
                    bytes.extend_from_slice(digits.format(values[place]).as_bytes());
                    bytes.push(b'\n');
                }
                bytes.extend_from_slice(b"END\n");
            }
            for ((touched, declared), gone) in touched.iter_mut().zip(declared).zip(gone) {
                *declared = *declared & !gone | std::mem::take(touched);
            }
        }
    }

    /// Takes the charts from the dashboard.
    pub(crate) fn retire(&self, bytes: &mut Vec<u8>) {
        self.charts.iter().flatten().for_each(|head| head.retire(bytes));
    }
}

/// The places whose bits are set, in words that begin with this place.
fn places(words: impl Iterator<Item = u64>, first: usize) -> impl Iterator<Item = usize> {
    words.enumerate().flat_map(move |(index, mut word)| {
        std::iter::from_fn(move || {
            let bit = word.trailing_zeros() as usize;
            word &= word.checked_sub(1)?;
            Some(first + index * 64 + bit)
        })
    })
}
