//! The way to a server: one request per batch over a connection that stays open.

use ebpf_process_core::Stop;
use ureq::{Agent, Error};

use crate::options::Endpoint;
use crate::reply::Verdict;

/// How much of a reply is read; the rest would only be an error text.
const REPLY_LIMIT: u64 = 64 * 1024;

/// A connection to one server.
pub(crate) struct Http {
    agent: Agent,
    endpoint: Endpoint,
    stop: Stop,
}

impl Http {
    /// Opens nothing yet.
    pub(crate) fn new(endpoint: Endpoint, stop: Stop) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Where the data goes is the configuration's to say, not the environment's.
            .proxy(None)
            .user_agent(concat!("ebpf-process/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: Agent::new_with_config(config), endpoint, stop }
    }

    /// Posts a batch of so many samples and waits for the reply.
    pub(crate) fn post(&self, lines: &[u8], samples: u64) -> Verdict {
        match self.exchange(lines) {
            Ok((status, body)) => Verdict::of(status, &body, samples, &self.endpoint.database),
            Err(error) => Verdict::unanswered(samples, self.explain(&error)),
        }
    }

    fn exchange(&self, lines: &[u8]) -> Result<(u16, Vec<u8>), Error> {
        // A stop does not wait longer than it has said.
        let timeout = self.stop.remaining().map_or(self.endpoint.timeout, |left| left.min(self.endpoint.timeout));
        let request = self.agent.post(&self.endpoint.write).config().timeout_global(Some(timeout)).build();
        let request = request.header("Content-Type", "text/plain; charset=utf-8");
        let request = match &self.endpoint.authorization {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        };
        let mut response = request.send(lines)?;
        let status = response.status().as_u16();
        // The status alone decides; a body that breaks off or is too long is only a lost text.
        let body = response.body_mut().with_config().limit(REPLY_LIMIT).read_to_vec().unwrap_or_default();
        Ok((status, body))
    }

    fn explain(&self, error: &Error) -> String {
        let server = &self.endpoint.server;
        match error {
            Error::Timeout(_) => {
                format!("{server} does not answer in time; raise the option timeout if it is only slow")
            }
            Error::HostNotFound => format!("the host of {server} is not known; check the option url"),
            Error::Io(error) => format!("cannot write to {server}: {error}; is InfluxDB running there?"),
            error => format!("cannot write to {server}: {error}"),
        }
    }
}
