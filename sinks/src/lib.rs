//! The sinks that come with the agent, one feature each.
//!
//! ```
//! use ebpf_process_core::Registry;
//!
//! let registry = ebpf_process_sinks::all().iter().fold(Registry::default(), |registry, sink| registry.sink(*sink));
//! # #[cfg(feature = "statsd")]
//! assert!(registry.find_sink("statsd").is_some());
//! ```

use ebpf_process_core::SinkPlugin;

#[cfg(feature = "influx")]
pub use ebpf_process_sink_influx as influx;
#[cfg(feature = "json")]
pub use ebpf_process_sink_json as json;
#[cfg(feature = "netdata")]
pub use ebpf_process_sink_netdata as netdata;
#[cfg(feature = "prometheus")]
pub use ebpf_process_sink_prometheus as prometheus;
#[cfg(feature = "statsd")]
pub use ebpf_process_sink_statsd as statsd;

/// Every sink type of this build, in the order in which they are listed.
pub fn all() -> &'static [&'static dyn SinkPlugin] {
    ALL
}

static ALL: &[&dyn SinkPlugin] = &[
    #[cfg(feature = "netdata")]
    &netdata::PLUGIN,
    #[cfg(feature = "statsd")]
    &statsd::PLUGIN,
    #[cfg(feature = "influx")]
    &influx::PLUGIN,
    #[cfg(feature = "prometheus")]
    &prometheus::PLUGIN,
    #[cfg(feature = "json")]
    &json::PLUGIN,
];
