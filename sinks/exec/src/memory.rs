//! The memory of batches, used again.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// How many buffers are kept at most: of those that wait for a program that has fallen behind, most are given back.
const KEPT: usize = 4;

/// Buffers of up to four times this are not worth giving back.
const SMALL: usize = 32 << 10;

/// Buffers that come back by themselves once nobody has their batch any more.
///
/// A large block that is new costs a page fault for every 4 KiB, and has to be filled before it can be written in place.
#[derive(Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<Vec<Vec<u8>>>>);

impl Memory {
    /// A buffer with room for about so many bytes; those that it has are of no meaning.
    pub(crate) fn buffer(&self, size: usize) -> Vec<u8> {
        // What was once large is not kept for what is small.
        let fits = |buffer: &Vec<u8>| buffer.capacity() / 4 <= size.max(SMALL);
        // Batches grow as numbers do.
        self.0.lock().pop().filter(fits).unwrap_or_else(|| Vec::with_capacity(size + size / 8))
    }

    /// The first bytes of a buffer, as a batch that others will have.
    pub(crate) fn lend(&self, buffer: Vec<u8>, length: usize) -> Bytes {
        Bytes::from_owner(Lent { buffer, length, home: Arc::clone(&self.0) })
    }
}

/// A buffer with a batch.
struct Lent {
    buffer: Vec<u8>,
    length: usize,
    home: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut home = self.home.lock();
        if home.len() < KEPT {
            home.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_batch_comes_back_when_nobody_has_it() {
        let memory = Memory::default();
        let batch = |size| {
            let mut buffer = memory.buffer(size);
            buffer.resize(size, b'x');
            memory.lend(buffer, 2)
        };
        let first = batch(1000);
        let place = first.as_ptr();
        let part = first.slice(1..);
        drop(first);
        let second = batch(1000);
        assert_ne!(second.as_ptr(), place, "somebody has a part of the first");
        drop(part);
        let third = batch(1100);
        assert_eq!(third.as_ptr(), place, "batches grow");
        drop(third);
        assert_eq!(memory.buffer(100).len(), 1100, "what was written is there");
        assert_eq!(second, b"xx"[..]);
    }

    #[test]
    fn few_buffers_are_kept_and_none_that_is_much_too_large() {
        let memory = Memory::default();
        let lent: Vec<_> = (0..3 * KEPT).map(|_| memory.lend(vec![0; 8 * SMALL], 1)).collect();
        drop(lent);
        assert_eq!(memory.0.lock().len(), KEPT);
        assert_eq!(memory.buffer(1000).len(), 0);
        assert_eq!(memory.buffer(2 * SMALL).len(), 8 * SMALL);
    }

    #[test]
    fn a_batch_outlives_who_made_it() {
        let memory = Memory::default();
        let batch = memory.lend(b"batch and more".to_vec(), 5);
        drop(memory);
        assert_eq!(batch, b"batch"[..]);
    }
}
