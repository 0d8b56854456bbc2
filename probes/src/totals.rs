//! Reading an object's per-CPU totals without allocating.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::abi::{Record, Slot};
use crate::sys;

/// An object's `totals` map and a buffer for one of its elements.
#[derive(Debug)]
pub(crate) struct Totals {
    map: OwnedFd,
    per_cpu: Vec<Record>,
}

impl Totals {
    /// The kernel copies one record per *possible* processor, so that many the buffer has.
    pub(crate) fn new(map: OwnedFd, possible_cpus: usize) -> Self {
        Self { map, per_cpu: vec![Record::default(); possible_cpus] }
    }

    /// The sum of these records over all processors.
    pub(crate) fn sum(&mut self, slots: &[Slot]) -> io::Result<Record> {
        let mut sum = Record::default();
        for slot in slots {
            sys::lookup_per_cpu(self.map.as_fd(), *slot, &mut self.per_cpu)?;
            sum = self.per_cpu.iter().fold(sum, |sum, record| sum.plus(*record));
        }
        Ok(sum)
    }
}
