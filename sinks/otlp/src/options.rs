//! The sink's options: what may be written, and what it means.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ebpf_process_core::{Access, Options, OptionsError, Secret, duration, size};
use ebpf_process_delivery::{DeliveryOptions, Limits};
use ebpf_process_http::{ClientFiles, Server};
use schemars::JsonSchema;
use serde::Deserialize;

/// How long a request may wait for more.
const LONGEST_AGE: Duration = Duration::from_secs(3600);
/// Where requests go that are for no address of a network.
const PATH: &str = "/v1/metrics";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// Where requests are posted to, path included: `http://HOST:PORT/PATH`, `https://HOST:PORT/PATH`, or
    /// `unix:///SOCKET` (HTTP over a socket, for `/v1/metrics`).
    #[serde(default = "Raw::default_url")]
    url: String,
    /// The token, where the receiver asks for one: `Authorization: Bearer`.
    token: Option<Secret>,
    /// Headers that requests have besides, such as `{ X-Scope-OrgID = "tenant" }`; each value is a secret.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    headers: BTreeMap<String, Secret>,
    /// Attributes of the resource, such as `{ "deployment.environment.name" = "lab" }`; what has the name of one that
    /// the sink sets takes its place.
    #[serde(default)]
    resource: BTreeMap<String, String>,
    /// How long a request may take.
    #[serde(default = "Raw::default_timeout", with = "duration")]
    #[schemars(with = "duration::Text")]
    timeout: Duration,
    /// A PEM file with the certificates to trust, in place of the system's; the receiver's own may be one.
    ca_file: Option<PathBuf>,
    /// A PEM file with our own certificate, for a receiver that asks for one.
    client_cert: Option<PathBuf>,
    /// A PEM file with that certificate's key; without it the key is in the same file.
    client_key: Option<PathBuf>,
    /// The proxy to go through, `http://HOST:PORT`.
    proxy: Option<Secret>,
    /// Whether requests are compressed. Without it those that leave this host are: to a loopback address, which no
    /// proxy is asked for, it costs more than it saves.
    gzip: Option<bool>,
    /// The most bytes of a request before compression, at most half of delivery.memory. A row is never cut.
    #[serde(default = "Raw::default_max_bytes", with = "size")]
    #[schemars(with = "size::Text")]
    max_bytes: u64,
    /// How long numbers may wait for others, up to an hour; 0s sends every batch at once.
    #[serde(default, with = "duration")]
    #[schemars(with = "duration::Text")]
    max_age: Duration,
    #[serde(default)]
    delivery: DeliveryOptions,
}

impl Raw {
    fn default_url() -> String {
        "http://127.0.0.1:4318/v1/metrics".to_owned()
    }

    const fn default_timeout() -> Duration {
        Duration::from_secs(5)
    }

    const fn default_max_bytes() -> u64 {
        1 << 20
    }
}

/// What a sink is to do.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) server: ServerOptions,
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) limits: Limits,
    pub(crate) delivery: DeliveryOptions,
}

/// A receiver, and how to be let in.
#[derive(Clone, Debug)]
pub(crate) struct ServerOptions {
    pub(crate) server: Server,
    /// What is behind the server's address.
    pub(crate) path: &'static str,
    pub(crate) headers: BTreeMap<String, Secret>,
    pub(crate) token: Option<Secret>,
}

impl Settings {
    /// Reads the options, without looking at any file; no error contains a secret.
    pub(crate) fn read(options: &Options) -> Result<Self, OptionsError> {
        let raw: Raw = options.extract()?;
        raw.delivery.check(options)?;
        let refuse = |key: &str, problem: &str| Err(options.refuse(key, problem));
        if raw.max_age > LONGEST_AGE {
            return refuse("max_age", "must not be longer than an hour");
        }
        if raw.timeout.is_zero() {
            return refuse("timeout", "must be longer than nothing");
        }
        if raw.max_bytes == 0 || raw.max_bytes > raw.delivery.memory / 2 {
            return refuse("max_bytes", "must be more than nothing, and at most half of delivery.memory");
        }
        if raw.resource.keys().any(String::is_empty) {
            return refuse("resource", "an attribute has a name");
        }
        let server = ServerOptions::read(&raw, options)?;
        let bytes = usize::try_from(raw.max_bytes).unwrap_or(usize::MAX);
        let limits = Limits::new(usize::MAX, bytes).age(raw.max_age);
        Ok(Self { server, resource: raw.resource, limits, delivery: raw.delivery })
    }

    /// Whether it does nothing but connect to network addresses.
    pub(crate) fn is_confined(&self) -> bool {
        let in_sight = self.server.secrets().all(Secret::is_text);
        in_sight && self.server.server.is_confined() && self.delivery.spool.is_none()
    }

    /// The files, directories and sockets that it opens while it runs.
    pub(crate) fn opens(&self) -> Vec<Access> {
        let secrets = self.server.secrets().filter_map(Secret::file).map(|path| Access::Read(path.to_owned()));
        let spool = self.delivery.spool.clone().map(Access::Directory);
        secrets.chain(self.server.server.opens()).chain(spool).collect()
    }
}

impl ServerOptions {
    fn read(raw: &Raw, options: &Options) -> Result<Self, OptionsError> {
        for name in raw.headers.keys() {
            if let Err(problem) = check_header(name, raw.token.is_some()) {
                return Err(options.refuse("headers", problem));
            }
        }
        let mut server = Server::at(&raw.url).map_err(|error| options.refuse("url", error.to_string()))?;
        server.timeout = raw.timeout;
        server.ca_file.clone_from(&raw.ca_file);
        server.client = ClientFiles::of(raw.client_cert.as_ref(), raw.client_key.as_ref())
            .map_err(|problem| options.refuse("client_cert", problem))?;
        server.proxy.clone_from(&raw.proxy);
        server.gzip = raw.gzip;
        let path = if raw.url.starts_with("unix://") { PATH } else { "" };
        Ok(Self { server, path, headers: raw.headers.clone(), token: raw.token.clone() })
    }

    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.headers.values().chain(&self.token)
    }
}

/// Whether a header may be set by hand.
fn check_header(name: &str, has_token: bool) -> Result<(), String> {
    /// Those that say what a request is and how it comes.
    const OURS: &[&str] = &[
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
    ];
    let is_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!("{name:?} is no name of a header"));
    }
    if OURS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err(format!("the sink sets {name} itself"));
    }
    if has_token && name.eq_ignore_ascii_case("authorization") {
        return Err(format!("{name} or the option token, not both"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use figment::providers::{Format as _, Toml};
    use figment::value::Dict;

    use super::*;

    fn read(text: &str) -> Result<Settings, OptionsError> {
        let table: Dict = Toml::from_str(text).expect("a table");
        Settings::read(&Options::from_value(table))
    }

    #[test]
    fn without_options_it_is_the_usual_receiver_on_this_host() {
        let settings = read("").expect("right options");
        assert_eq!(settings.server.server.name(), "http://127.0.0.1:4318/v1/metrics");
        assert_eq!((settings.server.path, settings.limits.bytes), ("", 1 << 20));
        assert_eq!(read("url = \"unix:///run/otel.sock\"").expect("right options").server.path, "/v1/metrics");
    }

    #[test]
    fn a_wrong_option_names_its_key_and_no_secret() {
        for (text, key) in [
            ("url = \"127.0.0.1:4318\"", "url"),
            ("url = \"http://u:secret@db/v1/metrics\"", "url"),
            ("timeout = \"0s\"", "timeout"),
            ("max_age = \"2h\"", "max_age"),
            ("max_bytes = \"0B\"", "max_bytes"),
            ("max_bytes = \"8MiB\"", "max_bytes"),
            ("client_key = \"/key\"", "client_cert"),
            ("resource = { \"\" = \"x\" }", "resource"),
            ("headers = { \"a b\" = \"secret\" }", "headers"),
            ("headers = { Content-Type = \"secret\" }", "headers"),
            ("token = \"secret\"\nheaders = { authorization = \"secret\" }", "headers"),
            ("delivery = { retry_min = \"0s\" }", "delivery.retry_min"),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!(error.key, format!("options.{key}"), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert_eq!(read("tokn = \"x\"").expect_err("a typo").nearest.as_deref(), Some("token"));
    }

    #[test]
    fn what_it_opens_is_named() {
        let confined = |text: &str| read(text).expect("right options").is_confined();
        assert!(confined("token = \"x\"\nheaders = { X-Key = \"y\" }"));
        for text in [
            "url = \"https://db\"",
            "url = \"unix:///s\"",
            "token = { file = \"/t\" }",
            "headers = { X-Key = { file = \"/k\" } }",
            "delivery = { spool = \"/spool\" }",
        ] {
            assert!(!confined(text), "{text}");
        }
        let all = "url = \"unix:///s\"\ntoken = { file = \"/t\" }\nheaders = { X-Key = { file = \"/k\" } }\n\
                   ca_file = \"/ca\"\ndelivery = { spool = \"/spool\" }";
        let read_of = |path: &str| Access::Read(path.into());
        let all = read(all).expect("right options").opens();
        let (socket, spool) = (Access::Connect("/s".into()), Access::Directory("/spool".into()));
        assert_eq!(all, [read_of("/k"), read_of("/t"), read_of("/ca"), socket, spool]);
    }
}
