//! The sink's options: what may be written, and what it means.

mod address;
mod place;

use std::path::PathBuf;
use std::time::Duration;

use ebpf_process_core::{Access, Options, OptionsError, Secret, duration, size};
use ebpf_process_delivery::{DeliveryOptions, Limits};
use ebpf_process_http::{AddressError, ClientFiles, Server};
use schemars::JsonSchema;
use serde::Deserialize;

use address::is_receiver;
pub(crate) use place::Place;

use crate::encode::Form;
use crate::writer::Integers;

/// The `url` that means standard output.
pub(crate) const STDOUT: &str = "stdout";

/// The bytes of a frame unless the options say otherwise.
const REQUEST: u64 = 1 << 20;
/// The same for a datagram: what the Internet carries in one piece.
const DATAGRAM: u64 = 1432;
/// What UDP can carry at all.
const LONGEST_DATAGRAM: u64 = 65_507;
/// How long a line may wait for others.
const LONGEST_AGE: Duration = Duration::from_secs(3600);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// Where the lines go: `http://HOST:PORT`, `https://HOST:PORT`, `unix:///PATH` (HTTP over a socket),
    /// `udp://HOST:PORT`, `file:///PATH` or `stdout`.
    #[serde(default = "Raw::default_url")]
    url: String,
    /// Which of the server's interfaces is used, 1, 2 or 3; without it 1.
    #[serde(default)]
    version: Option<u8>,
    /// The database to write to; required to a server with versions 1 and 3.
    database: Option<String>,
    /// Whether a database that does not exist is made, with version 1. `check` never does that.
    #[serde(default)]
    create_database: bool,
    /// The database's retention policy, with version 1; without it the server's default.
    retention_policy: Option<String>,
    /// The organization, required with version 2.
    org: Option<String>,
    /// The bucket to write to, required with version 2.
    bucket: Option<String>,
    /// Who writes, where the server asks for a user.
    username: Option<String>,
    /// The user's password.
    password: Option<Secret>,
    /// The token, where the server asks for one.
    token: Option<Secret>,
    /// How the credentials are sent; without it "basic" for a user, "token" for a token, "bearer" with version 3.
    auth: Option<Scheme>,
    /// How long a request may take.
    #[serde(default = "Raw::default_timeout", with = "duration")]
    #[schemars(with = "duration::Text")]
    timeout: Duration,
    /// A PEM file with the certificates to trust, in place of the system's; the server's own may be one.
    ca_file: Option<PathBuf>,
    /// A PEM file with our own certificate, for a server that asks for one.
    client_cert: Option<PathBuf>,
    /// A PEM file with that certificate's key; without it the key is in the same file.
    client_key: Option<PathBuf>,
    /// The proxy to go through, `http://HOST:PORT`.
    proxy: Option<Secret>,
    /// Whether requests are compressed. Without it those that leave this host are: to a loopback address, which no
    /// proxy is asked for, it costs more than it saves.
    gzip: Option<bool>,
    /// How whole numbers are written.
    #[serde(default)]
    integers: Integers,
    /// What is on one line. A server holds the same either way.
    #[serde(default)]
    lines: Form,
    /// A word before the name of each measurement, and `_`: letters, digits, "-" and "_", a letter first; "" for nothing.
    #[serde(default)]
    namespace: String,
    /// The most lines of a request.
    #[serde(default = "Raw::default_max_lines")]
    max_lines: usize,
    /// The most bytes of a request before compression, at most half of delivery.memory. Without it 1MiB, and 1432
    /// bytes over UDP.
    max_bytes: Option<Size>,
    /// How long a line may wait for others, up to an hour; 0s sends every batch at once.
    #[serde(default, with = "duration")]
    #[schemars(with = "duration::Text")]
    max_age: Duration,
    #[serde(default)]
    delivery: DeliveryOptions,
}

impl Raw {
    fn default_url() -> String {
        "http://127.0.0.1:8086".to_owned()
    }

    const fn default_timeout() -> Duration {
        Duration::from_secs(5)
    }

    const fn default_max_lines() -> usize {
        5000
    }
}

/// A size that may be left out.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
struct Size(
    #[serde(with = "size")]
    #[schemars(with = "size::Text")]
    u64,
);

/// How credentials are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scheme {
    /// User and password in a header.
    Basic,
    /// User and password in the address.
    Query,
    /// `Authorization: Token ...`.
    Token,
    /// `Authorization: Bearer ...`.
    Bearer,
}

/// What a sink is to do.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) writing: Writing,
    pub(crate) limits: Limits,
    pub(crate) delivery: DeliveryOptions,
}

/// How the lines are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writing {
    pub(crate) integers: Integers,
    pub(crate) lines: Form,
    pub(crate) namespace: String,
}

/// Where the lines go.
#[derive(Debug)]
pub(crate) enum Target {
    Stdout,
    File(PathBuf),
    /// Host and port.
    Udp(String),
    Server(Box<ServerOptions>),
}

/// A server that speaks HTTP, and how to be let in.
#[derive(Clone, Debug)]
pub(crate) struct ServerOptions {
    pub(crate) server: Server,
    pub(crate) place: Place,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) create_database: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    Basic { username: String, password: Option<Secret> },
    Query { username: String, password: Option<Secret> },
    Token(Secret),
    Bearer(Secret),
}

impl Settings {
    /// Reads the options, without looking at any file; no error contains a secret.
    pub(crate) fn read(options: &Options) -> Result<Self, OptionsError> {
        let raw: Raw = options.extract()?;
        raw.delivery.check(options)?;
        let refuse = |key: &str, problem: &str| Err(options.refuse(key, problem));
        if raw.max_lines == 0 {
            return refuse("max_lines", "must be at least 1");
        }
        if raw.max_age > LONGEST_AGE {
            return refuse("max_age", "must not be longer than an hour");
        }
        if !is_namespace(&raw.namespace) {
            return refuse("namespace", "expected letters, digits, \"-\" and \"_\", a letter first");
        }
        if raw.timeout.is_zero() {
            return refuse("timeout", "must be longer than nothing");
        }
        let target = Target::read(&raw, options)?;
        let usual = if matches!(target, Target::Udp(_)) { DATAGRAM } else { REQUEST };
        let bytes = raw.max_bytes.map_or(usual, |Size(bytes)| bytes);
        if matches!(target, Target::Udp(_)) && bytes > LONGEST_DATAGRAM {
            return refuse("max_bytes", "a datagram has at most 65507 bytes");
        }
        if bytes == 0 || bytes > raw.delivery.memory / 2 {
            return refuse("max_bytes", "must be more than nothing, and at most half of delivery.memory");
        }
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let limits = Limits::new(raw.max_lines, bytes).age(raw.max_age);
        let writing = Writing { integers: raw.integers, lines: raw.lines, namespace: raw.namespace };
        Ok(Self { target, writing, limits, delivery: raw.delivery })
    }

    /// Whether the same lines go to the same place, which is not standard output: how they get there may differ.
    pub(crate) fn writes_the_same_as(&self, other: &Self) -> bool {
        let same_place = match (&self.target, &other.target) {
            (Target::File(path), Target::File(other)) => path == other,
            (Target::Udp(receiver), Target::Udp(other)) => receiver == other,
            (Target::Server(server), Target::Server(other)) => {
                server.server.is(&other.server) && server.place == other.place
            }
            _ => false,
        };
        same_place && self.writing == other.writing
    }

    /// Whether it does nothing but print and connect to network addresses.
    pub(crate) fn is_confined(&self) -> bool {
        let on_network = match &self.target {
            Target::Stdout | Target::Udp(_) => true,
            Target::File(_) => false,
            Target::Server(server) => server.is_confined(),
        };
        on_network && self.delivery.spool.is_none()
    }

    /// The files, directories and sockets that it opens while it runs.
    pub(crate) fn opens(&self) -> Vec<Access> {
        let mut opens = match &self.target {
            Target::Stdout => return Vec::new(),
            Target::Udp(_) => Vec::new(),
            Target::File(path) => vec![Access::Write(path.clone())],
            Target::Server(server) => server.opens(),
        };
        opens.extend(self.delivery.spool.clone().map(Access::Directory));
        opens
    }
}

/// Whether it can stand before a measurement: in version 2 none begins with `_`.
fn is_namespace(word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    plain && (word.is_empty() || word.starts_with(|first: char| first.is_ascii_alphabetic()))
}

impl Target {
    fn read(raw: &Raw, options: &Options) -> Result<Self, OptionsError> {
        let absolute = |path: &str| -> Result<PathBuf, OptionsError> {
            let problem = "expected an absolute path behind \"//\", such as \"unix:///run/influxdb.sock\"";
            if path.len() > 1 && path.starts_with('/') { Ok(path.into()) } else { Err(options.refuse("url", problem)) }
        };
        if raw.url == STDOUT {
            Ok(Self::Stdout)
        } else if let Some(path) = raw.url.strip_prefix("file://") {
            Ok(Self::File(absolute(path)?))
        } else if let Some(address) = raw.url.strip_prefix("udp://") {
            is_receiver(address)
                .then(|| Self::Udp(address.to_owned()))
                .ok_or_else(|| options.refuse("url", "expected a host and a port such as \"udp://127.0.0.1:8089\""))
        } else {
            let mut server = Server::at(&raw.url).map_err(|error| options.refuse("url", address_problem(error)))?;
            server.timeout = raw.timeout;
            server.ca_file.clone_from(&raw.ca_file);
            server.client = ClientFiles::of(raw.client_cert.as_ref(), raw.client_key.as_ref())
                .map_err(|problem| options.refuse("client_cert", problem))?;
            server.proxy.clone_from(&raw.proxy);
            server.gzip = raw.gzip;
            Ok(Self::Server(Box::new(ServerOptions {
                server,
                place: Place::read(raw, options)?,
                credentials: Credentials::read(raw, options)?,
                create_database: raw.create_database,
            })))
        }
    }
}

/// What is wrong with an address, in the words of this sink.
fn address_problem(error: AddressError) -> String {
    match error {
        AddressError::Form => {
            "expected an address that begins with \"http://\", \"https://\", \"unix://\", \"udp://\" or \
                               \"file://\", or \"stdout\""
                .to_owned()
        }
        AddressError::Credentials => {
            "credentials do not belong here: use the keys username and password, or token".to_owned()
        }
        AddressError::Query => {
            "a server, without \"?\" and \"#\": use the keys database and retention_policy, or org and bucket"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

impl ServerOptions {
    /// A secret may be in a file.
    fn is_confined(&self) -> bool {
        self.server.is_confined() && self.secret().is_none_or(Secret::is_text)
    }

    fn opens(&self) -> Vec<Access> {
        let secret = self.secret().and_then(Secret::file).map(|path| Access::Read(path.to_owned()));
        secret.into_iter().chain(self.server.opens()).collect()
    }

    fn secret(&self) -> Option<&Secret> {
        match self.credentials.as_ref()? {
            Credentials::Basic { password, .. } | Credentials::Query { password, .. } => password.as_ref(),
            Credentials::Token(token) | Credentials::Bearer(token) => Some(token),
        }
    }
}

impl Credentials {
    fn read(raw: &Raw, options: &Options) -> Result<Option<Self>, OptionsError> {
        let refuse = |key: &str, problem: &str| Err(options.refuse(key, problem));
        match (&raw.username, &raw.token) {
            (Some(_), Some(_)) => refuse("token", "a token or a username, not both"),
            (None, _) if raw.password.is_some() => refuse("username", "this key is required with a password"),
            (None, None) if raw.auth.is_some() => refuse("auth", "there are no credentials to send"),
            (None, None) => Ok(None),
            (Some(username), None) => {
                let (username, password) = (username.clone(), raw.password.clone());
                match raw.auth.unwrap_or(Scheme::Basic) {
                    Scheme::Basic if username.contains(':') => {
                        refuse("username", "a user name with a colon cannot be sent; auth = \"query\" can")
                    }
                    Scheme::Basic => Ok(Some(Self::Basic { username, password })),
                    Scheme::Query => Ok(Some(Self::Query { username, password })),
                    Scheme::Token | Scheme::Bearer => refuse("auth", "expected \"basic\" or \"query\" with a username"),
                }
            }
            (None, Some(token)) => {
                let usual = if raw.version == Some(3) { Scheme::Bearer } else { Scheme::Token };
                match raw.auth.unwrap_or(usual) {
                    Scheme::Token => Ok(Some(Self::Token(token.clone()))),
                    Scheme::Bearer => Ok(Some(Self::Bearer(token.clone()))),
                    Scheme::Basic | Scheme::Query => refuse("auth", "expected \"token\" or \"bearer\" with a token"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, OptionsError> {
        let mut table: BTreeMap<&str, &str> = pairs.iter().copied().collect();
        if let Some(version) = table.remove("version") {
            // The only key that is a number.
            #[derive(serde::Serialize)]
            struct Versioned<'a> {
                version: u8,
                #[serde(flatten)]
                rest: BTreeMap<&'a str, &'a str>,
            }
            let version = version.parse().expect("a number");
            return Settings::read(&Options::from_value(Versioned { version, rest: table }));
        }
        Settings::read(&Options::from_value(table))
    }

    fn server(pairs: &[(&str, &str)]) -> ServerOptions {
        match read(pairs).expect("right options").target {
            Target::Server(server) => *server,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_says_how_the_lines_go() {
        let target = |url: &str| read(&[("url", url), ("database", "db")]).expect("right options").target;
        assert!(matches!(target("stdout"), Target::Stdout));
        assert!(matches!(target("file:///var/lines"), Target::File(path) if path.as_os_str() == "/var/lines"));
        for address in ["[::1]:8089", "[fe80::1%eth0]:8089", "db.example:8089", "10.0.0.1:65535"] {
            let url = format!("udp://{address}");
            assert!(matches!(target(&url), Target::Udp(found) if found == address));
        }
        for address in ["db", "db:0", "db:65536", ":8089", "::1:8089", "[::1]", "a b:1", "u@db:1", "db:1/x", "[db]:1"] {
            assert!(read(&[("url", &format!("udp://{address}"))]).is_err(), "{address}");
        }
        for url in ["unix:///run/influx.sock", "https://db.example/influx/", "http://[fe80::1%eth0]:8086/x"] {
            assert_eq!(server(&[("url", url), ("database", "db")]).server, Server::at(url).expect("an address"));
        }
    }

    #[test]
    fn the_way_to_a_server_is_as_the_options_say() {
        let way = server(&[
            ("database", "db"),
            ("timeout", "7s"),
            ("ca_file", "/ca"),
            ("client_cert", "/cert"),
            ("client_key", "/key"),
            ("proxy", "http://proxy:3128"),
        ]);
        let client = ClientFiles { certificate: "/cert".into(), key: "/key".into() };
        assert_eq!((way.server.timeout, way.server.client), (Duration::from_secs(7), Some(client)));
        assert_eq!((way.server.ca_file, way.server.gzip), (Some("/ca".into()), None));
        assert_eq!(way.server.proxy, Some(Secret::Text("http://proxy:3128".to_owned())));
    }

    #[test]
    fn each_version_has_its_own_place_and_its_own_way_in() {
        let secret = || Secret::Text("s".to_owned());
        let v1 = server(&[("database", "db"), ("retention_policy", "week"), ("username", "u"), ("password", "s")]);
        assert_eq!(v1.place, Place::V1 { database: "db".into(), retention_policy: Some("week".into()) });
        assert_eq!(v1.credentials, Some(Credentials::Basic { username: "u".into(), password: Some(secret()) }));
        let v2 = server(&[("version", "2"), ("org", "o"), ("bucket", "b"), ("token", "s")]);
        assert_eq!(v2.place, Place::V2 { org: "o".into(), bucket: "b".into() });
        assert_eq!(v2.credentials, Some(Credentials::Token(secret())));
        let v3 = server(&[("version", "3"), ("database", "db"), ("token", "s")]);
        assert_eq!(v3.place, Place::V3 { database: "db".into() });
        assert_eq!(v3.credentials, Some(Credentials::Bearer(secret())));
        let asked = server(&[("database", "db"), ("username", "a:b"), ("auth", "query")]);
        assert_eq!(asked.credentials, Some(Credentials::Query { username: "a:b".into(), password: None }));
    }

    #[test]
    fn a_wrong_option_names_its_key() {
        let cases: [(&[(&str, &str)], &str); 31] = [
            (&[], "database"),
            (&[("database", "")], "database"),
            (&[("database", "d"), ("url", "")], "url"),
            (&[("database", "d"), ("url", "127.0.0.1:8086")], "url"),
            (&[("database", "d"), ("url", "ftp://db:8086")], "url"),
            (&[("database", "d"), ("url", "unix://sock")], "url"),
            (&[("database", "d"), ("url", "file:///")], "url"),
            (&[("database", "d"), ("url", "udp://db")], "url"),
            (&[("database", "d"), ("url", "udp://db:8089/x")], "url"),
            (&[("database", "d"), ("url", "http://user:secret@db")], "url"),
            (&[("database", "d"), ("url", "http://db?db=x")], "url"),
            (&[("database", "d"), ("url", "http://db/#x")], "url"),
            (&[("database", "d"), ("timeout", "fast")], "timeout"),
            (&[("database", "d"), ("timeout", "0s")], "timeout"),
            (&[("database", "d"), ("max_age", "2h")], "max_age"),
            (&[("database", "d"), ("integers", "x")], "integers"),
            (&[("database", "d"), ("lines", "x")], "lines"),
            (&[("database", "d"), ("namespace", "a b")], "namespace"),
            (&[("database", "d"), ("namespace", "_a")], "namespace"),
            (&[("url", "udp://db:8089"), ("max_bytes", "1MiB")], "max_bytes"),
            (&[("database", "d"), ("max_bytes", "0B")], "max_bytes"),
            (&[("database", "d"), ("max_bytes", "8MiB")], "max_bytes"),
            (&[("database", "d"), ("client_key", "/key")], "client_cert"),
            (&[("database", "d"), ("password", "secret")], "username"),
            (&[("database", "d"), ("username", "a:b")], "username"),
            (&[("database", "d"), ("username", "a"), ("token", "secret")], "token"),
            (&[("database", "d"), ("username", "a"), ("auth", "bearer")], "auth"),
            (&[("database", "d"), ("bucket", "b")], "bucket"),
            (&[("version", "2"), ("bucket", "b")], "org"),
            (&[("version", "3"), ("database", "d"), ("retention_policy", "p")], "retention_policy"),
            (&[("version", "4"), ("database", "d")], "version"),
        ];
        for (pairs, key) in cases {
            let error = read(pairs).expect_err(key);
            assert_eq!(error.key, format!("options.{key}"), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let typo = read(&[("databse", "d")]).expect_err("a typo");
        assert_eq!(typo.nearest.as_deref(), Some("database"));
    }

    #[test]
    fn only_what_touches_no_file_is_confined() {
        let confined = |pairs: &[(&str, &str)]| read(pairs).expect("right options").is_confined();
        assert!(confined(&[("url", "stdout")]));
        assert!(confined(&[("url", "udp://db:8089")]));
        assert!(confined(&[("database", "db"), ("username", "u"), ("password", "p")]));
        assert!(!confined(&[("database", "db"), ("url", "https://db")]));
        assert!(!confined(&[("database", "db"), ("url", "unix:///s")]));
        assert!(!confined(&[("database", "db"), ("proxy", "http://p")]));
        assert!(!confined(&[("database", "db"), ("client_cert", "/cert")]));
        assert!(!confined(&[("url", "file:///lines")]));
    }
}
