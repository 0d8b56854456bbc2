//! From a view to a page.

use std::collections::hash_map::{Entry as Place, HashMap};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::{ColumnView, Edition, KeptView, KindView, RowCache, RowView, View};

use crate::column::Column;
use crate::family::Family;
use crate::finals::{Final, Finals};
use crate::format::Format;
use crate::lines::{Lines, Seat};
use crate::renderer::{PIECE, Piece, Renderer};
use crate::row::{Keys, Row};
use crate::sheet::{Living, Part, Section, Sheet};
use crate::wanted::Wanted;

/// What became of a view's samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples on the page.
    pub written: u64,
    /// Levels of rows that have ended: there is nothing any more that they could tell of.
    pub superseded: u64,
    /// Samples left out, because another series or another metric has the name already.
    pub rejected: u64,
}

/// Makes the page for each view.
///
/// What it writes depends on the views it has seen and on nothing else. The text of a row and that of a column are
/// made once.
#[derive(Debug)]
pub struct Encoder {
    namespace: String,
    families: Vec<Arc<Family>>,
    /// The names that families have.
    names: HashSet<String>,
    /// By their places among all kinds.
    kinds: BTreeMap<usize, Kind>,
    rows: RowCache<Entry>,
    finals: Finals,
    now: Duration,
    edition: Edition,
}

/// What is known of a kind of entity.
#[derive(Debug)]
struct Kind {
    keys: Keys,
    families: Vec<u32>,
    /// By the name of a metric's columns; none where its names are taken.
    by_metric: HashMap<Box<str>, Option<u32>>,
    /// Pages on their way have them, too.
    lines: Arc<Lines>,
    /// Whether a column is rejected.
    rejects: bool,
    /// The rows that live, since somebody has asked for a page and no row has come or gone.
    living: Option<Arc<Living>>,
    /// Rows' labels, each in use by one row: one that lives, or the final of this number.
    labels: HashMap<Arc<str>, Option<u64>>,
}

/// What is kept per row.
#[derive(Debug)]
struct Entry {
    kind: usize,
    row: Row,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    New,
    /// It lives, and has its labels to itself.
    Named,
    /// Another row has them.
    Twin,
    /// Its last totals are taken.
    Ended,
}

/// What a view has brought. Together these are all of its samples but for `lost` and `void`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Samples of rows that live, for the page.
    pub(crate) living: u64,
    /// Totals of rows that have ended, for pages until somebody has fetched them.
    pub(crate) finals: u64,
    /// Levels of rows that have ended.
    pub(crate) superseded: u64,
    /// Twins.
    pub(crate) rejected: u64,
    /// Totals of rows that had ended that nobody has fetched in time, or whose labels another row has now.
    pub(crate) lost: u64,
    /// Totals of rows that had ended that nobody has fetched before the selection became another one.
    pub(crate) void: u64,
}

impl Encoder {
    /// An encoder whose metrics' names begin with `namespace`, which may be empty.
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            families: Vec::new(),
            names: HashSet::new(),
            kinds: BTreeMap::new(),
            rows: RowCache::default(),
            finals: Finals::default(),
            now: Duration::ZERO,
            edition: Edition::default(),
        }
    }

    /// Writes a view as a page of its own, in place of what stood there.
    pub fn encode(&mut self, view: &View<'_>, format: Format, page: &mut Vec<u8>) -> Counts {
        page.clear();
        self.write(*view, format, |mut renderer| _ = renderer.write(usize::MAX, page))
    }

    /// Hands out the same page in pieces of some 64 KiB, as the server sends it: no more than one is in memory.
    pub fn encode_pieces(&mut self, view: &View<'_>, format: Format, mut take: impl FnMut(&[u8])) -> Counts {
        self.write(*view, format, |mut renderer| {
            let (mut piece, mut goes_on) = (Vec::new(), true);
            while goes_on {
                piece.clear();
                goes_on = renderer.write(PIECE, &mut piece);
                take(&piece);
            }
        })
    }

    /// Hands out the same page as text, sample by sample.
    pub fn encode_samples(&mut self, view: &View<'_>, take: impl FnMut(Piece<'_>)) -> Counts {
        self.write(*view, Format::Text, |renderer| renderer.hand_out(take))
    }

    fn write(&mut self, view: View<'_>, format: Format, write: impl FnOnce(Renderer)) -> Counts {
        let Taken { living, finals, superseded, rejected, lost, .. } = self.update(view);
        write(Renderer::new(Arc::new(self.sheet(view.keep())), format, &Wanted::default()));
        self.clear();
        // On one page two rows cannot have the same labels.
        Counts { written: living + finals - lost, superseded, rejected: rejected + lost }
    }

    /// Brings the encoder up to a view, in place of the one before. What ends is kept until it was fetched.
    pub(crate) fn update(&mut self, view: View<'_>) -> Taken {
        self.now = view.tick().boottime;
        let void = if self.edition.is_another(&view) { self.forget() } else { 0 };
        let Self { kinds, finals, rows, now, .. } = self;
        let lost = finals.expire(*now, |it| release(kinds, it.kind, &it.last.row.labels));
        rows.update(&view, |entry: Entry| {
            if entry.standing == Standing::Named {
                kinds.get_mut(&entry.kind).into_iter().for_each(|kind| kind.living = None);
                release(kinds, entry.kind, &entry.row.labels);
            }
        });
        let mut taken = Taken { lost, void, ..Taken::default() };
        for kind in view.kinds() {
            self.learn(&kind);
            self.take_rows(&kind, &mut taken);
        }
        // So far what of them is not on the page is known.
        taken.living = (view.len() as u64).saturating_sub(taken.finals + taken.superseded + taken.rejected);
        taken
    }

    /// Names and labels may be others from now on: nothing that was called otherwise stays. Pages on their way have all
    /// that they need. Returns how many totals of rows that had ended nobody has fetched.
    fn forget(&mut self) -> u64 {
        let unfetched = self.clear();
        self.families.clear();
        self.names.clear();
        self.kinds.clear();
        self.rows.clear();
        unfetched
    }

    /// Makes the text of columns that are new.
    fn learn(&mut self, kind: &KindView<'_>) {
        let Self { namespace, families, names, kinds, .. } = self;
        let known = kinds.entry(kind.index()).or_insert_with(|| Kind::new(Keys::new(kind.kind())));
        for column in kind.columns() {
            if matches!(known.lines.columns.get(column.index()), None | Some(Seat::Unknown)) {
                let seat = known.seat(namespace, &column, families, names);
                known.rejects |= matches!(seat, Seat::Rejected);
                let Lines { columns, .. } = Arc::make_mut(&mut known.lines);
                columns.resize_with(columns.len().max(column.index() + 1), Seat::default);
                columns[column.index()] = seat;
            }
        }
    }

    /// Gives rows that are new their labels, takes over those that have ended, and counts what is on no page.
    fn take_rows(&mut self, kind: &KindView<'_>, taken: &mut Taken) {
        let Self { kinds, rows, finals, now, .. } = self;
        let index = kind.index();
        let Some(kind_of) = kinds.get_mut(&index) else { return };
        for row in kind.rows() {
            let make = || Entry { kind: index, row: Row::new(&kind_of.keys, &row), standing: Standing::New };
            let entry = rows.entry(&row, make);
            if entry.standing == Standing::New {
                entry.standing = kind_of.claim(&entry.row.labels, finals, taken);
                kind_of.living = None;
            }
            match entry.standing {
                Standing::Twin => taken.rejected += row.cells().count() as u64,
                Standing::Ended => taken.superseded += row.cells().count() as u64,
                _ if row.is_final() => {
                    entry.standing = Standing::Ended;
                    kind_of.living = None;
                    kind_of.end(index, &entry.row, &row, finals, *now, taken);
                }
                _ if kind_of.rejects => taken.rejected += kind_of.rejected(&row),
                _ => {}
            }
        }
    }

    /// What pages of the view are written from that the encoder was brought up to.
    pub(crate) fn sheet(&mut self, view: KeptView) -> Sheet {
        let Self { families: all, kinds, rows, finals, .. } = self;
        let parts = view.view().kinds().filter_map(|kind| {
            let known = kinds.get_mut(&kind.index())?;
            let families = known.families.iter().map(|family| (*family, Arc::clone(&all[*family as usize])));
            let families = families.collect();
            let living = Arc::clone(known.living.get_or_insert_with(|| Arc::new(living(&kind, rows))));
            let (lines, ended) = (Arc::clone(&known.lines), finals.of(kind.index()).cloned().collect());
            Some(Part { kind: kind.index(), lines, families, living, ended })
        });
        let parts = parts.collect();
        Sheet::new(view, parts, finals.next())
    }

    /// A client has had a page with these families, and in them all rows that have ended before this number. Returns
    /// how many totals that waited for one.
    pub(crate) fn fetch_finals(&mut self, before: u64, sections: &[Section]) -> u64 {
        let mut families = vec![false; self.families.len()];
        for section in sections {
            // A page from before the selection became another one has none of the rows that are waited for.
            families.get_mut(section.family as usize).into_iter().for_each(|had| *had = true);
        }
        let Self { kinds, finals, now, .. } = self;
        let takes = |kind: usize, column: usize| match kinds.get(&kind).and_then(|kind| kind.lines.columns.get(column))
        {
            Some(Seat::Taken(column)) => families[column.family as usize],
            _ => false,
        };
        finals.fetch(before, *now, takes)
    }

    /// Lets go all rows that have ended. Returns how many totals nobody has fetched.
    pub(crate) fn clear(&mut self) -> u64 {
        let Self { kinds, finals, .. } = self;
        finals.clear(|it| release(kinds, it.kind, &it.last.row.labels))
    }
}

/// The rows of a kind that live and are on pages.
fn living(kind: &KindView<'_>, rows: &RowCache<Entry>) -> Living {
    let mut living = Living::default();
    for row in kind.rows().filter(|row| !row.is_final()) {
        if let Some(entry) = rows.get(row.id()).filter(|entry| entry.standing == Standing::Named) {
            living.places.push(row.place());
            living.texts.push(&entry.row);
        }
    }
    living
}

/// A row's labels are free again.
fn release(kinds: &mut BTreeMap<usize, Kind>, kind: usize, labels: &str) {
    if let Some(kind) = kinds.get_mut(&kind) {
        kind.labels.remove(labels);
    }
}

impl Kind {
    fn new(keys: Keys) -> Self {
        Self {
            keys,
            families: Vec::new(),
            by_metric: HashMap::new(),
            lines: Arc::default(),
            rejects: false,
            living: None,
            labels: HashMap::new(),
        }
    }

    /// Gives a new column its family, unless another one has its name.
    fn seat(
        &mut self,
        namespace: &str,
        column: &ColumnView<'_>,
        families: &mut Vec<Arc<Family>>,
        names: &mut HashSet<String>,
    ) -> Seat {
        let metric = column.column().name();
        let known = self.by_metric.get(metric).copied();
        let index = known.unwrap_or_else(|| {
            let family = Family::new(namespace, column);
            let index =
                u32::try_from(families.len()).ok().filter(|_| family.names().all(|name| !names.contains(&name)));
            if let Some(index) = index {
                names.extend(family.names());
                families.push(Arc::new(family));
                self.families.push(index);
            }
            self.by_metric.insert(metric.into(), index);
            index
        });
        let labels = self.keys.others(column.column().own_labels().chain(column.tags()));
        let place = u32::try_from(column.index()).unwrap_or(u32::MAX);
        let Some(index) = index else { return Seat::Rejected };
        let family = Arc::make_mut(&mut families[index as usize]);
        if !family.add(place, &labels) {
            return Seat::Rejected;
        }
        let has_keys = !self.keys.is_empty();
        Seat::Taken(Column::new(
            &mut Arc::make_mut(&mut self.lines).texts,
            index,
            &family.name,
            column,
            has_keys,
            &labels,
        ))
    }

    /// A new row asks for its labels. It gets them from one that has ended.
    fn claim(&mut self, labels: &Arc<str>, finals: &mut Finals, taken: &mut Taken) -> Standing {
        match self.labels.entry(Arc::clone(labels)) {
            Place::Vacant(free) => {
                free.insert(None);
                Standing::Named
            }
            Place::Occupied(mut owner) => match owner.get_mut().take() {
                Some(number) => {
                    taken.lost += finals.replace(number);
                    Standing::Named
                }
                None => Standing::Twin,
            },
        }
    }

    /// Takes over the last totals of a row.
    fn end(
        &mut self,
        kind: usize,
        text: &Row,
        row: &RowView<'_>,
        finals: &mut Finals,
        now: Duration,
        taken: &mut Taken,
    ) {
        let (all, rejected) = (row.cells().count() as u64, if self.rejects { self.rejected(row) } else { 0 });
        let cells = row.cells().filter(|(column, _)| !matches!(self.lines.columns.get(*column), Some(Seat::Rejected)));
        let it = Final::new(kind, text.clone(), cells, now);
        let kept = it.as_ref().map_or(0, Final::owed);
        taken.finals += kept;
        taken.rejected += rejected;
        taken.superseded += all - rejected - kept;
        match it.map(|it| finals.keep(it)) {
            Some(number) => _ = self.labels.insert(Arc::clone(&text.labels), Some(number)),
            None => _ = self.labels.remove(&text.labels),
        }
    }

    /// How many of a row's samples are in columns that are on no page.
    fn rejected(&self, row: &RowView<'_>) -> u64 {
        row.cells().filter(|(column, _)| matches!(self.lines.columns.get(*column), Some(Seat::Rejected))).count() as u64
    }
}
