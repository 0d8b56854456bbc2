//! Lines in datagrams.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use ebpf_process_delivery::{Carrier, Frame, Verdict};

/// How long a full socket is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Linux: "message too long".
const EMSGSIZE: i32 = 90;

/// A socket connected to one receiver, so that the kernel tells about refusals. The name is
/// resolved at the first frame, and again after each failure.
pub(crate) struct Udp {
    address: String,
    socket: Option<UdpSocket>,
}

impl Udp {
    pub(crate) fn new(address: String) -> Self {
        Self { address, socket: None }
    }

    fn attempt(&mut self, frame: &Frame, limit: Duration) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(connect(&self.address)?),
        };
        socket.set_write_timeout(Some(limit.clamp(Duration::from_millis(1), PATIENCE)))?;
        socket.send(frame.bytes())?;
        // A receiver on this host refuses at once; one elsewhere makes a later datagram fail.
        socket.take_error()?.map_or(Ok(()), Err)
    }
}

impl Carrier for Udp {
    fn send(&mut self, frame: &Frame, limit: Duration) -> Verdict {
        let Err(error) = self.attempt(frame, limit) else { return Verdict::Accepted };
        let address = &self.address;
        if error.raw_os_error() == Some(EMSGSIZE) {
            let problem = format!("a datagram is too large for the way to udp://{address}; lower the option max_bytes");
            return Verdict::TooLarge { problem };
        }
        self.socket = None;
        let problem = if error.kind() == io::ErrorKind::ConnectionRefused {
            format!("nobody listens at udp://{address}; start the receiver, or check the option url")
        } else {
            format!("cannot send to udp://{address}: {error}")
        };
        Verdict::Retry { after: None, problem }
    }

    fn overwrites(&self) -> bool {
        true
    }
}

/// A socket to the first of a name's addresses that there is a way to.
fn connect(address: &str) -> io::Result<UdpSocket> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for receiver in address.to_socket_addrs()? {
        let any: SocketAddr = match receiver {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        match UdpSocket::bind(any).and_then(|socket| socket.connect(receiver).map(|()| socket)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
