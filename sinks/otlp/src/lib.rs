//! The sink type `otlp`: metrics for whatever receives OpenTelemetry's protocol, as protocol buffers over HTTP.
//!
//! ```toml
//! [sinks.otel]
//! type = "otlp"
//! [sinks.otel.options]
//! url = "https://collector.example/v1/metrics"
//! token = { file = "/etc/ebpf-process/token" }
//! resource = { "deployment.environment.name" = "lab" }
//! delivery = { spool = "/var/lib/ebpf-process/otel" }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `url` | `"http://127.0.0.1:4318/v1/metrics"` | where requests are posted to, path included; `"unix:///path"` is HTTP over a Unix socket |
//! | `token` | none | sent as `Authorization: Bearer` |
//! | `headers` | none | headers that requests have besides; each value is a secret |
//! | `resource` | none | attributes of the resource, besides or in place of those that the sink sets |
//! | `timeout` | `"5s"` | how long one request may take from connecting to the last byte of the reply |
//! | `ca_file`, `client_cert`, `client_key`, `proxy`, `gzip` | | as of the sink `influx` |
//! | `max_bytes` | `"1MiB"` | what goes into one request before it is compressed; a row is never cut |
//! | `max_age` | `"0s"` | how long numbers may wait for others |
//! | `delivery` | see [`DeliveryOptions`](ebpf_process_delivery::DeliveryOptions) | memory, spool and retries |
//!
//! # What is sent
//!
//! The resource is the host and the service on it: `host.name`, `service.name` and `service.version` (the program's, `ebpf-process` unless somebody built another) and
//! `service.instance.id`, which is the host's name and, of several agents on a host, the agent's. What tells rows apart is
//! on each data point: as attributes of the resource Prometheus would put all rows into one series.
//!
//! | label of a row | attribute |
//! |---|---|
//! | `pid`, `ns_pid` | `process.pid`, `process.vpid`, numbers |
//! | `comm`, `exe` | `process.executable.name`, `process.executable.path` |
//! | `user` | `process.owner` |
//! | `cgroup`, `unit` | `process.linux.cgroup`, `systemd.unit.name` |
//! | `container`, `container_name` | `container.id`, `container.name` |
//! | `pod`, `namespace` | `k8s.pod.name`, `k8s.namespace.name` |
//! | any other | its own name |
//!
//! Then come the metric's labels and the selection's tags under their own names. Of two with one key the first counts.
//!
//! | metric | becomes |
//! |---|---|
//! | counter | a sum: monotonic, cumulative, a whole number; one with a fraction where it was counted in another unit than its own, and above 2^63-1 as near as that comes |
//! | gauge | a gauge |
//! | histogram | a histogram: cumulative, with the bounds of all slots that it can have, each the largest value of its slot, which belongs to it |
//!
//! A data point has the time of its batch, or of the row's last one; one of a sum or a histogram has the time when its row
//! began, so that a receiver can tell a new row from one that fell. Units are those of UCUM: `By`, `s`, and what is counted
//! in braces, as in `{call}`. A number without a unit has none.
//!
//! Two columns with one name and the same labels, which a selection's `rename` can make, are one series for a receiver: the
//! second is rejected and counted.
//!
//! # What is counted when
//!
//! | reply | the samples of the request |
//! |---|---|
//! | 2xx | written; where it says that it refused some (partial success), as many are rejected |
//! | 429, 502, 503, 504, none | kept, sent again, `Retry-After` respected |
//! | 413 | sent again in two halves; a piece of one kind's rows that is alone is rejected |
//! | 2xx with another answer, any other number | rejected, with a warning; at 401, 403, 404 and where it can be a person's mistake secrets are read again first, and one that was replaced is used at once |
//!
//! No request is sent again that was answered otherwise: OTLP forbids it. Totals are cumulative, so that what a lost request
//! would have said is in the next one.

mod attributes;
mod encode;
mod options;
mod point;
mod protocol;
mod resource;
mod response;
mod row;
mod sheet;
mod unit;
mod wire;

use std::sync::Arc;

use ebpf_process_core::{
    Access, BuildError, Claims, Finding, HostName, Ledger, OptionDoc, Options, OptionsError, Sink, SinkContext,
    SinkPlugin, TrialContext, View,
};
use ebpf_process_delivery::{Delivery, Items, PackedSink};
use ebpf_process_http::{HttpCarrier, try_out};

pub use encode::Encoder;
use options::Settings;
use protocol::{Exporter, Otlp};

/// Into so many pieces a full request can be split at least, where it is too large for a receiver.
const PIECES: usize = 16;

/// The sink type `otlp`, for a registry.
pub static PLUGIN: OtlpPlugin = OtlpPlugin;

/// See [`PLUGIN`]; its options are in the table above.
#[derive(Clone, Copy, Debug)]
pub struct OtlpPlugin;

impl SinkPlugin for OtlpPlugin {
    fn name(&self) -> &'static str {
        "otlp"
    }

    fn summary(&self) -> &'static str {
        "OpenTelemetry metrics, protocol buffers over HTTP"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        Settings::read(options).map(|_| Claims::default())
    }

    fn destination(&self, options: &Options) -> Option<String> {
        Some(Settings::read(options).ok()?.server.server.name().to_owned())
    }

    fn succeeds(&self, before: &Options, now: &Options) -> bool {
        let [Ok(before), Ok(now)] = [before, now].map(Settings::read) else { return false };
        before.server.server.is(&now.server.server)
    }

    fn try_out(&self, options: &Options, context: &TrialContext) -> Vec<Finding> {
        let settings = match Settings::read(options) {
            Ok(settings) => settings,
            Err(error) => return vec![Finding::error(error.to_string(), "correct the option")],
        };
        let server = settings.server.server.clone();
        let mut findings = vec![try_out(server, Otlp(settings.server), context)];
        findings.extend(settings.delivery.try_out(protocol::ENCODINGS, context));
        findings
    }

    fn options(&self) -> Vec<OptionDoc> {
        OptionDoc::of::<options::Raw>()
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let Settings { server, resource, limits, delivery } = Settings::read(options)?;
        let encoder = Encoder::new(&context.host.now(), context.instance.as_deref())
            .with_resource(resource)
            .with_enough(limits.bytes / PIECES);
        let carrier = Exporter(HttpCarrier::new(server.server.clone(), Otlp(server), &context)?);
        let delivery = Delivery::new(carrier, &delivery, &context)?;
        let pieces = Pieces { encoder, ledger: context.ledger, host: context.host };
        Ok(Box::new(PackedSink::new(pieces, limits, delivery)))
    }

    fn confined(&self, options: &Options) -> bool {
        Settings::read(options).is_ok_and(|settings| settings.is_confined())
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        Settings::read(options).map(|settings| settings.opens()).unwrap_or_default()
    }
}

/// Pieces of requests, each an item.
struct Pieces {
    encoder: Encoder,
    ledger: Arc<Ledger>,
    host: HostName,
}

impl Items for Pieces {
    fn encode(&mut self, view: &View<'_>, take: &mut dyn FnMut(&[u8], u32)) {
        self.encoder.set_host(&self.host.now());
        let rejected = self.encoder.encode(view, take);
        self.ledger.rejected(rejected, sheet::TWIN);
    }
}
