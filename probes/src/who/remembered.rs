//! The rows of processes by their places in a table: the next look comes in the order of places, and asks for nothing else.

use ebpf_process_core::RowId;

use super::abi::Doer;

/// Kinds of rows.
const KINDS: usize = 4;

/// What was found for the newest doer of each place.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    by_place: Vec<Option<Found>>,
}

#[derive(Debug)]
struct Found {
    doer: Doer,
    /// By kind: the row's identity, and the row, which may have ended.
    rows: [Option<(u64, RowId)>; KINDS],
}

impl Remembered {
    /// The row of one who is what he was when it was found.
    pub(super) fn row(&self, place: usize, doer: &Doer, kind: usize) -> Option<(u64, RowId)> {
        let found = self.by_place.get(place)?.as_ref()?;
        if found.doer == *doer { *found.rows.get(kind)? } else { None }
    }

    /// Notes a row. What was known of another one at this place is forgotten.
    pub(super) fn note(&mut self, place: usize, doer: &Doer, kind: usize, row: (u64, RowId)) {
        if self.by_place.len() <= place {
            self.by_place.resize_with(place + 1, || None);
        }
        let known = &mut self.by_place[place];
        let found = match known {
            Some(found) if found.doer == *doer => found,
            _ => known.insert(Found { doer: *doer, rows: [None; KINDS] }),
        };
        if let Some(noted) = found.rows.get_mut(kind) {
            *noted = Some(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::{EntityKind, Recorder};

    use super::*;

    #[test]
    fn a_row_is_of_one_who_is_what_he_was() {
        let mut recorder = Recorder::default();
        let kind = recorder.kind(EntityKind::new("process").keys(["pid"])).expect("a kind");
        let row = (7, recorder.row(kind, 7, &["1"]).expect("a row"));
        let doer = |comm: &[u8; 16]| Doer::Process { tgid: 1, started: 2, comm: *comm, cgroup: 3, uid: 0 };
        let (before, after) = (doer(b"a name.........."), doer(b"another name...."));
        let mut remembered = Remembered::default();
        assert_eq!(remembered.row(5, &before, 1), None);
        remembered.note(5, &before, 1, row);
        assert_eq!((remembered.row(5, &before, 1), remembered.row(5, &before, 0)), (Some(row), None));
        assert_eq!((remembered.row(5, &after, 1), remembered.row(4, &before, 1)), (None, None));
        remembered.note(5, &after, 0, row);
        assert_eq!((remembered.row(5, &before, 1), remembered.row(5, &after, 0)), (None, Some(row)));
        remembered.note(5, &after, KINDS, row);
    }
}
