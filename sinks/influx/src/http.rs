//! The way to a server: one request per frame over a connection that stays open.

mod silence;
mod trial;

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebpf_process_core::{BuildError, Opener, SinkContext, Stop};
use ebpf_process_delivery::{Carrier, Frame, Lookup, Resolve, Verdict};
use flate2::Compression;
use flate2::write::GzEncoder;
use tracing::{info, warn};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};
use ureq::{Agent, Error, Proxy};

use silence::{is_hang_up, meaning};
pub(crate) use trial::try_out;

use crate::admission::Admission;
use crate::endpoint::Endpoint;
use crate::front::{Front, Shared, Towards};
use crate::names::Names;
use crate::options::ServerOptions;
use crate::patience::Patience;
use crate::reply::{self, Reply};
use crate::tls::TlsConnector;
use crate::unix::{NoResolver, UnixConnector};

/// How much of a reply is read: room for a list of refused lines.
const REPLY_LIMIT: u64 = 1 << 20;
/// A body that is smaller is not worth compressing.
const WORTH_COMPRESSING: usize = 1024;
/// So many frames in a row are refused compressed and taken plain before nothing is compressed any more.
const CONVINCING: u32 = 2;
/// The number for a database that does not exist.
const NOT_FOUND: u16 = 404;
/// More than any request takes; a moment that is further away may not exist.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What is sent.
const LINES: &str = "text/plain; charset=utf-8";

/// What a server said, as it came.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    location: Option<String>,
    compressed: bool,
    body: String,
    broken: bool,
}

/// A connection to one server.
pub(crate) struct Http {
    /// The sink's name, for the log.
    sink: String,
    server: ServerOptions,
    names: Arc<Names>,
    admission: Admission,
    agent: Agent,
    shared: Arc<Shared>,
    stop: Stop,
    opener: Arc<dyn Opener>,
    /// The connection over which a compressed body was understood.
    unpacks: Option<u64>,
    /// How many frames in a row were refused compressed and taken plain.
    refused_packed: u32,
    compressed: Vec<u8>,
    /// The number of the answer to the last request; 0 if there was none.
    status: u16,
}

impl Http {
    /// Reads secrets and certificates; connects to nothing yet.
    pub(crate) fn new(server: ServerOptions, context: &SinkContext) -> Result<Self, BuildError> {
        Self::with_names(server, context, Lookup::system())
    }

    /// The same with another way from names to addresses.
    fn with_names(server: ServerOptions, context: &SinkContext, resolve: Resolve) -> Result<Self, BuildError> {
        // A proxy finds the server by itself.
        let option = if server.proxy.is_some() { "proxy" } else { "url" };
        let zone = server.zone.clone().filter(|_| server.proxy.is_none());
        let names = Arc::new(Names::new(resolve, option, zone));
        let (stop, opener) = (context.stop.clone(), Arc::clone(&context.opener));
        let admission = Admission::read(&server, &*opener)?;
        let shared = Arc::default();
        let agent = connect_by(&server, &admission, &names, &shared, &stop, &opener)?;
        Ok(Self {
            sink: context.name.clone(),
            opener,
            server,
            names,
            admission,
            agent,
            shared,
            stop,
            unpacks: None,
            refused_packed: 0,
            compressed: Vec::new(),
            status: 0,
        })
    }

    /// Sends a frame until `end`, and once more over a new connection where an old one turned out to be closed: a
    /// server gives idle connections up when it likes.
    fn exchange(&mut self, frame: &Frame, end: Instant) -> Verdict {
        let plain = !self.server.gzip || self.server.socket.is_some() || frame.bytes().len() <= WORTH_COMPRESSING;
        let verdict = self.request(frame, plain, end);
        if plain {
            return verdict;
        }
        if matches!(verdict, Verdict::Accepted) {
            self.unpacks = Some(self.shared.made());
            self.refused_packed = 0;
            return verdict;
        }
        let nothing_kept = match &verdict {
            Verdict::Rejected { .. } | Verdict::Doubtful { .. } => true,
            Verdict::Partly { rejected, .. } => *rejected >= frame.samples(),
            Verdict::Again { pieces, .. } => pieces.samples() >= frame.samples(),
            _ => false,
        };
        // Nobody has unpacked anything on this way yet: are the lines to blame, or how they came?
        if nothing_kept && self.unpacks != Some(self.shared.made()) {
            let plainly = self.request(frame, true, end);
            if matches!(plainly, Verdict::Accepted) {
                self.refused_packed += 1;
                // Once may be a server that was only just getting ready.
                if self.refused_packed >= CONVINCING {
                    self.server.gzip = false;
                    warn!(
                        sink = %self.sink,
                        "{} does not unpack what is compressed: something on the way loses the header that says so; \
                         nothing is compressed from now on; set the option gzip = false",
                        self.server.name
                    );
                }
            }
            return plainly;
        }
        verdict
    }

    fn request(&mut self, frame: &Frame, plain: bool, end: Instant) -> Verdict {
        self.status = 0;
        let before = self.shared.begin();
        let outcome = match self.attempt(frame, plain, end) {
            Err(error) if is_hang_up(&error) && self.shared.made() == before => {
                self.shared.begin();
                self.attempt(frame, plain, end)
            }
            outcome => outcome,
        };
        match outcome {
            Ok(verdict) => {
                self.names.trust();
                verdict
            }
            Err(error) => {
                self.names.doubt();
                meaning(&self.server, &self.names, &error)
            }
        }
    }

    fn attempt(&mut self, frame: &Frame, plain: bool, end: Instant) -> Result<Verdict, Error> {
        let answer = if plain {
            self.post(&self.admission.endpoint.address, LINES, false, frame.bytes(), end)?
        } else {
            compress(frame.bytes(), &mut self.compressed)?;
            self.post(&self.admission.endpoint.address, LINES, true, &self.compressed, end)?
        };
        self.status = answer.status;
        let Endpoint { authorization, secrets, .. } = &self.admission.endpoint;
        let reply = Reply {
            status: answer.status,
            retry_after: answer.retry_after,
            body: &answer.body,
            broken: answer.broken,
            compressed: answer.compressed,
            location: answer.location.as_deref(),
            encrypted: self.server.is_encrypted(),
            authorization: authorization.as_deref(),
            secrets,
        };
        Ok(reply.verdict(&self.server.place, frame))
    }

    fn post(&self, address: &str, kind: &str, compressed: bool, body: &[u8], end: Instant) -> Result<Answer, Error> {
        let left = end.saturating_duration_since(Instant::now());
        let request = self.agent.post(address).config().timeout_global(Some(left)).build();
        // An answer is short, and has to be read.
        let mut request = request.header("Content-Type", kind).header("Accept-Encoding", "identity");
        if let Some(authorization) = &self.admission.endpoint.authorization {
            request = request.header("Authorization", authorization);
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
        let mut answer = Answer {
            status: response.status().as_u16(),
            retry_after: header("retry-after").and_then(|wish| reply::retry_after(wish, header("date"))),
            location: header("location").map(str::to_owned),
            compressed: header("content-encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")),
            body: String::new(),
            broken: false,
        };
        let mut body = Vec::new();
        answer.broken = response.body_mut().as_reader().take(REPLY_LIMIT).read_to_end(&mut body).is_err();
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Ok(answer)
    }

    /// Makes the database that the server has not got. The error is for a person.
    fn create(&self, end: Instant) -> Result<(), String> {
        const FORM: &str = "application/x-www-form-urlencoded";
        let Endpoint { creation, secrets, .. } = &self.admission.endpoint;
        let Some((address, words)) = creation else { return Ok(()) };
        self.shared.begin();
        let problem = match self.post(address, FORM, false, words.as_bytes(), end) {
            Ok(answer) if answer.status == 200 && !answer.body.contains("\"error\"") => {
                info!(sink = %self.sink, "made the {}, which did not exist", self.server.place);
                return Ok(());
            }
            Ok(answer) => format!("the server answered {}: {}", answer.status, reply::excerpt(&answer.body, secrets)),
            Err(_) => "the server did not answer".to_owned(),
        };
        Err(format!("cannot make the {}: {problem}; make it on the server", self.server.place))
    }

    /// Reads again what lets us in; whether it has changed. The error is for a person.
    fn read_again(&mut self) -> Result<bool, BuildError> {
        let admission = Admission::read(&self.server, &*self.opener)?;
        if admission == self.admission {
            return Ok(false);
        }
        self.agent = connect_by(&self.server, &admission, &self.names, &self.shared, &self.stop, &self.opener)?;
        self.admission = admission;
        info!(sink = %self.sink, "secrets or certificates have changed, and were read again");
        Ok(true)
    }
}

impl Carrier for Http {
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict {
        let end = Instant::now() + self.server.timeout.min(limit).min(LONGEST);
        let verdict = self.exchange(frame, end);
        let Verdict::Misconfigured { problem } = &verdict else { return verdict };
        if self.server.create_database && self.status == NOT_FOUND {
            return match self.create(end) {
                Ok(()) => self.exchange(frame, end),
                Err(problem) => Verdict::Misconfigured { problem },
            };
        }
        // A secret or a certificate may have been replaced since it was read.
        match self.read_again() {
            Ok(false) => verdict,
            Ok(true) => self.exchange(frame, end),
            Err(error) => Verdict::Misconfigured { problem: format!("{problem}; {error}") },
        }
    }

    /// A point with the same series and timestamp is the same point.
    fn overwrites(&self) -> bool {
        true
    }
}

/// Makes the way to a server: through a proxy, which is asked to connect where the way is encrypted and to pass
/// requests on where it is not, over a Unix socket, or straight.
fn connect_by(
    server: &ServerOptions,
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
        .user_agent(concat!("ebpf-process/", env!("CARGO_PKG_VERSION")))
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

fn compress(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    let mut encoder = GzEncoder::new(out, Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::{AtomicU16, Ordering};

    use ebpf_process_core::testkit::{context, loopback};

    use super::*;
    use crate::options::Place;

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
    fn tls_to_a_plain_server_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca_file = folder.path().join("ca.pem");
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(&ca_file, own.cert.pem()).expect("a write");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
        let babble = move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
                let _ = io::copy(&mut stream, &mut io::sink());
            }
        };
        std::thread::Builder::new().spawn(babble).expect("a thread");
        let options = std::collections::BTreeMap::from([
            ("url", url.as_str()),
            ("database", "db"),
            ("ca_file", ca_file.to_str().expect("a path")),
        ]);
        let settings = crate::options::Settings::read(&ebpf_process_core::Options::from_value(options));
        let Ok(crate::options::Settings { target: crate::options::Target::Server(server), .. }) = settings else {
            panic!("right options")
        };
        let mut frame = Frame::default();
        frame.push(b"m f=1i 1\n", 1);
        let server = ServerOptions { create_database: true, ..*server };
        let mut http = Http::new(server, &context("db")).expect("a carrier");
        // Also where the answer before was that there is no database: this is no answer at all.
        for before in [0, NOT_FOUND] {
            http.status = before;
            match http.send(&frame, Duration::MAX) {
                Verdict::Misconfigured { problem } => {
                    assert!(problem.contains("does not speak TLS; http?"), "{problem}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn example() -> ServerOptions {
        ServerOptions {
            name: "http://db.example:8086".to_owned(),
            base: "http://db.example:8086".to_owned(),
            zone: None,
            socket: None,
            place: Place::V3 { database: "db".to_owned() },
            credentials: None,
            timeout: Duration::from_secs(10),
            ca_file: None,
            client: None,
            proxy: None,
            gzip: true,
            create_database: false,
        }
    }

    #[test]
    fn a_zone_finds_the_address_and_is_not_sent() {
        let there = once();
        let resolve: Resolve =
            Arc::new(
                move |receiver| {
                    if receiver == "[fe80::1%eth0]:8086" { Ok(vec![there]) } else { Err(io::Error::other(receiver)) }
                },
            );
        let base = "http://[fe80::1]:8086".to_owned();
        let server = ServerOptions { base, zone: Some("eth0".to_owned()), ..example() };
        let mut http = Http::with_names(server, &context("db"), resolve).expect("a carrier");
        let mut frame = Frame::default();
        frame.push(b"m f=1i 1\n", 1);
        assert_eq!(http.send(&frame, Duration::MAX), Verdict::Accepted);
    }

    #[test]
    fn of_several_addresses_the_next_one_is_tried_after_a_refusal() {
        let nobody = TcpListener::bind((loopback(), 0)).and_then(|port| port.local_addr()).expect("a port");
        let there = once();
        let resolve: Resolve = Arc::new(move |_| Ok(vec![nobody, there]));
        let mut http = Http::with_names(example(), &context("db"), resolve).expect("a carrier");
        let mut frame = Frame::default();
        frame.push(b"m f=1i 1\n", 1);
        assert_eq!(http.send(&frame, Duration::MAX), Verdict::Accepted);
    }

    #[test]
    fn a_name_that_fails_and_comes_back_with_another_address_is_followed() {
        let (first, second) = (once(), once());
        let server = example();
        let port = Arc::new(AtomicU16::new(0));
        let current = Arc::clone(&port);
        let resolve: Resolve = Arc::new(move |_| match current.load(Ordering::SeqCst) {
            0 => Err(io::ErrorKind::NotFound.into()),
            port => Ok(vec![([127, 0, 0, 1], port).into()]),
        });
        let mut http = Http::with_names(server, &context("db"), resolve).expect("a carrier");
        let mut frame = Frame::default();
        frame.push(b"", 1);
        let deadline = Instant::now() + Duration::from_secs(60);
        // Not known; there; gone; there again, elsewhere.
        for answer in [0, first.port(), second.port()] {
            port.store(answer, Ordering::SeqCst);
            loop {
                match http.send(&frame, Duration::MAX) {
                    Verdict::Accepted => break,
                    Verdict::Retry { problem, .. } if answer == 0 => {
                        assert!(problem.contains("cannot resolve db.example:8086"), "{problem}");
                        break;
                    }
                    Verdict::Retry { problem, .. } => assert!(problem.contains("db.example"), "{problem}"),
                    other => panic!("{other:?}"),
                }
                assert!(Instant::now() < deadline, "the server is not found");
                std::thread::yield_now();
            }
        }
    }
}
