//! The columns of a kind of entity, as pages have them.

use crate::column::{Column, Texts};

/// The columns by their places, and their texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    pub(crate) columns: Vec<Seat>,
    /// What the columns' lines say.
    pub(crate) texts: Texts,
}

/// A column's place on pages.
#[derive(Clone, Debug, Default)]
pub(crate) enum Seat {
    #[default]
    Unknown,
    /// Another series or another metric has its name.
    Rejected,
    Taken(Column),
}

impl Lines {
    /// A column that is on pages, with its place.
    pub(crate) fn column(&self, place: u32) -> Option<(u32, &Column)> {
        match self.columns.get(place as usize) {
            Some(Seat::Taken(column)) => Some((place, column)),
            _ => None,
        }
    }
}
