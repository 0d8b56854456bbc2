//! The plugins that one binary contains.

use std::sync::Arc;

use crate::probe::ProbePlugin;
use crate::sink::SinkPlugin;

/// An explicit list of probe and sink types: nothing registers itself before `main`.
///
/// ```
/// use ebpf_process_core::{Registry, VITALS};
///
/// let registry = Registry::default().probe(VITALS);
/// assert_eq!(registry.probes().map(|probe| probe.name()).collect::<Vec<_>>(), ["vitals"]);
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    probes: Vec<Arc<dyn ProbePlugin>>,
    sinks: Vec<Arc<dyn SinkPlugin>>,
}

impl Registry {
    /// Adds a type of probe; one of the same name is replaced.
    #[must_use]
    pub fn probe(mut self, plugin: impl ProbePlugin + 'static) -> Self {
        self.probes.retain(|known| known.name() != plugin.name());
        self.probes.push(Arc::new(plugin));
        self
    }

    /// Adds a type of sink; one of the same name is replaced.
    #[must_use]
    pub fn sink(mut self, plugin: impl SinkPlugin + 'static) -> Self {
        self.sinks.retain(|known| known.name() != plugin.name());
        self.sinks.push(Arc::new(plugin));
        self
    }

    /// All probe types, in the order in which they were added.
    pub fn probes(&self) -> impl Iterator<Item = &Arc<dyn ProbePlugin>> {
        self.probes.iter()
    }

    /// All sink types, in the order in which they were added.
    pub fn sinks(&self) -> impl Iterator<Item = &Arc<dyn SinkPlugin>> {
        self.sinks.iter()
    }

    /// The probe type of this name.
    pub fn find_probe(&self, name: &str) -> Option<&Arc<dyn ProbePlugin>> {
        self.probes().find(|plugin| plugin.name() == name)
    }

    /// The sink type of this name.
    pub fn find_sink(&self, name: &str) -> Option<&Arc<dyn SinkPlugin>> {
        self.sinks().find(|plugin| plugin.name() == name)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let probes: Vec<_> = self.probes().map(|probe| probe.name()).collect();
        let sinks: Vec<_> = self.sinks().map(|sink| sink.name()).collect();
        f.debug_struct("Registry").field("probes", &probes).field("sinks", &sinks).finish()
    }
}
