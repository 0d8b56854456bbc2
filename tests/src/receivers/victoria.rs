//! `VictoriaMetrics` (Debian's `victoria-metrics`), which takes what is written for `InfluxDB` 2, behind its `vmauth`,
//! which lets in who shows a token.

use super::prometheus::ranking;
use super::server::{Server, free_tcp_port};
use super::{ask, program};
use crate::totals::Totals;
use crate::{Failure, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

const PACKAGE: &str = "victoria-metrics";
const TOKEN: &str = "s3cr3t";

/// A running server and its doorkeeper.
#[derive(Debug)]
pub struct Victoria {
    server: Server,
    _door: Server,
    url: String,
    door: String,
}

impl Victoria {
    /// Whether both are installed.
    ///
    /// # Errors
    /// One is not; the message names the package.
    pub fn is_installed() -> Outcome<()> {
        program("victoria-metrics", PACKAGE)?;
        program("vmauth", PACKAGE).map(drop)
    }

    /// Starts both.
    ///
    /// # Errors
    /// One is not installed, or does not come up.
    pub fn start() -> Outcome<Self> {
        let folder = Server::folder("victoria")?;
        let port = free_tcp_port()?;
        let mut command = Command::new(program("victoria-metrics", PACKAGE)?);
        command.arg(format!("-storageDataPath={}", folder.path().join("data").display()));
        command.arg(format!("-httpListenAddr=127.0.0.1:{port}")).arg("-memory.allowedBytes=256MB");
        // A test's batches may be years old.
        command.args(["-search.latencyOffset=0s", "-search.disableCache", "-retentionPeriod=100y"]);
        let url = format!("http://127.0.0.1:{port}");
        let mut server = Server::start("victoria-metrics", folder, &mut command)?;
        server.wait_until_ready(|| ask(ureq::get(format!("{url}/health"))).is_ok())?;

        let folder = Server::folder("vmauth")?;
        let file = folder.path().join("auth.yml");
        let users = format!("users: [{{bearer_token: {TOKEN}, url_prefix: '{url}/'}}]\n");
        fs::write(&file, users).map_err(Failure::at("auth.yml"))?;
        let port = free_tcp_port()?;
        let mut command = Command::new(program("vmauth", PACKAGE)?);
        command.arg(format!("-auth.config={}", file.display())).arg(format!("-httpListenAddr=127.0.0.1:{port}"));
        let door = format!("http://127.0.0.1:{port}");
        let mut keeper = Server::start("vmauth", folder, &mut command)?;
        keeper.wait_until_ready(|| ask(ureq::get(format!("{door}/health"))).is_ok())?;
        Ok(Self { server, _door: keeper, url, door })
    }

    /// Its address, for a sink's `url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The doorkeeper's address.
    pub fn door(&self) -> &str {
        &self.door
    }

    /// What the doorkeeper wants to see, for a sink's `token`.
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// The last value of every series, under the agent's names: `vfs_calls` is `vfs.calls`.
    ///
    /// # Errors
    /// It does not answer, or not as `VictoriaMetrics` does.
    pub fn totals(&self) -> Outcome<Totals> {
        // What was just written is not found before it is flushed.
        ask(ureq::get(format!("{}/internal/force_flush", self.url)))?;
        let answer = ask(ureq::get(format!("{}/api/v1/export", self.url)).query("match[]", "{__name__!=\"\"}"))?;
        read(&answer).ok_or_else(|| Failure::new(format!("not an answer of VictoriaMetrics: {answer}")))
    }

    /// What a query finds: the values of these labels, and the number, in the server's own order.
    ///
    /// # Errors
    /// As [`Victoria::totals`]; or a label is not there.
    pub fn query(&self, query: &str, labels: &[&str]) -> Outcome<Vec<(Vec<String>, f64)>> {
        // What was just written is not found before it is flushed.
        ask(ureq::get(format!("{}/internal/force_flush", self.url)))?;
        ranking(&ask(ureq::get(format!("{}/api/v1/query", self.url)).query("query", query))?, labels)
    }

    /// How many lines written for `InfluxDB` it took and could not read; it says so nowhere else.
    ///
    /// # Errors
    /// It does not answer, or does not say.
    pub fn invalid_rows(&self) -> Outcome<u64> {
        let page = ask(ureq::get(format!("{}/metrics", self.url)))?;
        let line = page.lines().find_map(|line| line.strip_prefix("vm_rows_invalid_total{type=\"influx\"} "));
        let count = line.and_then(|count| count.trim().parse().ok());
        count.ok_or_else(|| Failure::new("VictoriaMetrics does not say how many rows were invalid"))
    }

    /// The failure with what the server said.
    pub fn explain(&self, failure: &Failure) -> Failure {
        self.server.with_log(failure)
    }
}

/// A series a line: its labels, the name among them, its values, and their times in milliseconds.
fn read(answer: &str) -> Option<Totals> {
    let mut totals = Totals::default();
    for line in answer.lines() {
        let series: Value = serde_json::from_str(line).ok()?;
        let labels = series["metric"].as_object()?.iter();
        let mut labels: BTreeMap<String, String> =
            labels.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect::<Option<_>>()?;
        let name = labels.remove("__name__")?.replacen('_', ".", 1);
        let points = series["timestamps"].as_array()?.iter().zip(series["values"].as_array()?);
        let (time, value) = points.max_by_key(|(time, _)| time.as_i64())?;
        totals.insert(name, labels, value.as_f64()?, time.as_i64()?);
    }
    Some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_the_exported_points_is_the_total() {
        let answer = r#"{"metric":{"__name__":"task_start_errors","kind":"thread"},"values":[3,2],"timestamps":[20,10]}
{"metric":{"__name__":"task_exits"},"values":[7],"timestamps":[20]}"#;
        let totals = read(answer).unwrap();
        assert_eq!(totals.get("task.start_errors", Some(("kind", "thread"))), Some(3.0));
        assert_eq!(totals.get("task.exits", None), Some(7.0));
        assert_eq!(read("no JSON"), None);
    }
}
