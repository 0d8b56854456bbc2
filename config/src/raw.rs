//! What was typed, as serde sees it: known keys and right types, nothing more.

use std::collections::BTreeMap;
use std::time::Duration;

use ebpf_process_core::{OutletSpec, Selection, WhenFull, duration};
use figment::value::{Dict, Value};
use serde::{Deserialize, Deserializer};

/// The whole configuration. Probes and sinks are looked at one by one, so that an error names the
/// full key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRoot {
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) interval: Duration,
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) grace: Duration,
    pub(crate) capabilities: Rights,
    pub(crate) status: RawStatus,
    #[serde(default)]
    pub(crate) probes: Dict,
    #[serde(default)]
    pub(crate) sinks: BTreeMap<String, Dict>,
}

/// `[status]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStatus {
    pub(crate) socket: String,
}

/// What becomes of the capabilities that nothing needs once the probes are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rights {
    /// They are given up before any sink is built.
    Drop,
    /// They stay, for a sink that needs one.
    Keep,
}

/// One `[sinks.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSink {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default = "default_queue")]
    pub(crate) queue: usize,
    #[serde(default)]
    pub(crate) when_full: WhenFull,
    #[serde(default, deserialize_with = "given_duration")]
    pub(crate) interval: Option<Duration>,
    #[serde(default, deserialize_with = "duration::deserialize")]
    pub(crate) jitter: Duration,
    #[serde(default = "everything")]
    pub(crate) include: Vec<String>,
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    #[serde(default)]
    pub(crate) rename: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) prefix: String,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    /// Given a type by the sink's plugin; here it only has to be a table.
    #[serde(default)]
    #[expect(dead_code, reason = "declared, so that it is a known key and no other type passes")]
    options: BTreeMap<String, Value>,
}

impl RawSink {
    pub(crate) fn into_spec(self, name: &str) -> OutletSpec {
        let Self { queue, when_full, interval, jitter, include, exclude, rename, prefix, tags, .. } = self;
        let selection = Selection { include, exclude, rename, prefix, tags };
        OutletSpec { selection, queue, when_full, interval, jitter, ..OutletSpec::new(name) }
    }
}

/// The key of every `[probes.NAME]` that is not its probe's own.
#[derive(Debug, Deserialize)]
pub(crate) struct RawProbe {
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
}

const fn yes() -> bool {
    true
}

fn given_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(deserializer).map(Some)
}

const fn default_queue() -> usize {
    OutletSpec::DEFAULT_QUEUE
}

fn everything() -> Vec<String> {
    Selection::default().include
}
