//! netdata 1.37 (Debian's `netdata-core`) with nothing in it but one external plugin, or its `StatsD` server.

use super::server::{Server, free_tcp_port, free_udp_port, is_bound};
use super::{ask, program};
use crate::{Failure, Outcome, agent};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// The name under which netdata starts the agent.
const PLUGIN: &str = "ebpf_process.plugin";

/// A running server.
#[derive(Debug)]
pub struct Netdata {
    server: Server,
    url: String,
}

impl Netdata {
    /// Whether it is installed.
    ///
    /// # Errors
    /// It is not; the message names the package.
    pub fn is_installed() -> Outcome<()> {
        program("netdata", "netdata-core").map(drop)
    }

    /// Starts it with a plugin of this name (it must end in `.plugin`) that is this shell script.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn start(plugin: &str, script: &str) -> Outcome<Self> {
        let folder = Server::folder("netdata")?;
        prepare(folder.path()).map_err(Failure::at("netdata's folder"))?;
        let plugin = folder.path().join("plugins").join(plugin);
        fs::write(&plugin, script).map_err(Failure::at("netdata's plugin"))?;
        fs::set_permissions(plugin, Permissions::from_mode(0o755)).map_err(Failure::at("netdata's plugin"))?;
        Self::start_in(folder, None)
    }

    /// Starts it with the agent under the plugin's own name and this configuration. Both lie in `folder`, which the agent
    /// needs as long as netdata runs.
    ///
    /// # Errors
    /// As [`Netdata::start`], and as [`agent::binary`].
    pub fn start_agent(folder: &Path, configuration: &str) -> Outcome<Self> {
        let (plugin, file) = (folder.join(PLUGIN), folder.join("agent.toml"));
        symlink(agent::binary()?, &plugin).map_err(Failure::at("the plugin's name"))?;
        fs::write(&file, configuration).map_err(Failure::at("the agent's configuration"))?;
        // The variables of the tests would be unknown keys of the agent's configuration.
        let tests = ["AGENT_UNDER_TEST", "LIVE_TEST_LOG", "LIVE_TEST_NO_SKIP"].join(" ");
        let lock = format!("NETDATA_LOCK_DIR='{}'", folder.display());
        let (plugin, file) = (plugin.display(), file.display());
        Self::start(PLUGIN, &format!("#!/bin/sh\nunset {tests}\n{lock} exec '{plugin}' \"$@\" --config '{file}'\n"))
    }

    /// Starts it with its own `StatsD` server, at the returned port of loopback by UDP and TCP.
    ///
    /// # Errors
    /// As [`Netdata::start`].
    pub fn start_statsd() -> Outcome<(Self, u16)> {
        let folder = Server::folder("netdata")?;
        prepare(folder.path()).map_err(Failure::at("netdata's folder"))?;
        let port = free_udp_port()?;
        Ok((Self::start_in(folder, Some(port))?, port))
    }

    fn start_in(folder: TempDir, statsd: Option<u16>) -> Outcome<Self> {
        let executable = program("netdata", "netdata-core")?;
        let port = free_tcp_port()?;
        let file = folder.path().join("etc/netdata.conf");
        let configuration = configuration(&folder.path().to_string_lossy(), port, statsd);
        fs::write(&file, configuration).map_err(Failure::at("netdata.conf"))?;
        let url = format!("http://127.0.0.1:{port}/api/v1");
        let mut command = Command::new(executable);
        // In the foreground; its process file must not be the system's.
        command.arg("-D").arg("-c").arg(file).arg("-P").arg(folder.path().join("pid"));
        let mut server = Server::start("netdata", folder, &mut command)?;
        server.wait_until_ready(|| ask(ureq::get(format!("{url}/info"))).is_ok() && statsd.is_none_or(is_bound))?;
        Ok(Self { server, url })
    }

    /// The last collected number of each dimension, untouched, by chart and dimension.
    ///
    /// # Errors
    /// It does not answer.
    pub fn totals(&self) -> Outcome<BTreeMap<(String, String), f64>> {
        // One who asks again gets only what was collected since: so nobody does.
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", ASKED.fetch_add(1, Ordering::Relaxed));
        let request = ureq::get(format!("{}/allmetrics", self.url)).query("server", name);
        let request = request.query("format", "prometheus").query("source", "raw");
        // Ids, which are unique, in place of names, which netdata changes.
        let text = ask(request.query("names", "no"))?;
        Ok(text.lines().filter_map(dimension).collect())
    }

    /// What it knows about each chart that is not obsolete, by the chart's id.
    ///
    /// # Errors
    /// It does not answer, or not with charts.
    pub fn charts(&self) -> Outcome<Map<String, Value>> {
        let text = ask(ureq::get(format!("{}/charts", self.url)))?;
        let mut answer: Value = serde_json::from_str(&text).map_err(Failure::at("netdata's charts"))?;
        match answer["charts"].take() {
            Value::Object(charts) => Ok(charts),
            other => Err(Failure::new(format!("netdata's charts are {other}"))),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The error log, in which its plugins write as well.
    pub fn log(&self) -> String {
        fs::read_to_string(self.server.path().join("log/error.log")).unwrap_or_default()
    }

    /// A failure with what netdata and its plugin wrote to the error log.
    pub fn explain(&self, failure: &Failure) -> Failure {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(40)..].join("\n");
        Failure::new(format!("{failure}; netdata's error log ends with:\n{last}"))
    }
}

fn prepare(folder: &Path) -> std::io::Result<()> {
    for part in ["etc", "stock", "cache", "lib", "log", "plugins", "web"] {
        fs::create_dir(folder.join(part))?;
    }
    fs::write(folder.join("etc/.opt-out-from-anonymous-statistics"), "")
}

/// Everything of its own is off but what is wanted of it: what it shows came from us. It does not stand behind everybody
/// else, as it would by itself, nor do its plugins. The stock folder must exist, or it does not start.
fn configuration(folder: &str, port: u16, statsd: Option<u16>) -> String {
    let off = ["timex", "cgroups", "tc", "idlejitter", "proc", "diskspace", "checks", "slabinfo", "apps"];
    let off = off.map(|plugin| format!("    {plugin} = no\n")).concat();
    let (has_statsd, statsd) = statsd.map_or(("no", String::new()), |port| {
        let addresses = format!("udp:127.0.0.1:{port} tcp:127.0.0.1:{port}");
        // It draws 200 names unless it is told otherwise.
        let charts = "max private charts hard limit = 1000";
        ("yes", format!("[statsd]\n    enabled = yes\n    {charts}\n    bind to = {addresses}\n"))
    });
    format!(
        "[global]
    run as user = root
    process scheduling policy = keep
    hostname = receiver
[directories]
    config = {folder}/etc
    stock config = {folder}/stock
    log = {folder}/log
    web = {folder}/web
    cache = {folder}/cache
    lib = {folder}/lib
    home = {folder}/lib
    plugins = {folder}/plugins
[db]
    mode = ram
    retention = 600
    update every = 1
    cleanup obsolete charts after secs = 5
[logs]
    debug = none
    access = none
    error = {folder}/log/error.log
    errors flood protection period = 0
[ml]
    enabled = no
[health]
    enabled = no
[web]
    bind to = 127.0.0.1:{port}
    web server threads = 1
    enable gzip compression = no
{statsd}[plugins]
{off}    statsd = {has_statsd}
    netdata monitoring = no
    netdata monitoring extended = no
    enable running new plugins = yes
    check for new plugins every = 5
"
    )
}

/// `NAME{chart="C",...,dimension="D"} VALUE TIME` as chart, dimension and value.
fn dimension(line: &str) -> Option<((String, String), f64)> {
    let (_, rest) = line.split_once('{')?;
    let (labels, rest) = rest.split_once('}')?;
    let label = |key: &str| {
        let (_, rest) = labels.split_once(&format!("{key}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(((label("chart")?, label("dimension")?), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_raw_metrics_is_a_chart_a_dimension_and_a_value() {
        let line = r#"netdata_ebpf_io_calls_s_total{chart="ebpf.io",family="VFS",dimension="read"} 304 1700000000000"#;
        assert_eq!(dimension(line), Some((("ebpf.io".into(), "read".into()), 304.0)));
        assert_eq!(dimension("# COMMENT"), None);
        assert_eq!(dimension(r#"netdata_info{instance="receiver"} 1 1700000000000"#), None);
    }
}
