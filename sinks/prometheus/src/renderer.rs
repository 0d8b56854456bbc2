//! From a view's sheet to a page, piece by piece.

use std::sync::Arc;

use ebpf_process_core::{KindView, View};

use crate::family::Family;
use crate::format::Format;
use crate::lines::Lines;
use crate::sheet::{Living, Part, Section, Sheet};
use crate::wanted::Wanted;

/// A page that fits is sent with its length; of a longer one so many bytes at a time, and the lines of one value.
pub(crate) const PIECE: usize = 64 * 1024;

/// A page that is being written.
#[derive(Debug)]
pub(crate) struct Renderer {
    sheet: Arc<Sheet>,
    format: Format,
    /// The families that are wanted: the part's place, and the family's among the part's.
    families: Vec<(usize, usize)>,
    /// Those that are written.
    sections: Vec<Section>,
    /// How far the next one is.
    place: Place,
}

/// A part of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// What stands before the samples of a metric: its help and its type.
    Header(&'a [u8]),
    /// The lines of one sample.
    Sample(&'a [u8]),
}

/// Where in a family it goes on.
#[derive(Debug, Default)]
struct Place {
    /// Among the rows that live, then those that have ended.
    row: usize,
    column: usize,
    /// Samples of rows that live, so far.
    samples: u64,
    /// Whether something stands on the page already.
    has_begun: bool,
}

impl Renderer {
    pub(crate) fn new(sheet: Arc<Sheet>, format: Format, wanted: &Wanted) -> Self {
        let parts = sheet.parts.iter().enumerate();
        let families = parts.flat_map(|(part, it)| {
            let families = it.families.iter().enumerate().filter(|(_, (_, family))| wanted.takes(family));
            families.map(move |(family, _)| (part, family))
        });
        let families = families.collect();
        Self { sheet, format, families, sections: Vec::new(), place: Place::default() }
    }

    /// Writes until `to` has at least so many bytes, at most the lines of one value more. Returns whether the page goes
    /// on; once it does not, this is not called again.
    pub(crate) fn write(&mut self, most: usize, to: &mut Vec<u8>) -> bool {
        let Self { sheet, format, families, sections, place } = self;
        let view = sheet.view.view();
        while let Some(&(part, family)) = families.get(sections.len()) {
            let part = &sheet.parts[part];
            let (index, family) = &part.families[family];
            let header = if place.has_begun { &[][..] } else { family.header(*format) };
            let before = to.len();
            to.extend_from_slice(header);
            if !write_family(view, part, family, *format, place, &mut |to| to.len() >= most, to) {
                place.has_begun = true;
                return true;
            }
            if to.len() == before + header.len() {
                to.truncate(before);
            }
            sections.push(Section { family: *index, samples: place.samples });
            *place = Place::default();
        }
        if *format == Format::OpenMetrics {
            to.extend_from_slice(b"# EOF\n");
        }
        false
    }

    /// Hands out the whole page, but for the end of a page in `OpenMetrics`.
    pub(crate) fn hand_out(self, mut take: impl FnMut(Piece<'_>)) {
        let Self { sheet, format, families, .. } = self;
        let mut lines = Vec::new();
        for (part, family) in families {
            let part = &sheet.parts[part];
            let (_, family) = &part.families[family];
            take(Piece::Header(family.header(format)));
            let mut hand = |lines: &mut Vec<u8>| {
                take(Piece::Sample(lines));
                lines.clear();
                false
            };
            write_family(sheet.view.view(), part, family, format, &mut Place::default(), &mut hand, &mut lines);
        }
    }

    pub(crate) const fn sheet(&self) -> &Arc<Sheet> {
        &self.sheet
    }

    /// The families that stand on the page, and the number of the first row that ended too late for it.
    pub(crate) fn into_sections(self) -> (Vec<Section>, u64) {
        (self.sections, self.sheet.finals)
    }
}

/// Writes a family's samples from a place on, until `stops` says so behind one; returns whether these are all.
fn write_family(
    view: View<'_>,
    part: &Part,
    family: &Family,
    format: Format,
    place: &mut Place,
    stops: &mut impl FnMut(&mut Vec<u8>) -> bool,
    to: &mut Vec<u8>,
) -> bool {
    let Lines { texts, .. } = &*part.lines;
    let columns: Vec<_> = family.columns.iter().filter_map(|column| part.lines.column(*column)).collect();
    let kind: Option<KindView<'_>> = view.kinds().find(|kind| kind.index() == part.kind);
    let Living { places, texts: rows } = &*part.living;
    while let (Some(kind), Some(living)) = (&kind, places.get(place.row)) {
        let (values, text) = (kind.living(*living).map(|row| row.values()), rows.get(place.row));
        while let (Some(values), Some((number, column))) = (&values, columns.get(place.column)) {
            place.column += 1;
            if let Some(value) = values.get(*number as usize) {
                column.write(texts, text, value.into(), format, to);
                place.samples += 1;
                if stops(to) {
                    return false;
                }
            }
        }
        (place.row, place.column) = (place.row + 1, 0);
    }
    while let Some(last) = part.ended.get(place.row - places.len()) {
        while let Some((number, column)) = columns.get(place.column) {
            place.column += 1;
            if let Some(number) = last.number(*number, column.is_histogram()) {
                column.write(texts, last.row.text(), number, format, to);
                if stops(to) {
                    return false;
                }
            }
        }
        (place.row, place.column) = (place.row + 1, 0);
    }
    true
}
