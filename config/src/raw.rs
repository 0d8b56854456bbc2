//! What was typed, as serde sees it: known keys and right types, nothing more.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ebpf_process_core::engine::{OutletSpec, WhenFull};
use ebpf_process_core::{Selection, duration, size};
use figment::value::{Dict, Value};
use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The whole configuration. Probes and sinks are looked at one by one, so that an error names the
/// full key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRoot {
    /// The time between two batches, 100ms to 1h.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub(crate) interval: Duration,
    /// How long a stop waits for sinks that still hold batches, up to 10m.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub(crate) grace: Duration,
    /// This agent's name among several on one host, up to 64 letters, digits, "-" and "_". It is part of the locks on
    /// destinations, of the status socket (`status-NAME.sock`) and of spools (`DIRECTORY-NAME`), and is sent as the tag
    /// `instance`.
    #[serde(default)]
    pub(crate) instance: Option<String>,
    /// What becomes of the rights of the start that nothing needs once the probes are attached.
    pub(crate) capabilities: Rights,
    /// Whom root's agent becomes once the probes are attached, by name or number; `root` stays root, without the
    /// capabilities. Without it `ebpf-process`, where the machine has such a user, or else 65534. It has no effect with
    /// `capabilities = "keep"`, nor where the agent was not started by root.
    #[serde(default, deserialize_with = "name_or_number")]
    #[schemars(with = "Option<String>")]
    pub(crate) user: Option<String>,
    pub(crate) status: RawStatus,
    /// Tags that every sink adds to every series that has no label of that key; a sink's own `tags` are stronger.
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(default)]
    #[schemars(skip)]
    pub(crate) probes: Dict,
    #[serde(default)]
    #[schemars(skip)]
    pub(crate) sinks: BTreeMap<String, Dict>,
}

/// `[status]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStatus {
    /// Where a running agent answers `ebpf-process status`: a Unix socket by its absolute path, or "" for none.
    pub(crate) socket: String,
}

/// What becomes of the rights of the start that nothing needs once the probes are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rights {
    /// Capabilities are given up before any sink is built, root becomes `user`, and system calls and paths that the agent
    /// does not use are closed to it.
    Drop,
    /// All of it stays, for a sink that needs more.
    Keep,
}

/// One `[sinks.NAME]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSink {
    /// Its type: one of those that `ebpf-process list sinks` names.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Batches that may wait for this sink, 1 to 1024.
    #[serde(default = "default_queue")]
    pub(crate) queue: usize,
    /// How much of them may wait, 64KiB to 16GiB; one batch always may. Sinks that wait for the same batches share their
    /// memory.
    #[serde(default = "default_queue_bytes", with = "size")]
    #[schemars(with = "size::Text")]
    pub(crate) queue_bytes: u64,
    /// What gives way when the queue is full; collecting never waits.
    #[serde(default)]
    pub(crate) when_full: WhenFull,
    /// This sink's own interval, a whole multiple of the agent's, up to 1h; without it every batch is written.
    #[serde(default, deserialize_with = "given_duration")]
    #[schemars(with = "Option<duration::Text>")]
    pub(crate) interval: Option<Duration>,
    /// How much later a batch may be written, by chance, so that many agents do not write at once.
    #[serde(default, with = "duration")]
    #[schemars(with = "duration::Text")]
    pub(crate) jitter: Duration,
    /// The kinds of rows it gets, for example `["host", "app"]`; `ebpf-process list metrics` names them. Without this it
    /// gets every kind but `process`, and one of type json that, too.
    #[serde(default)]
    pub(crate) kinds: Option<Vec<String>>,
    /// What labels must be, by label, with * and ?: `{ comm = "nginx*" }`. Of what has no such label nothing is asked.
    #[serde(default, rename = "where")]
    pub(crate) matching: BTreeMap<String, String>,
    /// The most rows that it gets at a time, by kind, 1 to 1048576: `{ process = 20, app = 50 }`. Those that are most active
    /// have one of their own; what the others gain is in one row more, `other`. Without `kinds` a kind that is named here is
    /// one that it gets.
    #[serde(default)]
    pub(crate) top: BTreeMap<String, usize>,
    /// What makes a row active for `top`: counters by name, with * and ?. Where it gets none of these of a kind, all
    /// counters of the kind that it gets.
    #[serde(default = "calls")]
    pub(crate) top_by: Vec<String>,
    /// The metrics it gets, by name, with * and ?.
    #[serde(default = "everything")]
    pub(crate) include: Vec<String>,
    /// The metrics it does not get; stronger than include.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    /// Other names for metrics.
    #[serde(default)]
    pub(crate) rename: BTreeMap<String, String>,
    /// What is put before every name.
    #[serde(default)]
    pub(crate) prefix: String,
    /// Labels that are added to every series.
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    /// Given a type by the sink's plugin; here it only has to be a table.
    #[serde(default)]
    #[schemars(skip)]
    #[expect(dead_code, reason = "declared, so that it is a known key and no other type passes")]
    options: BTreeMap<String, Value>,
}

impl RawSink {
    pub(crate) fn into_spec(self, name: &str) -> OutletSpec {
        let Self { queue, queue_bytes, when_full, interval, jitter, .. } = self;
        let Self { kinds, matching, top, top_by, include, exclude, rename, prefix, tags, .. } = self;
        let unasked = Vec::new();
        let selection = Selection { kinds, unasked, matching, top, top_by, include, exclude, rename, prefix, tags };
        let queue_bytes = usize::try_from(queue_bytes).unwrap_or(usize::MAX);
        OutletSpec { selection, queue, queue_bytes, when_full, interval, jitter, ..OutletSpec::new(name) }
    }
}

/// The keys of every `[probes.NAME]` that are not its probe's own.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct RawProbe {
    /// The type of a probe whose name is its own to choose; `list probes` shows which types those are.
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    /// Whether this probe is attached; without it what `list probes` says.
    pub(crate) enabled: Option<bool>,
}

fn given_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(deserializer).map(Some)
}

/// A user as people write one: `"nobody"`, `"65534"` or 65534.
fn name_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct NameOrNumber;

    impl Visitor<'_> for NameOrNumber {
        type Value = String;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a user's name or number")
        }

        fn visit_str<E: de::Error>(self, name: &str) -> Result<String, E> {
            Ok(name.to_owned())
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }

    deserializer.deserialize_any(NameOrNumber).map(Some)
}

const fn default_queue() -> usize {
    OutletSpec::DEFAULT_QUEUE
}

const fn default_queue_bytes() -> u64 {
    OutletSpec::DEFAULT_QUEUE_BYTES as u64
}

fn calls() -> Vec<String> {
    Selection::default().top_by
}

fn everything() -> Vec<String> {
    Selection::default().include
}
