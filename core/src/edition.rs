//! What a sink has to know when its selection becomes another one while it runs.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use crate::view::{ColumnView, RowView, View};

/// Tells when the selection is another one: what a sink keeps of names and tags is void then.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edition(Known);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Known {
    /// There was no view yet.
    #[default]
    Nothing,
    /// Of the last view.
    Of(u64),
    /// What is kept was made for another outlet's views, whose numbers mean nothing here.
    Strange,
}

impl Edition {
    /// Whether this view is the first one through another selection than the view before; the first of all is not. To be
    /// asked once per view.
    pub fn is_another(&mut self, view: &View<'_>) -> bool {
        let now = Known::Of(view.edition());
        let before = std::mem::replace(&mut self.0, now);
        before != now && before != Known::Nothing
    }

    /// The next view is through another selection, whatever its number: for who goes on with what a predecessor kept.
    pub const fn forget(&mut self) {
        self.0 = Known::Strange;
    }
}

/// What the views so far have had of the columns, for a sink that keeps more than their texts.
#[derive(Debug, Default)]
pub struct Editions {
    edition: Edition,
    seen: Seen,
}

/// What the views through one selection had.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By kind and column: what tells names and tags apart; none where the column was not selected.
    columns: Vec<Vec<Option<u64>>>,
    /// Wall-clock time of the last view.
    last: Duration,
}

/// What a sink had of a column before its selection became another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It was not there: its counters have begun at 0 since the last view.
    New,
    /// It was there and not selected: since when it counts is not the sink's to tell.
    Unselected,
    /// It had another name or other tags.
    Renamed,
    /// All is as it was.
    Same,
}

impl Editions {
    /// Takes in a view; to be called once for each. Where it is the first one through another selection, returns what was
    /// seen through the one before.
    pub fn update(&mut self, view: &View<'_>) -> Option<Seen> {
        let former = self.edition.is_another(view).then(|| std::mem::take(&mut self.seen));
        let Seen { columns, last } = &mut self.seen;
        *last = view.tick().wall;
        for kind in view.kinds() {
            if columns.len() <= kind.index() {
                columns.resize_with(kind.index() + 1, Vec::new);
            }
            let known = &mut columns[kind.index()];
            for index in known.len()..kind.width() {
                known.push(kind.column(index).map(|column| fingerprint(&column)));
            }
        }
        former
    }

    /// The next view is through another selection, whatever its number: for who goes on with what a predecessor kept.
    pub const fn forget(&mut self) {
        self.edition.forget();
    }
}

impl Seen {
    /// What the sink had of a column.
    pub fn of(&self, column: &ColumnView<'_>) -> Before {
        let (kind, index) = column.place();
        match self.columns.get(kind).and_then(|columns| columns.get(index)) {
            None => Before::New,
            Some(None) => Before::Unselected,
            Some(Some(known)) if *known == fingerprint(column) => Before::Same,
            Some(Some(_)) => Before::Renamed,
        }
    }

    /// Whether a row had begun before the last view: one that the sink did not have was not selected then.
    pub fn was_there(&self, row: &RowView<'_>) -> bool {
        row.started() < self.last
    }
}

fn fingerprint(column: &ColumnView<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    column.name().hash(&mut hasher);
    column.tags().for_each(|tag| tag.hash(&mut hasher));
    hasher.finish()
}
