//! What an object needs of the kernel beyond what all kernels with type information have: asked, not told by a version.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use aya_obj::generated::bpf_prog_type;

use crate::sys;

/// A type of map or a helper, by the number that it has in `linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    kind: Kind,
    name: &'static str,
    number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Map,
    Helper,
}

impl Need {
    /// A type of map: `Need::map("BPF_MAP_TYPE_RINGBUF", 27)`. It is found out by making such a map. For one that takes
    /// type information of its own (the local storages) name the helper that reads it.
    pub const fn map(name: &'static str, number: u32) -> Self {
        Self { kind: Kind::Map, name, number }
    }

    /// A helper: `Need::helper("bpf_ringbuf_reserve", 131)`. It is found out by loading a program that calls it from a
    /// breakpoint or a raw tracepoint.
    pub const fn helper(name: &'static str, number: u32) -> Self {
        Self { kind: Kind::Helper, name, number }
    }

    /// Whether this kernel is known not to have it. Where it may not be asked, what is loaded tells why.
    pub(crate) fn is_missing(self) -> bool {
        match self.kind {
            Kind::Map => are_all_unknown(SHAPES.iter().map(|shape| sys::create_map(self.number, *shape))),
            Kind::Helper => are_all_unknown(PROGRAMS.iter().map(|kind| {
                // r0 = helper(...); exit
                sys::load_program(*kind, 0, &[0x85 | u64::from(self.number) << 32, 0x95])
            })),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, number, .. } = self;
        match self.kind {
            Kind::Map => write!(f, "map of type {name} ({number})"),
            Kind::Helper => write!(f, "helper {name} ({number})"),
        }
    }
}

/// Bytes of a key, bytes of a value, elements, flags: one of them suits each type of map.
const SHAPES: [[u32; 4]; 7] = [
    [4, 4, 1, 0],
    // a ring buffer, in pages
    [0, 0, 4096, 0],
    // a queue, a stack, a Bloom filter
    [0, 4, 1, 0],
    // stack traces
    [4, 8, 1, 0],
    // a tree of prefixes: BPF_F_NO_PREALLOC
    [8, 8, 1, 1],
    // an arena, in pages: BPF_F_MMAPABLE
    [0, 0, 1, 1024],
    [4, 16, 1, 0],
];

const PROGRAMS: [bpf_prog_type; 2] = [bpf_prog_type::BPF_PROG_TYPE_KPROBE, bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT];

/// What the kernel does not know is `EINVAL`, whatever else is said of it; what it knows and finds wrong with something
/// that it knows is another error in at least one of the ways that were tried.
fn are_all_unknown(mut tries: impl Iterator<Item = io::Result<OwnedFd>>) -> bool {
    tries.all(|tried| tried.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: [(Need, bool); 8] = [
        (Need::map("BPF_MAP_TYPE_RINGBUF", 27), false),
        (Need::map("BPF_MAP_TYPE_STACK_TRACE", 7), false),
        (Need::map("BPF_MAP_TYPE_LPM_TRIE", 11), false),
        (Need::map("BPF_MAP_TYPE_QUEUE", 22), false),
        (Need::map("BPF_MAP_TYPE_OF_NOBODY", 9999), true),
        (Need::helper("bpf_get_current_task_btf", 158), false),
        (Need::helper("bpf_ringbuf_reserve", 131), false),
        (Need::helper("bpf_of_nobody", 9999), true),
    ];

    #[test]
    fn what_there_is_is_found_and_what_there_is_not_is_not() {
        if sys::possible_processors().is_err() {
            // No maps can be made here: nothing is known to be missing.
            assert!(NEEDS.iter().all(|(need, _)| !need.is_missing()));
            return;
        }
        for (need, missing) in NEEDS {
            assert_eq!(need.is_missing(), missing, "{need}");
        }
    }

    #[test]
    fn it_is_named_by_its_name_and_number() {
        assert_eq!(NEEDS[0].0.to_string(), "map of type BPF_MAP_TYPE_RINGBUF (27)");
        assert_eq!(NEEDS[7].0.to_string(), "helper bpf_of_nobody (9999)");
    }

    #[test]
    fn only_einval_from_all_is_unknown() {
        let tries = |codes: &[i32]| {
            let codes = codes.to_owned();
            codes.into_iter().map(|code| Err(io::Error::from_raw_os_error(code)))
        };
        assert!(are_all_unknown(tries(&[libc::EINVAL, libc::EINVAL])));
        assert!(!are_all_unknown(tries(&[libc::EINVAL, libc::EACCES])));
        assert!(!are_all_unknown(tries(&[libc::EPERM, libc::EPERM])));
    }
}
