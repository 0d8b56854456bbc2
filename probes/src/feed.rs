//! Which series say how often a counter's event happened.

use crate::counter::Field;
use crate::kernel_probe::KernelProbe;

/// A series whose value is a counter's number of events, or a kind of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The counter's name, as in `hook.info` and `hook.missed`.
    pub counter: &'static str,
    /// The metric's name.
    pub metric: String,
    /// The value of the metric's one label, if it has one.
    pub label: Option<&'static str>,
}

impl KernelProbe {
    /// The series of every counter of this probe; a counter's series add up to what it has counted.
    /// One that only sees failures has none.
    pub fn feeds(&self) -> impl Iterator<Item = Feed> {
        self.counters.iter().flat_map(|counter| {
            let calls = counter.outputs.iter().filter(|output| matches!(output.field, Field::Calls));
            calls.map(|output| Feed {
                counter: counter.name,
                metric: output.metric.name().to_owned(),
                label: output.label,
            })
        })
    }
}
