//! Where the lines go, as it is written in the configuration.

use std::os::unix::net::SocketAddr;
use std::path::PathBuf;

/// The address that means standard output.
pub(crate) const STDOUT: &str = "stdout";

const EXPECTED: &str = "expected \"udp://HOST:PORT\", \"tcp://HOST:PORT\", \"unixgram:///PATH\", \"unix:///PATH\" \
                        or \"stdout\"";

/// A receiver.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Stdout,
    /// `HOST:PORT`, the host not resolved yet.
    Udp(String),
    Tcp(String),
    /// A socket in the file system that takes datagrams.
    Unixgram(PathBuf),
    /// A socket in the file system that takes connections.
    Unix(PathBuf),
}

impl Address {
    /// The same in words, unless it is standard output.
    pub(crate) fn destination(&self) -> Option<String> {
        match self {
            Self::Stdout => None,
            Self::Udp(receiver) => Some(format!("udp://{receiver}")),
            Self::Tcp(receiver) => Some(format!("tcp://{receiver}")),
            Self::Unixgram(path) => Some(format!("unixgram://{}", path.display())),
            Self::Unix(path) => Some(format!("unix://{}", path.display())),
        }
    }

    /// Reads an address without asking anybody; the error says what was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            None if text == STDOUT => Ok(Self::Stdout),
            Some(("udp", receiver)) => host_and_port(receiver).map(Self::Udp),
            Some(("tcp", receiver)) => host_and_port(receiver).map(Self::Tcp),
            Some(("unixgram", path)) => socket_path(path).map(Self::Unixgram),
            Some(("unix", path)) => socket_path(path).map(Self::Unix),
            _ => Err(EXPECTED.to_owned()),
        }
    }
}

fn host_and_port(receiver: &str) -> Result<String, String> {
    let (host, port) = receiver.rsplit_once(':').ok_or(EXPECTED)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains('/') || (host.contains(':') && !bracketed) {
        return Err(format!("{EXPECTED}; an IPv6 address stands in brackets"));
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(receiver.to_owned()),
        _ => Err(format!("{EXPECTED}; the port is a number from 1 to 65535")),
    }
}

fn socket_path(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err(format!("{EXPECTED}; the path starts with a slash, the third one"));
    }
    // A socket's path has less room than other paths.
    SocketAddr::from_pathname(path).map_err(|error| format!("\"{path}\" cannot be a socket: {error}"))?;
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for right in ["127.0.0.1:8125", "[::1]:8125", "metrics.example:1"] {
            assert_eq!(Address::parse(&format!("udp://{right}")), Ok(Address::Udp(right.to_owned())));
            assert_eq!(Address::parse(&format!("tcp://{right}")), Ok(Address::Tcp(right.to_owned())));
        }
        assert_eq!(Address::parse("stdout"), Ok(Address::Stdout));
        for wrong in [
            "",
            "127.0.0.1:8125",
            "http://h:1",
            "udp://h",
            "udp://:1",
            "udp://h:0",
            "tcp://h:65536",
            "udp://h:x",
            "udp://h/p:1",
            "udp://::1:8125",
            "udp://[::1:8125",
            "stdout://",
        ] {
            let error = Address::parse(wrong).expect_err(wrong);
            assert!(error.contains("expected"), "{error}");
        }
    }

    #[test]
    fn a_socket_has_an_absolute_path_of_bounded_length() {
        let path = "/run/statsd.sock";
        assert_eq!(Address::parse(&format!("unixgram://{path}")), Ok(Address::Unixgram(path.into())));
        assert_eq!(Address::parse(&format!("unix://{path}")), Ok(Address::Unix(path.into())));
        for wrong in ["unix://statsd.sock", "unix://", &format!("unixgram:///{}", "x".repeat(108)), "unix:///a\0b"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
