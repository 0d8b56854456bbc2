//! A server that speaks HTTP, and the way to it.

use std::path::PathBuf;
use std::time::Duration;

use ebpf_process_core::{Access, Secret};

use crate::address::{AddressError, check, is_loopback, split_zone};

/// A server that speaks HTTP, and the way to it.
///
/// A sink reads these from options of the same names, and `url`: messages tell people to look at them there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    name: String,
    /// The start of the address to post to.
    pub(crate) base: String,
    /// The zone of an IPv6 address, such as an interface's name: it is this host's business and not sent.
    pub(crate) zone: Option<String>,
    /// The Unix socket to connect to, instead of the address.
    pub(crate) socket: Option<PathBuf>,
    /// How long one request may take, from connecting to the last byte of the reply: 5 s unless it is set.
    pub timeout: Duration,
    /// A PEM file with the certificates to trust in place of the system's; the server's own may be one.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, for a server that asks for one: the options `client_cert` and `client_key`.
    pub client: Option<ClientFiles>,
    /// An HTTP proxy (`http://user:password@host:port`), asked to CONNECT to an `https://` server and to pass on what
    /// goes to an `http://` one; the environment is not looked at.
    pub proxy: Option<Secret>,
    /// Whether a body of more than 1 KiB is compressed on its way over a network. Without it one that leaves this host
    /// is: to a loopback address, which no proxy is asked for, it costs more than it saves.
    pub gzip: Option<bool>,
}

/// The PEM files of our own certificate and its key, which may be the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The option `client_cert`.
    pub certificate: PathBuf,
    /// The option `client_key`.
    pub key: PathBuf,
}

impl ClientFiles {
    /// What the options `client_cert` and `client_key` come to; nobody has a key without a certificate: that is `Err`, a
    /// problem of `client_cert`.
    pub fn of(certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> Result<Option<Self>, &'static str> {
        match (certificate, key) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err("this key is required with client_key"),
            (Some(certificate), key) => {
                Ok(Some(Self { certificate: certificate.clone(), key: key.unwrap_or(certificate).clone() }))
            }
        }
    }
}

impl Server {
    /// A server by its address: `http://HOST:PORT` or `https://HOST:PORT`, perhaps with a path that is put before those
    /// that are asked for, or `unix:///PATH`, HTTP over a Unix socket.
    pub fn at(url: &str) -> Result<Self, AddressError> {
        let (base, socket) = match url.strip_prefix("unix://") {
            Some(path) if path.len() > 1 && path.starts_with('/') => ("http://localhost".to_owned(), Some(path.into())),
            Some(_) => return Err(AddressError::Path),
            None => (url.trim_end_matches('/').to_owned(), None),
        };
        let (base, zone) = split_zone(base);
        check(&base)?;
        Ok(Self {
            name: url.to_owned(),
            base,
            zone,
            socket,
            timeout: Duration::from_secs(5),
            ca_file: None,
            client: None,
            proxy: None,
            gzip: None,
        })
    }

    /// The address as it was given, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the way to the server is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.base.starts_with("https://")
    }

    /// Whether it is the same server as the other one, by the same address; the way there may differ.
    pub fn is(&self, other: &Self) -> bool {
        (&self.base, &self.zone, &self.socket) == (&other.base, &other.zone, &other.socket)
    }

    /// Whether nothing but a network address is needed to get there: no file, no socket. For
    /// [`SinkPlugin::confined`](ebpf_process_core::SinkPlugin::confined); TLS reads the system's root certificates, or
    /// others.
    pub fn is_confined(&self) -> bool {
        self.socket.is_none()
            && self.ca_file.is_none()
            && self.client.is_none()
            && self.proxy.is_none()
            && !self.is_encrypted()
    }

    /// What is opened on the way there, for [`SinkPlugin::opens`](ebpf_process_core::SinkPlugin::opens); the files of a
    /// sink's own secrets come on top.
    pub fn opens(&self) -> Vec<Access> {
        let client = self.client.iter().flat_map(|files| [files.certificate.as_path(), files.key.as_path()]);
        let files = self.proxy.iter().filter_map(Secret::file).chain(self.ca_file.as_deref()).chain(client);
        let read = files.map(|path| Access::Read(path.to_owned()));
        read.chain(self.socket.clone().map(Access::Connect)).collect()
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> &str {
        let host = self.base.find("://").map_or(0, |scheme| scheme + 3);
        let end = self.base[host..].find('/').map_or(self.base.len(), |path| host + path);
        &self.base[..end]
    }

    /// Whether bodies are worth compressing on this way.
    pub(crate) fn compresses(&self) -> bool {
        let far = self.proxy.is_some() || !is_loopback(&self.base);
        self.socket.is_none() && self.gzip.unwrap_or(far)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Server::at(url).expect("an address")
    }

    #[test]
    fn an_address_has_a_way() {
        let unix = server("unix:///run/server.sock");
        assert_eq!((&unix.socket, unix.base.as_str()), (&Some("/run/server.sock".into()), "http://localhost"));
        let encrypted = server("https://db.example/influx/");
        assert_eq!(encrypted.base, "https://db.example/influx");
        assert!(encrypted.is_encrypted());
        assert_eq!(encrypted.origin(), "https://db.example");
        for url in ["http://[fe80::1%eth0]:8086/x", "http://[fe80::1%25eth0]:8086/x"] {
            let zoned = server(url);
            assert_eq!((zoned.base.as_str(), zoned.zone.as_deref()), ("http://[fe80::1]:8086/x", Some("eth0")));
        }
        let plain = server("http://[fe80::1]/a%20b]");
        assert_eq!((plain.base.as_str(), plain.zone), ("http://[fe80::1]/a%20b]", None));
    }

    #[test]
    fn what_is_no_address_of_a_server_says_why() {
        for (url, error) in [
            ("", AddressError::Form),
            ("127.0.0.1:8086", AddressError::Form),
            ("ftp://db:8086", AddressError::Form),
            ("unix://sock", AddressError::Path),
            ("unix:///", AddressError::Path),
            ("http://user:secret@db", AddressError::Credentials),
            ("http://db?db=x", AddressError::Query),
            ("http://db/#x", AddressError::Query),
        ] {
            assert_eq!(Server::at(url), Err(error), "{url}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn what_stays_on_this_host_is_not_compressed_unless_somebody_says_so() {
        let through_a_proxy = |url| Server { proxy: Some(Secret::Text("http://proxy:3128".to_owned())), ..server(url) };
        for url in ["http://127.0.0.1:8086", "http://127.8.9.1", "https://localhost/x", "http://[::1]:1"] {
            assert!(!server(url).compresses(), "{url}");
            assert!(through_a_proxy(url).compresses(), "{url}");
        }
        for url in ["http://db.example:8086", "http://10.0.0.1", "https://[fe80::1%eth0]", "http://localhost.example"] {
            assert!(server(url).compresses(), "{url}");
        }
        for gzip in [false, true] {
            assert_eq!(Server { gzip: Some(gzip), ..server("http://127.0.0.1") }.compresses(), gzip);
            assert!(!Server { gzip: Some(gzip), ..server("unix:///s") }.compresses());
        }
    }

    #[test]
    fn what_is_opened_on_the_way_is_named() {
        let file = |path: &str| Some(PathBuf::from(path));
        let there = server("unix:///s");
        let there = Server { ca_file: file("/ca"), proxy: Some(Secret::File("/proxy".into())), ..there };
        let client = ClientFiles::of(file("/cert").as_ref(), None).expect("files");
        let opens = Server { client, ..there }.opens();
        let read = |path: &str| Access::Read(path.into());
        assert_eq!(opens, [read("/proxy"), read("/ca"), read("/cert"), read("/cert"), Access::Connect("/s".into())]);
        assert!(ClientFiles::of(None, file("/key").as_ref()).is_err());
        assert!(server("http://db").is_confined() && !server("https://db").is_confined());
    }
}
