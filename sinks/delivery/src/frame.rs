//! What is sent at once: whole items, one after another.

use bytes::Bytes;

/// Items (lines, packets) that are sent together, with the samples that each of them carries.
///
/// A frame can be split between two items and never within one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    bytes: Content,
    items: Vec<Item>,
    samples: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    /// Where it ends in the frame's bytes.
    end: usize,
    samples: u32,
}

/// The bytes of all items.
#[derive(Clone, Debug)]
enum Content {
    /// Of a frame that grows.
    Grows(Vec<u8>),
    /// Of one that is whole: others may have them as well.
    Whole(Bytes),
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Grows(bytes) => bytes,
            Self::Whole(bytes) => bytes,
        }
    }

    fn grow(&mut self, item: &[u8]) {
        if let Self::Whole(bytes) = self {
            *self = Self::Grows(std::mem::take(bytes).into());
        }
        if let Self::Grows(bytes) = self {
            bytes.extend_from_slice(item);
        }
    }

    /// Cuts off what is behind a place.
    fn split_off(&mut self, place: usize) -> Self {
        match self {
            Self::Grows(bytes) => Self::Grows(bytes.split_off(place)),
            Self::Whole(bytes) => Self::Whole(bytes.split_off(place)),
        }
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::Grows(Vec::new())
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Content {}

/// What an item takes in a serialized frame besides its bytes: its length and its samples.
const ITEM_HEAD: usize = 8;

impl Frame {
    /// An empty frame with room for as much as another one has.
    pub(crate) fn with_room_of(other: &Self) -> Self {
        let bytes = Content::Grows(Vec::with_capacity(other.bytes().len()));
        Self { bytes, items: Vec::with_capacity(other.items.len()), samples: 0 }
    }

    /// A single item that carries so many samples; its bytes are not copied.
    pub fn of(item: impl Into<Bytes>, samples: u32) -> Self {
        let bytes = item.into();
        Self { items: vec![Item { end: bytes.len(), samples }], bytes: Content::Whole(bytes), samples: samples.into() }
    }

    /// Adds an item that carries so many samples.
    pub fn push(&mut self, item: &[u8], samples: u32) {
        self.bytes.grow(item);
        self.items.push(Item { end: self.bytes().len(), samples });
        self.samples += u64::from(samples);
    }

    /// The items' bytes, one after another.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.bytes()
    }

    /// The same, for who keeps them: another thread, until it has sent them. They are copied unless the frame is a
    /// [single item](Self::of) or comes from a spool.
    pub fn shared(&self) -> Bytes {
        match &self.bytes {
            Content::Grows(bytes) => Bytes::copy_from_slice(bytes),
            Content::Whole(bytes) => bytes.clone(),
        }
    }

    /// The items, each with the samples that it carries.
    pub fn items(&self) -> impl Iterator<Item = (&[u8], u32)> {
        let starts = std::iter::once(0).chain(self.items.iter().map(|item| item.end));
        starts.zip(&self.items).map(|(start, item)| (&self.bytes()[start..item.end], item.samples))
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many samples its items carry.
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// The memory that it takes, in bytes.
    pub fn size(&self) -> usize {
        self.bytes().len() + self.items.len() * size_of::<Item>()
    }

    /// The first half of the items and the second, in order; a single item cannot be split and is
    /// the second half.
    pub fn split(mut self) -> (Self, Self) {
        let half = self.items.len() / 2;
        let Some(middle) = half.checked_sub(1).and_then(|last| self.items.get(last)).map(|item| item.end) else {
            return (Self::default(), self);
        };
        let mut second = Self { bytes: self.bytes.split_off(middle), items: self.items.split_off(half), samples: 0 };
        for item in &mut second.items {
            item.end -= middle;
            second.samples += u64::from(item.samples);
        }
        self.samples -= second.samples;
        (self, second)
    }

    /// Appends the frame as bytes: the number of items, the length and the samples of each, their
    /// bytes. False, and nothing is appended, when a length does not fit 32 bits.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) -> bool {
        let Ok(count) = u32::try_from(self.items.len()) else { return false };
        if u32::try_from(self.bytes().len()).is_err() {
            return false;
        }
        out.reserve(4 + self.items.len() * ITEM_HEAD + self.bytes().len());
        out.extend_from_slice(&count.to_le_bytes());
        let mut start = 0;
        for item in &self.items {
            let length = u32::try_from(item.end - start).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&item.samples.to_le_bytes());
            start = item.end;
        }
        out.extend_from_slice(self.bytes());
        true
    }

    /// The inverse of [`write_to`](Self::write_to); `None` if these bytes are no frame.
    pub(crate) fn read_from(input: &[u8]) -> Option<Self> {
        let (count, rest) = input.split_first_chunk()?;
        let heads = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(ITEM_HEAD)?;
        let (heads, bytes) = rest.split_at_checked(heads)?;
        let content = Content::Whole(Bytes::copy_from_slice(bytes));
        let mut frame = Self { bytes: content, items: Vec::with_capacity(heads.len() / ITEM_HEAD), samples: 0 };
        let mut end = 0_usize;
        for head in heads.chunks_exact(ITEM_HEAD) {
            let (length, samples) = head.split_first_chunk()?;
            let samples = u32::from_le_bytes(samples.try_into().ok()?);
            end = end.checked_add(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
            frame.items.push(Item { end, samples });
            frame.samples += u64::from(samples);
        }
        (end == bytes.len()).then_some(frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(items: &[(Vec<u8>, u32)]) -> Frame {
        let mut frame = Frame::default();
        for (bytes, samples) in items {
            frame.push(bytes, *samples);
        }
        frame
    }

    #[test]
    fn a_single_item_is_shared_and_one_more_is_not_seen_by_who_has_it() {
        let item = vec![b'x'; 100];
        let place = item.as_ptr();
        let mut single = Frame::of(item.clone(), 3);
        assert_eq!(single, frame(&[(item.clone(), 3)]));
        let mut moved = Frame::of(item, 3);
        assert_eq!(moved.bytes().as_ptr(), place, "it is not copied");
        let shared = moved.shared();
        assert_eq!(shared.as_ptr(), place);
        moved.push(b"y", 1);
        single.push(b"y", 1);
        assert_eq!(moved, single);
        assert_eq!(moved.shared(), [&shared[..], b"y"].concat());
        assert_eq!((shared.len(), moved.samples(), moved.len()), (100, 4, 2));
    }

    proptest! {
        #[test]
        fn halves_are_whole_items_and_together_the_frame(
            items in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), any::<u32>()), 0..20),
        ) {
            let whole = frame(&items);
            let (first, second) = whole.clone().split();
            prop_assert_eq!(first.len(), items.len() / 2);
            prop_assert_eq!(&first, &frame(&items[..first.len()]));
            prop_assert_eq!(&second, &frame(&items[first.len()..]));
            prop_assert_eq!(first.samples() + second.samples(), whole.samples());
            prop_assert!(whole.items().eq(items.iter().map(|(bytes, samples)| (&**bytes, *samples))));
        }

        #[test]
        fn a_frame_comes_back_from_its_bytes(
            items in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), any::<u32>()), 0..20),
        ) {
            let mut bytes = Vec::new();
            prop_assert!(frame(&items).write_to(&mut bytes));
            prop_assert_eq!(Frame::read_from(&bytes), Some(frame(&items)));
            for cut in 0..bytes.len() {
                prop_assert_eq!(Frame::read_from(&bytes[..cut]), None);
            }
        }

        #[test]
        fn bytes_that_are_no_frame_are_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(frame) = Frame::read_from(&bytes) {
                let mut again = Vec::new();
                prop_assert!(frame.write_to(&mut again));
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
