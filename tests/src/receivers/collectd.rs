//! collectd 5 (Debian's `collectd-core`) with nothing but its `StatsD` input and its CSV output; the strictest of all.

use super::program;
use super::server::{Server, free_udp_port, is_bound};
use crate::{Failure, Outcome};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where Debian keeps the plugin and the types.
const PLUGIN: &str = "/usr/lib/collectd/statsd.so";
const TYPES: &str = "/usr/share/collectd/types.db";

/// A running server.
#[derive(Debug)]
pub struct Collectd {
    server: Server,
    port: u16,
}

impl Collectd {
    /// Whether it is installed.
    ///
    /// # Errors
    /// It is not; the message names the package.
    pub fn is_installed() -> Outcome<()> {
        program("collectd", "collectd-core")?;
        match [PLUGIN, TYPES].into_iter().find(|file| !Path::new(file).is_file()) {
            Some(missing) => Err(Failure::new(format!("{missing} is missing (package collectd-core)"))),
            None => Ok(()),
        }
    }

    /// Starts it, writing once a second.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn start() -> Outcome<Self> {
        let executable = program("collectd", "collectd-core")?;
        let folder = Server::folder("collectd")?;
        let port = free_udp_port()?;
        let home = folder.path().display();
        let configuration = format!(
            "Hostname \"receiver\"\nFQDNLookup false\nBaseDir \"{home}\"\nPIDFile \"{home}/pid\"\n\
             TypesDB \"{TYPES}\"\nInterval 1\n\
             LoadPlugin logfile\n<Plugin logfile>\n  File \"{home}/log\"\n</Plugin>\n\
             LoadPlugin statsd\n<Plugin statsd>\n  Host \"127.0.0.1\"\n  Port \"{port}\"\n</Plugin>\n\
             LoadPlugin csv\n<Plugin csv>\n  DataDir \"{home}/csv\"\n  StoreRates false\n</Plugin>\n"
        );
        let file = folder.path().join("collectd.conf");
        fs::write(&file, configuration).map_err(Failure::at("collectd.conf"))?;
        let mut command = Command::new(executable);
        command.arg("-f").arg("-C").arg(file);
        let mut server = Server::start("collectd", folder, &mut command)?;
        server.wait_until_ready(|| is_bound(port))?;
        Ok(Self { server, port })
    }

    /// Its address, for a sink's `address`.
    pub fn address(&self) -> String {
        format!("udp://127.0.0.1:{}", self.port)
    }

    /// What every counter came to, by the last line of its file.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn counters(&self) -> Outcome<BTreeMap<String, f64>> {
        let folder = self.server.path().join("csv/receiver/statsd");
        let mut counters = BTreeMap::new();
        // No folder yet is no counter yet.
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.map_err(Failure::at("collectd's files"))?.path();
            let text = fs::read_to_string(&path).map_err(Failure::at(path.display()))?;
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let (Some(name), Some(total)) = (counter(&file), last(&text)) {
                // The days of a counter are in order: their totals grow.
                counters.entry(name.to_owned()).and_modify(|known| *known = total.max(*known)).or_insert(total);
            }
        }
        Ok(counters)
    }

    /// What it said of lines that it refused.
    pub fn refusals(&self) -> Vec<String> {
        let log = fs::read_to_string(self.server.path().join("log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("statsd plugin: Unable to parse")).map(str::to_owned).collect()
    }
}

/// `derive-NAME-YYYY-MM-DD`.
fn counter(file: &str) -> Option<&str> {
    let dated = file.strip_prefix("derive-")?;
    dated.get(..dated.len().checked_sub("-YYYY-MM-DD".len())?)
}

/// The value of the last complete line, `TIME,VALUE`.
fn last(text: &str) -> Option<f64> {
    let whole = text.get(..text.rfind('\n')?)?;
    whole.lines().last()?.split_once(',')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_counter_and_its_last_whole_line_the_total() {
        assert_eq!(counter("derive-a.b.calls-2020-09-13"), Some("a.b.calls"));
        assert_eq!(counter("gauge-a-2020-09-13"), None);
        assert_eq!(last("epoch,value\n1600000000.1,5\n1600000001.1,7\n16000"), Some(7.0));
        assert_eq!(last("epoch,value\n"), None);
    }
}
