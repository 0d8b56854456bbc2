//! Encrypted ways.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

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

/// A server for `localhost` with a certificate of its own, which is written to a file.
fn server(ca_file: &Path, acts: Vec<Act>) -> (String, std::sync::mpsc::Receiver<Request>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(ca_file, cert.pem()).expect("a write");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
    let config = Arc::new(config.expect("a configuration"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
    let accept = move || {
        let (stream, _) = listener.accept()?;
        let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        Ok(Encrypted(StreamOwned::new(connection, stream)))
    };
    (url, serve(accept, acts))
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

#[test]
fn a_proxy_is_asked_for_a_way_and_its_password_is_sent() {
    use std::io::{BufRead as _, BufReader};
    let target = crate::server::Server::start(Vec::new());
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
    // A name, so that it is the proxy that resolves it.
    let url = target.url.replace("127.0.0.1", "localhost");
    let options = format!("url = \"{url}\"\ndatabase = \"db\"\nproxy = \"http://me:secret@{address}\"");
    assert_eq!(run(&options, 2).written, 20);
    let head = asked.recv_timeout(LIMIT).expect("a request");
    assert!(head.starts_with("CONNECT localhost:"), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic bwu6c2vjcmv0"), "{head}");
}
