//! A selection worked out for the columns and rows that there are.

use std::sync::Arc;

use wildmatch::WildMatch;

use crate::batch::{Block, Layout, Matrix, is_set};
use crate::entity::Row;
use crate::label::untold;
use crate::metric::Column;
use crate::selection::Selection;

/// What one sink takes of a layout, and under which names.
#[derive(Debug)]
pub(crate) struct Lens {
    pub(crate) layout: Arc<Layout>,
    /// Another one where the selection is another: names and tags may be.
    pub(crate) edition: u64,
    pub(crate) kinds: Vec<KindLens>,
}

#[derive(Debug, Default)]
pub(crate) struct KindLens {
    /// By column: `None` is not taken.
    pub(crate) columns: Vec<Option<Projected>>,
    /// The same as words of 64 columns.
    mask: Vec<u64>,
    /// The taken columns by metric, and the name that the sink sees.
    pub(crate) metrics: Vec<(Box<str>, Vec<u32>)>,
    /// What the labels of a row must match, by their place among the kind's keys.
    rows: Vec<(usize, WildMatch)>,
}

/// What a sink sees of a column.
#[derive(Debug)]
pub(crate) struct Projected {
    pub(crate) name: Box<str>,
    pub(crate) tags: Box<[(Box<str>, Box<str>)]>,
}

impl Lens {
    pub(crate) fn new(selection: &Selection, layout: &Arc<Layout>, edition: u64) -> Self {
        let tags = selection.cleaned_tags();
        let look = |layout: &crate::batch::KindLayout| {
            let kind = &layout.kind;
            let takes_kind = selection.takes_kind(kind.name());
            let project = |column: &Arc<Column>| {
                let name = kind.metric_name(column);
                let takes_labels = || column.own_labels().all(|(key, value)| selection.takes_label(key, value));
                (takes_kind && selection.takes(&name) && takes_labels()).then(|| {
                    let keys = || kind.label_keys().chain(column.own_labels().map(|(key, _)| key));
                    let tags = tags.iter().filter(|(key, _)| keys().all(|label| label != &**key));
                    Projected { name: selection.name(&name).into(), tags: tags.cloned().collect() }
                })
            };
            let columns: Vec<_> = layout.columns.iter().map(project).collect();
            let mut mask = vec![0; columns.len().div_ceil(64)];
            for (index, _) in columns.iter().enumerate().filter(|(_, column)| column.is_some()) {
                mask[index / 64] |= 1 << (index % 64);
            }
            let metrics = layout.metrics.iter().filter_map(|metric| {
                let taken = metric.iter().filter(|column| columns[**column as usize].is_some());
                let taken: Vec<u32> = taken.copied().collect();
                let name = columns.get(*taken.first()? as usize)?.as_ref()?.name.clone();
                Some((name, taken))
            });
            let metrics = metrics.collect();
            let wanted = kind
                .label_keys()
                .enumerate()
                .filter_map(|(place, key)| selection.matching.get(key).map(|pattern| (place, WildMatch::new(pattern))));
            KindLens { columns, mask, metrics, rows: wanted.collect() }
        };
        Self { layout: Arc::clone(layout), edition, kinds: layout.kinds.iter().map(look).collect() }
    }

    /// The same for batches of which a `Top` has chosen the rows: `other` has some of those that are
    /// wanted, whatever its labels are.
    pub(crate) fn behind_top(mut self, selection: &Selection) -> Self {
        for (lens, layout) in self.kinds.iter_mut().zip(&self.layout.kinds) {
            if selection.top.contains_key(layout.kind.name()) {
                lens.rows.clear();
            }
        }
        self
    }

    pub(crate) fn fits(&self, block: &Block) -> bool {
        Arc::ptr_eq(&self.layout, &block.layout)
    }

    /// How many of a block's samples are taken.
    pub(crate) fn count(&self, block: &Block) -> u64 {
        let kinds = self.kinds.iter().zip(&block.matrices);
        kinds.map(|(lens, matrix)| lens.count(matrix)).sum()
    }
}

impl KindLens {
    /// Whether a row is taken. Who wrote a pattern knows no suffix that tells two rows apart.
    #[inline]
    pub(crate) fn takes_row(&self, row: &Row) -> bool {
        let takes = |pattern: &WildMatch, value| {
            pattern.matches(value) || untold(value).is_some_and(|plain| pattern.matches(plain))
        };
        self.rows.iter().all(|(place, pattern)| row.labels().nth(*place).is_some_and(|value| takes(pattern, value)))
    }

    /// Whether a column is taken.
    #[inline]
    pub(crate) fn takes_column(&self, column: usize) -> bool {
        is_set(&self.mask, column)
    }

    /// The taken columns, as words of 64.
    #[inline]
    pub(crate) fn mask(&self) -> &[u64] {
        &self.mask
    }

    /// The taken cells with a value, as words of 64 columns.
    fn taken<'a>(&'a self, presence: &'a [u64]) -> impl Iterator<Item = u64> + use<'a> {
        presence.iter().zip(&self.mask).map(|(present, mask)| present & mask)
    }

    fn count(&self, matrix: &Matrix) -> u64 {
        let words = matrix.words();
        if words == 0 || self.metrics.is_empty() {
            return 0;
        }
        let count = |presence| self.taken(presence).map(|word| u64::from(word.count_ones())).sum::<u64>();
        if self.rows.is_empty() {
            // Without looking at any row.
            return matrix.present.chunks_exact(words).map(count).sum();
        }
        let rows = matrix.rows.iter().zip(matrix.present.chunks_exact(words));
        let taken = rows.filter(|(row, _)| row.as_ref().is_some_and(|row| self.takes_row(row)));
        taken.map(|(_, presence)| count(presence)).sum()
    }
}
