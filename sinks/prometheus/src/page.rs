//! A page on its way to a client, and what becomes of the samples on it.

use std::sync::Arc;

use ebpf_process_core::Ledger;
use parking_lot::Mutex;

use crate::renderer::Renderer;
use crate::sheet::{Section, Sheet};

/// The page of a client, on its way.
#[derive(Debug)]
pub(crate) struct Page {
    renderer: Renderer,
    account: Arc<Account>,
}

impl Page {
    pub(crate) const fn new(renderer: Renderer, account: Arc<Account>) -> Self {
        Self { renderer, account }
    }

    /// Writes a piece behind what stands there, up to so many bytes together and the lines of one value. Returns whether
    /// the page goes on.
    pub(crate) fn write(&mut self, most: usize, to: &mut Vec<u8>) -> bool {
        self.renderer.write(most, to)
    }

    /// What it keeps in memory.
    pub(crate) const fn sheet(&self) -> &Arc<Sheet> {
        self.renderer.sheet()
    }

    /// All of it is written.
    pub(crate) fn into_receipt(self) -> Receipt {
        let (sections, finals) = self.renderer.into_sections();
        Receipt { sections, finals, account: self.account }
    }
}

/// What stood on a whole page, to be entered once the client has had it.
#[derive(Debug)]
pub(crate) struct Receipt {
    /// The families, with their samples.
    pub(crate) sections: Vec<Section>,
    /// All rows that had ended with a lower number are on it.
    pub(crate) finals: u64,
    pub(crate) account: Arc<Account>,
}

/// The samples of one view that wait for a client. Those that nobody has fetched when the view was replaced and no
/// client reads it any more are superseded.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Arc<Ledger>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    samples: u64,
    /// By family: whether a client has had it.
    fetched: Vec<bool>,
}

impl Account {
    pub(crate) fn new(ledger: Arc<Ledger>, samples: u64) -> Self {
        Self { ledger, waiting: Mutex::new(Waiting { samples, fetched: Vec::new() }) }
    }

    /// Another view's samples take the place of these.
    pub(crate) fn begin(&mut self, samples: u64) {
        let waiting = self.waiting.get_mut();
        self.ledger.superseded(std::mem::replace(&mut waiting.samples, samples));
        waiting.fetched.clear();
    }

    /// A client has had these families.
    pub(crate) fn fetch(&self, sections: &[Section]) {
        let Waiting { samples, fetched } = &mut *self.waiting.lock();
        let mut written = 0;
        for section in sections {
            let family = section.family as usize;
            fetched.resize(fetched.len().max(family + 1), false);
            if !std::mem::replace(&mut fetched[family], true) {
                written += section.samples;
            }
        }
        *samples -= written;
        self.ledger.written(written);
    }

    /// Nobody comes any more.
    pub(crate) fn give_up(&self, reason: &'static str) {
        self.ledger.dropped(std::mem::take(&mut self.waiting.lock().samples), reason);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.begin(0);
    }
}
