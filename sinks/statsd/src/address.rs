//! Where the lines go, as it is written in the configuration.

/// The address that means standard output.
pub(crate) const STDOUT: &str = "stdout";

/// A receiver.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Stdout,
    /// `HOST:PORT`, the host not resolved yet.
    Udp(String),
}

impl Address {
    /// Reads an address without asking anybody; the error says what was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == STDOUT {
            return Ok(Self::Stdout);
        }
        let expected = || format!("expected \"udp://HOST:PORT\" or \"{STDOUT}\"");
        let receiver = text.strip_prefix("udp://").ok_or_else(expected)?;
        let (host, port) = receiver.rsplit_once(':').ok_or_else(expected)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || host.contains('/') || (host.contains(':') && !bracketed) {
            return Err(format!("{}; an IPv6 address stands in brackets", expected()));
        }
        match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Self::Udp(receiver.to_owned())),
            _ => Err(format!("{}; the port is a number from 1 to 65535", expected())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for right in ["127.0.0.1:8125", "[::1]:8125", "metrics.example:1"] {
            assert_eq!(Address::parse(&format!("udp://{right}")), Ok(Address::Udp(right.to_owned())));
        }
        assert_eq!(Address::parse("stdout"), Ok(Address::Stdout));
        for wrong in [
            "",
            "127.0.0.1:8125",
            "tcp://h:1",
            "udp://h",
            "udp://:1",
            "udp://h:0",
            "udp://h:65536",
            "udp://::1:1",
            "udp://h/x:1",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
