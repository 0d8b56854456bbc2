//! How the address of a server is written.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

/// What is wrong with the address of a server: a problem of the option `url`, in general words. A sink with addresses of
/// other kinds has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// It does not begin with a scheme that means HTTP, or is no address at all.
    Form,
    /// It has a user or a password in it.
    Credentials,
    /// It has a query or a fragment: what is asked for is the sink's to say.
    Query,
    /// Behind `unix://` there is no absolute path.
    Path,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "expected an address that begins with \"http://\", \"https://\" or \"unix://\"",
            Self::Credentials => "credentials do not belong here: they have options of their own",
            Self::Query => "a server, without \"?\" and \"#\"",
            Self::Path => "expected an absolute path behind \"//\", such as \"unix:///run/server.sock\"",
        })
    }
}

impl std::error::Error for AddressError {}

/// `http://[fe80::1%eth0]:8086` (or with `%25`, as in RFC 6874) without the zone, and the zone.
pub(crate) fn split_zone(base: String) -> (String, Option<String>) {
    let Some((before, rest)) = base.split_once("://[").and_then(|(_, host)| host.split_once('%')) else {
        return (base, None);
    };
    let Some((zone, after)) = rest.split_once(']').filter(|_| !before.contains(']')) else { return (base, None) };
    let zone = zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone);
    let without = format!("{}://[{before}]{after}", base.split("://").next().unwrap_or_default());
    (without, Some(zone.to_owned()).filter(|zone| !zone.is_empty()))
}

/// Whether a server is on this host, as far as its address says.
pub(crate) fn is_loopback(base: &str) -> bool {
    let uri: Option<Uri> = base.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || plain.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a server may be written like this.
pub(crate) fn check(url: &str) -> Result<(), AddressError> {
    let uri: Uri = url.parse().map_err(|_| AddressError::Form)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(AddressError::Form);
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(AddressError::Credentials);
    }
    if uri.query().is_some() || url.contains('#') {
        return Err(AddressError::Query);
    }
    Ok(())
}
