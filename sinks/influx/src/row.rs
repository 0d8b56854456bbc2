//! What is kept per row: its tags, and whether another row has the same.

use std::collections::HashMap;
use std::sync::Arc;

use ebpf_process_core::{RowId, RowView};

use crate::group::{Group, Kind};
use crate::text;

/// Why what would overwrite another row's numbers is rejected.
pub const TWIN: &str = "same name as another series";

/// Bytes that tell the kinds apart, before a row's tags.
const KIND: usize = size_of::<u32>();

/// A row's tags.
#[derive(Debug)]
pub(crate) struct Row {
    id: RowId,
    /// The kind, then `,key=value` of each tag, in the order of keys.
    text: Arc<[u8]>,
    /// Where each tag ends.
    ends: Box<[usize]>,
    /// Another row has its tags: what it wrote would overwrite the other's.
    pub(crate) is_twin: bool,
    /// The columns for which a row of another kind has its line.
    twins: Vec<usize>,
    /// The fields that are its own, of those that rows of several kinds can have.
    contested: Vec<Arc<[u8]>>,
}

impl Row {
    pub(crate) fn new(row: &RowView<'_>, place: usize, kind: &Kind, claims: &mut Claims) -> Self {
        let values: Vec<&str> = row.labels().map(|(_, value)| value).collect();
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        let (mut text, mut ends) = (place.to_le_bytes().to_vec(), Vec::with_capacity(kind.keys.len()));
        for key in &kind.keys {
            let value = values.get(key.place).copied().unwrap_or_default();
            text.extend(text::tag(&key.name, &text::clean(value)));
            ends.push(text.len());
        }
        let (id, tick) = (row.id(), row.tick().seq);
        let text: Arc<[u8]> = text.into();
        let is_twin = !claims.claim(&text, id, tick);
        let mut made = Self { id, text, ends: ends.into(), is_twin, twins: Vec::new(), contested: Vec::new() };
        let fields = kind.groups.iter().flat_map(|group| group.fields.iter().map(move |field| (group, field)));
        for (group, field) in fields.filter(|(_, field)| field.contested && !is_twin) {
            for name in field.names.all(&kind.text) {
                let line: Arc<[u8]> = made.line(group, &kind.text, name).into();
                if claims.claim(&line, id, tick) {
                    made.contested.push(line);
                } else {
                    made.twins.push(field.column);
                }
            }
        }
        made
    }

    /// Its tags from one to another.
    pub(crate) fn tags(&self, from: usize, to: usize) -> &[u8] {
        let place = |tag: usize| tag.checked_sub(1).map_or(KIND, |last| self.ends[last]);
        &self.text[place(from)..place(to)]
    }

    /// Whether a row of another kind has its line in this column.
    pub(crate) fn has_twin(&self, column: usize) -> bool {
        !self.twins.is_empty() && self.twins.contains(&column)
    }

    /// It has ended in this tick: from then on its tags may be another row's.
    pub(crate) fn end(&self, tick: u64, claims: &mut Claims) {
        self.claims().for_each(|claim| claims.end(claim, self.id, tick));
    }

    /// Nobody will ask for it again.
    pub(crate) fn release(&self, claims: &mut Claims) {
        self.claims().for_each(|claim| claims.release(claim, self.id));
    }

    fn claims(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.contested.iter().chain([&self.text])
    }

    /// A line of it up to a field's value, behind bytes that no kind has.
    fn line(&self, group: &Group, text: &[u8], name: &[u8]) -> Vec<u8> {
        let (mut line, mut done) = (u32::MAX.to_le_bytes().to_vec(), 0);
        for part in &group.parts {
            line.extend_from_slice(part.text.of(text));
            line.extend_from_slice(self.tags(done, part.tags));
            done = part.tags;
        }
        line.push(b' ');
        line.extend_from_slice(name);
        line
    }
}

/// Which row has which tags. The first one that is seen has them as long as it is kept.
#[derive(Debug, Default)]
pub(crate) struct Claims(HashMap<Arc<[u8]>, Owner>);

#[derive(Debug)]
struct Owner {
    row: RowId,
    /// The tick in which it ended.
    ended: Option<u64>,
}

impl Claims {
    /// Claims a text for a row that has values of this tick: false if another has it. Points of different times do not
    /// overwrite each other, so that who has ended earlier gives way.
    fn claim(&mut self, text: &Arc<[u8]>, row: RowId, tick: u64) -> bool {
        let own = Owner { row, ended: None };
        match self.0.get_mut(text) {
            None => self.0.insert(Arc::clone(text), own).is_none(),
            Some(owner) if owner.ended.is_some_and(|ended| ended != tick) => {
                *owner = own;
                true
            }
            Some(owner) => owner.row == row,
        }
    }

    fn end(&mut self, text: &Arc<[u8]>, row: RowId, tick: u64) {
        if let Some(owner) = self.0.get_mut(text).filter(|owner| owner.row == row) {
            owner.ended = Some(tick);
        }
    }

    fn release(&mut self, text: &Arc<[u8]>, row: RowId) {
        if self.0.get(text).is_some_and(|owner| owner.row == row) {
            self.0.remove(text);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Column, EntityKind, Selection, Unit};

    use super::*;

    /// The rows' ids of one view.
    fn two_rows() -> [RowId; 2] {
        let mut bench = Bench::new();
        let kind = EntityKind::new("process").keys(["comm"]);
        let cells = ["a", "b"].map(|comm| bench.cell(&kind, &[comm], Column::counter("calls", Unit::CALLS, "Calls")));
        let ids = bench.tick(
            &Selection::default(),
            |recorder| cells[..].iter().for_each(|cell| cell.counter(recorder, 1)),
            |view| {
                view.kinds().flat_map(|kind| kind.rows().map(|row| row.id()).collect::<Vec<_>>()).collect::<Vec<_>>()
            },
        );
        ids.try_into().expect("two rows")
    }

    #[test]
    fn a_claim_is_the_first_rows_until_it_has_ended_in_an_earlier_tick_or_is_gone() {
        let ([first, second], text) = (two_rows(), Arc::from(&b"text"[..]));
        let mut claims = Claims::default();
        assert!(claims.claim(&text, first, 1));
        assert!(claims.claim(&text, first, 2), "it keeps what it has");
        assert!(!claims.claim(&text, second, 2));
        // What another one does with it changes nothing.
        claims.end(&text, second, 2);
        claims.release(&text, second);
        assert!(!claims.claim(&text, second, 3));
        claims.end(&text, first, 3);
        assert!(!claims.claim(&text, second, 3), "points of one time would overwrite each other");
        assert!(claims.claim(&text, second, 4));
        assert!(!claims.claim(&text, first, 4));
        claims.release(&text, second);
        assert!(claims.0.is_empty());
    }

    #[test]
    fn a_row_that_is_gone_leaves_no_claim() {
        let ([first, second], mut claims) = (two_rows(), Claims::default());
        let texts = [&b"tags"[..], b"line"].map(Arc::<[u8]>::from);
        let [tags, line] = &texts;
        assert!(claims.claim(tags, first, 1) && claims.claim(line, first, 1));
        let contested = vec![Arc::clone(line)];
        let row = Row {
            id: first,
            text: Arc::clone(tags),
            ends: Box::default(),
            is_twin: false,
            twins: Vec::new(),
            contested,
        };
        row.end(1, &mut claims);
        assert!(texts.iter().all(|text| !claims.claim(text, second, 1)));
        row.release(&mut claims);
        assert!(claims.0.is_empty());
        assert!(claims.claim(tags, first, 2) && claims.claim(line, first, 2));
        row.end(2, &mut claims);
        assert!(texts.iter().all(|text| claims.claim(text, second, 3)));
    }
}
