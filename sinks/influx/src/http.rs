//! The way to a server: one request per frame over a connection that stays open.

use std::fs;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::{BuildError, explain};
use ebpf_process_delivery::{Carrier, Frame, Verdict};
use flate2::Compression;
use flate2::write::GzEncoder;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Error, Proxy, ProxyProtocol};

use crate::endpoint::Endpoint;
use crate::options::ServerOptions;
use crate::reply::{self, Reply};
use crate::unix::{NoResolver, UnixConnector};

/// How much of a reply is read: room for a list of refused lines.
const REPLY_LIMIT: u64 = 1 << 20;
/// A body that is smaller is not worth compressing.
const WORTH_COMPRESSING: usize = 1024;

/// A connection to one server.
pub(crate) struct Http {
    agent: Agent,
    server: ServerOptions,
    endpoint: Endpoint,
    compressed: Vec<u8>,
}

impl Http {
    /// Reads secrets and certificates; connects to nothing yet.
    pub(crate) fn new(server: ServerOptions) -> Result<Self, BuildError> {
        Self::with_resolver(server, DefaultResolver::default())
    }

    /// The same with another way from names to addresses.
    fn with_resolver(server: ServerOptions, resolver: impl Resolver) -> Result<Self, BuildError> {
        let endpoint = Endpoint::new(&server)?;
        let proxy = server.proxy.as_ref().map(|proxy| read_proxy(&proxy.reveal("proxy")?)).transpose()?;
        let encrypted =
            server.is_encrypted() || proxy.as_ref().is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Where the data goes is the configuration's to say, not the environment's.
            .proxy(proxy)
            .user_agent(concat!("ebpf-process/", env!("CARGO_PKG_VERSION")));
        let config = if encrypted { config.tls_config(tls(&server)?) } else { config }.build();
        let agent = match &server.socket {
            Some(path) => Agent::with_parts(config, UnixConnector::new(path), NoResolver),
            None => Agent::with_parts(config, DefaultConnector::default(), resolver),
        };
        Ok(Self { agent, server, endpoint, compressed: Vec::new() })
    }

    fn exchange(&mut self, frame: &Frame, limit: Duration) -> Result<Verdict, Error> {
        let timeout = self.server.timeout.min(limit);
        let request = self.agent.post(&self.endpoint.address).config().timeout_global(Some(timeout)).build();
        let request = request
            .header("Content-Type", "text/plain; charset=utf-8")
            // An answer is short, and has to be read.
            .header("Accept-Encoding", "identity");
        let request = match &self.endpoint.authorization {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        };
        let worth = self.server.gzip && self.server.socket.is_none() && frame.bytes().len() > WORTH_COMPRESSING;
        let mut response = if worth {
            compress(frame.bytes(), &mut self.compressed)?;
            request.header("Content-Encoding", "gzip").send(&self.compressed)?
        } else {
            request.send(frame.bytes())?
        };
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name)?.to_str().ok();
        let retry_after = header("retry-after").and_then(|wish| reply::retry_after(wish, header("date")));
        let location = header("location").map(str::to_owned);
        let compressed = header("content-encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity"));
        let mut body = Vec::new();
        let read = io::Read::read_to_end(&mut io::Read::take(response.body_mut().as_reader(), REPLY_LIMIT), &mut body);
        let body = String::from_utf8_lossy(&body);
        let Endpoint { authorization, secrets, .. } = &self.endpoint;
        let reply = Reply {
            status,
            retry_after,
            body: &body,
            broken: read.is_err(),
            compressed,
            location: location.as_deref(),
            encrypted: self.server.is_encrypted(),
            authorization: authorization.as_deref(),
            secrets,
        };
        Ok(reply.verdict(&self.server.place, frame))
    }

    /// What a request without a reply means.
    fn explain(&self, error: &Error) -> Verdict {
        let name = &self.server.name;
        let retry = |problem: String| Verdict::Retry { after: None, problem };
        match error {
            Error::Timeout(_) => {
                retry(format!("{name} does not answer in time; raise the option timeout if it is only slow"))
            }
            Error::HostNotFound => retry(format!("the host of {name} is not known; check the option url")),
            Error::Rustls(error) => untrusted(name, error),
            Error::Io(error) => match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
                Some(error) => untrusted(name, error),
                None if self.server.socket.is_some() && error.kind() == io::ErrorKind::PermissionDenied => {
                    retry(format!("cannot write to {name}: {}", explain(error)))
                }
                None => retry(format!("cannot write to {name}: {error}; is the server running there?")),
            },
            // What exactly is wrong is not repeated: a password may be part of it.
            Error::BadUri(_) | Error::Http(_) | Error::Tls(_) | Error::InvalidProxyUrl => Verdict::Misconfigured {
                problem: format!("cannot make a request for {name}; check the address, the credentials and the proxy"),
            },
            error => retry(format!("cannot write to {name}: {error}")),
        }
    }
}

impl Carrier for Http {
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict {
        self.exchange(frame, limit).unwrap_or_else(|error| self.explain(&error))
    }

    /// A point with the same series and timestamp is the same point.
    fn overwrites(&self) -> bool {
        true
    }
}

fn untrusted(name: &str, error: &rustls::Error) -> Verdict {
    let problem = format!("cannot trust {name}: {error}; check its certificate and the option ca_file");
    Verdict::Misconfigured { problem }
}

fn compress(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    let mut encoder = GzEncoder::new(out, Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish().map(drop)
}

fn refused(problem: String, way_out: &str) -> BuildError {
    BuildError::Refused { problem, way_out: way_out.to_owned(), passing: false }
}

/// The scheme must be there: where it is, `config show` knows what to hide.
fn read_proxy(address: &str) -> Result<Proxy, BuildError> {
    let known = ["http://", "https://"].iter().any(|scheme| address.starts_with(scheme));
    Proxy::new(address).ok().filter(|_| known).ok_or_else(|| {
        refused("the option proxy is no address of an HTTP proxy".to_owned(), "write \"http://host:port\"")
    })
}

/// TLS with the certificates of the option `ca_file`, or those of the system.
fn tls(server: &ServerOptions) -> Result<TlsConfig, BuildError> {
    let certificates: Vec<_> = if let Some(path) = &server.ca_file {
        let pem = fs::read(path).map_err(|error| {
            let problem = format!("cannot read the file of the option ca_file, {}: {error}", path.display());
            refused(problem, "make it readable for the agent's user")
        })?;
        let certificate = |item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        };
        parse_pem(&pem).filter_map(certificate).collect()
    } else {
        let found = rustls_native_certs::load_native_certs().certs;
        found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
    };
    if certificates.is_empty() {
        let (problem, way_out) = match &server.ca_file {
            Some(path) => (format!("there is no certificate in {}", path.display()), "it should be in PEM format"),
            None => ("this system has no root certificates".to_owned(), "install ca-certificates, or set ca_file"),
        };
        return Err(refused(problem, way_out));
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Mutex;

    use ureq::config::Config;
    use ureq::http::Uri;
    use ureq::unversioned::resolver::ResolvedSocketAddrs;
    use ureq::unversioned::transport::NextTimeout;

    use super::*;
    use crate::options::Place;

    /// A name server that gives these answers one after another.
    #[derive(Debug)]
    struct Answers(Mutex<std::vec::IntoIter<Option<SocketAddr>>>);

    impl Resolver for Answers {
        fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
            let answer = self.0.lock().expect("the answers").next().flatten().ok_or(Error::HostNotFound)?;
            let mut addresses = self.empty();
            addresses.push(answer);
            Ok(addresses)
        }
    }

    /// A server that takes one request and closes the connection.
    fn once() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let serve = move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").expect("a client");
        };
        std::thread::Builder::new().spawn(serve).expect("a thread");
        address
    }

    #[test]
    fn a_name_that_fails_and_comes_back_with_another_address_is_followed() {
        let (first, second) = (once(), once());
        let server = ServerOptions {
            name: "http://db.example:8086".to_owned(),
            base: "http://db.example:8086".to_owned(),
            socket: None,
            place: Place::V3 { database: "db".to_owned() },
            credentials: None,
            timeout: Duration::from_secs(10),
            ca_file: None,
            proxy: None,
            gzip: true,
        };
        let answers = Answers(Mutex::new(vec![None, Some(first), Some(first), None, Some(second)].into_iter()));
        let mut http = Http::with_resolver(server, answers).expect("a carrier");
        let mut frame = Frame::default();
        frame.push(b"", 1);
        // Not known; there; gone; not known; there again, elsewhere.
        for there in [false, true, false, false, true] {
            match http.send(&frame, Duration::MAX) {
                Verdict::Accepted => assert!(there),
                Verdict::Retry { problem, .. } => assert!(!there && problem.contains("db.example"), "{problem}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
