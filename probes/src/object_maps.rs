//! The maps of a loaded object, by their descriptors: whoever has these can read and write them.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, RingBuf};
use aya_obj::generated::bpf_map_type;

use crate::elements::{self, Elements};

/// All that are of use to somebody who has the descriptors alone.
#[derive(Debug)]
pub(crate) struct ObjectMaps(Vec<ObjectMap>);

#[derive(Debug)]
struct ObjectMap {
    name: String,
    descriptor: OwnedFd,
    kind: u32,
    /// Bytes of a key and of a value.
    sizes: [usize; 2],
}

/// Maps whose elements can be read one by one, with one value for all processors and with one for each.
const SHARED: [bpf_map_type; 3] =
    [bpf_map_type::BPF_MAP_TYPE_ARRAY, bpf_map_type::BPF_MAP_TYPE_HASH, bpf_map_type::BPF_MAP_TYPE_LRU_HASH];
const PER_CPU: [bpf_map_type; 3] = [
    bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY,
    bpf_map_type::BPF_MAP_TYPE_PERCPU_HASH,
    bpf_map_type::BPF_MAP_TYPE_LRU_PERCPU_HASH,
];

impl ObjectMaps {
    /// Those of an object that was loaded from these bytes.
    pub(crate) fn of(ebpf: &Ebpf, object: &[u8]) -> io::Result<Self> {
        let descriptors = ebpf.maps().filter_map(|(name, map)| {
            let descriptor = data_of(map)?.fd().as_fd().try_clone_to_owned();
            Some(descriptor.map(|descriptor| (name.to_owned(), descriptor)))
        });
        Self::restored(object, descriptors.collect::<io::Result<_>>()?)
    }

    /// The same by the names and descriptors of somebody else; what the maps are is in the object.
    pub(crate) fn restored(object: &[u8], descriptors: Vec<(String, OwnedFd)>) -> io::Result<Self> {
        let parsed = aya_obj::Object::parse(object).map_err(io::Error::other)?;
        let maps = descriptors.into_iter().map(|(name, descriptor)| {
            let map =
                parsed.maps.get(&name).ok_or_else(|| io::Error::other(format!("the object has no map {name}")))?;
            let sizes = [map.key_size() as usize, map.value_size() as usize];
            Ok(ObjectMap { name, descriptor, kind: map.map_type(), sizes })
        });
        maps.collect::<io::Result<_>>().map(Self)
    }

    /// Names and descriptors, to be handed over.
    pub(crate) fn into_descriptors(self) -> Vec<(String, OwnedFd)> {
        self.0.into_iter().map(|map| (map.name, map.descriptor)).collect()
    }

    /// Those that can be read one by one, and whether each has a value for each processor.
    pub(crate) fn readable(&self) -> impl Iterator<Item = (&str, bool)> {
        let kind_is = |map: &ObjectMap, kinds: [bpf_map_type; 3]| kinds.into_iter().any(|kind| kind as u32 == map.kind);
        self.0.iter().filter_map(move |map| {
            let is_per_cpu = kind_is(map, PER_CPU);
            (is_per_cpu || kind_is(map, SHARED)).then_some((map.name.as_str(), is_per_cpu))
        })
    }

    /// The descriptor of a map, if the object has it.
    pub(crate) fn descriptor(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.find(name).map(|map| map.descriptor.as_fd())
    }

    /// The elements of a map, which has a value for each of so many processors, or one for all.
    pub(crate) fn elements(&self, name: &str, processors: Option<usize>) -> io::Result<Elements> {
        let map = self.find(name).ok_or_else(|| lacks(name))?;
        Elements::of(map.descriptor.try_clone()?, map.sizes, processors)
    }

    /// How many elements a map has, as the kernel says it.
    pub(crate) fn entries(&self, name: &str) -> io::Result<usize> {
        elements::entries(self.descriptor(name).ok_or_else(|| lacks(name))?)
    }

    /// A ring of events.
    pub(crate) fn ring(&self, name: &str) -> io::Result<RingBuf<MapData>> {
        let descriptor = self.descriptor(name).ok_or_else(|| lacks(name))?.try_clone_to_owned()?;
        let ring = MapData::from_fd(descriptor).and_then(|data| Map::from_map_data(data)?.try_into());
        ring.map_err(|error: MapError| io::Error::other(error))
    }

    fn find(&self, name: &str) -> Option<&ObjectMap> {
        self.0.iter().find(|map| map.name == name)
    }
}

fn lacks(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the object has no map {name}"))
}

/// Of the types that an object of ours or a reader can use.
const fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::CgroupArray(data)
        | Map::RingBuf(data)
        | Map::Stack(data) => Some(data),
        _ => None,
    }
}
