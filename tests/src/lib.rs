//! Tests of the whole agent: the release binary on a live kernel, beside a process of known numbers.
//!
//! * [`workload`] starts that process and moves it from stop to stop; [`expect`] says what each counter must show.
//! * [`agent`] runs the binary and reads its lines into [`totals`].
//! * [`exact`] joins them: one row is a hook tier and a mode, and every counter must be right to the unit.
//! * [`receivers`] starts real netdata, `StatsD` and `InfluxDB` servers on loopback and reads back what they received.
//! * [`trace`] checks the expectations themselves by the kernel's own tracer, where it has kprobes.
//! * [`live`] records which live tests ran, and makes a skipped one loud.
//!
//! The same rows run on the machine at hand (`tests/exact.rs`) and in virtual machines (the `guest` binary, started
//! by `cargo xtask vm`). Nothing here is linked into the agent.

pub mod agent;
pub mod cgroup;
pub mod exact;
pub mod expect;
pub mod failure;
pub mod live;
pub mod receivers;
pub mod totals;
pub mod trace;
pub mod wait;
pub mod workload;

pub use failure::{Failure, Outcome};
