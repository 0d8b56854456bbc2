//! The formats of lines that programs of the sink `exec` may ask for: what other sinks of this build write.

use crate::exec::LineFormat;

#[cfg(feature = "influx")]
mod influx;
#[cfg(feature = "prometheus")]
mod prometheus;
#[cfg(feature = "statsd")]
mod statsd;

/// Those of this build.
pub const LINE_FORMATS: &[LineFormat] = &[
    #[cfg(feature = "influx")]
    LineFormat { name: "influx", form: influx::Form::start },
    #[cfg(feature = "prometheus")]
    LineFormat { name: "prometheus", form: |_| prometheus::Form::start(NAMESPACE) },
    #[cfg(feature = "statsd")]
    LineFormat { name: "statsd", form: |context| statsd::Form::start(NAMESPACE, context) },
];

/// What names begin with in the formats whose sinks have that by default.
#[cfg(any(feature = "prometheus", feature = "statsd"))]
const NAMESPACE: &str = "ebpf_process";
