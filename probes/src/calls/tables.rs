//! The tables by which the program of all system calls knows what is watched.

use std::io;

use crate::call::Watched;
use crate::elements::Elements;
use crate::object::Object;
use crate::object_maps::ObjectMaps;

/// The tables in the kernel.
pub(super) enum Tables {
    /// One element each, with everything.
    Core { calls: Elements, splits: Elements },
    /// An element for each number and each record.
    Floor { calls: Elements, splits: Elements },
}

impl Tables {
    pub(super) fn of(maps: &ObjectMaps, object: Object) -> io::Result<Self> {
        let elements = |name: &str| maps.elements(name, None);
        Ok(match object {
            Object::Core | Object::Who => {
                Self::Core { calls: elements(".data.calls")?, splits: elements(".data.splits")? }
            }
            Object::Floor => Self::Floor { calls: elements("calls")?, splits: elements("splits")? },
        })
    }

    pub(super) fn set_entries(&self, entries: &[u32], changed: &[usize]) -> io::Result<()> {
        let bytes = |entries: &[u32]| entries.iter().flat_map(|entry| entry.to_ne_bytes()).collect::<Vec<u8>>();
        match self {
            Self::Core { .. } if changed.is_empty() => Ok(()),
            Self::Core { calls, .. } => calls.update(&key(0), &bytes(entries)),
            Self::Floor { calls, .. } => changed.iter().try_for_each(|number| {
                let entry = entries.get(*number).copied().unwrap_or_default();
                calls.update(&key(u32::try_from(*number).unwrap_or(u32::MAX)), &bytes(&[entry]))
            }),
        }
    }

    /// What tells the two operations of a call apart: `struct split` of abi.h.
    pub(super) fn set_split(&self, watched: &Watched) -> io::Result<()> {
        let Some(split) = watched.call.split else { return Ok(()) };
        let words = [u64::from(split.argument) | u64::from(split.is_pointer) << 32, split.bits];
        let words = words.map(u64::to_ne_bytes).concat();
        match self {
            Self::Core { splits, .. } => {
                let mut all = vec![0; splits.value_size()];
                splits.look_up(&key(0), &mut all)?;
                let first = watched.record as usize * words.len();
                if let Some(place) = all.get_mut(first..first + words.len()) {
                    place.copy_from_slice(&words);
                }
                splits.update(&key(0), &all)
            }
            Self::Floor { splits, .. } => splits.update(&key(watched.record), &words),
        }
    }
}

pub(super) const fn key(number: u32) -> [u8; 4] {
    number.to_ne_bytes()
}
