//! The encrypted way: whom to trust, who we are, and the handshake.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use ebpf_process_core::BuildError;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ureq::Error;
use ureq::http::Uri;
use ureq::http::uri::Scheme;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::given::GivenVerifier;

/// What the options `ca_file`, `client_cert` and `client_key` name, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificates {
    pub(crate) roots: Roots,
    /// Our own certificate and its key.
    pub(crate) client: Option<Client>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Those of the system.
    System(Vec<CertificateDer<'static>>),
    /// The text of the file that the configuration names; its path is for messages.
    Given { pem: Vec<u8>, path: String },
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client(...)")
    }
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

impl Certificates {
    /// What a handshake needs. What is wrong with a file is said with its option.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, BuildError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (given, way_out) = match &self.roots {
            Roots::System(found) => (found.clone(), "install ca-certificates, or set ca_file"),
            Roots::Given { pem, .. } => (certificates(pem), "it should be in PEM format"),
        };
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(given.iter().cloned());
        if usable == 0 {
            let problem = match &self.roots {
                Roots::System(_) => "this system has no root certificates".to_owned(),
                Roots::Given { path, .. } => format!("there is no certificate in {path}"),
            };
            return Err(BuildError::refused(problem, way_out));
        }
        let unusable = |error: &dyn std::fmt::Display| {
            BuildError::refused(
                format!("TLS cannot be used: {error}"),
                "check the options ca_file, client_cert and client_key",
            )
        };
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| unusable(&error))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let builder = match &self.roots {
            Roots::System(_) => builder.with_webpki_verifier(usual),
            Roots::Given { .. } => {
                // Safe: it asks the usual verifier first, and trusts besides only what is in the user's own file.
                builder.dangerous().with_custom_certificate_verifier(Arc::new(GivenVerifier::new(usual, given)))
            }
        };
        let config = match &self.client {
            None => builder.with_no_client_auth(),
            Some(Client { certificate, key }) => {
                let chain = certificates(certificate);
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
                    BuildError::refused(
                        "there is no private key in the file of the option client_key".to_owned(),
                        "it should be in PEM format and not be encrypted",
                    )
                })?;
                if chain.is_empty() {
                    let problem = "there is no certificate in the file of the option client_cert".to_owned();
                    return Err(BuildError::refused(problem, "it should be in PEM format"));
                }
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    let problem = format!("the client certificate cannot be used: {error}");
                    BuildError::refused(problem, "check that client_key is the key of client_cert")
                })?
            }
        };
        Ok(Arc::new(config))
    }
}

/// Puts TLS on a connection where the address begins with `https://`.
#[derive(Debug)]
pub(crate) struct TlsConnector {
    config: Option<Arc<ClientConfig>>,
    /// Whom the connection goes to, where that is not the server.
    peer: Option<Uri>,
}

impl TlsConnector {
    pub(crate) fn new(config: Option<Arc<ClientConfig>>, peer: Option<Uri>) -> Self {
        Self { config, peer }
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        let peer = self.peer.as_ref().unwrap_or(details.uri);
        if peer.scheme() != Some(&Scheme::HTTPS) || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let config = self.config.clone().ok_or(Error::TlsRequired)?;
        let host = peer.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::HostNotFound)?;
        let mut connection = ClientConnection::new(config, name).map_err(as_io)?;
        let mut socket = TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream: StreamOwned::new(connection, socket) })))
    }
}

fn as_io(error: rustls::Error) -> Error {
    Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}

/// An encrypted connection.
pub(crate) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl std::fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsTransport").field("socket", &self.stream.sock.get_ref()).finish_non_exhaustive()
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
