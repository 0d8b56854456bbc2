//! What a program is that is an agent, as its `main` describes it.

use ebpf_process_core::{Identity, ProbePlugin, Registry, SinkPlugin};

/// A program that is an agent: a name, a version, and what it counts and writes.
///
/// From the name follows where its things are: `my-agent` reads `/etc/my-agent/my-agent.toml` and variables that begin with
/// `MY_AGENT_`, its runtime directory is `/run/my-agent`, and root's agent becomes the user `my-agent` where there is one.
/// What belongs to netdata is named as netdata knows it: started as `ebpf_process.plugin` it is that plugin, whatever its
/// own name is.
#[derive(Debug)]
pub struct App {
    pub(crate) about: Option<String>,
    pub(crate) registry: Registry,
    /// None where the name that was given is none.
    pub(crate) identity: Option<Identity>,
    pub(crate) name: String,
}

impl App {
    /// A program of this name (lower-case letters, digits and `-`, with a letter first) and version, with the probes and
    /// sinks that come with the agent.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        let name = name.into();
        Self { about: None, registry: crate::registry(), identity: Identity::new(&*name, version), name }
    }

    /// What it is, for `--help`: the first line alone for `-h`.
    #[must_use]
    pub fn about(self, about: impl Into<String>) -> Self {
        Self { about: Some(about.into()), ..self }
    }

    /// One more type of sink; one of the same name is replaced.
    #[must_use]
    pub fn sink(self, plugin: impl SinkPlugin + 'static) -> Self {
        Self { registry: self.registry.sink(plugin), ..self }
    }

    /// One more type of probe; one of the same name is replaced.
    #[must_use]
    pub fn probe(self, plugin: impl ProbePlugin + 'static) -> Self {
        Self { registry: self.registry.probe(plugin), ..self }
    }

    /// These probes and sinks and no others, for a program that has not all that come with the agent.
    #[must_use]
    pub fn registry(self, registry: Registry) -> Self {
        Self { registry, ..self }
    }
}

impl Default for App {
    /// The agent of this repository.
    fn default() -> Self {
        let identity = Identity::default();
        Self { about: None, registry: crate::registry(), name: identity.name().to_owned(), identity: Some(identity) }
    }
}
