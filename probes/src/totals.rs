//! Reading an object's totals without allocating.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::abi::{KPROBE_TOTALS, Record, Slot, TOTALS};
use crate::memory;
use crate::object_maps::ObjectMaps;
use crate::options::Tier;
use crate::sys::{self, Guarded, Mapping};
use crate::who::Table;

/// Where an object's records are.
pub(crate) struct Totals {
    /// None where a probe has no records.
    map: Option<OwnedFd>,
    /// The map's one element: for each processor all records.
    per_cpu: Guarded,
    words_per_cpu: usize,
    /// Whether it was read since the last refresh. Breakpoints need it not, and bpf(2) would make them be left out.
    is_read: bool,
    breakpoints: Option<Breakpoints>,
    /// In an object that tells by whom: instead of the others.
    pub(crate) by_whom: Option<Table>,
}

/// The breakpoints' records, mapped: an element for each processor.
#[derive(Debug)]
struct Breakpoints {
    mapping: Mapping,
    words_per_cpu: usize,
}

impl Totals {
    /// Of an object that was loaded from these bytes. The kernel copies the records of each *possible* processor, so that
    /// many the buffer has.
    pub(crate) fn new(maps: &ObjectMaps, object: &[u8], possible_cpus: usize) -> io::Result<Self> {
        let by_whom = Table::of(maps, object)?;
        let is_per_cpu = maps.readable().any(|(name, is_per_cpu)| name == TOTALS && is_per_cpu);
        let map = maps.descriptor(TOTALS).filter(|_| is_per_cpu).map(|map| map.try_clone_to_owned()).transpose()?;
        // A kernel before 4.13 describes no map that it has.
        let [words_per_cpu, of_breakpoints] =
            memory::value_sizes(object, [TOTALS, KPROBE_TOTALS]).map(|bytes| bytes.div_ceil(size_of::<u64>()));
        let breakpoints = maps.descriptor(KPROBE_TOTALS).map(|map| {
            let mapping = Mapping::new(map, of_breakpoints * possible_cpus)?;
            Ok::<_, io::Error>(Breakpoints { mapping, words_per_cpu: of_breakpoints })
        });
        let breakpoints = breakpoints.transpose()?;
        let per_cpu = Guarded::new(possible_cpus * words_per_cpu)?;
        Ok(Self { map, per_cpu, words_per_cpu, is_read: false, breakpoints, by_whom })
    }

    /// The next look is at the numbers of then.
    pub(crate) fn refresh(&mut self, patience: Duration) {
        self.is_read = false;
        if let Some(table) = &mut self.by_whom {
            table.refresh(patience);
        }
    }

    /// The sum over all processors of these records, which programs of this tier write, as they were at the first look
    /// since the last refresh.
    pub(crate) fn sum(&mut self, tier: Tier, slots: &[Slot]) -> io::Result<Record> {
        if let Some(table) = &self.by_whom {
            return Ok(table.sum(slots));
        }
        let mut sum = Record::default();
        if let Some(breakpoints) = self.breakpoints.as_ref().filter(|_| tier == Tier::Kprobe) {
            return Ok(slots.iter().flat_map(|slot| breakpoints.records(*slot)).fold(sum, Record::plus));
        }
        let Some(map) = &self.map else { return Ok(sum) };
        if !self.is_read {
            sys::lookup_per_cpu(map.as_fd(), &mut self.per_cpu)?;
            self.is_read = true;
        }
        for cpu in self.per_cpu.words().chunks_exact(self.words_per_cpu.max(1)) {
            for slot in slots {
                let first = *slot as usize * Record::WORDS;
                let word = |index: usize| cpu.get(first + index).copied().unwrap_or(0);
                sum = sum.plus(Record::of_words(word));
            }
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
