//! How the receiver of datagrams is written.

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
