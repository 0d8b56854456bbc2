//! What is asked of a server, with the secrets in it.

use std::fmt;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::server::Server;

/// Where a body is posted, and with which headers. None of that is ever printed but the path.
///
/// ```
/// use ebpf_process_http::{Request, Server};
///
/// let server = Server::at("http://db.example:8086/prefix")?;
/// let request = Request::to(&server, "/write", "text/plain").query("db", "a b").bearer("abc");
/// assert!(!format!("{request:?}").contains("abc"));
/// # Ok::<(), ebpf_process_http::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) address: String,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(String, String)>,
    /// In every form in which they are sent: a server may repeat what it does not like.
    secrets: Vec<String>,
    has_query: bool,
}

/// The name of the header by which we say who we are.
const AUTHORIZATION: &str = "Authorization";

impl Request {
    /// A request for a path of this server.
    pub fn to(server: &Server, path: &str, content_type: &'static str) -> Self {
        let address = format!("{}{path}", server.base);
        Self { address, content_type, headers: Vec::new(), secrets: Vec::new(), has_query: false }
    }

    /// Adds to the query.
    #[must_use]
    pub fn query(mut self, key: &str, value: &str) -> Self {
        let separator = if self.has_query { '&' } else { '?' };
        self.has_query = true;
        let _ = write!(self.address, "{separator}{key}={}", percent(value));
        self
    }

    /// Adds a secret to the query.
    #[must_use]
    pub fn secret_query(self, key: &str, secret: &str) -> Self {
        self.query(key, secret).hiding(percent(secret)).hiding(secret.to_owned())
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a header whose value is a secret.
    #[must_use]
    pub fn secret_header(self, name: &str, secret: &str) -> Self {
        self.header(name, secret).hiding(secret.to_owned())
    }

    /// Says who we are by a user and a password.
    #[must_use]
    pub fn basic(self, username: &str, password: &str) -> Self {
        let encoded = STANDARD.encode(format!("{username}:{password}"));
        self.header(AUTHORIZATION, &format!("Basic {encoded}")).hiding(encoded).hiding(password.to_owned())
    }

    /// Says who we are by a token: `Authorization: SCHEME TOKEN`.
    #[must_use]
    pub fn token(self, scheme: &str, token: &str) -> Self {
        self.header(AUTHORIZATION, &format!("{scheme} {token}")).hiding(token.to_owned())
    }

    /// Says who we are by a token, in the usual way: `Authorization: Bearer TOKEN`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.token("Bearer", token)
    }

    /// A secret that replies may repeat and messages do not.
    fn hiding(mut self, secret: String) -> Self {
        if !secret.is_empty() {
            self.secrets.push(secret);
        }
        self
    }

    /// The text without our secrets.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }

    /// The header by which we say who we are.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == AUTHORIZATION).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.address.split_once('?').map_or(self.address.as_str(), |(path, _)| path);
        f.debug_struct("Request").field("path", &path).finish_non_exhaustive()
    }
}

/// Text as part of a query, or of a form: what means something there is written as `%XX`.
pub fn percent(text: &str) -> String {
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
    use super::*;

    #[test]
    fn credentials_are_sent_and_never_shown() {
        const SECRET: &str = "pässword";
        let server = Server::at("http://db:8086").expect("an address");
        let plain = || Request::to(&server, "/write", "text/plain").query("db", "a b&c/é");
        for (request, authorization) in [
            (plain().basic("user", SECRET), Some("Basic dXNlcjpww6Rzc3dvcmQ=")),
            (plain().secret_query("p", SECRET), None),
            (plain().token("Token", SECRET), Some("Token pässword")),
            (plain().bearer(SECRET), Some("Bearer pässword")),
            (plain().secret_header("X-Key", SECRET), None),
        ] {
            assert!(request.address.starts_with("http://db:8086/write?db=a%20b%26c%2F%C3%A9"), "{}", request.address);
            assert_eq!(request.authorization(), authorization);
            let shown = format!("{request:?}");
            assert!(!shown.contains(SECRET) && !shown.contains("dXNlcj"), "{shown}");
            let said = request.hide("no pässword, p%C3%A4ssword or dXNlcjpww6Rzc3dvcmQ= here");
            assert!(said.starts_with("no ***,") && said.matches("***").count() <= 2, "{said}");
        }
        assert_eq!(plain().bearer("").hide("text"), "text");
    }
}
