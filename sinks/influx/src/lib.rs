//! The sink type `influx`: line protocol to InfluxDB 1, 2 or 3 and to whatever speaks as they do,
//! to a file, or to standard output.
//!
//! ```toml
//! [sinks.db]
//! type = "influx"
//! [sinks.db.options]
//! url = "https://db.example:8086"
//! version = 2
//! org = "lab"
//! bucket = "telemetry"
//! token = { file = "/etc/ebpf-process/token" }
//! delivery = { spool = "/var/lib/ebpf-process/db" }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `url` | `"http://127.0.0.1:8086"` | the server, `http://` or `https://`; a path is put before the interface's own. `"unix:///path"` is HTTP over a Unix socket, `"udp://host:port"` datagrams, `"file:///path"` the end of a file; what concerns HTTP means nothing to the last two. `"stdout"` prints, and only `integers`, `lines` and `namespace` mean something to it |
//! | `version` | `1` | the interface: 1 (`/write`), 2 (`/api/v2/write`) or 3 (`/api/v3/write_lp`) |
//! | `database` | required with versions 1 and 3 | the database |
//! | `retention_policy` | the database's own | the retention policy, with version 1 |
//! | `create_database` | `false` | whether a database that does not exist is made, with version 1 |
//! | `org`, `bucket` | required with version 2 | the organization and its bucket |
//! | `username`, `password` | none | credentials |
//! | `token` | none | the other kind of credentials |
//! | `auth` | by the above | how they are sent: `"basic"` (the default with `username`) or `"query"`; `"token"` (the default with `token`) or `"bearer"` (the default with version 3) |
//! | `timeout` | `"5s"` | how long one request may take from connecting to the last byte of the reply; where it is longer than the sink's `queue` lasts (8 batches), batches are dropped and counted while a server hangs |
//! | `ca_file` | the system's | root certificates for `https://`, in PEM format; a server's own certificate in it is trusted too |
//! | `client_cert`, `client_key` | none | our own certificate for `https://` and its key, in PEM format; the key may be in the same file |
//! | `proxy` | none | an HTTP proxy (`"http://user:password@host:port"`), asked to CONNECT to an `https://` server and to pass on what goes to an `http://` one; the environment is not looked at |
//! | `gzip` | `true`, but `false` to a loopback address without a proxy | whether a body of more than 1 KiB is compressed on its way over a network |
//! | `integers` | `"i"` | how integers are written: `"i"` (at most 2^63-1; a sample with a larger one is rejected), `"u"` or `"float"`. A database keeps the type that a field had first |
//! | `lines` | `"per-row"` | what is on one line: all numbers of a row with the same measurement and tags, or one (`"per-value"`). A server holds the same either way |
//! | `namespace` | `""` | a word before the name of each measurement, and `_` |
//! | `max_lines`, `max_bytes` | `5000`, `"1MiB"` | what goes into one request; with UDP 1432 bytes |
//! | `max_age` | `"0s"` | how long a line may wait for others |
//! | `delivery` | see [`DeliveryOptions`](ebpf_process_delivery::DeliveryOptions) | memory, spool and retries |
//!
//! `password`, `token` and `proxy` are text, `{ file = "/path" }` or `{ env = "NAME" }`, and are
//! never printed. Files are read again when the server, its certificate or the proxy refuses us: what was replaced
//! meanwhile is used at once.
//!
//! # Lines
//!
//! The measurement is the metric's name without its last part, joined by `_`; that last part is the field (a name of one
//! part is a measurement with the field `value`). What a row has under one measurement and the same tags is one line:
//!
//! ```text
//! vfs,host=node1,operation=read calls=1000i,bytes=8192i 1600000000000000000
//! process_vfs,comm=sh,host=node1,operation=read,pid=7 calls=3i 1600000000000000000
//! ```
//!
//! Tags are the row's labels and the metric's, then the selection's tags, then `host` with the host's name as it is
//! then; of two with one key the first counts. They are sorted by key. A counter is an integer, or a float where it was
//! counted in another unit than its own; a gauge is a float. A float always has a decimal point, so that a field never
//! changes its type. A histogram has the fields `<field>_count`, `<field>_sum` and, for each slot that was ever hit,
//! `<field>_le_<largest value>` with the number of values in this slot alone. All lines of a batch carry its timestamp,
//! but those of a row that has ended: they carry the one of its last batch. A line that is longer than `max_bytes` is
//! several, of one point.
//!
//! A backslash, a control character or what else the protocol cannot say becomes `_`; `time` and
//! `__name__`, which a server keeps for itself, get a `_` behind them. Where that makes two rows equal, the second is
//! rejected and counted as long as it lives: it would overwrite the first. So is the second of two columns with one
//! field.
//!
//! # What is counted when
//!
//! | reply | version 1 | version 2 | version 3 |
//! |---|---|---|---|
//! | 2xx without a body | written | written | written |
//! | 400 in InfluxDB's own JSON | with "partial write" the lines it names are refused, the rest is written; else nothing was stored: halved until the culprit is alone, which is refused | nothing was stored: halved | as version 1 |
//! | 422 in InfluxDB's own JSON | as 400 | with "partial write" what it says it dropped is refused, one line at least; else halved | as 400 |
//! | 400 or 422 in other words (a proxy, an HTTPS port), 2xx with a body (a login page) | kept, tried again; where other requests get through meanwhile, halved as above; while nothing does, one request an hour is given up, the oldest | the same | the same |
//! | 413 | halved; a single line in pieces, as below | the same | the same |
//! | 401, 403, 404, 3xx, others; 400 that repeats our `Authorization` | kept, tried rarely, an error in the log | the same | the same |
//! | 408, 429, 5xx, none | kept, tried again, Retry-After respected | the same | the same |
//!
//! All numbers of the ledger are samples, a line's as many as it has. A line that is refused, perhaps for the type of one
//! of its fields, is sent again in pieces, one sample each: its neighbours are stored, and what is refused again is
//! rejected. Where the server does not say which lines it means, all of the request are sent so.
//!
//! Where the options change and the same lines go to the same place (`url`, `version`, `database`, `retention_policy`, `org`,
//! `bucket`, `integers`, `lines` and `namespace` are the same), the new sink delivers what the one before could not, from
//! memory and from its spool. Anything else has the grace period.
//!
//! A point that is sent twice overwrites itself, so what has no answer is sent again. A datagram is
//! written once it is sent; what is refused on this host is kept.

mod encode;
mod endpoint;
mod file;
mod group;
mod http;
mod options;
mod refusal;
mod reply;
mod row;
mod text;
mod udp;
mod values;
mod way;
mod writer;

use std::collections::BTreeMap;
use std::io::stdout;
use std::sync::Arc;

use ebpf_process_core::{
    Access, BuildError, Cause, Claims, Finding, HostName, Ledger, OptionDoc, Options, OptionsError, Sink, SinkContext,
    SinkPlugin, TrialContext, View,
};
use ebpf_process_delivery::{Carrier, Delivery, Items, LineFile, Lookup, PackedSink, Print, Printed, Printer, Unread};
use ebpf_process_http::{HttpCarrier, try_out};

pub use encode::{Encoder, Form, Lines};
use options::{Settings, Target};
pub use row::TWIN;
pub use writer::{Integers, TOO_LARGE};

/// The sink type `influx`, for a registry.
pub const PLUGIN: InfluxPlugin = InfluxPlugin;

/// See [`PLUGIN`]; its options are in the table above.
#[derive(Clone, Copy, Debug)]
pub struct InfluxPlugin;

impl SinkPlugin for InfluxPlugin {
    fn name(&self) -> &'static str {
        "influx"
    }

    fn summary(&self) -> &'static str {
        "InfluxDB line protocol, over HTTP or UDP, in a file or on standard output"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        let settings = Settings::read(options)?;
        Ok(Claims::stdout(matches!(settings.target, Target::Stdout)))
    }

    fn destination(&self, options: &Options) -> Option<String> {
        match Settings::read(options).ok()?.target {
            Target::Stdout => None,
            Target::File(path) => Some(path.display().to_string()),
            Target::Udp(address) => Some(format!("udp://{address}")),
            Target::Server(server) => Some(format!("{} {}", server.server.name(), server.place)),
        }
    }

    fn succeeds(&self, before: &Options, now: &Options) -> bool {
        let [Ok(before), Ok(now)] = [before, now].map(Settings::read) else { return false };
        before.writes_the_same_as(&now)
    }

    fn try_out(&self, options: &Options, context: &TrialContext) -> Vec<Finding> {
        let settings = match Settings::read(options) {
            Ok(settings) => settings,
            Err(error) => return vec![Finding::error(error.to_string(), "correct the option")],
        };
        let mut findings = match settings.target {
            Target::Stdout => Vec::new(),
            Target::File(path) => {
                vec![LineFile::try_out_regular(&path, &format!("sinks.{}.options.url", context.name))]
            }
            Target::Udp(address) => vec![udp::try_out(&address, context.limit)],
            Target::Server(server) => vec![try_out(server.server.clone(), http::LineProtocol(*server), context)],
        };
        findings.extend(settings.delivery.try_out(way::ENCODINGS, context));
        findings
    }

    fn options(&self) -> Vec<OptionDoc> {
        OptionDoc::of::<options::Raw>()
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let Settings { target, writing, limits, delivery } = Settings::read(options)?;
        let encoder = Encoder::new(&context.host.now())
            .with_integers(writing.integers)
            .with_namespace(&writing.namespace)
            .with_form(writing.lines)
            .with_longest(limits.bytes);
        let carrier: Box<dyn Carrier> = match target {
            Target::Stdout => {
                let unread = Unread::new(stdout(), &context);
                let print = LinePrint { encoder, host: context.host.clone() };
                return Ok(Box::new(Printer::new(print, stdout(), unread, &context)));
            }
            Target::File(path) => Box::new(file::File::new(&path, &context.opener)),
            Target::Udp(address) => Box::new(udp::Udp::new(&address, Lookup::system())),
            Target::Server(server) => {
                Box::new(HttpCarrier::new(server.server.clone(), http::LineProtocol(*server), &context)?)
            }
        };
        let delivery = Delivery::new(way::Way(carrier), &delivery, &context)?;
        let items = LineItems { encoder, ledger: context.ledger, host: context.host };
        Ok(Box::new(PackedSink::new(items, limits, delivery)))
    }

    fn confined(&self, options: &Options) -> bool {
        Settings::read(options).is_ok_and(|settings| settings.is_confined())
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        Settings::read(options).map(|settings| settings.opens()).unwrap_or_default()
    }

    fn stdout_options(&self) -> Option<Options> {
        Some(Options::from_value(BTreeMap::from([("url", options::STDOUT)])))
    }
}

/// Lines, each an item.
struct LineItems {
    encoder: Encoder,
    ledger: Arc<Ledger>,
    host: HostName,
}

impl Items for LineItems {
    fn encode(&mut self, view: &View<'_>, take: &mut dyn FnMut(&[u8], u32)) {
        self.encoder.set_host(&self.host.now());
        let lines = self.encoder.encode(view);
        self.ledger.rejected(lines.rejected, TWIN);
        self.ledger.rejected(lines.too_large, TOO_LARGE);
        for (line, samples) in lines.iter() {
            take(line, samples);
        }
    }
}

/// Lines on standard output.
struct LinePrint {
    encoder: Encoder,
    host: HostName,
}

impl Print for LinePrint {
    fn print<'a>(&'a mut self, view: &View<'_>) -> Result<Printed<'a>, Cause> {
        self.encoder.set_host(&self.host.now());
        let Lines { bytes, samples, rejected, too_large, .. } = self.encoder.encode(view);
        Ok(Printed { bytes, samples, rejected: [(rejected, TWIN), (too_large, TOO_LARGE)] })
    }
}
