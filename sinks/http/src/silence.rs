//! What it means that there is no answer.

use std::io;

use ebpf_process_core::explain;
use ebpf_process_delivery::Verdict;
use rustls::InvalidMessage;
use ureq::Error;

use crate::names::Names;
use crate::server::Server;

/// What a request without a reply means.
pub(crate) fn meaning(server: &Server, names: &Names, error: &Error) -> Verdict {
    let name = server.name();
    let retry = |problem: String| Verdict::Retry { after: None, problem };
    match error {
        Error::Timeout(_) => {
            retry(format!("{name} does not answer in time; raise the option timeout if it is only slow"))
        }
        Error::HostNotFound => retry(format!("cannot write to {name}: {}", names.problem())),
        Error::ConnectProxyFailed(reason) if reason.contains("407") => Verdict::Misconfigured {
            problem: format!("the proxy does not let us in ({reason}); check user and password in the option proxy"),
        },
        Error::ConnectProxyFailed(reason) => {
            retry(format!("the proxy makes no connection to {name}: {reason}; check the options proxy and url"))
        }
        Error::Io(error) => match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(error) => untrusted(name, error),
            None if server.socket.is_some() && error.kind() == io::ErrorKind::PermissionDenied => {
                retry(format!("cannot write to {name}: {}", explain(error)))
            }
            None => retry(format!("cannot write to {name}: {error}; is the server running there?")),
        },
        // What exactly is wrong is not repeated: a password may be part of it.
        Error::BadUri(_) | Error::Http(_) | Error::TlsRequired | Error::InvalidProxyUrl => Verdict::Misconfigured {
            problem: format!("cannot make a request for {name}; check the address, the credentials and the proxy"),
        },
        error => retry(format!("cannot write to {name}: {error}")),
    }
}

/// Whether the other side closed the connection instead of answering.
pub(crate) fn is_hang_up(error: &Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error, Error::Io(error)
        if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof))
}

fn untrusted(name: &str, error: &rustls::Error) -> Verdict {
    let problem = match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("{name} does not speak TLS; http? Write \"http://\" instead of \"https://\" into the option url")
        }
        rustls::Error::AlertReceived(alert) => format!(
            "{name} ended the handshake ({alert:?}); check the options client_cert and client_key, and the server's log"
        ),
        _ => format!("cannot trust {name}: {error}; check its certificate and the option ca_file"),
    };
    Verdict::Misconfigured { problem }
}
