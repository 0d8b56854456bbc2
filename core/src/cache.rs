//! What a sink keeps per row and per column.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::entity::Row;
use crate::view::{ColumnView, KindView, RowView, View};

/// What a sink keeps per row: made when the sink first asks for the row's, dropped when the row has ended and no view
/// has it any more.
#[derive(Debug)]
pub struct RowCache<T> {
    kinds: Vec<Kind<T>>,
    /// Of rows that live no more, by birth.
    past: HashMap<u64, T, BuildHasherDefault<Births>>,
}

#[derive(Debug)]
struct Kind<T> {
    /// As of the last view.
    rows: Arc<Vec<Option<Arc<Row>>>>,
    /// By slot: the row's birth and what is kept.
    slots: Vec<Option<(u64, T)>>,
}

impl<T> Default for RowCache<T> {
    fn default() -> Self {
        Self { kinds: Vec::new(), past: HashMap::default() }
    }
}

impl<T> RowCache<T> {
    /// Brings the cache up to a view: call once per view, before anything is asked for. What belonged to rows that no
    /// view will have again is handed to `gone`. Costs something only when rows came or went.
    pub fn update(&mut self, view: &View<'_>, gone: impl FnMut(T)) {
        let matrices = &view.live().matrices;
        self.kinds.resize_with(matrices.len(), || Kind { rows: Arc::default(), slots: Vec::new() });
        for (kind, matrix) in self.kinds.iter_mut().zip(matrices) {
            if Arc::ptr_eq(&kind.rows, &matrix.rows) {
                continue;
            }
            kind.rows = Arc::clone(&matrix.rows);
            for (slot, entry) in kind.slots.iter_mut().enumerate() {
                let birth = kind.rows.get(slot).and_then(Option::as_ref).map(|row| row.id.birth);
                if let Some((former, value)) = entry.take_if(|(owner, _)| Some(*owner) != birth) {
                    self.past.insert(former, value);
                }
            }
        }
        if self.past.is_empty() {
            return;
        }
        let rows = view.finals().iter().flat_map(|block| &block.matrices).flat_map(|matrix| &*matrix.rows).flatten();
        let finals: std::collections::HashSet<u64> = rows.map(|row| row.id.birth).collect();
        let over: Vec<u64> = self.past.keys().filter(|birth| !finals.contains(birth)).copied().collect();
        over.iter().filter_map(|birth| self.past.remove(birth)).for_each(gone);
    }

    /// What is kept for a row, made by `make` if there is nothing.
    pub fn entry(&mut self, row: &RowView<'_>, make: impl FnOnce() -> T) -> &mut T {
        let id = row.id();
        if row.is_final() {
            return self.past.entry(id.birth).or_insert_with(make);
        }
        let kind = id.kind as usize;
        if self.kinds.len() <= kind {
            self.kinds.resize_with(kind + 1, || Kind { rows: Arc::default(), slots: Vec::new() });
        }
        let (slots, slot) = (&mut self.kinds[kind].slots, id.slot as usize);
        if slots.len() <= slot {
            slots.resize_with(slot + 1, || None);
        }
        let entry = &mut slots[slot];
        if entry.as_ref().is_some_and(|(owner, _)| *owner != id.birth) {
            *entry = None;
        }
        &mut entry.get_or_insert_with(|| (id.birth, make())).1
    }

    /// What is kept for a row, if there is something.
    pub fn get(&self, id: crate::RowId) -> Option<&T> {
        let slot = self.kinds.get(id.kind as usize).and_then(|kind| kind.slots.get(id.slot as usize));
        match slot {
            Some(Some((owner, value))) if *owner == id.birth => Some(value),
            _ => self.past.get(&id.birth),
        }
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: crate::RowId) -> Option<&mut T> {
        let slot = self.kinds.get_mut(id.kind as usize).and_then(|kind| kind.slots.get_mut(id.slot as usize));
        match slot {
            Some(Some((owner, value))) if *owner == id.birth => Some(value),
            _ => self.past.get_mut(&id.birth),
        }
    }

    /// All that is kept.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let living = self.kinds.iter_mut().flat_map(|kind| kind.slots.iter_mut().flatten()).map(|(_, value)| value);
        living.chain(self.past.values_mut())
    }

    /// Keeps for each row of a view what `keep` makes of what is kept for it so far, if anything is; all else is handed to
    /// `gone`. For the first view through another selection, after [`update`](Self::update).
    pub fn renew(
        &mut self,
        view: &View<'_>,
        mut keep: impl FnMut(&KindView<'_>, &RowView<'_>, Option<T>) -> Option<T>,
        gone: impl FnMut(T),
    ) {
        let former = |kind: &mut Kind<T>| Kind { rows: Arc::clone(&kind.rows), slots: std::mem::take(&mut kind.slots) };
        let kinds = self.kinds.iter_mut().map(former).collect();
        let mut former = Self { kinds, past: std::mem::take(&mut self.past) };
        for kind in view.kinds() {
            for row in kind.rows() {
                if let Some(value) = keep(&kind, &row, former.take(row.id())) {
                    self.entry(&row, || value);
                }
            }
        }
        let living = former.kinds.into_iter().flat_map(|kind| kind.slots).flatten().map(|(_, value)| value);
        living.chain(former.past.into_values()).for_each(gone);
    }

    /// Takes out what is kept for a row.
    fn take(&mut self, id: crate::RowId) -> Option<T> {
        let slot = self.kinds.get_mut(id.kind as usize).and_then(|kind| kind.slots.get_mut(id.slot as usize));
        let living = slot.and_then(|entry| entry.take_if(|(owner, _)| *owner == id.birth));
        living.map(|(_, value)| value).or_else(|| self.past.remove(&id.birth))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.kinds.clear();
        self.past.clear();
    }
}

/// What a sink keeps per column: made when the sink first asks for the column's, and kept until it is cleared.
#[derive(Debug)]
pub struct ColumnCache<T>(Vec<Vec<Option<T>>>);

impl<T> Default for ColumnCache<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ColumnCache<T> {
    /// What is kept for a column, made by `make` if there is nothing.
    pub fn entry(&mut self, column: &ColumnView<'_>, make: impl FnOnce() -> T) -> &mut T {
        let (kind, index) = column.place();
        if self.0.len() <= kind {
            self.0.resize_with(kind + 1, Vec::new);
        }
        let columns = &mut self.0[kind];
        if columns.len() <= index {
            columns.resize_with(index + 1, || None);
        }
        columns[index].get_or_insert_with(make)
    }

    /// What is kept for the column at a place of a kind, if there is something.
    pub fn get(&self, kind: usize, column: usize) -> Option<&T> {
        self.0.get(kind)?.get(column)?.as_ref()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Births are numbers that are all different, one after another: spread, they need no further hashing.
#[derive(Debug, Default)]
struct Births(u64);

impl Hasher for Births {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}
