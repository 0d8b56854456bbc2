//! How much kernel memory a probe's maps take.

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, MapType};
use serde::Serialize;

use crate::totals::KPROBE_TOTALS;

/// What a map's element takes beside its key and value: the kernel's own bookkeeping.
const POINTER: u64 = 8;
const HASH_ELEMENT: u64 = 64;
const HASH_BUCKET: u64 = 16;
const PAGE: u64 = 4096;

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

    /// Of all maps of a loaded object.
    pub(crate) fn of(ebpf: &Ebpf, possible_cpus: usize) -> Result<Self, MapError> {
        let mut memory = Self { fixed: 0, per_cpu: 0, possible_cpus: possible_cpus as u64 };
        for (name, map) in ebpf.maps() {
            if let Some(data) = data(map) {
                memory.add(name, data)?;
            }
        }
        Ok(memory)
    }

    fn add(&mut self, name: &str, map: &MapData) -> Result<(), MapError> {
        let info = map.info()?;
        let (entries, element) = (u64::from(info.max_entries()), rounded(info.value_size()));
        match info.map_type()? {
            // An element for each processor, mapped and so in whole pages.
            _ if name == KPROBE_TOTALS => {
                self.fixed += PAGE;
                self.per_cpu += element;
            }
            MapType::PerCpuArray => {
                self.fixed += entries * POINTER;
                self.per_cpu += entries * element;
            }
            MapType::LruHash => {
                let key = rounded(info.key_size());
                self.fixed += entries * (key + element + HASH_ELEMENT) + entries.next_power_of_two() * HASH_BUCKET;
            }
            _ => self.fixed += entries * element,
        }
        Ok(())
    }
}

const fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::PerCpuArray(data) | Map::LruHashMap(data) | Map::Array(data) | Map::CgroupArray(data) => Some(data),
        _ => None,
    }
}

fn rounded(bytes: u32) -> u64 {
    u64::from(bytes).next_multiple_of(8)
}
