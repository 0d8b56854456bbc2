//! The sink type `statsd`: four dialects of the protocol, over UDP, TCP, Unix sockets or on standard
//! output.
//!
//! ```toml
//! [sinks.lan]
//! type = "statsd"
//! [sinks.lan.options]
//! address = "udp://127.0.0.1:8125"
//! dialect = "etsy"
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | `"udp://127.0.0.1:8125"` | the receiver: `udp://HOST:PORT`, `tcp://HOST:PORT`, `unixgram:///PATH` (datagrams) or `unix:///PATH` (a connection). `"stdout"` prints the lines instead |
//! | `dialect` | `"etsy"` | what the receiver speaks: `etsy`, `dogstatsd`, `telegraf` or `netdata`. Never guessed |
//! | `graphite_tags` | `false` | with `etsy` only: labels and tags as Graphite's tags, for a Graphite from 1.1 on behind the server |
//! | `max_packet` | `1432` over UDP, else `8192` | the largest packet in bytes, from 64 to 65507; 1432 fits an Ethernet frame, 512 the Internet, 8932 a jumbo frame. netdata takes up to 8999 over UDP, a DogStatsD server 8192 unless told otherwise |
//! | `namespace` | `"ebpf_process"` | the first part of every name, with dots for more parts; may be empty |
//! | `host` | `false` | this host's name as the tag `host`, in a dialect that has tags; elsewhere write `{host}` into the sink's `prefix` or the namespace |
//! | `timeout` | `"2s"` | the longest wait for a connection, for a name while no address is known, and for room for the packets of one batch; each |
//! | `resolve_every` | `"5m"` | how often a name is looked up again while all is well; after a failure that happens soon |
//!
//! # Dialects
//!
//! | dialect | a counter | labels and tags |
//! |---|---|---|
//! | `etsy`, `netdata` | `ebpf_process.vfs.read.calls:17\|c` | in the name |
//! | `etsy` with `graphite_tags` | `ebpf_process.vfs.calls;operation=read:17\|c` | as tags |
//! | `dogstatsd` | `ebpf_process.vfs.calls:17\|c\|#operation:read` | as tags |
//! | `telegraf` | `ebpf_process.vfs.calls,operation=read:17\|c` | as tags |
//!
//! A name is `namespace.area.what`: `what` is the last part of the metric's name and `area` what
//! stands before it; of what concerns another kind than the host, that kind's name is its first part
//! (`process.vfs`). Without tags, the values of the sink's tags stand before the area and those of
//! the labels behind it, a row's before a metric's own. DogStatsD and Telegraf are written by their published rules; etsy, Graphite
//! and netdata are tested against the servers themselves. A Telegraf with `datadog_extensions` takes
//! either. netdata shows a chart per name, for up to 200 names unless it is told otherwise.
//!
//! Whatever has a meaning to the receiver becomes `_`. Parts of a name keep ASCII letters, digits, `_`
//! and, but for DogStatsD, `-`. A tag's value keeps more: with Graphite also `.`; with DogStatsD all
//! letters and digits and `. / : -`; with Telegraf all that is visible but for `: | , = # \`. A tag's
//! key that the receiver takes for itself (Graphite's `name`, Telegraf's `metric_type`, our `le`) gets
//! a `_` behind it. A DogStatsD name that would not start with a letter starts with `m`.
//!
//! `{host}` in the sink's `prefix` or in the namespace is this host's name as one part of a name, `_` for its dots;
//! `host = true` makes it a tag. A host that is renamed is followed. With neither, and no tag of the configuration that
//! does it, what two hosts send to one server adds up there, which is said at the start.
//!
//! Two rows whose labels become equal by that stay two: the second one gets `_2` behind its labels, for as long as
//! it lives. Metrics and fixed labels that get one name add up at the receiver, as their sum, if they are counters; of
//! gauges with one name only the first is sent, the others are rejected and counted.
//!
//! # Numbers
//!
//! A counter is sent as what it has grown by since the last packet that took it along, from 0 at the
//! agent's baseline; one that has not grown is not sent. A batch that a full queue loses is covered by
//! the next one. One that was recorded in another unit than its metric's, nanoseconds of a metric in seconds, is sent in
//! the metric's, with decimals down to a billionth; to netdata and Telegraf, which cut decimals off, in whole ones. What
//! is less stays due: what is sent adds up to the total, rounded down once. A gauge is sent with every batch, rounded to nine decimals. To DogStatsD a negative
//! one is a level like any other; elsewhere a sign means a change, so it is set to 0 first, in the same
//! packet.
//!
//! A sink that is added to a running agent begins with what the counters are in its first batch, and so does a counter or
//! a row that another selection brings; what was selected already goes on, under another name if it has one. A sink whose
//! options change goes on as well where `address`, `dialect`, `graphite_tags`, `namespace` and `host` stay the same.
//!
//! A histogram is one counter per slot, with the largest number of the slot, as it was recorded, as the last part of the
//! name (`.le_2047`) or as the tag `le`. Slots do not contain one another: their sum is the number of
//! events. It is never sent as `h` or `d`: etsy's server adds such values up as if they were a counter,
//! netdata rejects `d`, and the others want the single values to make percentiles of, which nobody has
//! any more: the kernel counts by powers of two. Counters keep what is known, and add up across hosts.
//!
//! Lines are packed into packets and never split. A line longer than `max_packet` cannot be sent: its
//! sample is rejected.
//!
//! Over UDP the kernel (Linux from 4.18 on) gets many packets in one call and cuts them into datagrams, for which all
//! but the last have to be of one size: the last numbers of such a packet have zeros in front (`:0000017|c`), never more
//! than 28 digits in all. (netdata reads 30; empty lines brubeck, gostatsd and Vector count as bad ones.) Where a way
//! cannot take that, a tunnel or a network with smaller frames, packets go one by one, as they do to all other receivers.
//!
//! # Ways
//!
//! A packet is a datagram, or a piece of a stream with a line break at its end. To DogStatsD over
//! `unix://` it has its length before it instead, four bytes, the lowest first.
//!
//! A receiver that is not there, at the start or later, is looked for again with every batch; whom to
//! connect to takes a pause that doubles from 100 ms to 30 s, and any part of that, so that many agents
//! do not come at once. A name is looked up on a thread of its own, again after a failure and every
//! `resolve_every`, and a receiver that moved is followed. Only the sink's own thread ever waits.
//!
//! # What is counted when
//!
//! A packet's samples are **written** when the kernel took it and knows of no refusal, and **failed**
//! when sending it failed or when a refusal is known. Neither UDP nor a connection has a receipt in
//! this protocol. Over a connection, TCP or `unix://`, a packet's samples are written if it is still there a
//! tenth of a second later, and **unconfirmed** if the receiver closed it before: they may have arrived, so
//! they are not sent again.
//!
//! * What did not go out stays due: what its counters have grown by goes with the next batch that has
//!   the row. A row that has ended comes again with each batch until it has gone out. A receiver that starts late gets
//!   everything since the baseline.
//! * Over UDP a refusal (nobody listens) from this host is there as soon as the datagram is sent. It is
//!   this datagram's: it did not arrive and stays due. From another host a refusal comes later, and does
//!   not say for which datagram; so it does here when the kernel is so busy that it postpones it. The
//!   next datagram is counted as failed in the place of the refused one. It is not known which counters
//!   that one carried, so nothing is sent again.
//! * Of datagrams that the kernel has cut, up to 64, a refusal is one for all. On this host that is what happened to them:
//!   they are sent again one by one. From another host at least one of those before was refused, and as many as are sent
//!   next are counted as failed: more than were refused, or fewer. What a receiver has no room for nobody is told, however
//!   it was sent; and many at once fill its room sooner.
//! * A connection that is lost, or has no room for `timeout`, may take half a packet with it. The packet
//!   is failed. Its lines that are on their way are not sent again; the others stay due, and the rest of
//!   the cut one never follows on another connection.
//!
//! No receiver ever gets an event twice, also of a row that has ended and comes again. A sample with several lines is failed if one of its packets is.

mod address;
mod dialect;
mod encode;
mod names;
mod number;
mod options;
mod packets;
mod rows;
mod stream;
mod text;
mod transport;
mod udp;
mod unixgram;

use std::io::stdout;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::{
    Access, BuildError, Cause, Claims, Direct, Finding, HostName, Ledger, Legacy, Opener, OptionDoc, Options,
    OptionsError, Settlement, Sink, SinkContext, SinkError, SinkPlugin, Stop, TrialContext, View,
};
use ebpf_process_delivery::{Backoff, Datagrams, Doubt, Lookup, Print, Printed, Printer, Unread};
use tracing::info;

use address::Address;
pub use dialect::Syntax;
pub use encode::Encoder;
use options::Settings;
use packets::{Batch, Packing};
pub use packets::{Fate, Settled};
use stream::{Framing, Stream, Target};
use transport::Transport;
use udp::Udp;
use unixgram::Unixgram;

/// The sink type `statsd`, for a registry.
pub const PLUGIN: StatsdPlugin = StatsdPlugin;

/// See [`PLUGIN`]; its options stand at the top of this crate.
#[derive(Clone, Copy, Debug)]
pub struct StatsdPlugin;

/// The pauses between attempts to connect.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(30))
}

/// Why a sample with a line that fits no packet is rejected.
pub const TOO_LONG: &str = "too long";

/// Why the second of two gauges under one name is rejected.
pub const TWIN: &str = "same name as another series";

impl SinkPlugin for StatsdPlugin {
    fn name(&self) -> &'static str {
        "statsd"
    }

    fn summary(&self) -> &'static str {
        "counters and gauges for StatsD, DogStatsD, Telegraf or netdata, over UDP, TCP, a Unix socket or standard output"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        let settings = Settings::read(options)?;
        Ok(Claims::stdout(settings.address == Address::Stdout))
    }

    fn destination(&self, options: &Options) -> Option<String> {
        Settings::read(options).ok()?.address.destination()
    }

    fn options(&self) -> Vec<OptionDoc> {
        OptionDoc::of::<options::Table>()
    }

    fn succeeds(&self, before: &Options, now: &Options) -> bool {
        let [Ok(before), Ok(now)] = [before, now].map(Settings::read) else { return false };
        before.sends_the_same_as(&now)
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        let settings = Settings::read(options)?;
        let encoder = Encoder::new(settings.syntax, &settings.namespace, settings.max_packet);
        let encoder = encoder.with_host(&context.host.now(), settings.host);
        let encoder = if settings.whole_units { encoder.in_whole_units() } else { encoder };
        let encoder = if context.joins { encoder.joining() } else { encoder };
        let host = context.host.clone();
        let Some(transport) = transport(settings, &context.opener) else {
            let lines = Lines { encoder, host, bytes: Vec::new() };
            return Ok(Box::new(Printer::new(lines, stdout(), Unread::new(stdout(), &context), &context)));
        };
        let ledger = context.ledger;
        let (doubt, stop) = (Doubt::new(Arc::clone(&ledger)), context.stop);
        Ok(Box::new(SocketSink { name: context.name, encoder, ledger, host, transport, doubt, stop, said: false }))
    }

    fn try_out(&self, options: &Options, context: &TrialContext) -> Vec<Finding> {
        let Ok(settings) = Settings::read(options) else { return Vec::new() };
        let Some(place) = settings.address.destination() else { return Vec::new() };
        // A name and a connection may each take their time.
        let opener: Arc<dyn Opener> = Arc::new(Direct::default());
        let Some(mut transport) = transport(Settings { timeout: context.limit / 3, ..settings }, &opener) else {
            return Vec::new();
        };
        vec![match transport.try_out(Instant::now()) {
            Ok(()) if place.starts_with("udp:") => {
                Finding::fine(format!("{place} refuses nothing, which is all that UDP tells"))
            }
            Ok(()) => Finding::fine(format!("{place} is there")),
            Err(problem) => {
                let (what, way_out) = problem.split_once("; ").unwrap_or((&problem, "check the option address"));
                Finding::warning(what, way_out)
            }
        }]
    }

    fn confined(&self, options: &Options) -> bool {
        // A path may lead to a socket that only the privileges of the agent open.
        Settings::read(options)
            .is_ok_and(|settings| !matches!(settings.address, Address::Unix(_) | Address::Unixgram(_)))
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        match Settings::read(options).map(|settings| settings.address) {
            Ok(Address::Unix(path) | Address::Unixgram(path)) => vec![Access::Connect(path)],
            _ => Vec::new(),
        }
    }

    fn stdout_options(&self) -> Option<Options> {
        let options = [("address", address::STDOUT)];
        Some(Options::from_value(options.into_iter().collect::<std::collections::BTreeMap<_, _>>()))
    }
}

/// The way to a receiver, if it is not standard output.
fn transport(settings: Settings, opener: &Arc<dyn Opener>) -> Option<Box<dyn Transport>> {
    let Settings { address, length_prefix, timeout, resolve_every, max_packet, .. } = settings;
    let framing = if length_prefix { Framing::Length } else { Framing::Lines };
    let now = Instant::now();
    let lookup = |receiver: &str| Lookup::new(receiver, "address", Lookup::system(), resolve_every, now);
    Some(match address {
        Address::Stdout => return None,
        Address::Udp(receiver) => {
            // The options let no larger one pass.
            let size = u16::try_from(max_packet).unwrap_or(u16::MAX);
            Box::new(Udp::new(Datagrams::new(lookup(&receiver)).cut(size), timeout))
        }
        Address::Tcp(receiver) => Box::new(Stream::new(Target::Tcp(lookup(&receiver)), framing, timeout, now)),
        Address::Unixgram(path) => Box::new(Unixgram::new(path, Arc::clone(opener), timeout, now)),
        Address::Unix(path) => Box::new(Stream::new(Target::Unix(path, Arc::clone(opener)), framing, timeout, now)),
    })
}

/// Enters what became of a view's samples.
fn settle(ledger: &Ledger, settled: Settled) {
    ledger.written(settled.written);
    ledger.failed(settled.failed);
    ledger.rejected(settled.too_long, TOO_LONG);
    ledger.rejected(settled.twins, TWIN);
}

/// Sends each view in packets.
struct SocketSink {
    name: String,
    encoder: Encoder,
    ledger: Arc<Ledger>,
    host: HostName,
    transport: Box<dyn Transport>,
    /// What a connection took, where there is one.
    doubt: Doubt,
    stop: Stop,
    /// Whether it was said that hosts add up.
    said: bool,
}

impl SocketSink {
    /// Enters what is known by now of what a connection took. False where nothing is connected to.
    fn look(&mut self, now: Instant) -> bool {
        self.transport.peer().map(|peer| self.doubt.look(peer, now)).is_some()
    }
}

impl Sink for SocketSink {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.transport.begin(Instant::now());
        let has_peer = self.look(Instant::now());
        let Self { encoder, transport, .. } = self;
        encoder.set_host(&self.host.now());
        let packing = if transport.fills() { Packing::Filled } else { Packing::Close };
        let mut send = |batch: Batch<'_>, fates: &mut Vec<Fate>| transport.send_all(batch, fates);
        let mut settled = encoder.encode_batches(*view, packing, &mut send);
        let now = Instant::now();
        if has_peer {
            // It may go without having read what its connection took.
            self.doubt.sent(settled.written - encoder.idle(), now);
            settled.written = encoder.idle();
            self.look(now);
        }
        settle(&self.ledger, settled);
        if self.encoder.adds_up() && !std::mem::replace(&mut self.said, true) {
            info!(
                sink = %self.name,
                "no name tells this host from others: what two hosts send to one server would add up there; set \
                 host = true (a tag), or write {{host}} into the sink's prefix"
            );
        }
        self.transport.problem().map_or(Ok(()), |problem| Err(SinkError::failed(problem)))
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.look(Instant::now());
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        self.doubt.due()
    }

    /// What was sent last has the same time to come back as all else.
    fn close(&mut self) -> Result<(), SinkError> {
        if let Some(ripe) = self.doubt.ripe() {
            let left = ripe.saturating_duration_since(Instant::now());
            std::thread::park_timeout(self.stop.remaining().map_or(left, |grace| left.min(grace.mul_f64(0.75))));
            self.look(ripe);
        }
        Ok(())
    }

    /// What is known to be lost is due with the next view, which is the successor's.
    fn bequeath(&mut self) -> Option<Legacy> {
        // Of the connection the successor knows nothing.
        self.close().ok()?;
        let encoder = std::mem::replace(&mut self.encoder, Encoder::new(Syntax::Plain, "", 0));
        Some(Legacy::new(0, encoder))
    }

    fn inherit(&mut self, legacy: Legacy) {
        if let Ok(former) = legacy.content.downcast::<Encoder>() {
            self.encoder.succeed(*former);
        }
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

/// Each packet as lines of a text.
struct Lines {
    encoder: Encoder,
    host: HostName,
    bytes: Vec<u8>,
}

impl Print for Lines {
    fn print<'a>(&'a mut self, view: &View<'_>) -> Result<Printed<'a>, Cause> {
        let Self { encoder, host, bytes } = self;
        bytes.clear();
        encoder.set_host(&host.now());
        let settled = encoder.encode(view, &mut |packet| {
            bytes.extend_from_slice(packet);
            bytes.push(b'\n');
            Fate::Sent
        });
        let rejected = [(settled.too_long, TOO_LONG), (settled.twins, TWIN)];
        Ok(Printed { bytes, samples: settled.written, rejected })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use ebpf_process_core::testkit::{Bench, context, offer};
    use ebpf_process_core::{Column, Selection, Unit};

    use super::*;

    /// Closes the connection that is waiting, having read so many bytes of it.
    type Close = Box<dyn Fn(usize) -> Vec<u8>>;

    fn closing(mut client: impl std::io::Read, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        client.read_exact(&mut read).expect("bytes");
        read
    }

    #[test]
    fn what_a_connection_took_before_it_was_closed_is_unconfirmed_and_never_sent_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let unix = UnixListener::bind(&path).expect("the path");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("an address");
        let ways: [(String, Close); 2] = [
            (format!("unix://{}", path.display()), Box::new(move |n| closing(unix.accept().expect("a client").0, n))),
            (format!("tcp://{address}"), Box::new(move |n| closing(tcp.accept().expect("a client").0, n))),
        ];
        for (address, close) in ways {
            let context = context("lan");
            let ledger = Arc::clone(&context.ledger);
            let options = Options::from_value(BTreeMap::from([("address", address), ("namespace", "n".to_owned())]));
            let mut sink = PLUGIN.build(&options, context).expect("a sink");
            let calls = |of| Column::counter("a.calls", Unit::CALLS, "Calls").labels([("of", of)]);
            let mut bench = Bench::new();
            let (grows, stays) = (bench.host(calls("it")), bench.host(calls("us")));
            let mut write = |total, sink: &mut Box<dyn Sink>| {
                offer(&ledger, 2);
                let record = |recorder: &mut ebpf_process_core::Recorder| {
                    grows.counter(recorder, total);
                    stays.counter(recorder, 0);
                };
                bench.tick(&Selection::default(), record, |view| sink.write(view))
            };
            write(5, &mut sink).expect("it is handed over");
            assert_eq!((ledger.tally().written, ledger.tally().queued), (1, 1), "one has nothing to send");
            assert!(sink.due().is_some());
            // The receiver goes without having read all of it.
            assert_eq!(close(3), b"n.a");
            sink.flush().expect("a look");
            let tally = ledger.tally();
            assert_eq!((tally.written, tally.unconfirmed, tally.queued), (1, 1, 0));
            // Its events may have arrived: only the new ones go over the next connection.
            write(7, &mut sink).expect("it is handed over");
            sink.close().expect("the end");
            let line = b"n.a.it.calls:2|c\n";
            assert_eq!(close(line.len()), line);
            let tally = ledger.tally();
            assert_eq!((tally.written, tally.unconfirmed), (3, 1), "{tally:?}");
            assert!(tally.balances());
        }
    }

    #[test]
    fn a_successor_goes_on_where_the_one_before_has_stopped() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        server.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
        let address = format!("udp://{}", server.local_addr().expect("an address"));
        let options = |namespace: &str, timeout: &str| {
            let table = [("address", &*address), ("namespace", namespace), ("timeout", timeout)];
            Options::from_value(BTreeMap::from(table))
        };
        assert!(PLUGIN.succeeds(&options("n", "1s"), &options("n", "2s")));
        assert!(!PLUGIN.succeeds(&options("n", "1s"), &options("m", "1s")), "other names");
        let printing = PLUGIN.stdout_options().expect("a format");
        assert!(!PLUGIN.succeeds(&printing, &printing), "half a line may be in a pipe");
        let build = |joins| {
            let context = SinkContext { joins, ..context("lan") };
            PLUGIN.build(&options("n", "1s"), context).expect("a sink")
        };
        let mut bench = Bench::new();
        let [calls, other] = ["a.calls", "b.calls"].map(|it| bench.host(Column::counter(it, Unit::CALLS, "Calls")));
        let mut write = |sink: &mut Box<dyn Sink>, total, selection: &Selection| {
            let record = |recorder: &mut ebpf_process_core::Recorder| {
                calls.counter(recorder, total);
                other.counter(recorder, total);
            };
            bench.tick(selection, record, |view| sink.write(view)).expect("it is sent");
        };
        let read = || {
            let mut packet = [0; 512];
            let length = server.recv(&mut packet).expect("a packet");
            String::from_utf8_lossy(&packet[..length]).into_owned()
        };
        let few = Selection { exclude: vec!["b.*".to_owned()], ..Selection::default() };
        let mut first = build(false);
        write(&mut first, 5, &few);
        assert_eq!(read(), "n.a.calls:5|c");
        let legacy = first.bequeath().expect("its totals");
        assert_eq!(legacy.samples, 0);
        // The selection is another one at the same time, seen through the first lens of another outlet.
        let mut second = build(true);
        second.inherit(legacy);
        let all = Selection::default();
        write(&mut second, 12, &all);
        assert_eq!(read(), "n.a.calls:7|c", "the other one begins here");
        write(&mut second, 13, &all);
        assert_eq!(read(), "n.a.calls:1|c\nn.b.calls:1|c");
        // Without a predecessor, only what comes.
        let mut third = build(true);
        write(&mut third, 20, &all);
        write(&mut third, 22, &all);
        assert_eq!(read(), "n.a.calls:2|c\nn.b.calls:2|c");
    }

    #[test]
    fn only_what_writes_to_standard_output_claims_it() {
        assert!(!PLUGIN.check(&Options::none()).expect("defaults").stdout);
        let printing = PLUGIN.stdout_options().expect("a format");
        assert!(PLUGIN.check(&printing).expect("right options").stdout);
    }

    #[test]
    fn a_path_is_not_for_an_agent_with_privileges_of_its_own() {
        let at = |address| Options::from_value(BTreeMap::from([("address", address)]));
        for (address, confined) in [
            ("stdout", true),
            ("udp://h:1", true),
            ("tcp://h:1", true),
            ("unix:///run/s", false),
            ("unixgram:///run/s", false),
        ] {
            assert_eq!(PLUGIN.confined(&at(address)), confined, "{address}");
            let shared = (address != "stdout").then(|| address.to_owned());
            assert_eq!(PLUGIN.destination(&at(address)), shared, "what two agents may not both feed");
        }
    }
}
