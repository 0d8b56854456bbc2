//! Which charts there are: their ids, how many, and the order on the dashboard of those made by rule.

use std::collections::HashSet;

use crate::charts::is_known;
use crate::words;

/// The priority of the first chart made by rule: behind all known ones.
const FIRST_PRIORITY: u32 = 1000;

/// The most charts made by rule at once; each takes the agent some two kilobytes.
///
/// Fifty thousand rows of forty columns have 31,280. Beside those of rows that live there are those of rows that end in this
/// view and in the one before: 62,520 where half of all rows are replaced each time.
const LIMIT: usize = 65_536;

/// From so many charts on rows share them as closely as they can. Below it, charts that rest are beside those in use;
/// what a view then opens for rows that come is far less than what is left.
const SCARCE: usize = LIMIT / 4;

/// The ids and priorities of charts made by rule.
#[derive(Debug)]
pub(crate) struct Catalog {
    /// How often each chart is updated, in seconds.
    pub(crate) update_every: u64,
    taken: HashSet<String>,
    priorities: u32,
}

impl Catalog {
    /// Without charts; each will be updated every so many seconds.
    pub(crate) fn new(update_every: u64) -> Self {
        Self { update_every, taken: HashSet::new(), priorities: 0 }
    }

    /// Takes an id behind `ebpf.` that no chart has: this one, or one like it. `None` when there are too many charts.
    pub(crate) fn take(&mut self, wanted: &str) -> Option<String> {
        if self.taken.len() >= LIMIT {
            return None;
        }
        // The id is cut first, so that what makes it unique survives; the suffix stays far below the
        // two hundred bytes that netdata allows.
        let id = words::unique(words::id(wanted), |id| is_known(id) || self.taken.contains(id));
        self.taken.insert(id.clone());
        Some(id)
    }

    /// Whether rows should share charts as closely as they can.
    pub(crate) fn is_scarce(&self) -> bool {
        self.taken.len() >= SCARCE
    }

    /// A chart is over.
    pub(crate) fn release(&mut self, id: &str) {
        self.taken.remove(id);
    }

    /// The priority of the next metric that has charts by rule.
    pub(crate) const fn next_priority(&mut self) -> u32 {
        let priority = FIRST_PRIORITY.saturating_add(self.priorities);
        self.priorities = self.priorities.saturating_add(1);
        priority
    }

    /// All charts are over.
    pub(crate) fn clear(&mut self) {
        self.taken.clear();
        self.priorities = 0;
    }
}
