//! Receivers on loopback that take everything and keep nothing, each on a thread of its own.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, BufReader, PipeReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use ebpf_process_tests::{Failure, Outcome};
use rustix::net::sockopt;

/// How the threads' names begin.
pub(crate) const THREAD: &str = "receiver";

/// Bytes that a receiver has taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken(Arc<AtomicU64>);

impl Taken {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// As large as a pipe, and more than a datagram.
const BUFFER: usize = 1 << 16;

/// How much the kernel keeps for who reads datagrams, where it lets us say so.
const WAITING: usize = 16 << 20;

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Outcome<()> {
    let thread = thread::Builder::new().name(format!("{THREAD} {name}")).spawn(work);
    thread.map(drop).map_err(Failure::at("a thread for a receiver"))
}

/// Reads a pipe to its end.
pub(crate) fn pipe(mut pipe: PipeReader) -> Outcome<Taken> {
    let taken = Taken::default();
    let count = taken.clone();
    start("pipe", move || drain(&mut pipe, u64::MAX, &count))?;
    Ok(taken)
}

/// Reads so many bytes, or what there is.
fn drain(from: &mut impl Read, mut bytes: u64, count: &Taken) {
    let mut buffer = vec![0; BUFFER];
    while bytes > 0 {
        let most = usize::try_from(bytes).map_or(BUFFER, |bytes| bytes.min(BUFFER));
        match from.read(&mut buffer[..most]) {
            Ok(0) => return,
            Ok(read) => {
                count.add(read);
                bytes -= read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The other end sees it, and its ledger says what that cost.
            Err(_) => return,
        }
    }
}

/// Reads datagrams.
pub(crate) struct Datagrams {
    pub(crate) address: SocketAddr,
    pub(crate) taken: Taken,
}

impl Datagrams {
    pub(crate) fn start() -> Outcome<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(Failure::at("a UDP port"))?;
        // Only root may have more than the system's limit; what then finds no room is said at the end.
        if sockopt::set_socket_recv_buffer_size_force(&socket, WAITING).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, WAITING).map_err(Failure::at("a socket's buffer"))?;
        }
        let address = socket.local_addr().map_err(Failure::at("a UDP port"))?;
        let taken = Taken::default();
        let count = taken.clone();
        start("udp", move || {
            let mut buffer = vec![0; BUFFER];
            while let Ok(read) = socket.recv(&mut buffer) {
                count.add(read);
            }
        })?;
        Ok(Self { address, taken })
    }

    /// How many found no room: sent, and not read.
    pub(crate) fn missed(&self) -> u64 {
        let local = format!(" 0100007F:{:04X} ", self.address.port());
        let sockets = fs::read_to_string("/proc/net/udp").unwrap_or_default();
        let line = sockets.lines().find(|line| line.contains(&local));
        line.and_then(|line| line.split_whitespace().last()?.parse().ok()).unwrap_or_default()
    }
}

/// Takes every request and answers that it is stored.
pub(crate) struct Database {
    pub(crate) address: SocketAddr,
    pub(crate) taken: Taken,
}

impl Database {
    pub(crate) fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Failure::at("a TCP port"))?;
        let address = listener.local_addr().map_err(Failure::at("a TCP port"))?;
        let taken = Taken::default();
        let count = taken.clone();
        start("http", move || {
            for client in listener.incoming().flatten() {
                let count = count.clone();
                // Without a thread the client is hung up on, which its ledger shows.
                let _ = start("client", move || drop(answer(&client, &count)));
            }
        })?;
        Ok(Self { address, taken })
    }
}

fn answer(client: &TcpStream, count: &Taken) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut requests = BufReader::with_capacity(BUFFER, client);
    let mut line = String::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((key, value)) = line.split_once(':') else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            if key.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(io::Error::other)?;
            } else if key.eq_ignore_ascii_case("transfer-encoding") {
                return Err(io::Error::other("the length must be said"));
            }
        }
        drain(&mut requests, length, count);
        let mut writer = client;
        writer.write_all(b"HTTP/1.1 204 No Content\r\nX-Influxdb-Version: 1.8.10\r\n\r\n")?;
    }
}

/// Fetches a page whenever it is told to.
pub(crate) struct Scraper {
    now: Sender<()>,
    pub(crate) taken: Taken,
}

/// From a tick to the scrape: the sink has the tick's numbers then.
const LATER: Duration = Duration::from_millis(300);

impl Scraper {
    pub(crate) fn start(address: SocketAddr) -> Outcome<Self> {
        let (now, ticks) = channel();
        let taken = Taken::default();
        let count = taken.clone();
        start("scraper", move || {
            while ticks.recv().is_ok() {
                thread::park_timeout(LATER);
                // What nobody has fetched is in the ledger.
                let _ = scrape(address, &count);
            }
        })?;
        Ok(Self { now, taken })
    }

    pub(crate) fn scrape(&self) {
        // It listens as long as there is somebody to tell it.
        let _ = self.now.send(());
    }
}

fn scrape(address: SocketAddr, count: &Taken) -> io::Result<()> {
    let mut server = TcpStream::connect(address)?;
    server.write_all(b"GET /metrics HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n")?;
    drain(&mut server, u64::MAX, count);
    Ok(())
}

/// A file whose lines are thrown away.
pub(crate) struct Rotated {
    folder: tempfile::TempDir,
    pub(crate) taken: Taken,
}

impl Rotated {
    pub(crate) fn start() -> Outcome<Self> {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Ok(Self { folder: folder.map_err(Failure::at("a folder"))?, taken: Taken::default() })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("lines.json")
    }

    /// Empties the file. Who closes a removed one frees its memory, and that would be the sink.
    pub(crate) fn rotate(&self) {
        if let Ok(file) = OpenOptions::new().write(true).open(self.path()) {
            let length = file.metadata().map_or(0, |file| file.len());
            self.taken.add(usize::try_from(length).unwrap_or(usize::MAX));
            let _ = file.set_len(0);
        }
    }
}
