//! What a batch of lines carries, line by line.

/// Lines that stand and fall together, and how many samples they carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) lines: u32,
    pub(crate) samples: u32,
}

/// What an item takes before a batch.
const SIZE: usize = 8;

/// Appends the items of a batch: how many there are, then each.
pub(crate) fn write(items: &[Item], to: &mut Vec<u8>) {
    to.extend_from_slice(&(items.len() as u64).to_le_bytes());
    for Item { lines, samples } in items {
        to.extend_from_slice(&lines.to_le_bytes());
        to.extend_from_slice(&samples.to_le_bytes());
    }
}

/// The items that these bytes begin with, and the rest; none for bytes that were not written so.
pub(crate) fn read(bytes: &[u8]) -> Option<(Box<[Item]>, &[u8])> {
    let (count, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(SIZE)?;
    let (items, rest) = rest.split_at_checked(length)?;
    let item = |bytes: &[u8]| {
        let (lines, samples) = bytes.split_first_chunk()?;
        Some(Item { lines: u32::from_le_bytes(*lines), samples: u32::from_le_bytes(samples.try_into().ok()?) })
    };
    Some((items.chunks_exact(SIZE).map(item).collect::<Option<_>>()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_and_half_of_them_are_none() {
        let items = [Item { lines: 2, samples: 0 }, Item { lines: 1, samples: u32::MAX }];
        let mut bytes = Vec::new();
        write(&items, &mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), None);
        }
        bytes.extend_from_slice(b"rest");
        assert_eq!(read(&bytes), Some((Box::from(items), &b"rest"[..])));
        assert_eq!(read(&u64::MAX.to_le_bytes()), None);
    }
}
