//! The rows that have ended and that one sink has not had.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::batch::Block;
use crate::lens::Lens;

/// The rows that have ended, batch by batch, until the sink has taken them with a view. What the sink takes of them is
/// settled with that view; whoever keeps a sink from its views keeps them here, and nobody else waits. All sinks that lack
/// them share their memory.
#[derive(Debug)]
pub(crate) struct Finals {
    /// How many bytes may wait.
    limit: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    blocks: VecDeque<Ended>,
    bytes: usize,
    /// How many, the oldest, the sink has in its hands.
    given: usize,
    /// Whether these are in the sink's book.
    entered: bool,
    /// Nothing more is taken.
    over: bool,
}

/// The rows that ended in one batch.
#[derive(Debug)]
struct Ended {
    block: Arc<Block>,
    /// What the sink takes of them, through the selection of this edition.
    samples: u64,
    edition: u64,
    bytes: usize,
}

impl Finals {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, waiting: Mutex::default() }
    }

    /// The rows that ended in a batch, if any did of which the sink takes something. Returns how many samples are lost:
    /// the oldest, because too many wait, or these, because the sink is over. Those of one batch always may wait.
    pub(crate) fn push(&self, block: &Arc<Block>, lens: &Lens) -> u64 {
        let samples = lens.count(block);
        let waiting = &mut *self.waiting.lock();
        if samples == 0 || waiting.over {
            return samples;
        }
        let bytes = block.memory();
        waiting.bytes += bytes;
        waiting.blocks.push_back(Ended { block: Arc::clone(block), samples, edition: lens.edition, bytes });
        let mut lost = 0;
        while waiting.bytes > self.limit && waiting.blocks.len() > waiting.given + 1 {
            let Some(oldest) = waiting.blocks.remove(waiting.given) else { break };
            waiting.bytes -= oldest.bytes;
            lost += oldest.samples;
        }
        lost
    }

    /// Gives the sink those of all batches up to this one that it has not got yet. `entered` says whether the caller
    /// enters them in the sink's book before the sink sees them. Returns how many samples they are through this lens, which
    /// may be another one than when they ended.
    pub(crate) fn give(&self, (seq, lens): (u64, &Lens), entered: bool, blocks: &mut Vec<Arc<Block>>) -> u64 {
        let waiting = &mut *self.waiting.lock();
        let given = waiting.given;
        let new = waiting.blocks.iter_mut().skip(given).take_while(|ended| ended.block.tick.seq <= seq);
        let mut total = 0;
        for ended in new {
            if ended.edition != lens.edition {
                (ended.samples, ended.edition) = (lens.count(&ended.block), lens.edition);
            }
            blocks.push(Arc::clone(&ended.block));
            total += ended.samples;
        }
        waiting.given += blocks.len();
        waiting.entered = entered;
        total
    }

    /// Takes out those that the sink has not been given: another one gets them.
    pub(crate) fn take_waiting(&self) -> Vec<Arc<Block>> {
        let waiting = &mut *self.waiting.lock();
        let rest = waiting.blocks.split_off(waiting.given.min(waiting.blocks.len()));
        waiting.bytes -= rest.iter().map(|ended| ended.bytes).sum::<usize>();
        rest.into_iter().map(|ended| ended.block).collect()
    }

    /// The sink has not taken the newest of what it was given: it gets them again.
    pub(crate) fn take_back(&self, blocks: usize) {
        let waiting = &mut *self.waiting.lock();
        waiting.given = waiting.given.saturating_sub(blocks);
    }

    /// The sink has taken all that it was given, or none of it. Returns how many samples it has taken.
    pub(crate) fn settle(&self, taken: bool) -> u64 {
        let waiting = &mut *self.waiting.lock();
        let given = std::mem::take(&mut waiting.given);
        let mut samples = 0;
        if taken {
            for ended in waiting.blocks.drain(..given) {
                waiting.bytes -= ended.bytes;
                samples += ended.samples;
            }
        }
        samples
    }

    /// Nothing more is taken. Returns how many samples are lost that are not in the sink's book.
    pub(crate) fn end(&self) -> u64 {
        let over = Waiting { over: true, ..Waiting::default() };
        let Waiting { blocks, given, entered, .. } = std::mem::replace(&mut *self.waiting.lock(), over);
        blocks.iter().skip(if entered { given } else { 0 }).map(|ended| ended.samples).sum()
    }
}
