//! What is said to a program before the first batch.

use std::collections::BTreeMap;
use std::time::Duration;

use ebpf_process_core::{Scope, SinkContext, identity};
use serde::Serialize;
use serde_json::Value;

use crate::message::{Hello, VERSION};

/// The line.
#[derive(Debug, Serialize)]
pub(crate) struct Start<'a> {
    #[serde(rename = "start")]
    version: u64,
    format: &'static str,
    agent: &'static str,
    sink: &'a str,
    host: String,
    instance: Option<&'a str>,
    interval: f64,
    scope: &'static str,
    batch_size: u64,
    reply_timeout: f64,
    options: &'a BTreeMap<String, Value>,
}

/// What of it the configuration says.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) batch_size: u64,
    pub(crate) reply_timeout: Duration,
    pub(crate) config: BTreeMap<String, Value>,
}

impl<'a> Start<'a> {
    pub(crate) fn new(context: &'a SinkContext, hello: &Hello, told: &'a Told) -> Self {
        Self {
            version: VERSION,
            format: hello.words.format(),
            agent: identity().version(),
            sink: &context.name,
            host: context.host.now(),
            instance: context.instance.as_deref(),
            interval: context.interval.as_secs_f64(),
            scope: match context.scope {
                Scope::Host => "host",
                Scope::Filtered => "filtered",
            },
            batch_size: told.batch_size,
            reply_timeout: told.reply_timeout.as_secs_f64(),
            options: &told.config,
        }
    }

    /// The line, with its end.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}
