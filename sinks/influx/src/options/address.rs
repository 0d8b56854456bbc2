//! How an address is written.

use std::net::IpAddr;

use ureq::http::Uri;

/// Whether it is `HOST:PORT`; an IPv6 address has brackets and may have a zone.
pub(super) fn is_receiver(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let bad = |c: char| c.is_control() || c.is_whitespace() || "/@?#[]".contains(c);
    let is_host = match plain {
        Some(plain) => !plain.contains(bad) && plain.contains(':'),
        None => !host.is_empty() && !host.contains(bad) && !host.contains([':', '%']),
    };
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// `http://[fe80::1%eth0]:8086` (or with `%25`, as in RFC 6874) without the zone, and the zone.
pub(super) fn split_zone(base: String) -> (String, Option<String>) {
    let Some((before, rest)) = base.split_once("://[").and_then(|(_, host)| host.split_once('%')) else {
        return (base, None);
    };
    let Some((zone, after)) = rest.split_once(']').filter(|_| !before.contains(']')) else { return (base, None) };
    let zone = zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone);
    let without = format!("{}://[{before}]{after}", base.split("://").next().unwrap_or_default());
    (without, Some(zone.to_owned()).filter(|zone| !zone.is_empty()))
}

/// Whether a server is on this host, as far as its address says.
pub(super) fn is_loopback(base: &str) -> bool {
    let uri: Option<Uri> = base.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || plain.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a server may be written like this. The error is a problem of the option `url`.
pub(super) fn check_address(url: &str) -> Result<(), &'static str> {
    const EXPECTED: &str = "expected an address that begins with \"http://\", \"https://\", \"unix://\", \"udp://\" or \
                            \"file://\", or \"stdout\"";
    let uri: Uri = url.parse().map_err(|_| EXPECTED)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(EXPECTED);
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("credentials do not belong here: use the keys username and password, or token");
    }
    if uri.query().is_some() || url.contains('#') {
        return Err("a server, without \"?\" and \"#\": use the keys database and retention_policy, or org and bucket");
    }
    Ok(())
}
