//! The numbers of one column by place, and the charts that show them.

use std::time::Duration;

use ebpf_process_core::ColumnView;

use crate::bits::{Places, bit};
use crate::catalog::Catalog;
use crate::head::{Head, Spec, labels};
use crate::name::Name;
use crate::number::Algorithm;
use crate::rule::{self, Part};

/// The most dimensions of a chart, a multiple of 64; the next rows are in a chart of their own beside it.
///
/// Netdata looks for dimensions that are over through all of a chart's. Ten thousand rows of which a tenth come and go
/// each second took it 28 % of a processor in one chart, 7 with 1024 dimensions each, 4.2 to 5.2 with 192 and 3.8 to 4.8
/// with 64 beside it.
pub(crate) const DIMENSIONS: usize = 64;

/// Words of 64 places for each chart.
pub(crate) const WORDS: usize = DIMENSIONS / 64;

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

    /// Writes what is new about a chart and its values in this view, and forgets it if it is over. The words have a bit
    /// for each of its places whose row is gone.
    pub(crate) fn write(
        &mut self,
        chart: usize,
        bytes: &mut Vec<u8>,
        names: &[Name],
        gone: &[u64],
        boottime: Duration,
        catalog: &mut Catalog,
    ) {
        let Self { words: [comes, goes], values, touched, declared, charts, .. } = self;
        let Some(Some(head)) = charts.get_mut(chart) else { return };
        let (first, range) = (chart * DIMENSIONS, chart * WORDS..(chart + 1) * WORDS);
        let (touched, declared) = (&mut touched[range.clone()], &mut declared[range]);
        let (values, names) = (&values[first..], &names[first..]);
        let words = |word: fn(u64, u64, u64) -> u64| {
            let words = touched.iter().zip(&*declared).zip(gone);
            words.map(move |((touched, declared), gone)| word(*touched, *declared, *gone))
        };
        let is_any = |word| words(word).any(|word| word != 0);
        if !is_any(|touched, declared, gone| declared & !gone | touched) {
            head.retire(bytes);
            catalog.release(head.id());
            charts[chart] = None;
            declared.fill(0);
            return;
        }
        if is_any(|touched, declared, gone| declared & gone | touched & !declared) {
            head.declare(bytes);
            for place in Places::of(words(|_, declared, gone| declared & gone)) {
                bytes.extend_from_slice(names[place].definition());
                bytes.extend_from_slice(goes.as_bytes());
            }
            for place in Places::of(words(|touched, declared, _| touched & !declared)) {
                bytes.extend_from_slice(names[place].definition());
                bytes.extend_from_slice(comes.as_bytes());
            }
        }
        if is_any(|touched, _, _| touched) {
            let mut digits = itoa::Buffer::new();
            head.begin(bytes, boottime, &mut digits);
            for place in Places::of(touched.iter().copied()) {
                bytes.extend_from_slice(names[place].set());
                bytes.extend_from_slice(digits.format(values[place]).as_bytes());
            }
            Head::end(bytes);
        }
        for ((touched, declared), gone) in touched.iter_mut().zip(declared).zip(gone) {
            *declared = *declared & !gone | std::mem::take(touched);
        }
    }

    /// Others may have the ids of its charts.
    pub(crate) fn release(&self, catalog: &mut Catalog) {
        self.charts.iter().flatten().for_each(|head| catalog.release(head.id()));
    }

    /// Takes the charts from the dashboard.
    pub(crate) fn retire(&self, bytes: &mut Vec<u8>) {
        self.charts.iter().flatten().for_each(|head| head.retire(bytes));
    }
}
