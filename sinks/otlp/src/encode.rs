//! From a view to the groups of metrics that an export request consists of.

use std::collections::BTreeMap;

use ebpf_process_core::{Edition, RowCache, View};

use crate::resource::Resource;
use crate::row::Row;
use crate::sheet::{Shapes, Sheets};

/// Makes export requests of views, in pieces: a piece is a whole request, and several one after another are one too. In
/// a piece are whole rows of one kind, of each metric the data points side by side.
///
/// What it makes depends on the views it has seen and on nothing else. A row's and a column's attributes are made once;
/// a view in which nothing comes or goes allocates nothing.
#[derive(Debug)]
pub struct Encoder {
    resource: Resource,
    /// A piece is closed when its data points have so many bytes.
    enough: usize,
    kinds: Vec<Sheets>,
    shapes: Shapes,
    rows: RowCache<Row>,
    edition: Edition,
    piece: Vec<u8>,
}

impl Encoder {
    /// An encoder for the samples of this host, and of one of several agents there.
    pub fn new(host: &str, instance: Option<&str>) -> Self {
        Self {
            resource: Resource::new(host, instance),
            enough: 64 << 10,
            kinds: Vec::new(),
            shapes: Shapes::default(),
            rows: RowCache::default(),
            edition: Edition::default(),
            piece: Vec::new(),
        }
    }

    /// Says more of the resource, or something else than what is found out.
    #[must_use]
    pub fn with_resource(mut self, attributes: BTreeMap<String, String>) -> Self {
        self.resource.give(attributes);
        self
    }

    /// Closes a piece when it has so many bytes: at the end of a row, which is never cut.
    #[must_use]
    pub const fn with_enough(mut self, enough: usize) -> Self {
        self.enough = enough;
        self
    }

    /// What this host is called from now on.
    pub fn set_host(&mut self, host: &str) {
        self.resource.set_host(host);
    }

    /// Hands the pieces of a view to `take`, each with the number of samples in it. Returns how many samples are in none,
    /// because another column has the same name and labels.
    pub fn encode(&mut self, view: &View<'_>, mut take: impl FnMut(&[u8], u32)) -> u64 {
        let Self { resource, enough, kinds, shapes, rows, edition, piece } = self;
        if edition.is_another(view) {
            kinds.clear();
            shapes.clear();
            rows.clear();
        }
        rows.update(view, drop);
        let mut rejected = 0;
        for kind in view.kinds() {
            if kinds.len() <= kind.index() {
                kinds.resize_with(kind.index() + 1, Sheets::default);
            }
            let known = &mut kinds[kind.index()];
            known.extend(&kind, shapes);
            for row in kind.rows() {
                let own = rows.entry(&row, || Row::new(&row));
                rejected += known.add(&row, own);
                if known.filled >= *enough {
                    close(resource, known, piece, &mut take);
                }
            }
            if known.samples > 0 {
                close(resource, known, piece, &mut take);
            }
        }
        rejected
    }
}

/// Hands on what there is of a kind as a piece.
fn close(resource: &Resource, known: &mut Sheets, piece: &mut Vec<u8>, take: &mut impl FnMut(&[u8], u32)) {
    piece.clear();
    resource.begin(piece, known.size());
    let samples = known.write(piece);
    take(piece, samples);
}
