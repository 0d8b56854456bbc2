//! What reads a probe's own maps.

use ebpf_process_core::{ProbeError, Recorder};

use crate::maps::Maps;

/// Reads the maps of a probe that is more than counters: a histogram, rows that come and go.
///
/// It lives as long as the probe is attached, on the thread that collects. The maps hold what has happened since the
/// probe's hooks were attached, and nothing of the self-test, which is made with a load of its own. The programs are those
/// of the probe's counters: a hook that serves a reader alone is a counter without records and series.
///
/// ```
/// use ebpf_process_core::{Column, ColumnId, Declared, ProbeError, Recorder, Refused, Unit};
/// use ebpf_process_probes::{KernelProbe, Maps, Reader};
///
/// /// How often something happened, by powers of two of its size: the map `sizes` of the object, an array of 16 numbers.
/// struct Sizes(ColumnId);
///
/// fn sizes() -> Column {
///     Column::histogram("directory.sizes", Unit::BYTES, "Sizes of directories").slots(0..=15)
/// }
///
/// impl Sizes {
///     fn make(recorder: &mut Recorder) -> Result<Box<dyn Reader>, Refused> {
///         Ok(Box::new(Self(recorder.column(recorder.host_kind(), sizes())?)))
///     }
/// }
///
/// impl Reader for Sizes {
///     fn read(&mut self, maps: &Maps, recorder: &mut Recorder) -> Result<(), ProbeError> {
///         let map = maps.get("sizes")?;
///         let mut slots = [0; 16];
///         for (key, slot) in (0_u32..).zip(&mut slots) {
///             let mut value = [0; 8];
///             map.read(&key.to_ne_bytes(), &mut value)?;
///             *slot = u64::from_ne_bytes(value);
///         }
///         recorder.histogram(recorder.host(), self.0, &slots, 0);
///         Ok(())
///     }
/// }
///
/// static DIRECTORY: KernelProbe =
///     KernelProbe::new("directory", "sizes of directories").reader(|| vec![Declared::host(sizes())], Sizes::make);
/// # let _ = &DIRECTORY;
/// ```
pub trait Reader: Send {
    /// Records what the maps hold now; called once per tick. What it cannot read is the error, which leaves the probe out
    /// of this tick's batch.
    fn read(&mut self, maps: &Maps, recorder: &mut Recorder) -> Result<(), ProbeError>;
}
