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
//! A metric's name is the namespace and the metric's name (with its kind in front, for other kinds than the host), `_`
//! for each dot, then the base unit where there is one (`bytes`, `seconds`: a time in `ns`, `us` or `ms` is converted,
//! and so is what a column records on another scale; no digit is lost unless the scale is neither a whole number nor a
//! power of ten), then `_total` for a counter. Labels are the row's, the column's, then the selection's tags; of two with
//! one key the first counts. A label that would mean something to the receiver (`le`, or what begins with `__`) gets
//! `exported_` in front. There is no label for the host: Prometheus adds `instance` itself.
//!
//! Where cleaning makes two metrics, two columns of a metric or two rows of a kind equal, the second is rejected and
//! counted: a page with both would be wrong as a whole.
//!
//! # Histograms
//!
//! Slot *k* holds the integers from 2^*k* to 2^(*k*+1)-1, so the bucket's bound is honest: `le="1.0"`, `"3.0"`, `"7.0"`,
//! ... A histogram has the buckets from the first slot that was ever hit to the last one, and `+Inf`. When a larger or a
//! smaller value comes, it has more: for the time of one range, a `rate` of such a bucket lacks what it had when it was
//! first scraped, and a quantile is as much off. No count and no sum is.
//!
//! # The page
//!
//! It is written when somebody comes for it, from the newest view, in the Prometheus text format 0.0.4 or in
//! `OpenMetrics` 1.0.0, whichever the `Accept` header prefers. Samples have no timestamps: with timestamps Prometheus
//! could not tell that a series has ended. Totals are written to the unit; Prometheus itself keeps 53 bits of them.
//!
//! `GET /metrics?name[]=ebpf_process_vfs_calls_total&name[]=...` asks for some families only, each by its own name or by
//! that of its samples, as Prometheus' clients in Python and Java have it (`params: {'name[]': [...]}` in a scrape's
//! configuration). A name that is not there is no error.
//!
//! Before the first batch a scrape gets 503, so that `up` is 0 until there is something to see.
//!
//! # Rows that come
//!
//! A counter of the host begins before the first scrape, at 0 or at a total. One of a row that comes later is first
//! scraped when it has counted something, and Prometheus takes the first value of a series for where it begins: `rate`
//! and `increase` lack what the row had counted by then. `OpenMetrics` has a `_created` with the row's start beside each
//! total and histogram (not for the host and the agent's own metrics, which begin with the agent), in whole milliseconds;
//! a receiver that uses it lacks nothing. Prometheus does so only with its feature `created-timestamp-zero-ingestion`,
//! where that knows this format. Without, it stores each `_created` as one more series: who does not want that asks for
//! the text format (`scrape_protocols: [PrometheusText0.0.4]`) or drops them (`metric_relabel_configs`).
//!
//! # Rows that end
//!
//! The last totals of a row that has ended stay on the page: two minutes after the first scrape that had all of them, for
//! a second server or a person, and ten minutes at most without one. Then nobody wants them, and they are counted as never
//! fetched. So are those beyond 16 MiB (some 30,000 rows of 20 totals; those that were fetched make room first, and have 1
//! MiB at most), those of a row whose labels another row takes before anybody has fetched them, and those that wait when
//! the selection becomes another one, after which no page has an old name. A level that has ended is gone at once.
//!
//! # The server
//!
//! One thread answers `GET` and `HEAD`, each over a connection of its own, to 32 clients at once; one more takes the place
//! of the oldest. A client has 32 KiB and 512 headers for its request, and 30 seconds for request and answer. The same
//! thread writes the pages as they are sent, 64 KiB at a time, from the view that was the newest when the client asked,
//! whatever comes meanwhile. A page that fits into one piece has a `Content-Length`; a longer one is sent in chunks (RFC
//! 9112, 7.1), and to a client of HTTP/1.0 up to the end of the connection. Half a page never looks like a whole one: it
//! has no last chunk, and the connection is reset.
//!
//! Memory is bounded. A client that is in the middle of a page keeps the view's numbers, the texts of its rows and the
//! totals of those that have ended. Different views that clients keep have 64 MiB together, or one of them more than that;
//! beyond, the client that has been there for longest is hung up on.
//!
//! The path may be percent-encoded, or part of a whole address as a proxy asks for. `/-/healthy` says 200 as long as the
//! server answers, and `/` shows a person (whoever asks for HTML, or for anything as curl does) where the page is; a
//! scraper that was aimed there gets 404.
//!
//! # What is counted when
//!
//! * **written**: on a page that a client has fetched, to the end; of a page with some families, their samples alone;
//! * **superseded**: in a view that a newer one replaced before anybody had fetched it. It is no loss, since counters are
//!   totals. A server that scrapes every 15 seconds leaves 14 of 15 views to that. The levels of rows that have ended are
//!   superseded as well;
//! * **dropped** (`never fetched`): in the last view, if nobody came for it before the agent ended; and totals of rows
//!   that have ended that nobody fetched;
//! * **rejected**: what has the name of another series.
//!
//! A view's samples are queued until one of these is known.

mod column;
mod connection;
mod encode;
mod exposition;
mod family;
mod finals;
mod format;
mod lines;
mod name;
mod number;
mod page;
mod renderer;
mod reply;
mod request;
mod row;
mod scrape;
mod server;
mod sheet;
mod wanted;

use std::collections::BTreeMap;
use std::io::{ErrorKind, stdout};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::Arc;

use ebpf_process_core::{
    Access, BuildError, Cause, Claims, Finding, OptionDoc, Options, OptionsError, Sink, SinkContext, SinkPlugin,
    TrialContext, View,
};
use ebpf_process_delivery::{Print, Printed, Printer, Unread};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

pub use encode::{Counts, Encoder};
use exposition::Exposition;
pub use format::Format;
pub use renderer::Piece;
use scrape::ScrapeSink;
use server::Server;

/// The sink type `prometheus`, for a registry.
pub const PLUGIN: PrometheusPlugin = PrometheusPlugin;

/// See [`PLUGIN`].
///
/// Options: `listen` (`"127.0.0.1:19435"`, or `"stdout"`), `path` (`"/metrics"`), `namespace`
/// (`"ebpf_process"`).
#[derive(Clone, Copy, Debug)]
pub struct PrometheusPlugin;

/// Why the second of two series or metrics with one name is rejected.
pub const TWIN: &str = "same name as another series";

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
        Ok(Claims::stdout(address.is_none()))
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
            let (output, pages) = (stdout(), Pages { encoder, page: Vec::new() });
            let unread = Unread::new(&output, &context);
            return Ok(Box::new(Printer::new(pages, output, unread, &context)));
        };
        let exposition = Arc::new(Mutex::new(Exposition::new(encoder, Arc::clone(&context.ledger))));
        let server =
            Server::start(&*context.opener, address, &settings.path, server::PATIENCE, Arc::clone(&exposition));
        let server = server.map_err(|error| {
            let way_out = format!("set {}.listen to an address of this host and a port that is free", options.path());
            let problem = format!("cannot listen at {address}: {error}");
            match error.kind() {
                ErrorKind::AddrInUse => BuildError::taken(problem, way_out),
                kind => BuildError::refused(problem, way_out).passing(kind == ErrorKind::AddrNotAvailable),
            }
        })?;
        Ok(Box::new(ScrapeSink::new(context.name, &context.ledger, exposition, server)))
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        let address = Settings::read(options).ok().and_then(|(_, address)| address);
        address.map(Access::Listen).into_iter().collect()
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

/// One page per view.
struct Pages {
    encoder: Encoder,
    page: Vec<u8>,
}

impl Print for Pages {
    fn print<'a>(&'a mut self, view: &View<'_>) -> Result<Printed<'a>, Cause> {
        let counts = self.encoder.encode(view, Format::Text, &mut self.page);
        // A level that has ended has nothing to say.
        let samples = counts.written + counts.superseded;
        Ok(Printed { bytes: &self.page, samples, rejected: [(counts.rejected, TWIN), (0, "")] })
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
        let context = |running, unseen: Option<&str>| {
            let mut context = TrialContext::new("x", "host", Duration::from_secs(5));
            context.running = running;
            context.unseen = unseen.map(PathBuf::from);
            context
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
