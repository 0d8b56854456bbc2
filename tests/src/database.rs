//! A database that takes line protocol, and remembers the newest number of reads that each host has sent.

use crate::{Failure, Outcome};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The database; it serves as long as the process runs.
#[derive(Debug)]
pub struct Database {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// How it answers, and what it was sent.
#[derive(Debug, Default)]
struct State {
    is_away: bool,
    token: Option<String>,
    identity: Option<Arc<ServerConfig>>,
    reads: BTreeMap<String, u64>,
}

/// What a server shows that speaks TLS.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, which signs itself, as text.
    pub certificate: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// A new one, for `localhost`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Outcome<Self> {
        let own = CertificateParams::new(vec!["localhost".to_owned()]).and_then(|params| {
            let key = KeyPair::generate()?;
            Ok((params.self_signed(&key)?, key))
        });
        let (certificate, key) = own.map_err(Failure::at("a certificate"))?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], der));
        let config = config.map_err(Failure::at("a server's configuration"))?;
        Ok(Self { certificate: certificate.pem(), config: Arc::new(config) })
    }
}

impl Database {
    /// One on loopback that lets everybody in.
    ///
    /// # Errors
    /// There is no port, or no thread.
    pub fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Failure::at("a port"))?;
        let address = listener.local_addr().map_err(Failure::at("a port"))?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let serve = move || {
            for stream in listener.incoming().flatten() {
                let (state, identity) = (Arc::clone(&shared), held(&shared).identity.clone());
                // Whoever asks hangs up at times, and asks again.
                let answering = move || match identity.map(ServerConnection::new) {
                    None => answer(stream, &state),
                    Some(Ok(connection)) => answer(StreamOwned::new(connection, stream), &state),
                    Some(Err(error)) => Err(io::Error::other(error)),
                };
                let _ = thread::Builder::new().name("connection".to_owned()).spawn(answering);
            }
        };
        thread::Builder::new().name("database".to_owned()).spawn(serve).map_err(Failure::at("a thread"))?;
        Ok(Self { address, state })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it has no time for what it is sent, from now on.
    pub fn is_away(&self, is_away: bool) {
        held(&self.state).is_away = is_away;
    }

    /// From now on it shows this, and lets in only who brings the token.
    pub fn becomes(&self, identity: &Identity, token: &str) {
        let mut state = held(&self.state);
        state.identity = Some(Arc::clone(&identity.config));
        state.token = Some(token.to_owned());
    }

    /// Whether it has taken something in.
    pub fn has_heard_somebody(&self) -> bool {
        !held(&self.state).reads.is_empty()
    }

    /// The newest number of reads of a host.
    pub fn reads_of(&self, host: &str) -> Option<u64> {
        held(&self.state).reads.get(host).copied()
    }

    /// The newest number of reads of whoever has sent most.
    pub fn reads(&self) -> u64 {
        held(&self.state).reads.values().copied().max().unwrap_or_default()
    }
}

fn held(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers what comes over a connection, until the other end hangs up; once where tokens are asked for, since what the
/// server shows is looked at only at the beginning.
fn answer(stream: impl Read + Write, state: &Mutex<State>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut token) = (0, None);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let field = |name: &str| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            };
            if let Some(value) = field("content-length") {
                length = value.parse().unwrap_or(0);
            }
            token = token.or_else(|| field("authorization"));
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let (status, closes) = held(state).take(&String::from_utf8_lossy(&body), token.as_deref());
        let close = if closes { "Connection: close\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status}\r\n{close}Content-Length: 0\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes())?;
        stream.get_mut().flush()?;
        if closes {
            return Ok(());
        }
    }
}

impl State {
    /// Takes a body in. What is answered, and whether that is the last answer on its connection.
    fn take(&mut self, body: &str, token: Option<&str>) -> (&'static str, bool) {
        let closes = self.token.is_some();
        if self.is_away {
            return ("503 Service Unavailable", closes);
        }
        if self.token.as_ref().is_some_and(|wanted| !token.is_some_and(|token| token.ends_with(wanted))) {
            return ("401 Unauthorized", closes);
        }
        for line in body.lines().filter(|line| line.starts_with("vfs,") && line.contains("operation=read")) {
            let tag = line.split([',', ' ']).find_map(|word| word.strip_prefix("host=")).unwrap_or_default();
            let calls = line.split_once("calls=").and_then(|(_, rest)| rest.split(['u', 'i', ',', ' ']).next());
            let calls = calls.and_then(|calls| calls.parse().ok()).unwrap_or(0);
            let newest = self.reads.entry(tag.to_owned()).or_default();
            *newest = calls.max(*newest);
        }
        ("204 No Content", closes)
    }
}
