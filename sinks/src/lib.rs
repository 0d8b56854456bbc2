//! The sinks that come with the agent, one feature each.
//!
//! ```
//! let registry = ebpf_process_sinks::registry();
//! # #[cfg(feature = "statsd")]
//! assert!(registry.find_sink("statsd").is_some());
//! ```

use ebpf_process_core::Registry;

#[cfg(feature = "exec")]
mod lines;

#[cfg(feature = "exec")]
pub use ebpf_process_sink_exec as exec;
#[cfg(feature = "influx")]
pub use ebpf_process_sink_influx as influx;
#[cfg(feature = "json")]
pub use ebpf_process_sink_json as json;
#[cfg(feature = "netdata")]
pub use ebpf_process_sink_netdata as netdata;
#[cfg(feature = "otlp")]
pub use ebpf_process_sink_otlp as otlp;
#[cfg(feature = "prometheus")]
pub use ebpf_process_sink_prometheus as prometheus;
#[cfg(feature = "statsd")]
pub use ebpf_process_sink_statsd as statsd;
#[cfg(feature = "exec")]
pub use lines::LINE_FORMATS;

/// Every sink type of this build, in the order in which they are listed.
pub fn registry() -> Registry {
    let registry = Registry::default();
    #[cfg(feature = "netdata")]
    let registry = registry.sink(netdata::PLUGIN);
    #[cfg(feature = "statsd")]
    let registry = registry.sink(statsd::PLUGIN);
    #[cfg(feature = "influx")]
    let registry = registry.sink(influx::PLUGIN);
    #[cfg(feature = "otlp")]
    let registry = registry.sink(otlp::PLUGIN);
    #[cfg(feature = "prometheus")]
    let registry = registry.sink(prometheus::PLUGIN);
    #[cfg(feature = "json")]
    let registry = registry.sink(json::PLUGIN);
    #[cfg(feature = "exec")]
    let registry = registry.sink(exec::PLUGIN.with_formats(LINE_FORMATS));
    registry
}
