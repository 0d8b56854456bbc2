//! Items become frames: enough of them to be worth a request, none of them too late.

use std::time::{Duration, Instant};

use crate::frame::Frame;

/// Fills frames up to a number of items, a number of bytes, or an age.
#[derive(Debug)]
pub struct Packer {
    limits: Limits,
    frame: Frame,
    /// When its first item came.
    since: Option<Instant>,
}

/// How much goes into one frame, and how long it may wait there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Items.
    pub items: usize,
    /// Bytes; an item that is larger has a frame of its own.
    pub bytes: usize,
    /// From the first item to the sending; zero sends whatever is there.
    pub age: Duration,
}

impl Limits {
    /// So many items and bytes; what there is is sent at once.
    pub const fn new(items: usize, bytes: usize) -> Self {
        Self { items, bytes, age: Duration::ZERO }
    }

    /// How long an item may wait for others.
    #[must_use]
    pub const fn age(self, age: Duration) -> Self {
        Self { age, ..self }
    }
}

impl Packer {
    /// Nothing is packed yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, frame: Frame::default(), since: None }
    }

    /// Adds an item that carries so many samples; returns the frame that has no room for it.
    #[must_use]
    pub fn push(&mut self, item: &[u8], samples: u32, now: Instant) -> Option<Frame> {
        let full = self.frame.len() >= self.limits.items || self.frame.bytes().len() + item.len() > self.limits.bytes;
        let done = if full { self.take() } else { None };
        self.since.get_or_insert(now);
        self.frame.push(item, samples);
        done
    }

    /// The frame, if it is as old as it may become.
    #[must_use]
    pub fn take_due(&mut self, now: Instant) -> Option<Frame> {
        self.due().filter(|due| *due <= now).and_then(|_| self.take())
    }

    /// The frame, whatever is in it.
    #[must_use]
    pub fn take(&mut self) -> Option<Frame> {
        self.since.take()?;
        // The next one will be about as large.
        let next = Frame::with_room_of(&self.frame);
        Some(std::mem::replace(&mut self.frame, next))
    }

    /// When the frame becomes too old; `None` while it is empty.
    pub fn due(&self) -> Option<Instant> {
        self.since.and_then(|since| since.checked_add(self.limits.age))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_leaves_at_its_age() {
        let age = Duration::from_secs(10);
        let mut packer = Packer::new(Limits { items: 100, bytes: 100, age });
        let start = Instant::now();
        assert_eq!((packer.due(), packer.take_due(start)), (None, None));
        assert_eq!(packer.push(b"a", 1, start), None);
        assert_eq!(packer.push(b"b", 1, start + age / 2), None);
        assert_eq!(packer.take_due(start + age / 2), None);
        assert_eq!(packer.due(), Some(start + age));
        assert_eq!(packer.take_due(start + age).map(|frame| frame.len()), Some(2));
        assert_eq!(packer.take(), None);
    }

    proptest! {
        #[test]
        fn no_frame_is_larger_than_its_limits_and_nothing_is_lost(
            sizes in prop::collection::vec(0..30_usize, 0..200),
            items in 1..10_usize,
            bytes in 1..50_usize,
        ) {
            let mut packer = Packer::new(Limits { items, bytes, age: Duration::ZERO });
            let now = Instant::now();
            let mut frames = Vec::new();
            for (size, mark) in sizes.iter().zip((0..=u8::MAX).cycle()) {
                frames.extend(packer.push(&vec![mark; *size], 1, now));
            }
            frames.extend(packer.take());
            for frame in &frames {
                prop_assert!(frame.len() <= items);
                prop_assert!(frame.bytes().len() <= bytes || frame.len() == 1);
            }
            prop_assert_eq!(frames.iter().map(Frame::samples).sum::<u64>(), sizes.len() as u64);
            let packed: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes().to_vec()).collect();
            let given = sizes.iter().zip((0..=u8::MAX).cycle()).flat_map(|(size, mark)| vec![mark; *size]);
            prop_assert_eq!(packed, given.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_frame_has_as_much_as_its_limits_say() {
        let now = Instant::now();
        let mut packer = Packer::new(Limits::new(3, 4).age(Duration::from_secs(1)));
        assert_eq!((packer.push(b"ab", 1, now), packer.push(b"cd", 1, now)), (None, None));
        assert_eq!(packer.due(), Some(now + Duration::from_secs(1)));
        assert_eq!(packer.push(b"", 1, now), None);
        assert_eq!(packer.push(b"", 1, now).map(|frame| frame.bytes().to_vec()), Some(b"abcd".to_vec()));
        assert_eq!(packer.push(b"abcde", 1, now).map(|frame| frame.len()), Some(1));
    }
}
