//! Reading an object's totals without allocating.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Ebpf;
use aya::maps::Map;

use crate::abi::{Record, Slot};
use crate::options::Tier;
use crate::sys::{self, Guarded, Mapping};

/// The map with the breakpoints' records; the floor objects have none.
pub(crate) const KPROBE_TOTALS: &str = "kprobe_totals";

/// Where an object's records are.
#[derive(Debug)]
pub(crate) struct Totals {
    map: OwnedFd,
    per_cpu: Guarded,
    breakpoints: Option<Breakpoints>,
}

/// The breakpoints' records, mapped: an element for each processor.
#[derive(Debug)]
struct Breakpoints {
    mapping: Mapping,
    words_per_cpu: usize,
}

impl Totals {
    /// The kernel copies one record per *possible* processor, so that many the buffer has.
    pub(crate) fn new(ebpf: &Ebpf, possible_cpus: usize) -> io::Result<Self> {
        let Some(Map::PerCpuArray(map)) = ebpf.map("totals") else {
            return Err(io::Error::other("the object has no totals"));
        };
        let map = map.fd().as_fd().try_clone_to_owned()?;
        let breakpoints = match ebpf.map(KPROBE_TOTALS) {
            Some(Map::Array(map)) => {
                let bytes = map.info().map_err(io::Error::other)?.value_size();
                let words_per_cpu = bytes as usize / size_of::<u64>();
                let mapping = Mapping::new(map.fd().as_fd(), words_per_cpu * possible_cpus)?;
                Some(Breakpoints { mapping, words_per_cpu })
            }
            _ => None,
        };
        Ok(Self { map, per_cpu: Guarded::new(possible_cpus * Record::WORDS)?, breakpoints })
    }

    /// The sum over all processors of these records, which programs of this tier write.
    pub(crate) fn sum(&mut self, tier: Tier, slots: &[Slot]) -> io::Result<Record> {
        let mut sum = Record::default();
        for slot in slots {
            sum = match &self.breakpoints {
                Some(breakpoints) if tier == Tier::Kprobe => breakpoints.records(*slot).fold(sum, Record::plus),
                _ => {
                    sys::lookup_per_cpu(self.map.as_fd(), *slot, &mut self.per_cpu)?;
                    let records = self.per_cpu.words().chunks_exact(Record::WORDS);
                    records.map(|words| Record::of_words(|index| words[index])).fold(sum, Record::plus)
                }
            };
        }
        Ok(sum)
    }
}

impl Breakpoints {
    fn records(&self, slot: Slot) -> impl Iterator<Item = Record> {
        let first = slot as usize * Record::WORDS;
        self.mapping.words().chunks_exact(self.words_per_cpu).map(move |cpu| {
            let word = |index: usize| cpu.get(first + index).map_or(0, |word: &AtomicU64| word.load(Ordering::Relaxed));
            Record::of_words(word)
        })
    }
}
