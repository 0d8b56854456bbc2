//! `InfluxDB` 1.x (Debian's `influxdb`) with a database of its own, listening by HTTP, UDP and a Unix socket.

use super::server::{Server, free_tcp_port, free_udp_port, is_bound};
use super::{ask, program};
use crate::totals::Totals;
use crate::{Failure, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

const DATABASE: &str = "telemetry";
/// Who may write, where not everybody may.
const USER: &str = "writer";
const PASSWORD: &str = "open sesame";

/// A running server, or one that was killed.
#[derive(Debug)]
pub struct Influx {
    server: Server,
    command: Command,
    url: String,
    udp: u16,
}

impl Influx {
    /// Whether it is installed.
    ///
    /// # Errors
    /// It is not; the message names the package.
    pub fn is_installed() -> Outcome<()> {
        program("influxd", "influxdb").map(drop)
    }

    /// Starts it and makes the database.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn start() -> Outcome<Self> {
        Self::start_with(false)
    }

    /// Starts it so that it asks for [`Influx::user`] and [`Influx::password`].
    ///
    /// # Errors
    /// As [`Influx::start`].
    pub fn start_with_auth() -> Outcome<Self> {
        Self::start_with(true)
    }

    fn start_with(auth: bool) -> Outcome<Self> {
        let executable = program("influxd", "influxdb")?;
        let folder = Server::folder("influx")?;
        let (http, rpc, udp) = (free_tcp_port()?, free_tcp_port()?, free_udp_port()?);
        let file = folder.path().join("influxdb.conf");
        fs::write(&file, configuration(&folder.path().to_string_lossy(), http, rpc, udp, auth))
            .map_err(Failure::at("influxdb.conf"))?;
        let mut command = Command::new(executable);
        command.arg("run").arg("-config").arg(file);
        let server = Server::start("influxd", folder, &mut command)?;
        let mut influx = Self { server, command, url: format!("http://127.0.0.1:{http}"), udp };
        influx.wait_until_ready()?;
        if auth {
            influx.command(&format!("CREATE USER {USER} WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES"))?;
        }
        influx.command(&format!("CREATE DATABASE {DATABASE}"))?;
        Ok(influx)
    }

    /// Kills it. What it has acknowledged is on disk.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again with the same addresses, after it was killed.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_again(&mut self) -> Outcome<()> {
        self.server.start_again(&mut self.command)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Outcome<()> {
        let (ping, udp) = (format!("{}/ping", self.url), self.udp);
        self.server.wait_until_ready(|| ask(ureq::get(&ping)).is_ok() && is_bound(udp))
    }

    fn command(&self, command: &str) -> Outcome<()> {
        let request = ureq::post(format!("{}/query", self.url)).query("q", command);
        request.query("u", USER).query("p", PASSWORD).send_empty().map(drop).map_err(Failure::at("preparing influxd"))
    }

    /// Its address by UDP.
    pub fn udp(&self) -> String {
        format!("udp://127.0.0.1:{}", self.udp)
    }

    /// Its Unix socket.
    pub fn unix(&self) -> String {
        format!("unix://{}", self.server.path().join("socket").display())
    }

    /// Who may write, for a sink's `username`.
    pub fn user(&self) -> &'static str {
        USER
    }

    /// For a sink's `password`.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Its address, for a sink's `url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The database, for a sink's `database`.
    pub fn database(&self) -> &'static str {
        DATABASE
    }

    /// The last value of every field of every series it holds.
    ///
    /// # Errors
    /// It does not answer, or not as version 1 does.
    pub fn totals(&self) -> Outcome<Totals> {
        let answer = self.query("SELECT * FROM /.*/ GROUP BY * ORDER BY time DESC LIMIT 1")?;
        read(&answer).ok_or_else(|| Failure::new(format!("not an answer of influxd: {answer}")))
    }

    /// The time and the value of every point of a field that no tag tells apart, the oldest first.
    ///
    /// # Errors
    /// As [`Influx::totals`].
    pub fn points(&self, measurement: &str, field: &str) -> Outcome<Vec<(i64, f64)>> {
        let answer = self.query(&format!("SELECT \"{field}\" FROM \"{measurement}\""))?;
        let points = rows(&answer).and_then(|rows| {
            rows.iter().map(|row| Some((row.first()?.as_i64()?, row.get(1)?.as_f64()?))).collect::<Option<_>>()
        });
        points.ok_or_else(|| Failure::new(format!("not an answer of influxd: {answer}")))
    }

    /// What a query for `TOP(number, tag, N)` finds: the tag's values and the numbers, in the server's own order.
    ///
    /// # Errors
    /// As [`Influx::totals`].
    pub fn top(&self, query: &str) -> Outcome<Vec<(Vec<String>, f64)>> {
        let answer = self.query(query)?;
        let top = rows(&answer).and_then(|rows| {
            let pair = |row: &Vec<Value>| Some((vec![row.get(2)?.as_str()?.to_owned()], row.get(1)?.as_f64()?));
            rows.iter().map(pair).collect::<Option<_>>()
        });
        top.ok_or_else(|| Failure::new(format!("not an answer of influxd: {answer}")))
    }

    /// How many series it holds.
    ///
    /// # Errors
    /// As [`Influx::totals`].
    pub fn series(&self) -> Outcome<usize> {
        let answer = self.query("SHOW SERIES")?;
        let rows = rows(&answer).ok_or_else(|| Failure::new(format!("not an answer of influxd: {answer}")))?;
        Ok(rows.len())
    }

    fn query(&self, query: &str) -> Outcome<String> {
        let request = ureq::get(format!("{}/query", self.url)).query("db", DATABASE).query("epoch", "ns");
        ask(request.query("u", USER).query("p", PASSWORD).query("q", query))
    }
}

fn configuration(folder: &str, http: u16, rpc: u16, udp: u16, auth: bool) -> String {
    format!(
        r#"reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{http}"
auth-enabled = {auth}
unix-socket-enabled = true
bind-socket = "{folder}/socket"
[[udp]]
enabled = true
bind-address = "127.0.0.1:{udp}"
database = "{DATABASE}"
precision = "ns"
batch-timeout = "200ms"
"#
    )
}

/// The rows of all series of an answer.
fn rows(answer: &str) -> Option<Vec<Vec<Value>>> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let results = answer["results"].as_array()?;
    if results.iter().any(|result| result.get("error").is_some()) {
        return None;
    }
    let series = results.iter().filter_map(|result| result["series"].as_array()).flatten();
    let rows = series.filter_map(|series| series["values"].as_array()).flatten();
    rows.map(|row| row.as_array().cloned()).collect()
}

/// `results[].series[]` with name, tags, columns and rows of values, the first column being the time.
fn read(answer: &str) -> Option<Totals> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let mut totals = Totals::default();
    for result in answer["results"].as_array()? {
        if result.get("error").is_some() {
            return None;
        }
        for series in result["series"].as_array().into_iter().flatten() {
            let tags = series["tags"].as_object().into_iter().flatten();
            let mut labels: BTreeMap<String, String> =
                tags.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect::<Option<_>>()?;
            // A tag that only other series have is there, and empty.
            labels.retain(|_, value| !value.is_empty());
            let columns = series["columns"].as_array()?;
            for row in series["values"].as_array()? {
                let row = row.as_array()?;
                let time = row.first()?.as_i64()?;
                for (column, value) in columns.iter().zip(row).skip(1) {
                    if let Some(value) = value.as_f64() {
                        let name = format!("{}.{}", series["name"].as_str()?, column.as_str()?);
                        totals.insert(name, labels.clone(), value, time);
                    }
                }
            }
        }
    }
    Some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_totals() {
        let answer = r#"{"results":[{"statement_id":0,"series":[{"name":"file","tags":{"operation":"open","kind":""},
            "columns":["time","calls","errors"],"values":[[1700000000000000000,12,null]]}]}]}"#;
        let totals = read(answer).unwrap();
        assert_eq!(totals.get("file.calls", Some(("operation", "open"))), Some(12.0));
        assert_eq!(totals.get("file.errors", Some(("operation", "open"))), None);
        assert_eq!(totals.get("file.calls", Some(("kind", ""))), None);
    }

    #[test]
    fn the_rows_of_all_series_are_rows_of_an_answer() {
        let answer = r#"{"results":[{"series":[{"values":[[1,2.0]]},{"values":[[3,4]]}]},{"statement_id":1}]}"#;
        assert_eq!(rows(answer).unwrap().len(), 2);
        assert_eq!(rows(r#"{"results":[{"error":"database not found"}]}"#), None);
    }

    #[test]
    fn an_empty_database_has_no_totals_and_an_error_is_none() {
        assert_eq!(read(r#"{"results":[{"statement_id":0}]}"#), Some(Totals::default()));
        assert_eq!(read(r#"{"results":[{"error":"database not found"}]}"#), None);
    }
}
