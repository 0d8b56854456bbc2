//! Where to post, and with which credentials.

use std::fmt;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebpf_process_core::{BuildError, Opener};

use crate::options::{Credentials, Place, ServerOptions};
use crate::secret::Secret;

/// The address of a request and its `Authorization` header; neither is ever printed.
#[derive(PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: String,
    /// Where and with which words the database is made, where the interface can do that.
    pub(crate) creation: Option<(String, String)>,
    pub(crate) authorization: Option<String>,
    /// In every form in which they are sent: a server may repeat what it does not like.
    pub(crate) secrets: Vec<String>,
}

impl Endpoint {
    /// Puts the address together and reads the secrets.
    pub(crate) fn new(server: &ServerOptions, opener: &dyn Opener) -> Result<Self, BuildError> {
        let (path, mut query) = match &server.place {
            Place::V1 { database, retention_policy } => {
                let mut query = vec![("db", database.clone()), ("precision", "ns".to_owned())];
                query.extend(retention_policy.clone().map(|policy| ("rp", policy)));
                ("/write", query)
            }
            Place::V2 { org, bucket } => {
                let query = vec![("org", org.clone()), ("bucket", bucket.clone()), ("precision", "ns".to_owned())];
                ("/api/v2/write", query)
            }
            // What is said is also the default; it must not depend on the server's configuration.
            Place::V3 { database } => {
                let precision = ("precision", "nanosecond".to_owned());
                ("/api/v3/write_lp", vec![("db", database.clone()), precision, ("accept_partial", "true".to_owned())])
            }
        };
        let reveal = |password: &Option<Secret>| match password {
            Some(password) => password.reveal("password", opener),
            None => Ok(String::new()),
        };
        let mut secrets = Vec::new();
        let authorization = match &server.credentials {
            None => None,
            Some(Credentials::Basic { username, password }) => {
                let password = reveal(password)?;
                let encoded = STANDARD.encode(format!("{username}:{password}"));
                let header = format!("Basic {encoded}");
                secrets.extend([encoded, password]);
                Some(header)
            }
            Some(Credentials::Query { username, password }) => {
                let password = reveal(password)?;
                secrets.extend([percent(&password), password.clone()]);
                query.extend([("u", username.clone()), ("p", password)]);
                None
            }
            Some(credentials @ (Credentials::Token(token) | Credentials::Bearer(token))) => {
                let scheme = if matches!(credentials, Credentials::Token(_)) { "Token" } else { "Bearer" };
                let token = token.reveal("token", opener)?;
                let header = format!("{scheme} {token}");
                secrets.push(token);
                Some(header)
            }
        };
        let address = address(server, path, &query);
        let creation = match &server.place {
            Place::V1 { database, .. } => {
                query.retain(|(key, _)| matches!(*key, "u" | "p"));
                let quoted = database.replace('\\', "\\\\").replace('"', "\\\"");
                let words = format!("q={}", percent(&format!("CREATE DATABASE \"{quoted}\"")));
                Some((self::address(server, "/query", &query), words))
            }
            Place::V2 { .. } | Place::V3 { .. } => None,
        };
        secrets.retain(|secret| !secret.is_empty());
        Ok(Self { address, creation, authorization, secrets })
    }
}

fn address(server: &ServerOptions, path: &str, query: &[(&str, String)]) -> String {
    let mut address = format!("{}{path}", server.base);
    for (index, (key, value)) in query.iter().enumerate() {
        let separator = if index == 0 { '?' } else { '&' };
        let _ = write!(address, "{separator}{key}={}", percent(value));
    }
    address
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.address.split_once('?').map_or(self.address.as_str(), |(path, _)| path);
        f.debug_struct("Endpoint").field("path", &path).finish_non_exhaustive()
    }
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
    use std::time::Duration;

    use super::*;

    fn endpoint(place: Place, credentials: Option<Credentials>) -> Endpoint {
        let server = ServerOptions {
            name: "http://db:8086".to_owned(),
            base: "http://db:8086".to_owned(),
            zone: None,
            socket: None,
            place,
            credentials,
            timeout: Duration::from_secs(5),
            ca_file: None,
            client: None,
            proxy: None,
            gzip: true,
            create_database: false,
        };
        Endpoint::new(&server, &ebpf_process_core::Direct::default()).expect("an endpoint")
    }

    fn v1(database: &str) -> Place {
        Place::V1 { database: database.to_owned(), retention_policy: None }
    }

    #[test]
    fn each_version_has_its_own_address() {
        let policy = Place::V1 { database: "db".into(), retention_policy: Some("one week".into()) };
        let cases = [
            (v1("a b&c/é"), "/write?db=a%20b%26c%2F%C3%A9&precision=ns"),
            (policy, "/write?db=db&precision=ns&rp=one%20week"),
            (Place::V2 { org: "o=1".into(), bucket: "b".into() }, "/api/v2/write?org=o%3D1&bucket=b&precision=ns"),
            (Place::V3 { database: "db".into() }, "/api/v3/write_lp?db=db&precision=nanosecond&accept_partial=true"),
        ];
        for (place, address) in cases {
            assert_eq!(endpoint(place, None).address, format!("http://db:8086{address}"));
        }
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let secret = || Secret::Text("pässword".to_owned());
        let user = || "user".to_owned();
        let cases = [
            (Credentials::Basic { username: user(), password: Some(secret()) }, Some("Basic dXNlcjpww6Rzc3dvcmQ=")),
            (Credentials::Query { username: user(), password: Some(secret()) }, None),
            (Credentials::Token(secret()), Some("Token pässword")),
            (Credentials::Bearer(secret()), Some("Bearer pässword")),
        ];
        for (credentials, authorization) in cases {
            let shown = format!("{credentials:?}");
            let endpoint = endpoint(v1("db"), Some(credentials));
            assert_eq!(endpoint.authorization.as_deref(), authorization);
            assert!(endpoint.secrets.contains(&"pässword".to_owned()));
            assert_eq!(endpoint.address.ends_with("&u=user&p=p%C3%A4ssword"), authorization.is_none());
            for shown in [shown, format!("{endpoint:?}")] {
                assert!(!shown.contains("pässword") && !shown.contains("dXNlcj"), "{shown}");
            }
        }
    }
}
