//! The rows that have ended and that one sink has not had.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::batch::Block;
use crate::lens::Lens;

/// The most memory of ended rows that wait for one sink, in bytes. The rows are shared by all sinks that lack them.
const LIMIT: usize = 32 << 20;

/// The rows that have ended, batch by batch, until the sink has taken them with a view. What the sink takes of them is
/// settled with that view; whoever keeps a sink from its views keeps them here, and nobody else waits.
#[derive(Debug, Default)]
pub(crate) struct Finals(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    blocks: VecDeque<(Arc<Block>, u64)>,
    bytes: usize,
    /// How many, the oldest, the sink has in its hands.
    given: usize,
}

impl Finals {
    /// The rows that ended in a batch, if any did of which the sink takes something. Returns how many samples are
    /// lost, the oldest, because too many wait.
    pub(crate) fn push(&self, block: &Arc<Block>, lens: &Lens) -> u64 {
        let samples = lens.count(block);
        if samples == 0 {
            return 0;
        }
        let waiting = &mut *self.0.lock();
        waiting.bytes += block.memory();
        waiting.blocks.push_back((Arc::clone(block), samples));
        let mut lost = 0;
        while waiting.bytes > LIMIT {
            let Some((oldest, samples)) = waiting.blocks.remove(waiting.given) else { break };
            waiting.bytes -= oldest.memory();
            lost += samples;
        }
        lost
    }

    /// Gives the sink those of all batches up to this one that it has not got yet. Returns how many samples they are.
    pub(crate) fn give(&self, seq: u64, blocks: &mut Vec<Arc<Block>>) -> u64 {
        let waiting = &mut *self.0.lock();
        let mut total = 0;
        for (block, samples) in waiting.blocks.iter().skip(waiting.given).take_while(|(block, _)| block.tick.seq <= seq)
        {
            blocks.push(Arc::clone(block));
            total += samples;
        }
        waiting.given += blocks.len();
        total
    }

    /// The sink has not taken the newest of what it was given: it gets them again.
    pub(crate) fn take_back(&self, blocks: usize) {
        let waiting = &mut *self.0.lock();
        waiting.given = waiting.given.saturating_sub(blocks);
    }

    /// The sink has taken all that it was given, or none of it.
    pub(crate) fn settle(&self, taken: bool) {
        let waiting = &mut *self.0.lock();
        let given = std::mem::take(&mut waiting.given);
        if taken {
            waiting.bytes -= waiting.blocks.drain(..given).map(|(block, _)| block.memory()).sum::<usize>();
        }
    }

    /// Nothing more is taken. Returns how many samples are lost that the sink has not in its hands.
    pub(crate) fn end(&self) -> u64 {
        let Waiting { blocks, given, .. } = std::mem::take(&mut *self.0.lock());
        blocks.iter().skip(given).map(|(_, samples)| samples).sum()
    }
}
