//! The sinks, each to a receiver of its own.

use std::io::{self, PipeReader};
use std::time::Duration;

use ebpf_process_core::engine::{Agent, OutletSpec};
use ebpf_process_core::{HostName, Options, SinkContext};
use ebpf_process_tests::receivers::free_tcp_port;
use ebpf_process_tests::{Failure, Outcome};
use serde_json::{Value, json};

use crate::receivers::{Database, Datagrams, Rotated, Scraper, Taken, pipe};

/// The receivers of a run.
#[derive(Default)]
pub(crate) struct Receivers {
    taken: Vec<(String, Taken)>,
    datagrams: Option<Datagrams>,
    scraper: Option<Scraper>,
    rotated: Option<Rotated>,
}

impl Receivers {
    /// Adds a sink to the agent, and starts what it writes to.
    pub(crate) fn add(&mut self, agent: &mut Agent, name: &str, interval: Duration) -> Outcome<()> {
        let (options, taken) = match name {
            "netdata" => (Value::Null, pipe(standard_output()?)?),
            "statsd" => {
                let receiver = self.datagrams.insert(Datagrams::start()?);
                (json!({"address": format!("udp://{}", receiver.address)}), receiver.taken.clone())
            }
            "influx" => {
                let Database { address, taken } = Database::start()?;
                (json!({"url": format!("http://{address}"), "database": "load"}), taken)
            }
            "otlp" => {
                let Database { address, taken } = Database::start()?;
                (json!({"url": format!("http://{address}/v1/metrics")}), taken)
            }
            "prometheus" => {
                let address = ([127, 0, 0, 1], free_tcp_port()?).into();
                let scraper = self.scraper.insert(Scraper::start(address)?);
                (json!({"listen": address}), scraper.taken.clone())
            }
            _ => {
                let file = self.rotated.insert(Rotated::start()?);
                (json!({"path": file.path()}), file.taken.clone())
            }
        };
        self.taken.push((name.to_owned(), taken));
        let options = if options.is_null() { Options::none() } else { Options::from_value(options) };
        add(agent, name, &options, interval)
    }

    /// What is to be done after each tick, and before the scrape of those that have one.
    pub(crate) fn after_tick(&self, scrapes: bool) {
        if let Some(scraper) = self.scraper.as_ref().filter(|_| scrapes) {
            scraper.scrape();
        }
    }

    /// What is to be done when the sinks are through.
    pub(crate) fn rotate(&self) {
        if let Some(file) = &self.rotated {
            file.rotate();
        }
    }

    /// Bytes so far, by sink.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.taken.iter().map(|(name, taken)| (name.as_str(), taken.bytes()))
    }

    /// Datagrams that were sent and that our receiver was too slow for.
    pub(crate) fn missed(&self) -> u64 {
        self.datagrams.as_ref().map_or(0, Datagrams::missed)
    }
}

/// Adds a sink to the agent.
pub(crate) fn add(agent: &mut Agent, name: &str, options: &Options, interval: Duration) -> Outcome<()> {
    let registry = ebpf_process_sinks::registry();
    let plugin = registry.find_sink(name).ok_or_else(|| Failure::new(format!("this build has no sink {name}")))?;
    let context = SinkContext {
        host: HostName::of(|| "load".to_owned()),
        stop: agent.stop_signal(),
        ..SinkContext::new(name, interval)
    };
    let added = agent.add_sink(&**plugin, options, OutletSpec::new(name), context);
    added.map_err(|error| Failure::new(format!("sink {name}: {error}")))
}

/// Puts a pipe in the place of standard output, which is where the sink writes.
fn standard_output() -> Outcome<PipeReader> {
    let (reader, writer) = io::pipe().map_err(Failure::at("a pipe"))?;
    rustix::stdio::dup2_stdout(&writer).map_err(Failure::at("standard output"))?;
    Ok(reader)
}
