//! Lines over HTTP.

use ebpf_process_core::{BuildError, Opener};
use ebpf_process_delivery::{Frame, Verdict};
use ebpf_process_http::{Errand, Protocol, Reply, Request};
use tracing::info;

use crate::endpoint;
use crate::options::ServerOptions;
use crate::reply::verdict;

/// The number for a database that does not exist.
const NOT_FOUND: u16 = 404;

/// What InfluxDB makes of HTTP.
#[derive(Debug)]
pub(crate) struct LineProtocol(pub(crate) ServerOptions);

impl Protocol for LineProtocol {
    fn request(&self, opener: &dyn Opener) -> Result<Request, BuildError> {
        endpoint::lines(&self.0, opener)
    }

    fn verdict(&self, reply: &Reply<'_>, frame: &Frame) -> Verdict {
        verdict(reply, &self.0.place, frame)
    }

    fn deed(&self) -> String {
        format!("takes writes to the {}", self.0.place)
    }

    /// A point with the same series and timestamp is the same point.
    fn overwrites(&self) -> bool {
        true
    }

    fn mends(&self, status: u16) -> Option<String> {
        let makes = self.0.create_database && status == NOT_FOUND;
        makes.then(|| format!("the {} does not exist, and `run` makes it (create_database)", self.0.place))
    }

    /// Makes the database that the server has not got.
    fn mend(&self, errand: &Errand<'_>) -> Result<(), String> {
        let place = &self.0.place;
        let creation = endpoint::creation(&self.0, errand.opener()).map_err(|error| error.to_string())?;
        let Some((request, words)) = creation else { return Ok(()) };
        let problem = match errand.post(&request, words.as_bytes()) {
            Some(reply) if reply.status == 200 && !reply.text().contains("\"error\"") => {
                info!(sink = %errand.sink(), "made the {place}, which did not exist");
                return Ok(());
            }
            Some(reply) => format!("the server answered {}: {}", reply.status, reply.excerpt()),
            None => "the server did not answer".to_owned(),
        };
        Err(format!("cannot make the {place}: {problem}; make it on the server"))
    }
}
