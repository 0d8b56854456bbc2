//! Lines over TCP.

use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use ebpf_process_core::testkit::conformance::Peer;

use super::format::Format;
use super::shared::Shared;

/// What is read at once.
const CHUNK: usize = 64 * 1024;

/// Whoever is slow takes so many bytes at once, and then a pause.
const DRIP: usize = 64;
const PAUSE: Duration = Duration::from_millis(20);

/// A longer line is none.
const LONGEST: usize = 1 << 20;

/// Listens for as long as the process lives.
pub(super) fn listen(address: impl ToSocketAddrs, format: Format, shared: &Shared) -> io::Result<SocketAddr> {
    let shared = shared.clone();
    accept(address, move |stream| serve(stream, format, &shared))
}

/// Has each connection served on a thread of its own. A connection that ends in an error is one that the sink has left.
pub(super) fn accept(
    address: impl ToSocketAddrs,
    serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let place = listener.local_addr()?;
    let accept = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            // Without a thread the connection is closed, as by a receiver that is away.
            let _ = thread::Builder::new().name("receiver".to_owned()).spawn(move || serve(stream));
        }
    };
    thread::Builder::new().name("receiver".to_owned()).spawn(accept)?;
    Ok(place)
}

/// Reads lines until the sink closes the connection. What lacks its line end then is no line.
fn serve(mut stream: TcpStream, format: Format, shared: &Shared) -> io::Result<()> {
    let (mut chunk, mut lines) = (vec![0; CHUNK], Vec::new());
    loop {
        // It is asked when something has come, which whoever hangs up does not read.
        if stream.peek(&mut chunk[..1])? == 0 {
            return Ok(());
        }
        let most = match shared.steering.ask() {
            Peer::Away => return Ok(()),
            Peer::Slow => {
                thread::park_timeout(PAUSE);
                DRIP
            }
            _ => CHUNK,
        };
        let length = stream.read(&mut chunk[..most])?;
        lines.extend_from_slice(&chunk[..length]);
        let Some(end) = lines.iter().rposition(|byte| *byte == b'\n') else {
            if lines.len() > LONGEST {
                shared.stored.lock().complain("a line of more than 1 MiB");
                return Ok(());
            }
            continue;
        };
        // A line that is wrong takes no other one along.
        for line in lines[..end].split(|byte| *byte == b'\n') {
            match format.read(line) {
                Ok(points) => shared.stored.lock().take(points),
                Err(problem) => shared.stored.lock().complain(&problem),
            }
        }
        lines.drain(..=end);
    }
}
