//! Tests of the whole agent: the release binary on a live kernel, beside a process of known numbers.
//!
//! * [`workload`] starts that process and moves it from stop to stop; [`expect`] says what each counter must show.
//! * [`rows`] is what all of them know of a probe, in a file for each and in the words of [`known`].
//! * [`built`] finds what cargo has built, and refuses what is older than its sources.
//! * [`agent`] runs the binary and reads its lines into [`totals`].
//! * [`configured`] is an agent whose configuration changes while it runs; [`database`] takes what it sends.
//! * [`exact`] joins them: one row is a hook tier and a mode, and every counter must be right to the unit.
//! * [`visibility`] is the table of what each operation does to which counter, and its test.
//! * [`crew`] is fifty processes of known numbers under many names in several control groups.
//! * [`churn`] is very many processes and groups that come and go, and what the agent has of them afterwards ([`usage`]).
//! * [`launch`] does the same for the kernel probes of somebody else, which are outside of our tree.
//! * [`kernel_threads`] counts those of the kernel itself.
//! * [`own_events`] is what the agent itself adds to the counters.
//! * [`beside`] puts a second agent and other tools ([`observer`]) on the same hooks at the same time.
//! * [`accuracy`] lets other tools count the same processes, for `docs/accuracy.md`.
//! * [`clock`] sets the machine's clock forward and back while the agent counts.
//! * [`elevated`] starts it with more rights than its caller has.
//! * [`held`] is what a running process may do, [`mod@unit`] what the shipped unit grants, and [`ways`] each way of starting it.
//! * [`lifetime`] is how long it takes to start and to stop, and how much memory it holds.
//! * [`hidden`] is what a kernel may show to no program at all.
//! * [`hygiene`] looks at what stays behind; [`switches`] and [`processors`] switch hooks and a processor off.
//! * [`refusal`], [`rights`] and [`lockdown`] take something away and look at what is said ([`answer`]) and what works.
//! * [`receivers`] starts real netdata, `StatsD`, `InfluxDB`, `VictoriaMetrics` and Prometheus servers on loopback and
//!   reads back what they received.
//! * [`hostile`] is what a sink must not be confused by: `tests/hostile/` sends it through each into its receivers.
//! * [`who`] is the agent's rows by process, app and control group beside it.
//! * [`services`] is services and containers of known numbers, for the queries of our documents ([`documented`]).
//! * [`trace`] checks the expectations themselves by the kernel's own tracer, where it has kprobes.
//! * [`systemd`] is a real one with the shipped unit, in namespaces of its own; [`kernel_objects`] what is loaded.
//! * [`live`] records which live tests ran, and makes a skipped one loud.
//!
//! The same rows run on the machine at hand (`tests/exact.rs`) and in virtual machines (the `guest` binary, started
//! by `cargo xtask vm`). Nothing here is linked into the agent.

pub mod accuracy;
pub mod agent;
pub mod answer;
pub mod beside;
pub mod built;
pub mod cgroup;
pub mod churn;
pub mod clock;
pub mod configured;
pub mod crew;
pub mod crowd;
pub mod database;
pub mod documented;
pub mod elevated;
pub mod exact;
pub mod expect;
pub mod failure;
pub mod held;
pub mod hidden;
pub mod hostile;
pub mod hygiene;
pub mod kernel_objects;
pub mod kernel_threads;
pub mod known;
pub mod launch;
pub mod lifetime;
pub mod live;
pub mod lockdown;
pub mod observer;
pub mod own_events;
pub mod processors;
pub mod receivers;
pub mod refusal;
pub mod rights;
pub mod rows;
pub mod services;
pub mod switches;
pub mod systemd;
pub mod totals;
pub mod trace;
pub mod unit;
pub mod usage;
pub mod visibility;
pub mod wait;
pub mod ways;
pub mod who;
pub mod workload;

pub use failure::{Failure, Outcome};
