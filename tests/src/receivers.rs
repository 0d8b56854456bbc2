//! Real receivers on loopback, each with its own folder and ports, asked for the exact totals they hold.
//!
//! They start when they are needed and end when they are dropped. None of them is part of the agent's own code: what
//! they hold is what a user's server would hold.

pub mod by_rules;
pub mod carbon;
pub mod collectd;
pub mod influx;
pub mod lines;
pub mod netdata;
pub mod otlp;
pub mod prometheus;
mod server;
pub mod statsd;
pub mod victoria;

pub use server::free_tcp_port;

use crate::{Failure, Outcome};
use std::env;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

/// From the start of a receiver to its first answer.
const READY: Duration = Duration::from_secs(30);
/// For one question and its answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A program on the PATH or where Debian keeps the system's own.
///
/// # Errors
/// It is not installed; the message names the package.
pub fn program(name: &str, package: &str) -> Outcome<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|candidate| candidate.is_file());
    found.ok_or_else(|| Failure::new(format!("{name} is not installed (package {package})")))
}

/// Gets a page over HTTP, in the format that `accept` names.
fn fetch(url: &str, accept: &str) -> Outcome<String> {
    ask(ureq::get(url).header("Accept", accept))
}

/// Asks over HTTP and returns the answer's text.
fn ask(request: ureq::RequestBuilder<ureq::typestate::WithoutBody>) -> Outcome<String> {
    let answer = request.config().timeout_global(Some(ANSWER)).build().call();
    let mut text = String::new();
    let mut body = answer.map_err(Failure::at("asking a receiver"))?.into_body();
    body.as_reader().read_to_string(&mut text).map_err(Failure::at("a receiver's answer"))?;
    Ok(text)
}
