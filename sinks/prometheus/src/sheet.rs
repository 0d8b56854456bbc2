//! What pages of one view are written from.

use std::sync::Arc;

use ebpf_process_core::KeptView;

use crate::family::Family;
use crate::finals::Last;
use crate::lines::Lines;
use crate::row::Texts;

/// A view, and the texts and last totals that stand on its pages. What the encoder learns later changes nothing in it,
/// so that a page is of one view, however slowly it is read.
#[derive(Debug)]
pub(crate) struct Sheet {
    pub(crate) view: KeptView,
    pub(crate) parts: Vec<Part>,
    /// All rows that had ended with a lower number are on it.
    pub(crate) finals: u64,
    /// The bytes that it keeps in memory, as if nothing else had them. Asked for at each piece of a page, so it is kept:
    /// adding it up again looks at every row that has ended.
    memory: usize,
}

/// What there is of one kind of entity.
#[derive(Debug)]
pub(crate) struct Part {
    /// The kind's place among all kinds.
    pub(crate) kind: usize,
    pub(crate) lines: Arc<Lines>,
    /// With their places among all families.
    pub(crate) families: Vec<(u32, Arc<Family>)>,
    pub(crate) living: Arc<Living>,
    pub(crate) ended: Vec<Arc<Last>>,
}

/// The rows of a kind that live, with their labels to themselves: the same in all views until one comes or goes.
#[derive(Debug, Default)]
pub(crate) struct Living {
    pub(crate) places: Vec<usize>,
    pub(crate) texts: Texts,
}

/// A family on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// Its place among all families.
    pub(crate) family: u32,
    /// Its samples of rows that live.
    pub(crate) samples: u64,
}

impl Sheet {
    pub(crate) fn new(view: KeptView, parts: Vec<Part>, finals: u64) -> Self {
        let memory = view.memory() + parts.iter().map(Part::memory).sum::<usize>();
        Self { view, parts, finals, memory }
    }

    /// The bytes that it keeps in memory, as if nothing else had them.
    pub(crate) const fn memory(&self) -> usize {
        self.memory
    }
}

impl Part {
    fn memory(&self) -> usize {
        let ended: usize = self.ended.iter().map(|last| last.size()).sum();
        self.living.places.capacity() * size_of::<usize>() + self.living.texts.memory() + ended
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ebpf_process_core::Value;

    use super::*;
    use crate::finals::Final;
    use crate::row::Row;

    #[test]
    fn a_part_takes_what_is_said_of_its_rows() {
        let row = || Row { labels: "a=\"b\"".into(), started: "12".into() };
        let ended = Final::new(3, row(), [(1, Value::Counter(7))].into_iter(), Duration::ZERO).expect("a total").last;
        let mut texts = Texts::default();
        texts.push(&row());
        let (size, memory) = (ended.size(), texts.memory());
        let living = Arc::new(Living { places: Vec::with_capacity(5), texts });
        let ended = vec![Arc::clone(&ended), ended];
        let part = Part { kind: 3, lines: Arc::default(), families: Vec::new(), living, ended };
        assert_eq!(part.memory(), 5 * 8 + memory + 2 * size);
    }
}
