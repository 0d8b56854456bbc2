//! Encrypted ways.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::server::{Act, Connection, LIMIT, Request, serve};
use crate::sink::{Running, run};

struct Encrypted(StreamOwned<ServerConnection, TcpStream>);

impl Read for Encrypted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Encrypted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Connection for Encrypted {
    fn end(&mut self) {
        self.0.sock.end();
    }

    fn reset(&mut self) {
        self.0.sock.reset();
    }
}

/// A certificate that signs itself, and its key.
struct Own {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Own {
    fn new(names: &[&str], shape: impl FnOnce(&mut CertificateParams)) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        shape(&mut params);
        let key = KeyPair::generate().expect("a key");
        Self { certificate: params.self_signed(&key).expect("a certificate"), key }
    }

    /// As everybody makes them.
    fn usual() -> Self {
        Self::new(&["localhost"], |_| ())
    }

    fn write(&self, path: &Path) {
        std::fs::write(path, self.certificate.pem()).expect("a write");
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }

    /// A server that shows it, and lets in who shows the other one.
    fn config(&self, client: Option<&Self>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.expect("versions");
        let builder = match client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let mut roots = RootCertStore::empty();
                roots.add(client.certificate.der().clone()).expect("a root");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let config = builder.with_single_cert(vec![self.certificate.der().clone()], self.key());
        Arc::new(config.expect("a configuration"))
    }
}

/// A server for `localhost` whose certificate may be replaced.
fn serve_by(config: Arc<Mutex<Arc<ServerConfig>>>, acts: Vec<Act>) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
    let accept = move || {
        let (stream, _) = listener.accept()?;
        let config = Arc::clone(&config.lock().expect("a configuration"));
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Encrypted(StreamOwned::new(connection, stream)))
    };
    (url, serve(accept, acts))
}

/// A server for `localhost` with a certificate of its own, which is written to a file.
fn server(ca_file: &Path, acts: Vec<Act>) -> (String, Receiver<Request>) {
    let own = Own::usual();
    own.write(ca_file);
    serve_by(Arc::new(Mutex::new(own.config(None))), acts)
}

#[test]
fn a_servers_own_certificate_is_trusted_in_every_shape_but_only_for_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let named = |name: &'static str| {
        move |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, name)
    };
    let named_authority = |name| {
        move |params: &mut CertificateParams| {
            authority(params);
            named(name)(params);
        }
    };
    let expired = |params: &mut CertificateParams| {
        authority(params);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    };
    for (own, trusted) in [
        (Own::new(&["localhost"], authority), true),
        (Own::new(&["localhost"], |params| params.is_ca = IsCa::ExplicitNoCa), true),
        (Own::new(&[], named_authority("localhost")), true),
        (Own::new(&[], named("LocalHost")), true),
        (Own::new(&["elsewhere"], named_authority("localhost")), false),
        (Own::new(&["elsewhere"], |_| ()), false),
        (Own::new(&[], named_authority("elsewhere")), false),
        (Own::new(&["localhost"], expired), false),
    ] {
        own.write(&ca_file);
        let (url, requests) = serve_by(Arc::new(Mutex::new(own.config(None))), Vec::new());
        let options = format!("url = \"{url}\"\ndatabase = \"db\"\nca_file = \"{}\"", ca_file.display());
        let mut running = Running::start(&options).expect("a sink");
        running.tick(1);
        running.until("the batch taken", |tally| tally.offered == 10);
        assert_eq!(running.stop(LIMIT).written, if trusted { 10 } else { 0 }, "{:?}", own.certificate.pem());
        assert_eq!(requests.try_iter().count(), usize::from(trusted));
    }
}

#[test]
fn a_certificate_and_an_authority_that_are_replaced_are_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    let (first, second) = (Own::usual(), Own::usual());
    first.write(&ca_file);
    let config = Arc::new(Mutex::new(first.config(None)));
    let closing = Act::Reply("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned());
    let (url, requests) = serve_by(Arc::clone(&config), vec![closing]);
    // Nothing but what is done at once can mend it in time.
    let options = format!(
        "url = \"{url}\"\ndatabase = \"db\"\nca_file = \"{}\"\ndelivery = {{ retry_min = \"1h\", retry_max = \"1h\" }}",
        ca_file.display()
    );
    let mut running = Running::start(&options).expect("a sink");
    running.tick(1);
    running.until("the first batch written", |tally| tally.written == 10);
    second.write(&ca_file);
    *config.lock().expect("a configuration") = second.config(None);
    running.tick(1);
    running.until("the second batch written", |tally| tally.written == 20);
    assert_eq!(running.stop(LIMIT).written, 20);
    assert_eq!(requests.try_iter().count(), 2);
}

#[test]
fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let (own, client) = (Own::usual(), Own::new(&["agent"], |_| ()));
    own.write(&file("ca"));
    client.write(&file("cert"));
    std::fs::write(file("key"), client.key.serialize_pem()).expect("a write");
    std::fs::write(file("both"), format!("\u{feff}{}{}", client.certificate.pem(), client.key.serialize_pem()))
        .expect("a write");
    std::fs::write(file("other"), own.key.serialize_pem()).expect("a write");
    let (url, requests) = serve_by(Arc::new(Mutex::new(own.config(Some(&client)))), Vec::new());
    let options =
        |more: &str| format!("url = \"{url}\"\ndatabase = \"db\"\nca_file = \"{}\"\n{more}", file("ca").display());
    let (cert, key) = (file("cert").display().to_string(), file("key").display().to_string());
    assert_eq!(run(&options(&format!("client_cert = \"{cert}\"\nclient_key = \"{key}\"")), 1).written, 10);
    assert_eq!(run(&options(&format!("client_cert = \"{}\"", file("both").display())), 1).written, 10);
    assert_eq!(requests.try_iter().count(), 2);
    for (more, word) in [
        (format!("client_cert = \"{cert}\""), "client_key"),
        (format!("client_cert = \"{key}\"\nclient_key = \"{key}\""), "client_cert"),
        (format!("client_cert = \"{cert}\"\nclient_key = \"{}\"", file("other").display()), "client_key"),
        (format!("client_cert = \"{}\"", file("none").display()), "client_cert"),
    ] {
        let Err(error) = Running::start(&options(&more)) else { panic!("{more}") };
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_server_with_a_certificate_of_the_given_authority_is_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    let (url, requests) = server(&ca_file, vec![Act::HalfClose(String::new()), Act::Reset(String::new())]);
    let options = format!("url = \"{url}\"\ndatabase = \"db\"\nca_file = \"{}\"", ca_file.display());
    assert_eq!(run(&options, 3).written, 30);
    assert_eq!(requests.try_iter().count(), 5);
}

#[test]
fn a_server_that_nobody_vouches_for_gets_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (own, other) = (folder.path().join("own.pem"), folder.path().join("other.pem"));
    let (_, _other) = server(&other, Vec::new());
    let (url, requests) = server(&own, Vec::new());
    let options = format!("url = \"{url}\"\ndatabase = \"db\"\nca_file = \"{}\"", other.display());
    let mut running = Running::start(&options).expect("a sink");
    running.tick(1);
    running.until("the batch in hand", |tally| tally.queued == 10);
    let tally = running.stop(std::time::Duration::from_secs(5));
    assert_eq!(tally.dropped, [("agent stopped", 10)]);
    assert_eq!(requests.try_iter().count(), 0);
}

#[test]
fn a_handshake_that_hangs_is_given_up_and_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    let (_, _requests) = server(&ca_file, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let options = format!(
        "url = \"https://localhost:{port}\"\ndatabase = \"db\"\ntimeout = \"50ms\"\nca_file = \"{}\"",
        ca_file.display()
    );
    let mut running = Running::start(&options).expect("a sink");
    running.tick(1);
    // It connects again and again, and nobody says a word to it.
    let connections: Vec<_> = listener.incoming().take(3).collect();
    assert!(connections.iter().all(Result::is_ok));
    assert_eq!(running.until("the batch in hand", |tally| tally.queued == 10).written, 0);
    running.stop(LIMIT);
}

/// A proxy that connects as it is asked once.
fn tunnel() -> (std::net::SocketAddr, Receiver<String>) {
    use std::io::{BufRead as _, BufReader};
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = proxy.local_addr().expect("an address");
    let (sender, asked) = std::sync::mpsc::channel();
    let relay = move || {
        let (client, _) = proxy.accept().expect("a client");
        let mut reader = BufReader::new(client.try_clone().expect("a socket"));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).expect("a head");
        }
        let mut server = TcpStream::connect(head.split(' ').nth(1).expect("a target")).expect("the target");
        sender.send(head).expect("a listener");
        (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("a client");
        let (mut back, mut to) = (server.try_clone().expect("a socket"), client);
        std::thread::Builder::new().spawn(move || io::copy(&mut back, &mut to)).expect("a thread");
        // Until the client is gone.
        let _ = io::copy(&mut reader, &mut server);
    };
    std::thread::Builder::new().spawn(relay).expect("a thread");
    (address, asked)
}

#[test]
fn a_proxy_is_asked_for_a_way_to_an_encrypted_server_and_its_password_is_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    let (url, requests) = server(&ca_file, Vec::new());
    let (address, asked) = tunnel();
    let options = format!(
        "url = \"{url}\"\ndatabase = \"db\"\nca_file = \"{}\"\nproxy = \"http://me:secret@{address}\"",
        ca_file.display()
    );
    assert_eq!(run(&options, 2).written, 20);
    // A name: it is the proxy that resolves it.
    let head = asked.recv_timeout(LIMIT).expect("a request");
    assert!(head.starts_with("CONNECT localhost:"), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic bwu6c2vjcmv0"), "{head}");
    assert!(requests.try_iter().all(|request| request.head.starts_with("POST /write?")));
}

#[test]
fn a_proxy_passes_on_what_goes_to_a_plain_server() {
    // The proxy itself: it is told the whole address, also of a server that only it can find.
    let proxy = crate::server::Server::start(Vec::new());
    let address = proxy.url.trim_start_matches("http://");
    let options = format!(
        "url = \"http://db.no-such-host.invalid:8086/influx\"\ndatabase = \"db\"\ntoken = \"t\"\n\
         proxy = \"http://me:secret@{address}\""
    );
    assert_eq!(run(&options, 3).written, 30);
    for request in proxy.requests() {
        assert_eq!(request.connection, 0);
        assert!(
            request
                .head
                .starts_with("POST http://db.no-such-host.invalid:8086/influx/write?db=db&precision=ns HTTP/1.1\r\n"),
            "{}",
            request.head
        );
        let head = request.head.to_lowercase();
        assert!(head.contains("\r\nhost: db.no-such-host.invalid:8086\r\n"), "{head}");
        assert!(head.contains("\r\nproxy-authorization: basic bwu6c2vjcmv0\r\n"), "{head}");
        assert!(head.contains("\r\nauthorization: token t\r\n"), "{head}");
        assert_eq!(request.lines.len(), 10);
    }
}
