//! The way to one server, over a connection that stays open.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebpf_process_core::{BuildError, Opener, SinkContext, Stop, identity};
use ebpf_process_delivery::{Resolve, Verdict};
use tracing::info;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};
use ureq::{Agent, Error, Proxy};

use crate::admission::Admission;
use crate::front::{Front, Shared, Towards};
use crate::names::Names;
use crate::patience::Patience;
use crate::reply::{Reply, retry_after};
use crate::request::Request;
use crate::server::Server;
use crate::silence::meaning;
use crate::tls::TlsConnector;
use crate::unix::{NoResolver, UnixConnector};

/// How much of a reply is read: room for a list of refused lines.
const REPLY_LIMIT: u64 = 1 << 20;
/// More than any request takes; a moment that is further away may not exist.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A connection to one server, and all that lets us in there.
#[derive(Debug)]
pub(crate) struct Client {
    /// The sink's name, for the log.
    sink: String,
    pub(crate) server: Server,
    names: Arc<Names>,
    admission: Admission,
    agent: Agent,
    shared: Arc<Shared>,
    stop: Stop,
    opener: Arc<dyn Opener>,
}

impl Client {
    /// Reads certificates, and what the request needs; connects to nothing yet.
    pub(crate) fn new(
        server: Server,
        request: Request,
        context: &SinkContext,
        resolve: Resolve,
    ) -> Result<Self, BuildError> {
        // A proxy finds the server by itself.
        let option = if server.proxy.is_some() { "proxy" } else { "url" };
        let zone = server.zone.clone().filter(|_| server.proxy.is_none());
        let names = Arc::new(Names::new(resolve, option, zone));
        let (stop, opener) = (context.stop.clone(), Arc::clone(&context.opener));
        let admission = Admission::read(&server, request, &*opener)?;
        let shared = Arc::default();
        let agent = connect_by(&server, &admission, &names, &shared, &stop, &opener)?;
        Ok(Self { sink: context.name.clone(), server, names, admission, agent, shared, stop, opener })
    }

    /// The sink's name.
    pub(crate) fn sink(&self) -> &str {
        &self.sink
    }

    /// What opens files for it.
    pub(crate) fn opener(&self) -> &Arc<dyn Opener> {
        &self.opener
    }

    /// When a request must be over that begins now.
    pub(crate) fn end(&self, limit: Duration) -> Instant {
        Instant::now() + self.server.timeout.min(limit).min(LONGEST)
    }

    /// How many connections were made so far.
    pub(crate) fn made(&self) -> u64 {
        self.shared.made()
    }

    /// A request follows; how many connections there were before it.
    pub(crate) fn begin(&self) -> u64 {
        self.shared.begin()
    }

    /// The names serve.
    pub(crate) fn trust(&self) {
        self.names.trust();
    }

    /// There is no answer: what that means. The names are asked for again.
    pub(crate) fn doubt(&self, error: &Error) -> Verdict {
        self.names.doubt();
        meaning(&self.server, &self.names, error)
    }

    /// Posts the body of a frame until `end`.
    pub(crate) fn post(&self, body: &[u8], compressed: bool, end: Instant) -> Result<Reply<'_>, Error> {
        self.exchange(&self.admission.request, body, compressed, end)
    }

    /// Posts something else.
    pub(crate) fn post_anew<'r>(&self, request: &'r Request, body: &[u8], end: Instant) -> Result<Reply<'r>, Error> {
        self.begin();
        self.exchange(request, body, false, end)
    }

    fn exchange<'r>(
        &self,
        asked: &'r Request,
        body: &[u8],
        compressed: bool,
        end: Instant,
    ) -> Result<Reply<'r>, Error> {
        let left = end.saturating_duration_since(Instant::now());
        let request = self.agent.post(&asked.address).config().timeout_global(Some(left)).build();
        // An answer is short, and has to be read.
        let mut request = request.header("Content-Type", asked.content_type).header("Accept-Encoding", "identity");
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        let passed_on = self.admission.proxy.as_ref().filter(|_| !self.server.is_encrypted());
        if let Some(credentials) = passed_on.and_then(credentials) {
            request = request.header("Proxy-Authorization", credentials);
        }
        if compressed {
            request = request.header("Content-Encoding", "gzip");
        }
        let mut response = request.send(body)?;
        let header = |name| response.headers().get(name)?.to_str().ok();
        let mut reply = Reply::new(asked, response.status().as_u16(), Vec::new());
        reply.retry_after = header("retry-after").and_then(|wish| retry_after(wish, header("date")));
        reply.location = header("location").map(str::to_owned);
        reply.compressed =
            header("content-encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity"));
        reply.encrypted = self.server.is_encrypted();
        reply.broken = response.body_mut().as_reader().take(REPLY_LIMIT).read_to_end(&mut reply.body).is_err();
        Ok(reply)
    }

    /// Reads again what lets us in, beside the request; whether it has changed. The error is for a person.
    pub(crate) fn read_again(&mut self, request: Request) -> Result<bool, BuildError> {
        let admission = Admission::read(&self.server, request, &*self.opener)?;
        if admission == self.admission {
            return Ok(false);
        }
        self.agent = connect_by(&self.server, &admission, &self.names, &self.shared, &self.stop, &self.opener)?;
        self.admission = admission;
        info!(sink = %self.sink, "secrets or certificates have changed, and were read again");
        Ok(true)
    }
}

/// Makes the way to a server: through a proxy, which is asked to connect where the way is encrypted and to pass
/// requests on where it is not, over a Unix socket, or straight.
fn connect_by(
    server: &Server,
    admission: &Admission,
    names: &Arc<Names>,
    shared: &Arc<Shared>,
    stop: &Stop,
    opener: &Arc<dyn Opener>,
) -> Result<Agent, BuildError> {
    let (tunnel, passes_on) = match &admission.proxy {
        Some(proxy) if server.is_encrypted() => (Some(proxy), None),
        proxy => (None, proxy.as_ref().map(Proxy::uri).cloned()),
    };
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Where the data goes is the configuration's to say, not the environment's.
        .proxy(tunnel.cloned())
        .user_agent(format!("{}/{}", identity().name(), identity().version()))
        .build();
    let (shared, patience) = (Arc::clone(shared), Patience(stop.clone()));
    if let Some(path) = &server.socket {
        let connector = UnixConnector::new(path, Arc::clone(opener)).chain(patience).chain(Front::new(shared, None));
        return Ok(Agent::with_parts(config, connector, NoResolver));
    }
    let origin = passes_on.as_ref().map(|_| server.origin());
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(patience)
            .chain(TlsConnector::new(admission.tls()?, passes_on.clone()))
            .chain(Front::new(shared, origin));
    Ok(Agent::with_parts(config, connector, Towards { names: Arc::clone(names), peer: passes_on }))
}

/// How a proxy that passes requests on is told who we are.
fn credentials(proxy: &Proxy) -> Option<String> {
    let (user, password) = (proxy.username(), proxy.password());
    user.or(password)?;
    Some(format!("Basic {}", STANDARD.encode(format!("{}:{}", user.unwrap_or_default(), password.unwrap_or_default()))))
}
