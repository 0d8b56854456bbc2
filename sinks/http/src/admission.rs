//! What lets us in: secrets and certificates, as they were last read.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use ebpf_process_core::{BuildError, Opener};
use rustls::ClientConfig;
use ureq::{Proxy, ProxyProtocol};

use crate::request::Request;
use crate::server::Server;
use crate::tls::{Certificates, Client, Roots};

/// All that is read from files and the environment. Whoever is not let in reads it again: what is not equal then was
/// changed meanwhile.
#[derive(Debug, PartialEq)]
pub(crate) struct Admission {
    pub(crate) request: Request,
    pub(crate) proxy: Option<Proxy>,
    /// None where nothing is encrypted.
    certificates: Option<Certificates>,
}

impl Admission {
    /// Reads everything beside the request; connects to nothing.
    pub(crate) fn read(server: &Server, request: Request, opener: &dyn Opener) -> Result<Self, BuildError> {
        let proxy = server.proxy.as_ref().map(|proxy| read_proxy(&proxy.reveal("proxy", opener)?)).transpose()?;
        let encrypted =
            server.is_encrypted() || proxy.as_ref().is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https);
        let certificates = if encrypted { Some(read_certificates(server, opener)?) } else { None };
        Ok(Self { request, proxy, certificates })
    }

    /// What a handshake needs, if there is one.
    pub(crate) fn tls(&self) -> Result<Option<Arc<ClientConfig>>, BuildError> {
        self.certificates.as_ref().map(Certificates::config).transpose()
    }
}

/// The scheme must be there: where it is, `config show` knows what to hide.
fn read_proxy(address: &str) -> Result<Proxy, BuildError> {
    let known = ["http://", "https://"].iter().any(|scheme| address.starts_with(scheme));
    Proxy::new(address).ok().filter(|_| known).ok_or_else(|| {
        BuildError::refused("the option proxy is no address of an HTTP proxy", "write \"http://host:port\"")
    })
}

fn read_certificates(server: &Server, opener: &dyn Opener) -> Result<Certificates, BuildError> {
    let roots = match &server.ca_file {
        Some(path) => Roots::Given { pem: read("ca_file", path, opener)?, path: path.display().to_string() },
        None => Roots::System(rustls_native_certs::load_native_certs().certs),
    };
    let client = match &server.client {
        None => None,
        Some(files) => {
            let read = |key, path: &Path| read(key, path, opener);
            Some(Client { certificate: read("client_cert", &files.certificate)?, key: read("client_key", &files.key)? })
        }
    };
    Ok(Certificates { roots, client })
}

/// A file in PEM format; some editors put a mark of three bytes before it.
fn read(key: &str, path: &Path, opener: &dyn Opener) -> Result<Vec<u8>, BuildError> {
    let mut pem = Vec::new();
    opener.read(path).and_then(|mut file| file.read_to_end(&mut pem)).map_err(|error| {
        let problem = format!("cannot read the file of the option {key}, {}: {error}", path.display());
        BuildError::refused(problem, "make it readable for the agent's user")
    })?;
    Ok(pem.strip_prefix("\u{feff}".as_bytes()).map_or(pem.clone(), <[u8]>::to_vec))
}
