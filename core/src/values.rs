//! The values of one row.

use crate::batch::{Block, Format, Value, is_set};
use crate::lens::KindLens;

/// The values of a row in the selected columns.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    block: &'a Block,
    lens: &'a KindLens,
    /// By column.
    formats: &'a [Format],
    present: &'a [u64],
    cells: &'a [u64],
}

impl<'a> Values<'a> {
    /// Of the row in a slot of a block.
    #[inline]
    pub(crate) fn new(block: &'a Block, lens: &'a KindLens, kind: usize, slot: usize) -> Self {
        let (matrix, formats) = (&block.matrices[kind], &block.layout.kinds[kind].formats[..]);
        Self { block, lens, formats, present: matrix.presence(slot), cells: matrix.row(slot) }
    }

    /// The value in a selected column, if there is one.
    #[inline]
    pub fn get(&self, column: usize) -> Option<Value<'a>> {
        (is_set(self.present, column) && self.lens.takes_column(column))
            .then(|| self.block.read(self.formats[column], self.cells[column]))
    }

    /// All by column, in the order of columns.
    pub(crate) fn all(self) -> impl Iterator<Item = (usize, Value<'a>)> + use<'a> {
        let Self { block, lens, formats, present, cells } = self;
        let words = lens.taken(present).enumerate();
        let columns = words.flat_map(|(index, word)| Bits(word).map(move |bit| index * 64 + bit));
        columns.map(move |column| (column, block.read(formats[column], cells[column])))
    }
}

/// The numbers of the bits of a word that are set.
#[derive(Clone)]
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let bit = self.0.trailing_zeros();
        self.0 &= self.0.checked_sub(1)?;
        Some(bit as usize)
    }
}
