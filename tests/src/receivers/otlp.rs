//! Receivers of OpenTelemetry's protocol: `VictoriaMetrics`, and Prometheus 3 behind its `vmagent`, of Debian unstable,
//! unpacked beside the system's own, which do not speak it. Debian builds Prometheus without its receiver of OTLP.

use super::ask;
use super::server::{Server, free_tcp_port};
use crate::{Failure, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Names the folder that Debian's packages are unpacked in; `cargo xtask test` does that.
const FOLDER: &str = "OTLP_RECEIVERS";

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Names with `_` and a suffix for what they are.
    Prometheus,
    /// Names as they come.
    Victoria,
}

/// A program of that folder.
fn program(name: &str) -> Outcome<PathBuf> {
    let folder = env::var_os(FOLDER).ok_or_else(|| {
        Failure::new(format!("{FOLDER} names no folder with Debian's prometheus and victoria-metrics of sid"))
    })?;
    let program = PathBuf::from(folder).join("usr/bin").join(name);
    if program.is_file() { Ok(program) } else { Err(Failure::new(format!("there is no {}", program.display()))) }
}

impl Kind {
    /// Whether it can be started.
    ///
    /// # Errors
    /// It is not there; the message says what has to be set.
    pub fn is_installed(self) -> Outcome<()> {
        let needed: &[&str] = if self == Self::Prometheus { &["prometheus", "vmagent"] } else { &["victoria-metrics"] };
        needed.iter().try_for_each(|name| program(name).map(drop))
    }

    /// What a counter is called there.
    pub fn counter(self, name: &str) -> String {
        if self == Self::Prometheus { format!("{}_total", name.replace('.', "_")) } else { name.to_owned() }
    }

    /// What an attribute is called there.
    pub fn label(self, name: &str) -> String {
        if self == Self::Prometheus { name.replace('.', "_") } else { name.to_owned() }
    }
}

/// The series of a metric: labels and the last value.
pub type Series = Vec<(BTreeMap<String, String>, f64)>;

/// A running server.
#[derive(Debug)]
pub struct Receiver {
    kind: Kind,
    server: Server,
    /// What hands on to it, and where that takes metrics.
    before: Option<(Server, String)>,
    url: String,
}

impl Receiver {
    /// Starts it.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn start(kind: Kind) -> Outcome<Self> {
        let name = if kind == Kind::Prometheus { "prometheus" } else { "victoria-metrics" };
        let folder = Server::folder(name)?;
        let port = free_tcp_port()?;
        let mut command = Command::new(program(name)?);
        let data = folder.path().join("data");
        let ready = match kind {
            Kind::Prometheus => {
                let file = folder.path().join("prometheus.yml");
                fs::write(&file, "scrape_configs: []\n").map_err(Failure::at("prometheus.yml"))?;
                command.arg(format!("--config.file={}", file.display()));
                command.arg(format!("--storage.tsdb.path={}", data.display()));
                command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
                command.args(["--web.enable-remote-write-receiver", "--log.level=warn"]);
                "/-/ready"
            }
            Kind::Victoria => {
                command.arg(format!("-storageDataPath={}", data.display()));
                command.arg(format!("-httpListenAddr=127.0.0.1:{port}")).arg("-memory.allowedBytes=256MB");
                command.args(["-search.latencyOffset=0s", "-search.disableCache", "-retentionPeriod=100y"]);
                "/health"
            }
        };
        let url = format!("http://127.0.0.1:{port}");
        let mut server = Server::start(name, folder, &mut command)?;
        server.wait_until_ready(|| ask(ureq::get(format!("{url}{ready}"))).is_ok())?;
        let before = if kind == Kind::Prometheus { Some(agent_before(&url)?) } else { None };
        Ok(Self { kind, server, before, url })
    }

    /// Where it takes metrics, for a sink's `url`.
    pub fn url(&self) -> String {
        let url = self.before.as_ref().map_or(&self.url, |(_, url)| url);
        format!("{url}/opentelemetry/v1/metrics")
    }

    /// All series of a counter under the agent's name.
    ///
    /// # Errors
    /// It does not answer, or not as it should.
    pub fn counters(&self, name: &str) -> Outcome<Series> {
        self.ask(&format!("{{__name__={:?}}}", self.kind.counter(name)))
    }

    /// All series of a counter that there ever were, with their last value: a test's own times may be years old.
    ///
    /// # Errors
    /// As [`Receiver::counters`].
    pub fn history(&self, name: &str) -> Outcome<Series> {
        self.ask(&format!("last_over_time({{__name__={:?}}}[50y])", self.kind.counter(name)))
    }

    fn ask(&self, query: &str) -> Outcome<Series> {
        if self.kind == Kind::Victoria {
            // What was just written is not found before it is flushed.
            ask(ureq::get(format!("{}/internal/force_flush", self.url)))?;
        }
        let answer = ask(ureq::get(format!("{}/api/v1/query", self.url)).query("query", query))?;
        read(&answer).ok_or_else(|| Failure::new(format!("not the answer to a query: {answer}")))
    }

    /// The failure with what the server said.
    pub fn explain(&self, failure: &Failure) -> Failure {
        let failure = self.server.with_log(failure);
        self.before.as_ref().map_or(failure.clone(), |(before, _)| before.with_log(&failure))
    }
}

/// Starts what takes OTLP, gives metrics the names that Prometheus gives them, and writes them to a server.
fn agent_before(server: &str) -> Outcome<(Server, String)> {
    let folder = Server::folder("vmagent")?;
    let port = free_tcp_port()?;
    let mut command = Command::new(program("vmagent")?);
    command.arg(format!("-remoteWrite.url={server}/api/v1/write"));
    command.arg(format!("-remoteWrite.tmpDataPath={}", folder.path().join("queue").display()));
    command.arg(format!("-httpListenAddr=127.0.0.1:{port}")).arg("-memory.allowedBytes=256MB");
    command.args(["-opentelemetry.usePrometheusNaming", "-remoteWrite.flushInterval=100ms"]);
    let url = format!("http://127.0.0.1:{port}");
    let mut agent = Server::start("vmagent", folder, &mut command)?;
    agent.wait_until_ready(|| ask(ureq::get(format!("{url}/health"))).is_ok())?;
    Ok((agent, url))
}

/// `data.result[]` with labels in `metric`, and `value` as a time and a text.
fn read(answer: &str) -> Option<Series> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let series = answer["data"]["result"].as_array()?.iter().map(|series| {
        let labels = series["metric"].as_object()?.iter();
        let labels = labels.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        Some((labels.collect::<Option<_>>()?, series["value"][1].as_str()?.parse().ok()?))
    });
    series.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_series() {
        let answer = r#"{"data":{"result":[{"metric":{"__name__":"a","process_pid":"7"},"value":[1,"5"]}]}}"#;
        let series = read(answer).unwrap();
        assert_eq!((series.len(), series[0].1, series[0].0["process_pid"].as_str()), (1, 5.0, "7"));
        assert_eq!(read(r#"{"status":"error"}"#), None);
    }
}
