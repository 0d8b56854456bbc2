//! Whose the numbers are: this host, and the agent on it.

use std::collections::BTreeMap;

use ebpf_process_core::identity;

use crate::attributes::{OF_RESOURCES, text};
use crate::wire;

/// The fields of a group of one resource's metrics: the resource, and the metrics of a scope.
const RESOURCE: u8 = 1;
const SCOPE_METRICS: u8 = 2;
/// The field of the scope in there, and those of its name and version.
const SCOPE: u8 = 1;
const NAME: u8 = 1;
const VERSION: u8 = 2;

/// The resource of all metrics, as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    host: String,
    instance: Option<String>,
    given: BTreeMap<String, String>,
    /// The resource in front of a group.
    head: Vec<u8>,
    /// The scope in front of its metrics.
    scope: Vec<u8>,
}

impl Resource {
    /// This program as the service on this host, whose instance is the host, or one of several agents there.
    pub(crate) fn new(host: &str, instance: Option<&str>) -> Self {
        let mut scope = Vec::new();
        wire::bytes(&mut scope, NAME, identity().name().as_bytes());
        wire::bytes(&mut scope, VERSION, identity().version().as_bytes());
        let mut framed = Vec::new();
        wire::bytes(&mut framed, SCOPE, &scope);
        let instance = instance.map(str::to_owned);
        let (host, given) = (host.to_owned(), BTreeMap::new());
        let mut made = Self { host, instance, given, head: Vec::new(), scope: framed };
        made.write();
        made
    }

    /// Says more of it, or something else than what was found out.
    pub(crate) fn give(&mut self, attributes: BTreeMap<String, String>) {
        self.given = attributes;
        self.write();
    }

    /// What this host is called from now on.
    pub(crate) fn set_host(&mut self, host: &str) {
        if self.host != host {
            host.clone_into(&mut self.host);
            self.write();
        }
    }

    fn write(&mut self) {
        let host = &self.host;
        let id = self.instance.as_ref().map_or_else(|| host.clone(), |instance| format!("{host}/{instance}"));
        let found = [
            ("service.name", identity().name()),
            ("service.version", identity().version()),
            ("service.instance.id", &id),
            ("host.name", host),
        ];
        let found = found.into_iter().filter(|(key, _)| !self.given.contains_key(*key));
        let given = self.given.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut attributes = Vec::new();
        for (key, value) in found.chain(given) {
            text(&mut attributes, OF_RESOURCES, key, value);
        }
        self.head.clear();
        wire::bytes(&mut self.head, RESOURCE, &attributes);
    }

    /// Starts a group of metrics that take so many bytes.
    pub(crate) fn begin(&self, out: &mut Vec<u8>, metrics: usize) {
        /// The field of a group in a request.
        const GROUP: u8 = 1;
        let scoped = self.scope.len() + metrics;
        wire::head(out, GROUP, self.head.len() + wire::framed_size(scoped));
        out.extend_from_slice(&self.head);
        wire::head(out, SCOPE_METRICS, scoped);
        out.extend_from_slice(&self.scope);
    }
}
