//! Where a sink sends what it is given, and whether that is this machine.

use std::net::IpAddr;

use ebpf_process_core::{Access, Options, SinkPlugin};

/// A sink's destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As the sink calls it.
    pub(crate) name: String,
    /// A file, a program, a socket or an address of this machine.
    pub(crate) is_local: bool,
}

impl Target {
    /// What the sink says of itself: its [destination](SinkPlugin::destination), or else what it
    /// [opens](SinkPlugin::opens). Who says neither sends to the kit's own receiver where an option says where that is, and
    /// else may send anywhere.
    pub(crate) fn of(plugin: &dyn SinkPlugin, options: &Options, receiver: Option<&str>) -> Self {
        let opens = plugin.opens(options);
        let own = |access: &Access| match access {
            Access::Write(path) | Access::Directory(path) | Access::Connect(path) => Some(path.display().to_string()),
            Access::Listen(address) => Some(format!("its own port {address}")),
            Access::Program(program) => {
                let arguments = program.arguments.iter().map(|argument| argument.to_string_lossy());
                Some([program.path.to_string_lossy()].into_iter().chain(arguments).collect::<Vec<_>>().join(" "))
            }
            _ => None,
        };
        match (plugin.destination(options), opens.iter().find_map(own), receiver) {
            (Some(name), ..) => {
                let listens = opens.iter().any(|access| matches!(access, Access::Listen(_) | Access::Program(_)));
                let is_local = listens || is_local(&name);
                Self { name, is_local }
            }
            (None, Some(name), _) => Self { name, is_local: true },
            (None, None, Some(receiver)) => Self { name: receiver.to_owned(), is_local: true },
            (None, None, None) => Self { name: "a place that it does not name".to_owned(), is_local: false },
        }
    }
}

/// Whether a destination is a path or an address of loopback: `/path`, `SCHEME:///path`, `[SCHEME://][USER@]HOST[:PORT][/...]`.
fn is_local(destination: &str) -> bool {
    let first = destination.split_whitespace().next().unwrap_or_default();
    let rest = first.split_once("://").map_or(first, |(_, rest)| rest);
    if rest.starts_with('/') {
        return true;
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, _)) => host,
        // An address of version 6 without brackets has no port.
        None if host.matches(':').count() == 1 => host.split_once(':').map_or(host, |(host, _)| host),
        None => host,
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_loopback_are_this_machine_and_a_name_is_not() {
        for (destination, expected) in [
            ("/var/log/x.json", true),
            ("unix:///run/x.sock", true),
            ("udp://127.0.0.1:8125", true),
            ("tcp://[::1]:8125", true),
            ("http://user@localhost:8086/api database x", true),
            ("127.3.4.5", true),
            ("::1", true),
            ("udp://10.0.0.1:8125", false),
            ("http://localhost.example.org:8086", false),
            ("http://127.0.0.1@example.org/", false),
            ("[2001:db8::1]:80", false),
            ("", false),
        ] {
            assert_eq!(is_local(destination), expected, "{destination}");
        }
    }
}
