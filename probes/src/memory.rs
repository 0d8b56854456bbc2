//! How much kernel memory a probe's maps take.

use aya_obj::generated::bpf_map_type;
use aya_obj::{Map, Object, ParseError};
use serde::Serialize;

use crate::abi::KPROBE_TOTALS;

/// What a map's element takes beside its key and value: the kernel's own bookkeeping.
const POINTER: u64 = 8;
const HASH_ELEMENT: u64 = 64;
const HASH_BUCKET: u64 = 16;
const PAGE: u64 = 4096;
/// What a ring buffer has beside its data: what it knows of itself, and where its producer and its consumer are.
const RING_PAGES: u64 = 3;

/// Hash maps, whose elements are there from the beginning.
const HASHES: [bpf_map_type; 2] = [bpf_map_type::BPF_MAP_TYPE_HASH, bpf_map_type::BPF_MAP_TYPE_LRU_HASH];
const PER_CPU_HASHES: [bpf_map_type; 2] =
    [bpf_map_type::BPF_MAP_TYPE_PERCPU_HASH, bpf_map_type::BPF_MAP_TYPE_LRU_PERCPU_HASH];

/// The memory of a probe's maps, in bytes: `fixed + per_cpu * possible_cpus`.
///
/// A processor counts when it may ever be there, not when it is switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MapMemory {
    /// Whatever the number of processors.
    pub fixed: u64,
    /// For each possible processor.
    pub per_cpu: u64,
    /// How many there may be here.
    pub possible_cpus: u64,
}

/// The memory of maps that several probes share: those that count the same calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharedMemory {
    /// By this name they are the same maps.
    #[serde(skip)]
    pub maps: String,
    /// What they take, once.
    #[serde(flatten)]
    pub memory: MapMemory,
}

impl MapMemory {
    /// The sum on this machine.
    pub const fn total(&self) -> u64 {
        self.fixed + self.per_cpu * self.possible_cpus
    }

    /// Of two probes on one machine.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            fixed: self.fixed + other.fixed,
            per_cpu: self.per_cpu + other.per_cpu,
            possible_cpus: self.possible_cpus.max(other.possible_cpus),
        }
    }

    /// Of all maps of an object, by what it says of them: a kernel before 4.13 describes no map that it has.
    /// `entries` are those of maps that are made larger than the object says.
    pub(crate) fn of(object: &[u8], possible_cpus: usize, entries: &[(&str, u32)]) -> Result<Self, ParseError> {
        let mut memory = Self { fixed: 0, per_cpu: 0, possible_cpus: possible_cpus as u64 };
        for (name, map) in &Object::parse(object)?.maps {
            let larger = entries.iter().find(|(other, _)| other == name).map(|(_, entries)| *entries);
            memory.add(name, map, larger.unwrap_or_else(|| map.max_entries()));
        }
        Ok(memory)
    }

    fn add(&mut self, name: &str, map: &Map, entries: u32) {
        let (entries, element) = (u64::from(entries), rounded(map.value_size()));
        let is = |kind: bpf_map_type| map.map_type() == kind as u32;
        // An element for each processor, mapped and so in whole pages.
        if name == KPROBE_TOTALS {
            self.fixed += PAGE;
            self.per_cpu += element;
        } else if is(bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY) {
            self.fixed += entries * POINTER;
            self.per_cpu += entries * element;
        } else if HASHES.into_iter().any(is) || PER_CPU_HASHES.into_iter().any(is) {
            let (bookkeeping, buckets) = (rounded(map.key_size()) + HASH_ELEMENT, entries.next_power_of_two());
            self.fixed += entries * bookkeeping + buckets * HASH_BUCKET;
            if HASHES.into_iter().any(is) {
                self.fixed += entries * element;
            } else {
                self.fixed += entries * POINTER;
                self.per_cpu += entries * element;
            }
        } else if is(bpf_map_type::BPF_MAP_TYPE_RINGBUF) {
            self.fixed += entries + RING_PAGES * PAGE;
        } else {
            self.fixed += entries * element;
        }
    }
}

/// The bytes of a value of each of these maps of an object; 0 where it has no such map.
pub(crate) fn value_sizes<const N: usize>(object: &[u8], maps: [&str; N]) -> [usize; N] {
    let parsed = Object::parse(object).ok();
    maps.map(|name| parsed.as_ref().and_then(|parsed| parsed.maps.get(name)).map_or(0, |map| map.value_size() as usize))
}

fn rounded(bytes: u32) -> u64 {
    u64::from(bytes).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::SYSCALLS;
    use crate::ours::PROBES;
    use aya_obj::EbpfSectionKind;
    use aya_obj::maps::{LegacyMap, bpf_map_def};

    #[test]
    fn every_object_says_itself_what_its_maps_take() {
        let ours = PROBES.iter().filter_map(|probe| probe.objects.as_ref()).chain([&SYSCALLS]);
        for object in ours.flat_map(|objects| [Some(objects.core), objects.floor]).flatten() {
            let memory = MapMemory::of(object, 3, &[]).expect("an object of ours");
            assert!(memory.fixed > 0 && memory.per_cpu > 0, "{memory:?}");
            assert_eq!(memory.total(), memory.fixed + 3 * memory.per_cpu);
        }
        // The forks under way, their filter and its control group, a pointer to the records.
        let (elements, buckets) = (4096 * (8 + 8 + 64), 4096 * 16);
        let process = crate::PROCESS.objects.and_then(|objects| objects.floor).expect("an object of ours");
        let floor = MapMemory::of(process, 1, &[]).expect("an object of ours");
        assert_eq!(floor.fixed, elements + buckets + 8 + 8 + 8);
        assert_eq!(floor.per_cpu, 8 * size_of::<crate::abi::Record>() as u64);
        assert!(MapMemory::of(b"no object", 1, &[]).is_err());
    }

    #[test]
    fn maps_of_others_have_their_own_formula() {
        use bpf_map_type::{BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_RINGBUF};
        let of = |kind: bpf_map_type, key_size, value_size, max_entries| {
            let def =
                bpf_map_def { map_type: kind as u32, key_size, value_size, max_entries, ..bpf_map_def::default() };
            let map = LegacyMap {
                def,
                inner_def: None,
                section_index: 0,
                section_kind: EbpfSectionKind::Maps,
                symbol_index: None,
                data: Vec::new(),
            };
            let mut memory = MapMemory::default();
            memory.add("a", &Map::Legacy(map), max_entries);
            (memory.fixed, memory.per_cpu)
        };
        assert_eq!(of(BPF_MAP_TYPE_HASH, 4, 8, 1000), (1000 * (8 + 8 + 64) + 1024 * 16, 0));
        assert_eq!(of(BPF_MAP_TYPE_PERCPU_HASH, 4, 12, 1000), (1000 * (8 + 8 + 64) + 1024 * 16, 1000 * 16));
        assert_eq!(of(BPF_MAP_TYPE_RINGBUF, 0, 0, 65536), (65536 + 3 * 4096, 0));
    }
}
