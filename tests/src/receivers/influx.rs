//! `InfluxDB` 1.x (Debian's `influxdb`) with a database of its own.

use super::server::{Server, free_tcp_port};
use super::{ask, program};
use crate::totals::Totals;
use crate::{Failure, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

const DATABASE: &str = "telemetry";

/// A running server.
#[derive(Debug)]
pub struct Influx {
    _server: Server,
    url: String,
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
        let executable = program("influxd", "influxdb")?;
        let folder = Server::folder("influx")?;
        let (http, rpc) = (free_tcp_port()?, free_tcp_port()?);
        let file = folder.path().join("influxdb.conf");
        fs::write(&file, configuration(&folder.path().to_string_lossy(), http, rpc))
            .map_err(Failure::at("influxdb.conf"))?;
        let url = format!("http://127.0.0.1:{http}");
        let mut server =
            Server::start("influxd", folder, Command::new(executable).arg("run").arg("-config").arg(file))?;
        server.wait_until_ready(|| ask(ureq::get(format!("{url}/ping"))).is_ok())?;
        let influx = Self { _server: server, url };
        let created = ureq::post(format!("{}/query", influx.url)).query("q", format!("CREATE DATABASE {DATABASE}"));
        created.send_empty().map_err(Failure::at("making a database"))?;
        Ok(influx)
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
        let query = "SELECT * FROM /.*/ GROUP BY * ORDER BY time DESC LIMIT 1";
        let request = ureq::get(format!("{}/query", self.url)).query("db", DATABASE).query("epoch", "ns");
        let answer = ask(request.query("q", query))?;
        read(&answer).ok_or_else(|| Failure::new(format!("not an answer of influxd: {answer}")))
    }
}

fn configuration(folder: &str, http: u16, rpc: u16) -> String {
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
"#
    )
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
            let labels: BTreeMap<String, String> =
                tags.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect::<Option<_>>()?;
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
        let answer = r#"{"results":[{"statement_id":0,"series":[{"name":"file","tags":{"operation":"open"},
            "columns":["time","calls","errors"],"values":[[1700000000000000000,12,null]]}]}]}"#;
        let totals = read(answer).unwrap();
        assert_eq!(totals.get("file.calls", Some(("operation", "open"))), Some(12.0));
        assert_eq!(totals.get("file.errors", Some(("operation", "open"))), None);
    }

    #[test]
    fn an_empty_database_has_no_totals_and_an_error_is_none() {
        assert_eq!(read(r#"{"results":[{"statement_id":0}]}"#), Some(Totals::default()));
        assert_eq!(read(r#"{"results":[{"error":"database not found"}]}"#), None);
    }
}
