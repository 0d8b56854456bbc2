//! The original `StatsD` server (npm's `statsd`), whose counters a small backend writes to a file at each flush.

use super::carbon::Carbon;
use super::server::{Server, free_tcp_port, free_udp_port, is_bound};
use super::{ANSWER, program};
use crate::{Failure, Outcome};
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const BACKEND: &str = include_str!("statsd-backend.js");

/// Between two flushes of a server that we read ourselves; and of one before carbon, which keeps one value a second.
const FLUSH: Duration = Duration::from_millis(200);
const FLUSH_TO_CARBON: Duration = Duration::from_secs(2);

/// A running server, or one that was killed.
#[derive(Debug)]
pub struct Statsd {
    server: Server,
    command: Command,
    udp: u16,
    tcp: u16,
    control: u16,
}

impl Statsd {
    /// Whether it is installed.
    ///
    /// # Errors
    /// It is not; the message says what is missing.
    pub fn is_installed() -> Outcome<()> {
        program("node", "nodejs")?;
        package().map(drop)
    }

    /// Starts it, listening by UDP, TCP and a Unix socket.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn start() -> Outcome<Self> {
        Self::start_with(FLUSH, "")
    }

    /// Starts it so that it hands on what it adds up to carbon.
    ///
    /// # Errors
    /// As [`Statsd::start`].
    pub fn start_before(carbon: &Carbon) -> Outcome<Self> {
        let graphite = format!(
            "graphiteHost: '127.0.0.1', graphitePort: {}, graphite: {{ legacyNamespace: false }},",
            carbon.port()
        );
        Self::start_with(FLUSH_TO_CARBON, &graphite)
    }

    fn start_with(flush: Duration, graphite: &str) -> Outcome<Self> {
        let (node, package) = (program("node", "nodejs")?, package()?);
        let folder = Server::folder("statsd")?;
        let (udp, tcp, control) = (free_udp_port()?, free_tcp_port()?, free_tcp_port()?);
        let path = |name: &str| folder.path().join(name);
        fs::write(path("backend.js"), BACKEND).map_err(Failure::at("backend.js"))?;
        let backends = if graphite.is_empty() { "" } else { ", './backends/graphite'" };
        let configuration = format!(
            "{{ servers: [{{ server: './servers/udp', address: '127.0.0.1', port: {udp} }},\n  \
             {{ server: './servers/tcp', address: '127.0.0.1', port: {tcp} }},\n  \
             {{ server: './servers/tcp', socket: '{}' }}],\n  \
             mgmt_address: '127.0.0.1', mgmt_port: {control}, flushInterval: {}, {graphite}\n  \
             backends: ['{}'{backends}], flushFile: '{}' }}\n",
            path("socket").display(),
            flush.as_millis(),
            path("backend.js").display(),
            path("flushes").display()
        );
        fs::write(path("config.js"), configuration).map_err(Failure::at("config.js"))?;
        let mut command = Command::new(node);
        command.arg("stats.js").arg(path("config.js")).current_dir(package);
        let server = Server::start("statsd", folder, &mut command)?;
        let mut statsd = Self { server, command, udp, tcp, control };
        statsd.wait_until_ready()?;
        Ok(statsd)
    }

    /// Kills it. What it has flushed stays counted.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again with the same addresses, after it was killed.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_again(&mut self) -> Outcome<()> {
        // A killed server leaves its socket's path behind, and would not listen there again.
        fs::remove_file(self.server.path().join("socket")).map_err(Failure::at("statsd's socket"))?;
        self.server.start_again(&mut self.command)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Outcome<()> {
        let (udp, control, socket) = (self.udp, self.control, self.server.path().join("socket"));
        self.server.wait_until_ready(|| is_healthy(control) && is_bound(udp) && socket.exists())
    }

    /// Its address by UDP, for a sink's `address`.
    pub fn address(&self) -> String {
        format!("udp://127.0.0.1:{}", self.udp)
    }

    /// Its address by TCP.
    pub fn tcp(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.tcp)
    }

    /// Its Unix socket.
    pub fn unix(&self) -> String {
        format!("unix://{}", self.server.path().join("socket").display())
    }

    /// What every counter came to in all flushes until now.
    ///
    /// # Errors
    /// The backend's file is not what the backend writes.
    pub fn counters(&self) -> Outcome<BTreeMap<String, f64>> {
        // No flush yet is no counter yet.
        let flushes = fs::read_to_string(self.server.path().join("flushes")).unwrap_or_default();
        sum(&flushes)
    }
}

/// The folder of the npm package, where `cargo xtask test` puts it.
fn package() -> Outcome<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let package = base.map(|base| base.join("ebpf-process/statsd/node_modules/statsd"));
    package
        .filter(|package| package.join("stats.js").is_file())
        .ok_or_else(|| Failure::new("npm's statsd is not installed: `cargo xtask test` does it"))
}

/// Adds up the complete lines; the last one may be in the middle of being written.
fn sum(flushes: &str) -> Outcome<BTreeMap<String, f64>> {
    let mut counters = BTreeMap::new();
    for flush in flushes.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let flush: BTreeMap<String, f64> =
            serde_json::from_str(flush).map_err(Failure::at(format!("a flush of statsd: {flush}")))?;
        for (name, count) in flush {
            *counters.entry(name).or_default() += count;
        }
    }
    Ok(counters)
}

fn is_healthy(port: u16) -> bool {
    let ask = || {
        let mut control = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), ANSWER)?;
        control.set_read_timeout(Some(ANSWER))?;
        control.write_all(b"health\n")?;
        let mut answer = [0; 64];
        let length = control.read(&mut answer)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[..length]).contains("up"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_add_up_and_half_a_line_waits() {
        let counters = sum("{\"a\":2,\"b\":0}\n{\"a\":3}\n{\"a\":4").unwrap();
        assert_eq!(counters["a"].to_bits(), 5.0_f64.to_bits());
        assert_eq!(counters.len(), 2);
    }
}
