//! The elements of any map, by bpf(2).

#![expect(unsafe_code, reason = "bpf(2) on elements of maps whose sizes are known at run time only")]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_info};

use crate::sys::bpf;

/// A map of known sizes.
#[derive(Debug)]
pub(crate) struct Elements {
    descriptor: OwnedFd,
    key_size: usize,
    value_size: usize,
}

impl Elements {
    /// Of a map that is said to have keys and values of these sizes, and a value for each of so many processors or one for
    /// all. The kernel says whether that is so; one before 4.13 says nothing, and then it is taken for granted.
    pub(crate) fn of(descriptor: OwnedFd, sizes: [usize; 2], processors: Option<usize>) -> io::Result<Self> {
        match told(descriptor.as_fd()) {
            Ok(info) if [info.key_size as usize, info.value_size as usize] != sizes => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "this is a map of other sizes"));
            }
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let [key_size, value] = sizes;
        Ok(Self { descriptor, key_size, value_size: bytes_of(value, processors) })
    }

    pub(crate) const fn key_size(&self) -> usize {
        self.key_size
    }

    pub(crate) const fn value_size(&self) -> usize {
        self.value_size
    }

    /// Copies the value of a key.
    pub(crate) fn look_up(&self, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        self.check(Some(key), value.len(), self.value_size)?;
        self.call(bpf_cmd::BPF_MAP_LOOKUP_ELEM, key.as_ptr() as u64, value.as_mut_ptr() as u64)
    }

    /// Sets the value of a key.
    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(Some(key), value.len(), self.value_size)?;
        // A stack has no keys, and the kernel wants none then.
        let key = if key.is_empty() { 0 } else { key.as_ptr() as u64 };
        self.call(bpf_cmd::BPF_MAP_UPDATE_ELEM, key, value.as_ptr() as u64)
    }

    /// Takes an element away.
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.check(Some(key), 0, 0)?;
        self.call(bpf_cmd::BPF_MAP_DELETE_ELEM, key.as_ptr() as u64, 0)
    }

    /// The key behind one, or the first.
    pub(crate) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<()> {
        self.check(key, next.len(), self.key_size)?;
        let key = key.map_or(0, |key| key.as_ptr() as u64);
        self.call(bpf_cmd::BPF_MAP_GET_NEXT_KEY, key, next.as_mut_ptr() as u64)
    }

    /// The kernel reads and writes as many bytes as the map says, whatever is given.
    fn check(&self, key: Option<&[u8]>, other: usize, wanted: usize) -> io::Result<()> {
        let keys = key.map(|key| (key.len(), self.key_size));
        match keys.into_iter().chain([(other, wanted)]).find(|(is, should_be)| is != should_be) {
            None => Ok(()),
            Some((is, should_be)) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{is} bytes for an element of a map that has {should_be}"),
            )),
        }
    }

    /// Both addresses are of buffers as long as [`check`](Self::check) found them.
    fn call(&self, command: bpf_cmd, key: u64, value: u64) -> io::Result<()> {
        // SAFETY: all fields of bpf_attr are integers, for which zero is a value.
        let mut attr: bpf_attr = unsafe { zeroed() };
        // Writing to a field of a union is safe; these belong to the commands on elements, and `next_key` is `value`.
        attr.__bindgen_anon_2.map_fd = self.descriptor.as_raw_fd().cast_unsigned();
        attr.__bindgen_anon_2.key = key;
        attr.__bindgen_anon_2.__bindgen_anon_1.value = value;
        // SAFETY: the kernel reads and writes key_size and value_size bytes, which the callers have, and borrow for so long.
        unsafe { bpf(command, &mut attr) }.map(drop)
    }
}

/// How many elements a map has.
pub(crate) fn entries(map: BorrowedFd<'_>) -> io::Result<usize> {
    told(map).map(|info| info.max_entries as usize)
}

/// What the kernel says of a map. Before 4.13 it does not know the question (`EINVAL`).
fn told(map: BorrowedFd<'_>) -> io::Result<bpf_map_info> {
    // SAFETY: all fields of both structures are integers, for which zero is a value.
    let (mut attr, mut info): (bpf_attr, bpf_map_info) = unsafe { (zeroed(), zeroed()) };
    attr.info.bpf_fd = map.as_raw_fd().cast_unsigned();
    attr.info.info_len = u32::try_from(size_of::<bpf_map_info>()).unwrap_or(0);
    attr.info.info = (&raw mut info) as u64;
    // SAFETY: the kernel writes at most info_len bytes to info, which outlives the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// The bytes that the kernel copies for an element: those of a per-CPU map are rounded up, also where there is one
/// processor.
const fn bytes_of(value: usize, processors: Option<usize>) -> usize {
    match processors {
        None => value,
        Some(processors) => value.next_multiple_of(8) * processors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_copies_of_a_per_cpu_map_is_rounded_up_on_one_processor_as_well() {
        assert_eq!((bytes_of(4, None), bytes_of(4, Some(1)), bytes_of(12, Some(3))), (4, 8, 48));
    }

    #[test]
    fn a_buffer_of_another_size_never_reaches_the_kernel() {
        let descriptor = OwnedFd::from(std::fs::File::open("/dev/null").expect("a descriptor"));
        let map = Elements { descriptor, key_size: 4, value_size: 16 };
        let refused = |done: io::Result<()>| done.expect_err("no map").raw_os_error().is_none();
        assert!(refused(map.look_up(&[0; 4], &mut [0; 15])) && refused(map.look_up(&[0; 3], &mut [0; 16])));
        assert!(refused(map.update(&[0; 4], &[0; 17])) && refused(map.delete(&[0; 5])));
        assert!(refused(map.next_key(Some(&[0; 3]), &mut [0; 4])) && refused(map.next_key(None, &mut [0; 3])));
        // The right sizes do: that it is no map is the kernel's to say.
        assert!(!refused(map.look_up(&[0; 4], &mut [0; 16])));
    }
}
