//! The sink type `prometheus`: a page that a Prometheus server, or anything else that reads its
//! formats, comes and gets.
//!
//! ```toml
//! [sinks.scrape]
//! type = "prometheus"
//! [sinks.scrape.options]
//! listen = "127.0.0.1:19435"
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `listen` | `"127.0.0.1:19435"` | the address and port where scrapes are answered. `"stdout"` prints each page instead |
//! | `path` | `"/metrics"` | where the page is |
//! | `namespace` | `"ebpf_process"` | the first part of every name; may be empty |
//!
//! The ports from 9100 to 9999 are all allocated among Prometheus's exporters (9435 to another one
//! that uses eBPF): the default is none of them. Whoever can reach the address can read the page:
//! there is no TLS and no password here. To listen elsewhere than on loopback is a decision.
//!
//! # Names
//!
//! ```text
//! # HELP ebpf_process_vfs_bytes_total Bytes of successful calls
//! # TYPE ebpf_process_vfs_bytes_total counter
//! ebpf_process_vfs_bytes_total{operation="read"} 51200
//! ```
//!
//! A metric's name is the namespace and the metric's name, `_` for each dot, then the base unit where
//! there is one (`bytes`, `seconds`: a time in `ns`, `us` or `ms` is converted, without losing a
//! digit), then `_total` for a counter. Labels are the series' labels, then the selection's tags; of
//! two with one key the first counts. A label that would mean something to the receiver (`le`, or
//! what begins with `__`) gets `exported_` in front. There is no label for the host: Prometheus adds
//! `instance` itself.
//!
//! Where cleaning makes two metrics or two series equal, the second is rejected and counted: a page
//! with both would be wrong as a whole.
//!
//! # Histograms
//!
//! Slot *k* holds the integers from 2^*k* to 2^(*k*+1)-1, so the bucket's bound is honest:
//! `le="1.0"`, `"3.0"`, `"7.0"`, ... A histogram has all its buckets from the first scrape on, with
//! those that are still empty, for a bucket that appears later would lose what it had then: 66 series
//! each. `exclude` is for those who do not want them.
//!
//! # The page
//!
//! It is written once per batch in both formats, the Prometheus text format 0.0.4 and `OpenMetrics`
//! 1.0.0, and a scrape gets the one that its `Accept` header prefers. Samples have no timestamps:
//! with timestamps Prometheus could not tell that a series has ended. Totals are written to the unit;
//! Prometheus itself keeps 53 bits of them. There is no `_created`: all totals start with the agent.
//!
//! Before the first batch a scrape gets 503, so that `up` is 0 until there is something to see.
//!
//! # The server
//!
//! One thread answers `GET` and `HEAD`, each over a connection of its own, to 32 clients at once; one
//! more takes the place of the oldest. A client has 30 seconds, 32 KiB and 512 headers for its request.
//! Memory is bounded: a page for each of the 32, and one that is written.
//!
//! The path may be percent-encoded, or part of a whole address as a proxy asks for. `/-/healthy` says
//! 200 as long as the server answers, and `/` shows a person (whoever asks for HTML, or for anything as
//! curl does) where the page is; a scraper that was aimed there gets 404.
//!
//! # What is counted when
//!
//! * **written**: on a page that a client has fetched, to the end;
//! * **superseded**: on a page that a newer one replaced before anybody had fetched it. It is no loss,
//!   since counters are totals. A server that scrapes every 15 seconds leaves 14 of 15 pages to that;
//! * **dropped** (`never fetched`): on the last page, if nobody came for it before the agent ended; and
//!   finals that nobody fetched.
//!
//! A page's samples are queued until one of these is known.
//!
//! # Series that end
//!
//! The final, the last total of a counter or a histogram whose series has ended, stays on the page:
//! two minutes after the first scrape that carried it, for a second server or a person, and ten minutes at most
//! without one. Then nobody wants it, and it is counted as never fetched. So are finals beyond 8 MiB (some
//! 40,000 counters; those that were fetched make room first), and one whose name another series takes
//! before anybody has fetched it. A level that has ended is gone at once.

mod connection;
mod encode;
mod family;
mod finals;
mod format;
mod name;
mod number;
mod request;
mod scrape;
mod server;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write, stdout};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Instant;

use ebpf_process_core::{
    Access, BuildError, Claims, Finding, Ledger, OptionDoc, Options, OptionsError, Settlement, Sink, SinkContext,
    SinkError, SinkPlugin, TrialContext, View,
};
use ebpf_process_delivery::Unread;
use schemars::JsonSchema;
use serde::Deserialize;

pub use encode::{Counts, Encoder, Page};
pub use format::Format;
use scrape::ScrapeSink;
use server::Server;

/// The sink type `prometheus`, for a registry.
pub static PLUGIN: PrometheusPlugin = PrometheusPlugin;

/// See [`PLUGIN`].
///
/// Options: `listen` (`"127.0.0.1:19435"`, or `"stdout"`), `path` (`"/metrics"`), `namespace`
/// (`"ebpf_process"`).
#[derive(Clone, Copy, Debug)]
pub struct PrometheusPlugin;

/// Why the second of two series or metrics with one name is rejected.
const TWIN: &str = "same name as another series";

/// The `listen` that means standard output.
const STDOUT: &str = "stdout";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// The address and port to answer at, or "stdout" to print each page.
    listen: String,
    /// The path of the page.
    path: String,
    /// What every name begins with, before an underscore; "" for nothing.
    namespace: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:19435".to_owned(), path: "/metrics".to_owned(), namespace: "ebpf_process".to_owned() }
    }
}

/// An IP address and a port; the zone of an IPv6 address may be an interface's name (`[fe80::1%eth0]:19435`).
fn address_of(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (host, port) = text.strip_prefix('[')?.rsplit_once("]:")?;
    let (address, _zone) = host.split_once('%')?;
    address.parse::<Ipv6Addr>().ok()?;
    // The system knows the interfaces, and asks nobody about an address.
    (host, port.parse::<u16>().ok()?).to_socket_addrs().ok()?.next()
}

impl Settings {
    /// The options, and the address if there is one to listen at.
    fn read(options: &Options) -> Result<(Self, Option<SocketAddr>), OptionsError> {
        let settings: Self = options.extract()?;
        let problem = "expected an IP address and a port such as \"127.0.0.1:19435\" or \"[::]:19435\", or \"stdout\"";
        let address = match settings.listen.as_str() {
            STDOUT => None,
            text => Some(address_of(text).ok_or_else(|| options.refuse("listen", problem))?),
        };
        let visible = settings.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#');
        if !settings.path.starts_with('/') || !visible {
            return Err(options.refuse("path", "expected a path such as \"/metrics\""));
        }
        if !settings.namespace.is_empty() && !name::is_name(&settings.namespace) {
            let problem = "expected letters, digits and underscores, no digit at the start, or nothing";
            return Err(options.refuse("namespace", problem));
        }
        Ok((settings, address))
    }
}

impl SinkPlugin for PrometheusPlugin {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn summary(&self) -> &'static str {
        "a page for Prometheus to scrape, as text or OpenMetrics, or on standard output"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        let (_, address) = Settings::read(options)?;
        Ok(Claims { stdout: address.is_none() })
    }

    fn destination(&self, options: &Options) -> Option<String> {
        // Port 0 is another one at each start.
        let address = Settings::read(options).ok()?.1.filter(|address| address.port() != 0)?;
        Some(format!("port {address}"))
    }

    fn options(&self) -> Vec<OptionDoc> {
        OptionDoc::of::<Settings>()
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let (settings, address) = Settings::read(options)?;
        let encoder = Encoder::new(&settings.namespace);
        let Some(address) = address else {
            let output = stdout();
            let (unread, ledger) = (Unread::new(&output, &context), context.ledger);
            return Ok(Box::new(StreamSink { encoder, ledger, page: Page::default(), output, unread }));
        };
        let ledger = context.ledger;
        let server = Server::start(address, &settings.path, server::PATIENCE).map_err(|error| BuildError::Refused {
            problem: format!("cannot listen at {address}: {error}"),
            way_out: format!("set {}.listen to an address of this host and a port that is free", options.path()),
            passing: matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable),
        })?;
        Ok(Box::new(ScrapeSink::new(context.name, encoder, ledger, server)))
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        let address = Settings::read(options).ok().and_then(|(_, address)| address);
        address.map(|address| Access::Listen(address.port())).into_iter().collect()
    }

    fn try_out(&self, options: &Options, context: &TrialContext) -> Vec<Finding> {
        let address = Settings::read(options).ok().and_then(|(_, address)| address);
        address.map(|address| try_out(address, options.path(), context)).into_iter().collect()
    }

    fn stdout_options(&self) -> Option<Options> {
        Some(Options::from_value(BTreeMap::from([("listen", STDOUT)])))
    }
}

/// Whether the port is free; it is free again afterwards.
fn try_out(address: SocketAddr, option: &str, context: &TrialContext) -> Finding {
    let change = |what: &str| format!("{what}, or set {option}.listen to another");
    match (TcpListener::bind(address).map_err(|error| (error.kind(), error)), context.running) {
        (Ok(_), _) => Finding::fine(format!("{address} is free")),
        (Err((ErrorKind::AddrInUse, _)), Some(process)) => {
            Finding::fine(format!("{address} is taken while the agent runs (process {process})"))
        }
        (Err((ErrorKind::AddrInUse, _)), None) => {
            let taken = Finding::error(format!("{address} is taken by another process"), change("end that one"));
            context.unless_the_agents(taken)
        }
        (Err((ErrorKind::AddrNotAvailable, _)), _) => {
            Finding::error(format!("this host has no address {}", address.ip()), change("give it to an interface"))
        }
        (Err((_, error)), _) => {
            Finding::error(format!("cannot listen at {address}: {error}"), change("let this user do so"))
        }
    }
}

/// Prints one page per view. A failed write is the end: what follows half a page is no page.
struct StreamSink<W> {
    encoder: Encoder,
    ledger: Arc<Ledger>,
    page: Page,
    output: W,
    unread: Unread,
}

impl<W: Write + Send> Sink for StreamSink<W> {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let counts = self.encoder.encode(view, &mut self.page);
        let page = self.page.bytes(Format::Text);
        if let Err(error) = self.output.write_all(page).and_then(|()| self.output.flush()) {
            self.unread.lost();
            return Err(SinkError::closed(error));
        }
        self.unread.wrote(page.len(), counts.written);
        self.ledger.rejected(counts.rejected, TWIN);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.unread.look();
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        self.unread.due()
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.unread.end();
        Ok(())
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use ebpf_process_core::Severity;
    use ebpf_process_core::testkit::loopback;

    use super::*;

    #[test]
    fn an_ipv6_zone_may_be_a_name() {
        let Some(SocketAddr::V6(address)) = address_of("[fe80::1%lo]:19435") else { panic!("an address") };
        assert_eq!((address.scope_id(), address.port()), (1, 19435), "the loopback interface is the first");
        for wrong in ["[fe80::1%no-such-interface]:1", "[name%lo]:1", "[fe80::1%lo]", "localhost:1"] {
            assert_eq!(address_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_port_is_a_destination_unless_the_kernel_chooses_it() {
        for (listen, destination) in [
            ("127.0.0.1:19435", Some("port 127.0.0.1:19435")),
            ("127.0.0.1:0", None),
            ("[::]:0", None),
            ("stdout", None),
        ] {
            let options = Options::from_value(BTreeMap::from([("listen", listen)]));
            assert_eq!(PLUGIN.destination(&options).as_deref(), destination, "{listen}");
        }
    }

    #[test]
    fn a_trial_tells_whether_the_port_is_free_and_leaves_it_so() {
        let listener = TcpListener::bind((loopback(), 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let context = |running, unseen: Option<&str>| TrialContext {
            name: "x".to_owned(),
            host: "host".to_owned(),
            instance: None,
            limit: Duration::from_secs(5),
            running,
            agent: None,
            unseen: unseen.map(PathBuf::from),
        };
        let try_out = |address, running| try_out(address, "sinks.x.options", &context(running, None));
        let taken = try_out(address, None);
        assert_eq!(taken.severity, Severity::Error);
        assert!(taken.way_out.is_some_and(|way_out| way_out.contains("sinks.x.options.listen")));
        assert_eq!(try_out(address, Some(7)).severity, Severity::Fine, "the running agent has it");
        let maybe = super::try_out(address, "sinks.x.options", &context(None, Some("/run/x")));
        assert!(maybe.severity == Severity::Warning && maybe.what.contains("/run/x"), "{maybe:?}");
        drop(listener);
        for _ in 0..2 {
            assert_eq!(try_out(address, None).severity, Severity::Fine);
        }
        // Of a net that is for documentation.
        let elsewhere = try_out(([192, 0, 2, 1], 9).into(), None);
        assert!(elsewhere.severity == Severity::Error && elsewhere.what.contains("no address"), "{elsewhere:?}");
    }
}
