//! Kernel programs that count what processes and their I/O do, and their readers.
//!
//! A [`KernelProbe`] is an object of kernel programs (C with CO-RE, in `bpf/`, built by
//! `cargo xtask bpf` and committed) and its [counters](Counter). A counter's rows say by which
//! [functions](Function) and [system calls](Call) it can be seen; the candidates, ways to count it by
//! tier and mode, follow from them. When the probe is built, the cheapest candidate that the
//! configuration allows is attached, made to prove itself by an operation of our own, and replaced by
//! the next one if it cannot. Totals are kept per processor in the kernel and read once per tick. What is
//! more than counters has maps of its own and a [`Reader`].
//!
//! A probe of one's own is made of the same: no type of the loader is in this interface.
//!
//! A probe can be made outside of this crate, by its public items alone: `CONTRIBUTING.md` says how, and
//! `tests/out-of-tree-probe` are two. [`KernelProbe::problems`] is what their tests ask; [`Reader`] is for what is more
//! than counters, [`Need`] for what not every kernel has.
//!
//! This is the only crate that knows aya, and the only one with unsafe code.

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "the kernel objects are built for x86_64 only: register layouts and system-call numbers are per architecture"
);

mod abi;
mod assist;
mod attach;
mod attachment;
mod btf;
mod building;
mod built;
mod by_whom;
mod call;
mod calls;
mod candidate;
mod catalog;
mod cause;
mod cgroup;
mod choice;
mod counter;
mod declaration;
pub mod doctor;
mod doubt;
mod elements;
mod exactness;
mod feed;
mod file;
mod filter;
mod floor;
mod handover;
mod hook;
mod kernel;
mod kernel_probe;
mod loader;
mod maps;
mod memory;
mod mount;
mod mounts;
mod named;
mod need;
mod object;
mod object_maps;
mod only;
mod options;
mod ours;
mod own_function;
mod owner;
mod plugin;
mod preemption;
mod probe;
mod process;
mod programs;
mod reader;
mod reduce;
mod refusal;
mod release;
mod rights;
mod selftest;
mod standing;
mod switches;
mod sync;
mod sys;
mod target;
mod totals;
mod tracefs;
mod vigil;
mod wanted;
mod watch;
mod way;
mod who;
mod wire;
mod workshop;

pub use abi::Slot;
pub use call::Call;
pub use choice::{Chapter, Choice};
pub use counter::{Counter, Exercise, Field, Metric, Output, Subject};
pub use doubt::Doubt;
pub use feed::Feed;
pub use file::FILE;
pub use hook::{Attempt, Cost, CounterReport, HookReport, Layer};
pub use kernel_probe::{KernelProbe, MakeReader};
pub use maps::{Map, Maps};
pub use memory::{MapMemory, SharedMemory};
pub use mount::MOUNT;
pub use need::Need;
pub use object::Objects;
pub use options::Tier;
pub use ours::PROBES;
pub use plugin::Survey;
pub use process::PROCESS;
pub use reader::Reader;
pub use release::Version;
pub use sync::SYNC;
pub use sys::{PANICKED, filter_system_calls, fork_alone, fork_apart, reset_signals};
pub use tracefs::sweep;
pub use way::{Fails, Function, Way};
