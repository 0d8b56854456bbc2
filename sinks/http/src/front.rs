//! The end of a connection that requests see: how many were made, and how a proxy wants to be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use crate::names::Names;

/// What a carrier and its connections tell each other.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Connections made so far.
    made: AtomicU64,
    /// Whether the next bytes are the start of a request.
    begins: AtomicBool,
}

impl Shared {
    /// A request follows. Returns how many connections there were: if there are not more afterwards, the request
    /// went over one that had been open.
    pub(crate) fn begin(&self) -> u64 {
        self.begins.store(true, Ordering::Relaxed);
        self.made()
    }

    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }
}

/// The last link of a chain of connectors.
#[derive(Debug)]
pub(crate) struct Front {
    shared: Arc<Shared>,
    /// What stands before the path in the first line of a request (`http://db.example:8086`): a proxy wants to know
    /// (RFC 9112, 3.2.2).
    origin: Option<Arc<str>>,
}

impl Front {
    pub(crate) fn new(shared: Arc<Shared>, origin: Option<&str>) -> Self {
        Self { shared, origin: origin.map(Arc::from) }
    }
}

impl<In: Transport> Connector<In> for Front {
    type Out = FrontTransport<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        self.shared.made.fetch_add(1, Ordering::Relaxed);
        Ok(chained.map(|inner| FrontTransport { inner, shared: Arc::clone(&self.shared), origin: self.origin.clone() }))
    }
}

/// See [`Front`].
#[derive(Debug)]
pub(crate) struct FrontTransport<In> {
    inner: In,
    shared: Arc<Shared>,
    origin: Option<Arc<str>>,
}

/// How a request begins.
const METHOD: &[u8] = b"POST ";

impl<In: Transport> Transport for FrontTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let mut amount = amount;
        if let Some(origin) = self.origin.as_ref().filter(|_| self.shared.begins.swap(false, Ordering::Relaxed)) {
            let output = self.inner.buffers().output();
            let (path, more) = (METHOD.len(), origin.len());
            if !output.starts_with(METHOD) || amount + more > output.len() {
                return Err(Error::ConnectProxyFailed("the request has no room for its address".to_owned()));
            }
            output.copy_within(path..amount, path + more);
            output[path..path + more].copy_from_slice(origin.as_bytes());
            amount += more;
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Finds the addresses of whom the connection goes to.
#[derive(Debug)]
pub(crate) struct Towards {
    pub(crate) names: Arc<Names>,
    /// A proxy, where that is not the server.
    pub(crate) peer: Option<Uri>,
}

impl Resolver for Towards {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.names.resolve(self.peer.as_ref().unwrap_or(uri), config, timeout)
    }
}
