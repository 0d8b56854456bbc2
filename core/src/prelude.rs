//! What a sink or a probe needs, in one `use`.
//!
//! ```
//! use ebpf_process_core::prelude::*;
//! ```

pub use crate::access::Access;
pub use crate::batch::Value;
pub use crate::entity::{ColumnId, Declared, EntityKind, KindId, RowId};
pub use crate::error::{BuildError, ProbeError, ProbeResult, SinkError, SinkResult};
pub use crate::metric::{Column, MetricKind, Unit};
pub use crate::options::{Options, OptionsError};
pub use crate::probe::{Probe, ProbeContext};
pub use crate::probe_type::ProbeType;
pub use crate::recorder::Recorder;
pub use crate::sink::{Sink, SinkContext};
pub use crate::sink_type::SinkType;
pub use crate::view::{Sample, View};
