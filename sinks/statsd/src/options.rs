//! The sink's table in the configuration.

use std::time::Duration;

use ebpf_process_core::{Options, OptionsError, duration};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::Address;
use crate::dialect::{Dialect, Syntax};

/// What was written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Table {
    /// Where the packets go: `udp://HOST:PORT`, `tcp://HOST:PORT`, `unixgram:///PATH`, `unix:///PATH` or `stdout`.
    address: String,
    /// Which server it is, and so how a line carries labels.
    dialect: Dialect,
    /// Labels as tags of Graphite, `;key=value`, in place of parts of the name; for the dialect "etsy" alone.
    graphite_tags: bool,
    /// The most bytes of a packet, 64 to 65507 (8999 to netdata over UDP). Without it 1432 over UDP, which fits an
    /// Ethernet frame, and 8192 otherwise.
    max_packet: Option<usize>,
    /// What every name begins with, before a dot; "" for nothing.
    namespace: String,
    /// This host's name as the tag `host`, in a dialect that has tags. Where there are none, write `{host}` into the
    /// sink's `prefix` or the namespace: it stands for the name.
    host: bool,
    /// How long connecting and sending may take.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    timeout: Duration,
    /// How often the host's name is looked up again.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    resolve_every: Duration,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            address: "udp://127.0.0.1:8125".to_owned(),
            dialect: Dialect::default(),
            graphite_tags: false,
            max_packet: None,
            namespace: "ebpf_process".to_owned(),
            host: false,
            timeout: Duration::from_secs(2),
            resolve_every: Duration::from_mins(5),
        }
    }
}

/// What it means.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) address: Address,
    pub(crate) syntax: Syntax,
    /// Whether the receiver cuts off a counter's decimals though others of its syntax do not.
    pub(crate) whole_units: bool,
    /// Whether a packet in a stream over a Unix socket has its length before it.
    pub(crate) length_prefix: bool,
    pub(crate) max_packet: usize,
    pub(crate) namespace: String,
    /// Whether the host's name is a tag.
    pub(crate) host: bool,
    pub(crate) timeout: Duration,
    pub(crate) resolve_every: Duration,
}

/// The largest datagram of UDP over IPv4.
const LARGEST: usize = 65_507;

/// netdata's buffer for a datagram: it cuts off the rest, in the middle of a number if need be.
const LARGEST_FOR_NETDATA: usize = 8999;

/// Fits an Ethernet frame.
const FRAME: usize = 1432;

/// The buffer that a DogStatsD server has unless it is told otherwise; on one host nothing is cut to frames.
const LOCAL: usize = 8192;

impl Settings {
    /// Reads the options without asking anybody.
    pub(crate) fn read(options: &Options) -> Result<Self, OptionsError> {
        let Table { address, dialect, graphite_tags, max_packet, namespace, host, timeout, resolve_every } =
            options.extract()?;
        let address = Address::parse(&address).map_err(|problem| options.refuse("address", problem))?;
        let syntax = match (dialect, graphite_tags) {
            (Dialect::Etsy, true) => Syntax::Graphite,
            (_, true) => return Err(options.refuse("graphite_tags", "only the dialect \"etsy\" has them")),
            (Dialect::Etsy | Dialect::Netdata, false) => Syntax::Plain,
            (Dialect::Dogstatsd, false) => Syntax::Dogstatsd,
            (Dialect::Telegraf, false) => Syntax::Telegraf,
        };
        if host && syntax == Syntax::Plain {
            let problem = "this dialect has no tags; write {host} into the sink's prefix or into namespace";
            return Err(options.refuse("host", problem));
        }
        let is_udp = matches!(address, Address::Udp(_));
        let max_packet = max_packet.unwrap_or(if is_udp || address == Address::Stdout { FRAME } else { LOCAL });
        let largest = if is_udp && dialect == Dialect::Netdata { LARGEST_FOR_NETDATA } else { LARGEST };
        if !(64..=largest).contains(&max_packet) {
            return Err(options.refuse("max_packet", format!("expected a number of bytes from 64 to {largest}")));
        }
        for (key, duration) in [("timeout", timeout), ("resolve_every", resolve_every)] {
            if duration.is_zero() {
                return Err(options.refuse(key, "expected a duration longer than 0"));
            }
        }
        let length_prefix = dialect == Dialect::Dogstatsd && matches!(address, Address::Unix(_));
        let whole_units = dialect == Dialect::Netdata;
        Ok(Self { address, syntax, whole_units, length_prefix, max_packet, namespace, host, timeout, resolve_every })
    }
}

impl Settings {
    /// Whether the same lines go to the same receiver, which does not print.
    pub(crate) fn sends_the_same_as(&self, other: &Self) -> bool {
        let said = |it: &Self| (it.syntax, it.whole_units, it.namespace.clone(), it.host);
        self.address != Address::Stdout && self.address == other.address && said(self) == said(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &[(&str, serde_json::Value)]) -> Result<Settings, String> {
        let table: serde_json::Map<_, _> = toml.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        Settings::read(&Options::from_value(table)).map_err(|error| error.key)
    }

    #[test]
    fn a_wrong_option_names_its_key() {
        for (pairs, key) in [
            (&[("address", "http://h:1".into())][..], "options.address"),
            (&[("adress", "udp://h:1".into())], "options.adress"),
            (&[("max_packet", 63.into())], "options.max_packet"),
            (&[("max_packet", 65_508.into())], "options.max_packet"),
            (&[("max_packet", 9000.into()), ("dialect", "netdata".into())], "options.max_packet"),
            (&[("dialect", "brubeck".into())], "options.dialect"),
            (&[("dialect", "telegraf".into()), ("graphite_tags", true.into())], "options.graphite_tags"),
            (&[("timeout", "0s".into())], "options.timeout"),
            (&[("host", true.into())], "options.host"),
            (&[("host", true.into()), ("dialect", "netdata".into())], "options.host"),
            (&[("resolve_every", "soon".into())], "options.resolve_every"),
        ] {
            assert_eq!(read(pairs).map(|_| ()).expect_err(key), key);
        }
    }

    #[test]
    fn the_syntax_follows_from_the_dialect_and_nothing_else() {
        let syntax = |pairs: &[(&str, serde_json::Value)]| read(pairs).expect("right options").syntax;
        assert_eq!(syntax(&[]), Syntax::Plain);
        assert_eq!(syntax(&[("graphite_tags", true.into())]), Syntax::Graphite);
        assert_eq!(syntax(&[("dialect", "netdata".into())]), Syntax::Plain);
        assert_eq!(syntax(&[("dialect", "dogstatsd".into())]), Syntax::Dogstatsd);
        assert_eq!(syntax(&[("dialect", "telegraf".into())]), Syntax::Telegraf);
    }

    #[test]
    fn packets_are_as_large_as_their_way_takes() {
        let size = |address: &str| read(&[("address", address.into())]).expect("right options").max_packet;
        assert_eq!(size("udp://h:1"), 1432);
        assert_eq!(size("unixgram:///run/s"), 8192);
        assert_eq!(size("tcp://h:1"), 8192);
    }

    #[test]
    fn only_dogstatsd_on_a_unix_stream_has_lengths() {
        for (dialect, address, has) in [
            ("dogstatsd", "unix:///run/s", true),
            ("dogstatsd", "tcp://h:1", false),
            ("dogstatsd", "unixgram:///run/s", false),
            ("etsy", "unix:///run/s", false),
        ] {
            let settings = read(&[("dialect", dialect.into()), ("address", address.into())]).expect("right options");
            assert_eq!(settings.length_prefix, has, "{dialect} {address}");
        }
    }
}
