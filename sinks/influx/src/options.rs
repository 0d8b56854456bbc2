//! The sink's options: what may be written, and what it means.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebpf_process_core::{Options, OptionsError};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};
use ureq::http::Uri;

/// The `url` that means standard output.
pub(crate) const STDOUT: &str = "stdout";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "Raw::default_url")]
    url: String,
    database: Option<String>,
    retention_policy: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    #[serde(default = "Raw::default_timeout", deserialize_with = "ebpf_process_core::duration::deserialize")]
    timeout: Duration,
}

impl Raw {
    fn default_url() -> String {
        "http://127.0.0.1:8086".to_owned()
    }

    const fn default_timeout() -> Duration {
        Duration::from_secs(5)
    }
}

/// Text that is never printed, not even when it is wrong.
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"...\"")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text in quotes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret(text.to_owned()))
            }
        }

        // The usual error would quote the value.
        deserializer.deserialize_str(Text).map_err(|_| D::Error::custom("expected text in quotes"))
    }
}

/// Where the lines go.
#[derive(Debug)]
pub(crate) enum Target {
    Stdout,
    Http(Endpoint),
}

/// A server and a database on it.
pub(crate) struct Endpoint {
    /// The server as it is written in the configuration, for messages.
    pub(crate) server: String,
    pub(crate) database: String,
    /// Where to post.
    pub(crate) write: String,
    /// The value of the header, if there are credentials.
    pub(crate) authorization: Option<String>,
    pub(crate) timeout: Duration,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("write", &self.write).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Target {
    /// Reads the options; no error contains the password.
    pub(crate) fn read(options: &Options) -> Result<Self, OptionsError> {
        let raw: Raw = options.extract()?;
        if raw.url == STDOUT {
            return Ok(Self::Stdout);
        }
        let server = raw.url.trim_end_matches('/');
        check_url(server).map_err(|problem| options.refuse("url", problem))?;
        let Some(database) = raw.database.filter(|database| !database.is_empty()) else {
            return Err(options.refuse("database", "this key is required with a server: name the database to write to"));
        };
        let mut write = format!("{server}/write?db={}&precision=ns", percent(&database));
        if let Some(policy) = &raw.retention_policy {
            write.push_str("&rp=");
            write.push_str(&percent(policy));
        }
        if raw.timeout.is_zero() {
            return Err(options.refuse("timeout", "must be longer than nothing"));
        }
        let authorization = match (raw.username, raw.password) {
            (None, None) => None,
            (None, Some(_)) => return Err(options.refuse("username", "this key is required with a password")),
            (Some(username), _) if username.contains(':') => {
                return Err(options.refuse("username", "a user name with a colon cannot be sent"));
            }
            (Some(username), password) => {
                let password = password.map_or_else(String::new, |Secret(password)| password);
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
        };
        let server = server.to_owned();
        Ok(Self::Http(Endpoint { server, database, write, authorization, timeout: raw.timeout }))
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let uri: Uri =
        url.parse().map_err(|_| "expected a URL such as \"http://127.0.0.1:8086\", or \"stdout\"".to_owned())?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(
                "this build has no TLS: write \"http://\", and put a proxy between if the way is not safe".to_owned()
            );
        }
        _ => return Err("expected a URL that begins with \"http://\", or \"stdout\"".to_owned()),
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("credentials do not belong here: use the keys username and password".to_owned());
    }
    if uri.query().is_some() || url.contains('#') {
        return Err("a server, without \"?\" and \"#\": use the keys database and retention_policy".to_owned());
    }
    Ok(())
}

/// Text as part of a query.
fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Target, OptionsError> {
        Target::read(&Options::from_value(pairs.iter().copied().collect::<BTreeMap<_, _>>()))
    }

    #[test]
    fn the_options_say_where_to_post() {
        let cases: [(&[(&str, &str)], &str); 4] = [
            (&[("database", "telemetry")], "http://127.0.0.1:8086/write?db=telemetry&precision=ns"),
            (
                &[("url", "http://[::1]:80/influx/"), ("database", "a b&c/é")],
                "http://[::1]:80/influx/write?db=a%20b%26c%2F%C3%A9&precision=ns",
            ),
            (
                &[("database", "db"), ("retention_policy", "one week")],
                "http://127.0.0.1:8086/write?db=db&precision=ns&rp=one%20week",
            ),
            (&[("url", "http://db"), ("database", "db")], "http://db/write?db=db&precision=ns"),
        ];
        for (pairs, write) in cases {
            let Ok(Target::Http(endpoint)) = read(pairs) else { panic!("{pairs:?}") };
            assert_eq!(endpoint.write, write);
            assert_eq!((endpoint.timeout, endpoint.authorization), (Duration::from_secs(5), None));
        }
        assert!(matches!(read(&[("url", "stdout")]), Ok(Target::Stdout)));
        assert!(matches!(read(&[("url", "stdout"), ("database", "db")]), Ok(Target::Stdout)));
    }

    #[test]
    fn a_wrong_option_names_its_key() {
        let cases: [(&[(&str, &str)], &str); 12] = [
            (&[], "options.database"),
            (&[("database", "")], "options.database"),
            (&[("database", "d"), ("url", "")], "options.url"),
            (&[("database", "d"), ("url", "127.0.0.1:8086")], "options.url"),
            (&[("database", "d"), ("url", "https://db:8086")], "options.url"),
            (&[("database", "d"), ("url", "http://user:secret@db")], "options.url"),
            (&[("database", "d"), ("url", "http://db?db=x")], "options.url"),
            (&[("database", "d"), ("url", "http://db/#x")], "options.url"),
            (&[("database", "d"), ("timeout", "fast")], "options.timeout"),
            (&[("database", "d"), ("timeout", "0s")], "options.timeout"),
            (&[("database", "d"), ("password", "secret")], "options.username"),
            (&[("database", "d"), ("username", "a:b")], "options.username"),
        ];
        for (pairs, key) in cases {
            let error = read(pairs).expect_err(key);
            assert_eq!(error.key, key, "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let typo = read(&[("databse", "d")]).expect_err("a typo");
        assert_eq!(typo.nearest.as_deref(), Some("database"));
    }

    #[test]
    fn a_password_is_sent_and_never_shown() {
        let pairs = [("database", "d"), ("username", "user"), ("password", "pässword")];
        let Ok(Target::Http(endpoint)) = read(&pairs) else { panic!("right options") };
        assert_eq!(endpoint.authorization.as_deref(), Some("Basic dXNlcjpww6Rzc3dvcmQ="));
        assert!(!format!("{endpoint:?}").contains("dXNlcj"));
        assert_eq!(format!("{:?}", Secret("pässword".to_owned())), "\"...\"");

        let number = Options::from_value(BTreeMap::from([("password", 12345)]));
        let error = Target::read(&number).expect_err("a number");
        assert_eq!(error.key, "options.password");
        assert!(!error.to_string().contains("12345"), "{error}");
    }
}
